// Losses: the negative log likelihood, and those that are a pointwise row and a reduction.
#include <ATen/core/Reduction.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/nll_loss_backward_meta.h>
#include <ATen/ops/nll_loss_forward_meta.h>
#include <torch/library.h>

#include "aten/pointwise.h"
#include "aten/reduce.h"
#include "aten/structured.h"

namespace rustorch {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

at::OptionalTensorRef reference(const OptionalTensor& tensor) {
  return tensor.has_value() ? at::OptionalTensorRef(*tensor) : at::OptionalTensorRef();
}

// The kernel wants [N, C, ...] scores; a single sample gets N = 1.
struct Scores {
  explicit Scores(const Tensor& tensor) : tensor(tensor), sizes(tensor.sizes()), strides(tensor.strides()) {
    if (tensor.dim() == 1) {
      sizes.insert(sizes.begin(), 1);
      strides.insert(strides.begin(), tensor.numel());
    }
  }
  operator Operand() const { return Operand(tensor, sizes, strides); }

  const Tensor& tensor;
  at::DimVector sizes;
  at::DimVector strides;
};

// A target, loss or gradient with a value a position: of one dimension at least.
struct Positions {
  Positions(const Tensor& tensor, bool is_one) : tensor(tensor), sizes(tensor.sizes()), strides(tensor.strides()) {
    if (is_one && tensor.dim() == 0) {
      sizes.push_back(1);
      strides.push_back(1);
    }
  }
  operator Operand() const { return Operand(tensor, sizes, strides); }

  const Tensor& tensor;
  at::DimVector sizes;
  at::DimVector strides;
};

void launch_nll(const Tensor& output, const Tensor& total_weight, const Tensor& self, const Tensor& target,
                const OptionalTensor& weight, int64_t reduction, int64_t ignore_index) {
  const bool each = reduction == at::Reduction::None;
  launch(Op::nll_loss_,
         {Positions(output, each), total_weight, Scores(self), Positions(target, true), Operand(weight)},
         {reduction, ignore_index});
}

void launch_nll_backward(const Tensor& grad_input, const Tensor& grad, const Tensor& target,
                         const OptionalTensor& weight, int64_t reduction, int64_t ignore_index,
                         const Tensor& total_weight) {
  const bool each = reduction == at::Reduction::None;
  launch(Op::nll_loss_backward_,
         {Scores(grad_input), Positions(grad, each), Positions(target, true), Operand(weight), total_weight},
         {reduction, ignore_index});
}

std::tuple<Tensor, Tensor> nll_loss(const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                                    int64_t reduction, int64_t ignore_index) {
  Structured<at::meta::structured_nll_loss_forward, 2> meta;
  meta.meta(self, target, reference(weight), reduction, ignore_index);
  launch_nll(meta.result(0), meta.result(1), self, target, weight, reduction, ignore_index);
  return {meta.finish(0), meta.finish(1)};
}

std::tuple<Tensor&, Tensor&> nll_loss_out(const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                                          int64_t reduction, int64_t ignore_index, Tensor& output,
                                          Tensor& total_weight) {
  Structured<at::meta::structured_nll_loss_forward, 2> meta(output, total_weight);
  meta.meta(self, target, reference(weight), reduction, ignore_index);
  launch_nll(meta.result(0), meta.result(1), self, target, weight, reduction, ignore_index);
  meta.finish(0);
  meta.finish(1);
  return {output, total_weight};
}

Tensor nll_loss_backward(const Tensor& grad, const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                         int64_t reduction, int64_t ignore_index, const Tensor& total_weight) {
  Structured<at::meta::structured_nll_loss_backward> meta;
  meta.meta(grad, self, target, reference(weight), reduction, ignore_index, total_weight);
  launch_nll_backward(meta.result(), grad, target, weight, reduction, ignore_index, total_weight);
  return meta.finish();
}

Tensor& nll_loss_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target,
                              const OptionalTensor& weight, int64_t reduction, int64_t ignore_index,
                              const Tensor& total_weight, Tensor& grad_input) {
  Structured<at::meta::structured_nll_loss_backward> meta(grad_input);
  meta.meta(grad, self, target, reference(weight), reduction, ignore_index, total_weight);
  launch_nll_backward(meta.result(), grad, target, weight, reduction, ignore_index, total_weight);
  meta.finish();
  return grad_input;
}

void check_nll2d(const Tensor& self, const Tensor& target, const OptionalTensor& weight) {
  TORCH_CHECK(target.dim() == 3, "only batches of spatial targets supported (3D tensors) but got targets of dimension: ",
              target.dim());
  TORCH_CHECK(self.dim() == 4, "only batches of spatial inputs supported (4D tensors), but got input of dimension: ",
              self.dim());
  TORCH_CHECK(!weight.has_value() || !weight->defined() || weight->numel() == self.size(1),
              "weight tensor should be defined either for all or no classes");
  TORCH_CHECK(self.size(0) == target.size(0) && self.size(2) == target.size(1) && self.size(3) == target.size(2),
              "size mismatch (got input: ", self.sizes(), " , target: ", target.sizes());
}

std::tuple<Tensor&, Tensor&> nll_loss2d_out(const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                                            int64_t reduction, int64_t ignore_index, Tensor& output,
                                            Tensor& total_weight) {
  check_nll2d(self, target, weight);
  at::native::resize_output(output, reduction == at::Reduction::None ? target.sizes() : at::IntArrayRef());
  at::native::resize_output(total_weight, {});
  launch_nll(output, total_weight, self, target, weight, reduction, ignore_index);
  return {output, total_weight};
}

std::tuple<Tensor, Tensor> nll_loss2d(const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                                      int64_t reduction, int64_t ignore_index) {
  const auto sizes = reduction == at::Reduction::None ? target.sizes() : at::IntArrayRef();
  Tensor output = empty_dense(sizes, self.scalar_type());
  Tensor total_weight = empty_dense({}, self.scalar_type());
  nll_loss2d_out(self, target, weight, reduction, ignore_index, output, total_weight);
  return {output, total_weight};
}

Tensor& nll_loss2d_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target,
                                const OptionalTensor& weight, int64_t reduction, int64_t ignore_index,
                                const Tensor& total_weight, Tensor& grad_input) {
  check_nll2d(self, target, weight);
  at::native::resize_output(grad_input, self.sizes());
  launch_nll_backward(grad_input, grad, target, weight, reduction, ignore_index, total_weight);
  return grad_input;
}

Tensor nll_loss2d_backward(const Tensor& grad, const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                           int64_t reduction, int64_t ignore_index, const Tensor& total_weight) {
  Tensor grad_input = empty_dense(self.sizes(), self.scalar_type());
  return nll_loss2d_backward_out(grad, self, target, weight, reduction, ignore_index, total_weight, grad_input);
}

// The mean or sum of the losses, into `out`; the losses themselves without a reduction.
void reduce_losses(const Tensor& losses, int64_t reduction, const Tensor& out) {
  reduce(reduction == at::Reduction::Mean ? Op::mean_ : Op::sum_, {out}, losses, dims_of(losses));
}

ScalarArguments scalars_of(std::initializer_list<double> values) {
  ScalarArguments scalars;
  for (const double value : values) {
    scalars.add(value);
  }
  return scalars;
}

// A row over (self, target), weighted where a weight is given.
Tensor each_loss(Op row, const Tensor& self, const Tensor& target, const ScalarArguments& scalars,
                 const OptionalTensor& weight = std::nullopt) {
  Structured<PlainBinary> iterator;
  iterator.meta(self, target);
  launch_iterator(row, iterator, scalars);
  Tensor losses = iterator.finish();
  return weight.has_value() && weight->defined() ? at::mul(losses, *weight) : losses;
}

Tensor loss(const Tensor& losses, int64_t reduction) {
  if (reduction == at::Reduction::None) {
    return losses;
  }
  Tensor out = empty_dense({}, losses.scalar_type());
  reduce_losses(losses, reduction, out);
  return out;
}

Tensor& loss_out(const Tensor& losses, int64_t reduction, Tensor& out) {
  TORCH_CHECK(at::canCast(losses.scalar_type(), out.scalar_type()), "result type ", losses.scalar_type(),
              " can't be cast to the desired output type ", out.scalar_type());
  if (reduction == at::Reduction::None) {
    at::native::resize_output(out, losses.sizes());
    return out.copy_(losses);
  }
  at::native::resize_output(out, {});
  reduce_losses(losses, reduction, out);
  return out;
}

// A gradient row over (grad, self, target); its first scalar is the reduction's share.
void run_gradient(Structured<PlainTernary>& iterator, Op row, const Tensor& grad, const Tensor& self,
                  const Tensor& target, int64_t reduction, double scale, double parameter) {
  iterator.meta(grad, self, target);
  const double share = reduction == at::Reduction::Mean ? scale / static_cast<double>(self.numel()) : scale;
  launch_iterator(row, iterator, scalars_of({share, parameter}));
}

Tensor gradient(Op row, const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                double scale = 1.0, double parameter = 0.0) {
  Structured<PlainTernary> iterator;
  run_gradient(iterator, row, grad, self, target, reduction, scale, parameter);
  return iterator.finish();
}

Tensor& gradient_out(Tensor& out, Op row, const Tensor& grad, const Tensor& self, const Tensor& target,
                     int64_t reduction, double scale = 1.0, double parameter = 0.0) {
  Structured<PlainTernary> iterator(out);
  run_gradient(iterator, row, grad, self, target, reduction, scale, parameter);
  iterator.finish();
  return out;
}

Tensor mse_loss(const Tensor& self, const Tensor& target, int64_t reduction) {
  return loss(each_loss(Op::mse_elementwise_, self, target, {}), reduction);
}
Tensor& mse_loss_out(const Tensor& self, const Tensor& target, int64_t reduction, Tensor& out) {
  return loss_out(each_loss(Op::mse_elementwise_, self, target, {}), reduction, out);
}
Tensor mse_loss_backward(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction) {
  return gradient(Op::mse_backward_, grad, self, target, reduction, 2.0);
}
Tensor& mse_loss_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                              Tensor& out) {
  return gradient_out(out, Op::mse_backward_, grad, self, target, reduction, 2.0);
}

Tensor smooth_l1_each(const Tensor& self, const Tensor& target, double beta) {
  TORCH_CHECK(beta >= 0, "smooth_l1_loss does not support negative values for beta.");
  return each_loss(Op::smooth_l1_elementwise_, self, target, scalars_of({beta}));
}
Tensor smooth_l1_loss(const Tensor& self, const Tensor& target, int64_t reduction, double beta) {
  return loss(smooth_l1_each(self, target, beta), reduction);
}
Tensor& smooth_l1_loss_out(const Tensor& self, const Tensor& target, int64_t reduction, double beta, Tensor& out) {
  return loss_out(smooth_l1_each(self, target, beta), reduction, out);
}
Tensor smooth_l1_loss_backward(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                               double beta) {
  return gradient(Op::smooth_l1_backward_, grad, self, target, reduction, 1.0, beta);
}
Tensor& smooth_l1_loss_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                                    double beta, Tensor& out) {
  return gradient_out(out, Op::smooth_l1_backward_, grad, self, target, reduction, 1.0, beta);
}

Tensor huber_each(const Tensor& self, const Tensor& target, double delta) {
  TORCH_CHECK(delta > 0, "huber_loss does not support non-positive values for delta.");
  return each_loss(Op::huber_elementwise_, self, target, scalars_of({delta}));
}
Tensor huber_loss(const Tensor& self, const Tensor& target, int64_t reduction, double delta) {
  return loss(huber_each(self, target, delta), reduction);
}
Tensor& huber_loss_out(const Tensor& self, const Tensor& target, int64_t reduction, double delta, Tensor& out) {
  return loss_out(huber_each(self, target, delta), reduction, out);
}
Tensor huber_loss_backward(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                           double delta) {
  return gradient(Op::huber_backward_, grad, self, target, reduction, 1.0, delta);
}
Tensor& huber_loss_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                                double delta, Tensor& out) {
  return gradient_out(out, Op::huber_backward_, grad, self, target, reduction, 1.0, delta);
}

Tensor binary_cross_entropy_each(const Tensor& self, const Tensor& target, const OptionalTensor& weight) {
  // A kernel looks, so that a captured graph looks whenever it runs.
  launch(Op::expect_probabilities_, {self}, {0});
  launch(Op::expect_probabilities_, {target}, {1});
  return each_loss(Op::binary_cross_entropy_, self, target, {}, weight);
}
Tensor binary_cross_entropy(const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                            int64_t reduction) {
  return loss(binary_cross_entropy_each(self, target, weight), reduction);
}
Tensor& binary_cross_entropy_out(const Tensor& self, const Tensor& target, const OptionalTensor& weight,
                                 int64_t reduction, Tensor& out) {
  return loss_out(binary_cross_entropy_each(self, target, weight), reduction, out);
}
Tensor binary_cross_entropy_backward(const Tensor& grad, const Tensor& self, const Tensor& target,
                                     const OptionalTensor& weight, int64_t reduction) {
  Tensor result = gradient(Op::binary_cross_entropy_backward_, grad, self, target, reduction);
  return weight.has_value() && weight->defined() ? result.mul_(*weight) : result;
}
Tensor& binary_cross_entropy_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target,
                                          const OptionalTensor& weight, int64_t reduction, Tensor& out) {
  gradient_out(out, Op::binary_cross_entropy_backward_, grad, self, target, reduction);
  return weight.has_value() && weight->defined() ? out.mul_(*weight) : out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("nll_loss_forward", TORCH_FN(nll_loss));
  m.impl("nll_loss_forward.output", TORCH_FN(nll_loss_out));
  m.impl("nll_loss_backward", TORCH_FN(nll_loss_backward));
  m.impl("nll_loss_backward.grad_input", TORCH_FN(nll_loss_backward_out));
  m.impl("nll_loss2d_forward", TORCH_FN(nll_loss2d));
  m.impl("nll_loss2d_forward.output", TORCH_FN(nll_loss2d_out));
  m.impl("nll_loss2d_backward", TORCH_FN(nll_loss2d_backward));
  m.impl("nll_loss2d_backward.grad_input", TORCH_FN(nll_loss2d_backward_out));
#define RUSTORCH_LOSS(name, grad_overload)                      \
  m.impl(#name, TORCH_FN(name));                                \
  m.impl(#name ".out", TORCH_FN(name##_out));                   \
  m.impl(#name "_backward", TORCH_FN(name##_backward));         \
  m.impl(#name "_backward." grad_overload, TORCH_FN(name##_backward_out));
  RUSTORCH_LOSS(mse_loss, "grad_input")
  RUSTORCH_LOSS(smooth_l1_loss, "grad_input")
  RUSTORCH_LOSS(huber_loss, "out")
  RUSTORCH_LOSS(binary_cross_entropy, "grad_input")
#undef RUSTORCH_LOSS
}

}  // namespace rustorch
