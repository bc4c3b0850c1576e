// Batch normalisation in parts, between which `torch.nn.SyncBatchNorm` talks to the other processes.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <torch/library.h>

#include "aten/norm.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Two = std::tuple<Tensor, Tensor>;

bool given(const OptionalTensor& tensor) {
  return tensor.has_value() && tensor->defined();
}

// The channels of `[N, C, ...]`, as the sizes of what there is one of for each.
std::array<int64_t, 1> channels_of(const char* op, const Tensor& input) {
  TORCH_CHECK(input.dim() >= 2, op, ": expected an input of shape [N, C, ...], got ", input.sizes());
  TORCH_CHECK_NOT_IMPLEMENTED(at::isFloatingType(input.scalar_type()) && is_native(input.scalar_type()), op,
                              ": expected a floating point input, got ", input.scalar_type());
  return {input.size(1)};
}

// A copy of a few numbers for each channel, in what they are computed in.
Tensor wide(const Tensor& tensor) {
  return tensor.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
}

Two batch_norm_stats(const Tensor& input, double eps) {
  const auto channels = channels_of("batch_norm_stats", input);
  Tensor mean = empty_dense(channels, statistics_dtype(input));
  Tensor invstd = empty_dense(channels, statistics_dtype(input));
  const Tensor no_bias = empty_dense(channels, statistics_dtype(input));
  const Tensor absent;
  launch(Op::batch_norm_coefficients_,
         {mean, invstd, no_bias, absent, absent, absent, absent, input, absent, absent}, {/*training=*/1}, {0.0, eps});
  return {mean, invstd};
}

// `running = (1 - momentum) * running + momentum * batch`, where it is kept.
void blend(const OptionalTensor& running, const Tensor& batch, double momentum) {
  if (given(running)) {
    running->copy_(wide(*running).mul_(1 - momentum).add_(batch, momentum));
  }
}

Two batch_norm_update_stats(const Tensor& input, const OptionalTensor& running_mean, const OptionalTensor& running_var,
                            double momentum) {
  const auto channels = channels_of("batch_norm_update_stats", input);
  TORCH_CHECK(input.numel() > 0, "input tensor must have at least one element, but got input_sizes = ", input.sizes());
  Tensor mean = empty_dense(channels, statistics_dtype(input));
  Tensor variance = empty_dense(channels, statistics_dtype(input));
  at::DimVector sizes(input.dim(), 1), strides(input.dim(), 1);
  sizes[1] = channels[0];
  launch(Op::variance_, {Operand(variance, sizes, strides), Operand(mean, sizes, strides), input}, {/*root=*/0},
         {/*correction=*/0.0});
  const auto elements = static_cast<double>(input.numel() / channels[0]);
  blend(running_mean, wide(mean), momentum);
  blend(running_var, wide(variance).mul_(elements / (elements - 1)), momentum);
  return {mean, variance};
}

// `mean` and `invstd` have a row, and `counts` an element, for each process.
Two batch_norm_gather_stats_with_counts(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                                        const OptionalTensor& running_mean, const OptionalTensor& running_var,
                                        double momentum, double eps, const Tensor& counts) {
  TORCH_CHECK(mean.dim() == 2 && invstd.sizes() == mean.sizes() && counts.numel() == mean.size(0),
              "batch_norm_gather_stats_with_counts: expected mean and invstd of one shape [processes, channels] and "
              "counts of [processes], got ", mean.sizes(), ", ", invstd.sizes(), " and ", counts.sizes());
  const Tensor elements = wide(counts).reshape({-1, 1});
  const Tensor total = elements.sum();
  const Tensor means = wide(mean);
  // Where every process was empty there is no mean, and none divides by nothing.
  const Tensor centre = means.mul(elements).sum(0).div_(total.clamp_min(1));
  // What a process' elements differ from the common mean: by their own variance, and as its mean does.
  const Tensor spread = wide(invstd).pow_(-2).sub_(eps).add_(means.sub(centre).square_());
  const Tensor squares = spread.mul_(elements).sum(0);
  blend(running_mean, centre, momentum);
  blend(running_var, squares.div(total.sub(1)), momentum);
  const auto dtype = statistics_dtype(mean);
  return {centre.to(dtype), squares.div(total).add_(eps).rsqrt_().to(dtype)};
}

Two batch_norm_gather_stats(const Tensor& input, const Tensor& mean, const Tensor& invstd,
                            const OptionalTensor& running_mean, const OptionalTensor& running_var, double momentum,
                            double eps, int64_t count) {
  TORCH_CHECK(mean.dim() == 2, "batch_norm_gather_stats: expected mean of shape [processes, channels], got ",
              mean.sizes());
  const Tensor counts = at::full({mean.size(0)}, count, mean.options().dtype(at::kDouble));
  return rustorch::batch_norm_gather_stats_with_counts(input, mean, invstd, running_mean, running_var, momentum, eps,
                                                       counts);
}

// `invstd`, times the weight where there is one.
Tensor scale_of(const Tensor& invstd, const OptionalTensor& weight) {
  Tensor scale = wide(invstd);
  return given(weight) ? scale.mul(*weight) : scale;
}

Tensor& batch_norm_elemt_out(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                             const Tensor& mean, const Tensor& invstd, double /*eps*/, Tensor& output) {
  channels_of("batch_norm_elemt", input);
  at::native::resize_output(output, input.sizes());
  const Tensor absent;
  launch(Op::map_channels_, {output, absent, input, mean, absent, scale_of(invstd, weight), Operand(bias)});
  return output;
}

Tensor batch_norm_elemt(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                        const Tensor& mean, const Tensor& invstd, double eps) {
  Tensor output = at::empty_like(input, input.suggest_memory_format());
  return batch_norm_elemt_out(input, weight, bias, mean, invstd, eps, output);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward_reduce(const Tensor& grad, const Tensor& input,
                                                                      const Tensor& mean, const Tensor& invstd,
                                                                      const OptionalTensor& weight, bool input_wanted,
                                                                      bool weight_wanted, bool bias_wanted) {
  const auto channels = channels_of("batch_norm_backward_reduce", input);
  Tensor sum = empty_dense(channels, mean.scalar_type());
  Tensor product = empty_dense(channels, mean.scalar_type());
  // The gradient of a weight beside a deviation of one: the sum of `grad * (input - mean)`.
  const Tensor one = at::ones({1}, mean.options());
  const std::array<int64_t, 1> repeated{0};
  const Tensor absent;
  launch(Op::batch_norm_backward_,
         {absent, product, sum, as_input(grad, input), input, absent, mean, Operand(one, channels, repeated)},
         {/*training=*/1}, {0.0});
  Tensor grad_weight = gradient(weight_wanted, channels, weight, input);
  if (weight_wanted) {
    grad_weight.copy_(product.mul(invstd));
  }
  Tensor grad_bias = gradient(bias_wanted, channels, weight, input);
  if (bias_wanted) {
    grad_bias.copy_(sum);
  }
  return {input_wanted ? sum : Tensor(), input_wanted ? product : Tensor(), grad_weight, grad_bias};
}

// `count` has the elements of each process.
Tensor batch_norm_backward_elemt(const Tensor& grad, const Tensor& input, const Tensor& mean, const Tensor& invstd,
                                 const OptionalTensor& weight, const Tensor& sum_dy, const Tensor& sum_dy_xmu,
                                 const Tensor& count) {
  channels_of("batch_norm_backward_elemt", input);
  Tensor grad_input = at::empty_like(input, input.suggest_memory_format());
  const Tensor total = wide(count).sum();
  const Tensor scale = scale_of(invstd, weight);
  const Tensor of_input = wide(sum_dy_xmu).div_(total).mul_(wide(invstd).square_()).mul_(scale).neg_();
  const Tensor constant = wide(sum_dy).div_(total).mul_(scale).neg_();
  launch(Op::map_channels_, {grad_input, as_input(grad, input), input, mean, scale, of_input, constant});
  return grad_input;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("batch_norm_stats", TORCH_FN(batch_norm_stats));
  m.impl("batch_norm_update_stats", TORCH_FN(batch_norm_update_stats));
  m.impl("batch_norm_gather_stats", TORCH_FN(batch_norm_gather_stats));
  m.impl("batch_norm_gather_stats_with_counts", TORCH_FN(batch_norm_gather_stats_with_counts));
  m.impl("batch_norm_elemt", TORCH_FN(batch_norm_elemt));
  m.impl("batch_norm_elemt.out", TORCH_FN(batch_norm_elemt_out));
  m.impl("batch_norm_backward_reduce", TORCH_FN(batch_norm_backward_reduce));
  m.impl("batch_norm_backward_elemt", TORCH_FN(batch_norm_backward_elemt));
}

}  // namespace rustorch
