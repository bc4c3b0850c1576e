// Activations with a parameter or a gate, and the shuffles of channels and pixels.
#include <ATen/WrapDimUtils.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/glu_meta.h>
#include <ATen/ops/glu_ops.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>
#include <c10/util/safe_numerics.h>
#include <torch/library.h>

#include "aten/forms.h"
#include "aten/pointwise.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;

struct Glu {
  using Meta = at::meta::structured_glu;
  template <class Iterator>
    requires std::is_base_of_v<at::TensorIteratorBase, Iterator>
  static void run(Iterator& iterator, const Tensor& /*self*/, int64_t /*dim*/) {
    launch_iterator(Op::glu_, iterator);
  }
};

// A row over tensors that broadcast, into `out`.
template <class Meta, class... Inputs>
Tensor row(Op op, const Tensor& out, const Inputs&... inputs) {
  if (!out.defined()) {
    Structured<Meta> iterator;
    iterator.meta(inputs...);
    launch_iterator(op, iterator);
    return iterator.finish();
  }
  Structured<Meta> iterator(out);
  iterator.meta(inputs...);
  launch_iterator(op, iterator);
  return iterator.finish();
}

Tensor& glu_backward_out(const Tensor& grad, const Tensor& self, int64_t dim, Tensor& grad_input) {
  TORCH_CHECK(self.dim() > 0, "glu does not support 0-dimensional tensors");
  const int64_t axis = at::maybe_wrap_dim(dim, self.dim());
  TORCH_CHECK(self.size(axis) % 2 == 0, "Halving dimension must be even, but dimension ", axis, " is size ",
              self.size(axis));
  at::native::resize_output(grad_input, self.sizes());
  const int64_t half = self.size(axis) / 2;
  const auto halves = [&](const Tensor& tensor) {
    return std::array<Tensor, 2>{tensor.narrow(axis, 0, half), tensor.narrow(axis, half, half)};
  };
  const auto [value, gate] = halves(self);
  const auto [grad_value, grad_gate] = halves(grad_input);
  row<PlainBinary>(Op::glu_, grad_value, grad, gate);
  row<PlainTernary>(Op::glu_gate_backward_, grad_gate, grad, value, gate);
  return grad_input;
}

Tensor glu_backward(const Tensor& grad, const Tensor& self, int64_t dim) {
  Tensor grad_input = empty_dense(self.sizes(), self.scalar_type());
  return glu_backward_out(grad, self, dim, grad_input);
}

Tensor prelu(const Tensor& self, const Tensor& weight) {
  return row<PlainBinary>(Op::prelu_, Tensor(), self, weight);
}

std::tuple<Tensor, Tensor> prelu_backward(const Tensor& grad, const Tensor& self, const Tensor& weight) {
  return {row<PlainTernary>(Op::prelu_input_backward_, Tensor(), grad, self, weight),
          row<PlainBinary>(Op::prelu_weight_backward_, Tensor(), grad, self)};
}

// A slope for each negative element, drawn while training; 1 for the others.
Tensor rrelu(const Tensor& self, Tensor& noise, const Scalar& lower, const Scalar& upper, bool training,
             std::optional<at::Generator> generator) {
  TORCH_CHECK(self.sym_sizes() == noise.sym_sizes(), "noise tensor shape must match self tensor shape. Got self.shape = ",
              self.sizes(), " noise.shape = ", noise.sizes());
  const double low = lower.toDouble();
  const double high = upper.toDouble();
  TORCH_CHECK(low <= high, "Lower bound should be less than or equal to the upper bound");
  TORCH_CHECK(std::isfinite(low), "rrelu: lower bound must be finite, got ", low);
  TORCH_CHECK(std::isfinite(high), "rrelu: upper bound must be finite, got ", high);
  if (!training) {
    return at::leaky_relu(self, (low + high) / 2);
  }
  const Tensor slopes = at::empty_like(noise).uniform_(low, high, std::move(generator));
  noise.copy_(at::where(self.le(0), slopes, 1.0));
  // Dense however the input lies, as on the CPU.
  return at::mul(self, noise).contiguous();
}

Tensor& rrelu_out(const Tensor& self, Tensor& noise, const Scalar& lower, const Scalar& upper, bool training,
                  std::optional<at::Generator> generator, Tensor& out) {
  const Tensor result = rrelu(self, noise, lower, upper, training, std::move(generator));
  at::native::resize_output(out, result.sizes());
  return out.copy_(result);
}

Tensor& rrelu_in_place(Tensor& self, Tensor& noise, const Scalar& lower, const Scalar& upper, bool training,
                       std::optional<at::Generator> generator) {
  return self.copy_(rrelu(self, noise, lower, upper, training, std::move(generator)));
}

// A fresh tensor, with channels last where `self` has them so.
Tensor empty_as(const Tensor& self, at::IntArrayRef sizes) {
  return at::empty(sizes, self.options(), self.suggest_memory_format());
}

int64_t product(int64_t a, int64_t b) {
  int64_t result = 0;
  TORCH_CHECK_VALUE(!c10::mul_overflows(a, b, &result), "the product of ", a, " and ", b, " is too large for a size");
  return result;
}

Tensor channel_shuffle(const Tensor& self, c10::SymInt groups_) {
  const int64_t groups = groups_.expect_int();
  TORCH_CHECK(self.dim() > 2, "channel_shuffle expects input with > 2 dims, but got input with sizes ", self.sizes());
  TORCH_CHECK(groups > 0, "Number of groups to divide channels in must be positive. Value of groups:", groups);
  TORCH_CHECK(self.size(1) % groups == 0, "Number of channels must be divisible by groups. Got ", self.size(1),
              " channels and ", groups, " groups.");
  const Tensor split = self.unflatten(1, {groups, self.size(1) / groups});
  const Tensor out = empty_as(self, self.sizes());
  out.unflatten(1, {self.size(1) / groups, groups}).copy_(split.transpose(1, 2));
  return out;
}

Tensor pixel_shuffle(const Tensor& self, int64_t factor) {
  TORCH_CHECK(self.dim() >= 3, "pixel_shuffle expects input to have at least 3 dimensions, but got input with ",
              self.dim(), " dimension(s)");
  TORCH_CHECK(factor > 0, "pixel_shuffle expects a positive upscale_factor, but got ", factor);
  const int64_t channels = self.size(-3);
  const int64_t square = product(factor, factor);
  TORCH_CHECK(channels % square == 0,
              "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
              "but input.size(-3)=",
              channels, " is not divisible by ", square);
  const int64_t dim = self.dim() - 3;
  at::DimVector sizes(self.sizes());
  sizes[dim] = channels / square;
  sizes[dim + 1] = product(sizes[dim + 1], factor);
  sizes[dim + 2] = product(sizes[dim + 2], factor);
  const Tensor out = empty_as(self, sizes);
  // (channels, factor, factor, height, width), then each factor beside its dimension.
  const Tensor split = self.unflatten(dim, {sizes[dim], factor, factor});
  out.unflatten(dim + 2, {self.size(-1), factor})
      .unflatten(dim + 1, {self.size(-2), factor})
      .copy_(split.movedim({dim + 1, dim + 2}, {dim + 2, dim + 4}));
  return out;
}

Tensor pixel_unshuffle(const Tensor& self, int64_t factor) {
  TORCH_CHECK(self.dim() >= 3, "pixel_unshuffle expects input to have at least 3 dimensions, but got input with ",
              self.dim(), " dimension(s)");
  TORCH_CHECK(factor > 0, "pixel_unshuffle expects a positive downscale_factor, but got ", factor);
  TORCH_CHECK(self.size(-2) % factor == 0,
              "pixel_unshuffle expects height to be divisible by downscale_factor, but input.size(-2)=", self.size(-2),
              " is not divisible by ", factor);
  TORCH_CHECK(self.size(-1) % factor == 0,
              "pixel_unshuffle expects width to be divisible by downscale_factor, but input.size(-1)=", self.size(-1),
              " is not divisible by ", factor);
  const int64_t dim = self.dim() - 3;
  at::DimVector sizes(self.sizes());
  sizes[dim] = product(sizes[dim], product(factor, factor));
  sizes[dim + 1] /= factor;
  sizes[dim + 2] /= factor;
  const Tensor split = self.unflatten(dim + 2, {sizes[dim + 2], factor}).unflatten(dim + 1, {sizes[dim + 1], factor});
  const Tensor out = empty_as(self, sizes);
  out.unflatten(dim, {self.size(-3), factor, factor}).copy_(split.movedim({dim + 2, dim + 4}, {dim + 1, dim + 2}));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("glu", TORCH_FN((FloatsOnly<Made<Glu, at::_ops::glu>, at::_ops::glu>::call)));
  m.impl("glu.out", TORCH_FN((FloatsOnly<WrittenTo<Glu, at::_ops::glu_out>, at::_ops::glu_out>::call)));
  m.impl("glu_backward", TORCH_FN(glu_backward));
  m.impl("glu_backward.grad_input", TORCH_FN(glu_backward_out));
  m.impl("_prelu_kernel", TORCH_FN(prelu));
  m.impl("_prelu_kernel_backward", TORCH_FN(prelu_backward));
  m.impl("rrelu_with_noise", TORCH_FN(rrelu));
  m.impl("rrelu_with_noise.out", TORCH_FN(rrelu_out));
  m.impl("rrelu_with_noise_", TORCH_FN(rrelu_in_place));
  m.impl("channel_shuffle", TORCH_FN(channel_shuffle));
  m.impl("pixel_shuffle", TORCH_FN(pixel_shuffle));
  m.impl("pixel_unshuffle", TORCH_FN(pixel_unshuffle));
}

}  // namespace rustorch
