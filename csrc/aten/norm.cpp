// Batch, layer and group normalisation.
#include <ATen/native/cpu/mixed_data_type.h>
#include <ATen/native/layer_norm.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "aten/norm.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

// Parameters are of the input's dtype; of half types, they may all be float.
template <class... Parameters>
void check_dtypes(const Tensor& input, const Parameters&... parameters) {
  if (at::native::is_mixed_type(input, parameters.value_or(Tensor())...)) {
    at::native::check_mixed_data_type(input, parameters.value_or(Tensor())...);
    return;
  }
  for (const OptionalTensor& parameter : {OptionalTensor(parameters)...}) {
    TORCH_CHECK(!parameter.has_value() || !parameter->defined() || parameter->scalar_type() == input.scalar_type(),
                "expected scalar type ", input.scalar_type(), " but found ", parameter->scalar_type());
  }
}

int64_t channels_of(const Tensor& input) {
  TORCH_CHECK(input.dim() > 0, "batch_norm: expected an input with at least one dimension");
  return input.size(1);
}

void launch_batch_norm(const Tensor& output, const Tensor& save_mean, const Tensor& save_invstd, const Tensor& input,
                       const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& running_mean,
                       const OptionalTensor& running_var, bool training, double momentum, double eps) {
  TORCH_CHECK(input.numel() > 0, "input tensor must have at least one element, but got input_sizes = ", input.sizes());
  check_dtypes(input, weight, bias, running_mean, running_var);
  launch(Op::batch_norm_,
         {output, save_mean, save_invstd, Operand(running_mean), Operand(running_var), input, Operand(weight),
          Operand(bias)},
         {training}, {momentum, eps});
}

Three batch_norm(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                 const OptionalTensor& running_mean, const OptionalTensor& running_var, bool training, double momentum,
                 double eps) {
  Tensor output = at::empty_like(input, input.suggest_memory_format());
  const std::array<int64_t, 1> channels{training ? channels_of(input) : 0};
  Tensor save_mean = empty_dense(channels, statistics_dtype(input));
  Tensor save_invstd = empty_dense(channels, statistics_dtype(input));
  launch_batch_norm(output, training ? save_mean : Tensor(), training ? save_invstd : Tensor(), input, weight, bias,
                    running_mean, running_var, training, momentum, eps);
  return {output, save_mean, save_invstd};
}

std::tuple<Tensor&, Tensor&, Tensor&> batch_norm_out(const Tensor& input, const OptionalTensor& weight,
                                                     const OptionalTensor& bias, const OptionalTensor& running_mean,
                                                     const OptionalTensor& running_var, bool training, double momentum,
                                                     double eps, Tensor& output, Tensor& save_mean,
                                                     Tensor& save_invstd) {
  const std::array<int64_t, 1> channels{training ? channels_of(input) : 0};
  at::native::resize_output(output, input.sizes());
  at::native::resize_output(save_mean, channels);
  at::native::resize_output(save_invstd, channels);
  launch_batch_norm(output, training ? save_mean : Tensor(), training ? save_invstd : Tensor(), input, weight, bias,
                    running_mean, running_var, training, momentum, eps);
  return {output, save_mean, save_invstd};
}

Three batch_norm_legit(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                       Tensor& running_mean, Tensor& running_var, bool training, double momentum, double eps) {
  return batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps);
}

std::tuple<Tensor&, Tensor&, Tensor&> batch_norm_legit_out(const Tensor& input, const OptionalTensor& weight,
                                                           const OptionalTensor& bias, Tensor& running_mean,
                                                           Tensor& running_var, bool training, double momentum,
                                                           double eps, Tensor& output, Tensor& save_mean,
                                                           Tensor& save_invstd) {
  return batch_norm_out(input, weight, bias, running_mean, running_var, training, momentum, eps, output, save_mean,
                        save_invstd);
}

Three batch_norm_no_stats(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias, bool training,
                          double momentum, double eps) {
  return batch_norm(input, weight, bias, std::nullopt, std::nullopt, training, momentum, eps);
}

std::tuple<Tensor&, Tensor&, Tensor&> batch_norm_no_stats_out(const Tensor& input, const OptionalTensor& weight,
                                                              const OptionalTensor& bias, bool training,
                                                              double momentum, double eps, Tensor& output,
                                                              Tensor& save_mean, Tensor& save_invstd) {
  return batch_norm_out(input, weight, bias, std::nullopt, std::nullopt, training, momentum, eps, output, save_mean,
                        save_invstd);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_with_update(const Tensor& input, const OptionalTensor& weight,
                                                                  const OptionalTensor& bias, Tensor& running_mean,
                                                                  Tensor& running_var, double momentum, double eps) {
  auto [output, mean, invstd] =
      batch_norm(input, weight, bias, running_mean, running_var, /*training=*/true, momentum, eps);
  const std::array<int64_t, 1> none{0};
  return {output, mean, invstd, empty_dense(none, at::kByte)};
}

Three batch_norm_backward(const Tensor& grad, const Tensor& input, const OptionalTensor& weight,
                          const OptionalTensor& running_mean, const OptionalTensor& running_var,
                          const OptionalTensor& save_mean, const OptionalTensor& save_invstd, bool training, double eps,
                          std::array<bool, 3> mask) {
  Tensor grad_input = mask[0] ? at::empty_like(input, input.suggest_memory_format()) : Tensor();
  const std::array<int64_t, 1> channels{channels_of(input)};
  Tensor grad_weight = gradient(mask[1], channels, weight, input);
  Tensor grad_bias = gradient(mask[2], channels, weight, input);
  launch(Op::batch_norm_backward_,
         {grad_input, grad_weight, grad_bias, as_input(grad, input), input, Operand(weight),
          Operand(training ? save_mean : running_mean), Operand(training ? save_invstd : running_var)},
         {training}, {eps});
  return {grad_input, grad_weight, grad_bias};
}

Three batch_norm_backward_with_reserve(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                       const OptionalTensor& running_mean, const OptionalTensor& running_var,
                                       const OptionalTensor& save_mean, const OptionalTensor& save_invstd,
                                       bool training, double eps, std::array<bool, 3> mask, const Tensor& /*reserve*/) {
  return batch_norm_backward(grad, input, weight, running_mean, running_var, save_mean, save_invstd, training, eps,
                             mask);
}

// A tensor as the rows of a matrix, in place where it is dense.
struct Rows {
  Rows(const Tensor& tensor, int64_t rows, int64_t columns)
      : sizes{rows, columns}, strides{columns, 1}, dense(tensor.contiguous()) {}
  operator Operand() const { return Operand(dense, sizes, strides); }

  std::array<int64_t, 2> sizes;
  std::array<int64_t, 2> strides;
  Tensor dense;
};

Tensor or_undefined(const OptionalTensor& tensor) { return tensor.value_or(Tensor()); }

Three layer_norm(const Tensor& input, at::IntArrayRef normalized_shape, const OptionalTensor& weight,
                 const OptionalTensor& bias, double eps) {
  const auto [rows, columns] =
      at::native::_check_layer_norm_inputs(input, normalized_shape, or_undefined(weight), or_undefined(bias));
  check_dtypes(input, weight, bias);
  Tensor output = empty_dense(input.sizes(), input.scalar_type());
  at::DimVector kept(input.sizes());
  for (size_t dim = kept.size() - normalized_shape.size(); dim < kept.size(); ++dim) {
    kept[dim] = 1;
  }
  Tensor mean = empty_dense(kept, statistics_dtype(input));
  Tensor rstd = empty_dense(kept, statistics_dtype(input));
  if (rows > 0) {
    const Rows to(output, rows, columns);
    const Rows from(input, rows, columns);
    launch(Op::layer_norm_, {to, mean, rstd, from, Operand(weight), Operand(bias)}, {}, {eps});
  }
  return {output, mean, rstd};
}

Three layer_norm_backward(const Tensor& grad, const Tensor& input, at::IntArrayRef normalized_shape, const Tensor& mean,
                          const Tensor& rstd, const OptionalTensor& weight, const OptionalTensor& bias,
                          std::array<bool, 3> mask) {
  const auto [rows, columns] =
      at::native::_check_layer_norm_inputs(input, normalized_shape, or_undefined(weight), or_undefined(bias));
  Tensor grad_input = mask[0] ? empty_dense(input.sizes(), input.scalar_type()) : Tensor();
  Tensor grad_weight = gradient(mask[1], normalized_shape, weight, input);
  Tensor grad_bias = gradient(mask[2], normalized_shape, bias, input);
  const Rows from(input, rows, columns);
  const Rows grads(as_input(grad, input), rows, columns);
  const std::optional<Rows> to = mask[0] ? std::optional<Rows>(Rows(grad_input, rows, columns)) : std::nullopt;
  launch(Op::layer_norm_backward_, {to.has_value() ? Operand(*to) : Operand(Tensor()), grad_weight, grad_bias, grads,
                                   from, mean, rstd, Operand(weight)});
  return {grad_input, grad_weight, grad_bias};
}

Three group_norm(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias, int64_t samples,
                 int64_t channels, int64_t space, int64_t groups, double eps) {
  TORCH_CHECK(input.numel() == samples * channels * space, "group_norm: an input of ", input.sizes(), " has not ",
              samples, " samples of ", channels, " channels of ", space, " elements");
  check_dtypes(input, weight, bias);
  Tensor output = at::empty_like(input, input.suggest_memory_format());
  const std::array<int64_t, 2> sizes{samples, groups};
  Tensor mean = empty_dense(sizes, statistics_dtype(input));
  Tensor rstd = empty_dense(sizes, statistics_dtype(input));
  launch(Op::group_norm_, {output, mean, rstd, input, Operand(weight), Operand(bias)}, {groups}, {eps});
  return {output, mean, rstd};
}

Three group_norm_backward(const Tensor& grad, const Tensor& input, const Tensor& mean, const Tensor& rstd,
                          const OptionalTensor& weight, int64_t /*samples*/, int64_t channel_count, int64_t /*space*/,
                          int64_t groups, std::array<bool, 3> mask) {
  Tensor grad_input = mask[0] ? at::empty_like(input, input.suggest_memory_format()) : Tensor();
  const std::array<int64_t, 1> channels{channel_count};
  Tensor grad_weight = gradient(mask[1], channels, weight, input);
  Tensor grad_bias = gradient(mask[2], channels, weight, input);
  launch(Op::group_norm_backward_,
         {grad_input, grad_weight, grad_bias, as_input(grad, input), input, mean, rstd, Operand(weight)}, {groups});
  return {grad_input, grad_weight, grad_bias};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("native_batch_norm", TORCH_FN(batch_norm));
  m.impl("native_batch_norm.out", TORCH_FN(batch_norm_out));
  m.impl("_native_batch_norm_legit", TORCH_FN(batch_norm_legit));
  m.impl("_native_batch_norm_legit.out", TORCH_FN(batch_norm_legit_out));
  m.impl("_native_batch_norm_legit.no_stats", TORCH_FN(batch_norm_no_stats));
  m.impl("_native_batch_norm_legit.no_stats_out", TORCH_FN(batch_norm_no_stats_out));
  m.impl("_batch_norm_with_update", TORCH_FN(batch_norm_with_update));
  m.impl("native_batch_norm_backward", TORCH_FN(batch_norm_backward));
  m.impl("batch_norm_backward", TORCH_FN(batch_norm_backward_with_reserve));
  m.impl("native_layer_norm", TORCH_FN(layer_norm));
  m.impl("native_layer_norm_backward", TORCH_FN(layer_norm_backward));
  m.impl("native_group_norm", TORCH_FN(group_norm));
  m.impl("native_group_norm_backward", TORCH_FN(group_norm_backward));
}

}  // namespace rustorch
