// Fake quantization, for training what is to be quantized: the tensors themselves stay floats.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fake_quantize_learnable_per_channel_affine_backward_ops.h>
#include <ATen/ops/_fake_quantize_learnable_per_channel_affine_ops.h>
#include <ATen/ops/_fake_quantize_learnable_per_tensor_affine_backward_ops.h>
#include <ATen/ops/_fake_quantize_learnable_per_tensor_affine_ops.h>
#include <ATen/ops/_fake_quantize_per_tensor_affine_cachemask_tensor_qparams_ops.h>
#include <ATen/ops/_fused_moving_avg_obs_fq_helper_ops.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/fake_quantize_per_channel_affine_cachemask_ops.h>
#include <ATen/ops/fake_quantize_per_tensor_affine_cachemask_ops.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include <array>
#include <limits>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::Tensor;
using Masked = std::tuple<Tensor, Tensor>;
using Grads = std::tuple<Tensor, Tensor, Tensor>;

void check_range(int64_t quant_min, int64_t quant_max) {
  TORCH_CHECK(quant_min <= quant_max, "`quant_min` should be less than or equal to `quant_max`.");
}

// A result like `self`, and the mask of what was in range.
Masked outputs(const Tensor& self) {
  return {at::empty_like(self, self.options(), at::MemoryFormat::Preserve),
          at::empty_like(self, self.options().dtype(at::kBool), at::MemoryFormat::Preserve)};
}

Masked by_numbers(const Tensor& self, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max) {
  check_range(quant_min, quant_max);
  TORCH_CHECK(zero_point >= quant_min && zero_point <= quant_max,
              "`zero_point` must be between `quant_min` and `quant_max`.");
  if (!is_native_float(self)) {
    return call_fallback<at::_ops::fake_quantize_per_tensor_affine_cachemask>(self, scale, zero_point, quant_min,
                                                                              quant_max);
  }
  const auto [out, mask] = outputs(self);
  launch(Op::fake_quantize_, {out, mask, self, Tensor(), Tensor(), Tensor()}, {quant_min, quant_max, 0, zero_point},
         {scale});
  return {out, mask};
}

Tensor only_element(const Tensor& tensor) {
  TORCH_CHECK(tensor.numel() == 1, "a Tensor with ", tensor.numel(), " elements cannot be converted to Scalar");
  return tensor;
}

// A zero point of a type that the kernel reads.
Tensor readable(const Tensor& zero_point) {
  const auto dtype = zero_point.scalar_type();
  return dtype == at::kInt || dtype == at::kLong || dtype == at::kFloat ? zero_point : zero_point.to(at::kInt);
}

Masked by_tensors(const Tensor& self, const Tensor& scale, const Tensor& zero_point, const Tensor& enabled,
                  int64_t quant_min, int64_t quant_max) {
  check_range(quant_min, quant_max);
  if (!is_native_float(self)) {
    return call_fallback<at::_ops::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams>(
        self, scale, zero_point, enabled, quant_min, quant_max);
  }
  const auto [out, mask] = outputs(self);
  launch(Op::fake_quantize_,
         {out, mask, self, only_element(scale).to(at::kFloat), readable(only_element(zero_point)),
          only_element(enabled).to(at::kLong)},
         {quant_min, quant_max, 0, 0}, {0.0});
  return {out, mask};
}

// A channel's number for each of its elements, without a copy.
Tensor along(const Tensor& numbers, const Tensor& self, int64_t axis) {
  at::DimVector sizes(static_cast<size_t>(self.dim()), 1);
  sizes[static_cast<size_t>(axis)] = numbers.numel();
  return numbers.reshape(sizes).expand(self.sizes());
}

void check_channels(const Tensor& self, const Tensor& scale, const Tensor& zero_point, int64_t axis) {
  TORCH_CHECK(scale.dim() == 1, "scale should be a 1-D tensor");
  TORCH_CHECK(zero_point.dim() == 1, "zero point should be a 1-D tensor");
  TORCH_CHECK(scale.numel() == zero_point.numel(), "scale and zero-point need to have the same dimensions");
  TORCH_CHECK(scale.numel() == self.size(axis),
              "dimensions of scale and zero-point are not consistent with input tensor");
  TORCH_CHECK(axis >= 0, "`axis` must be between 0 and number of dimensions of input");
}

Masked by_channel(const Tensor& self, const Tensor& scale, const Tensor& zero_point, int64_t axis, int64_t quant_min,
                  int64_t quant_max) {
  const auto zero_type = zero_point.scalar_type();
  TORCH_CHECK(scale.scalar_type() == at::kFloat || scale.scalar_type() == at::kBFloat16,
              "Scale must be Float or BFloat16, found ", scale.scalar_type());
  TORCH_CHECK(zero_type == at::kInt || zero_type == at::kFloat || zero_type == at::kHalf,
              "Zero-point must be Int32, Float or Half, found ", zero_type);
  check_channels(self, scale, zero_point, axis);
  check_range(quant_min, quant_max);
  if (!is_native_float(self)) {
    return call_fallback<at::_ops::fake_quantize_per_channel_affine_cachemask>(self, scale, zero_point, axis,
                                                                               quant_min, quant_max);
  }
  const auto [out, mask] = outputs(self);
  const Tensor zeros = zero_type == at::kHalf ? zero_point.to(at::kFloat) : zero_point;
  launch(Op::fake_quantize_,
         {out, mask, self, along(scale.to(at::kFloat), self, axis), along(zeros, self, axis), Tensor()},
         {quant_min, quant_max, 1, 0}, {0.0});
  return {out, mask};
}

// A zero point that is learnt, as a whole number in range.
Tensor whole(const Tensor& zero_point, int64_t quant_min, int64_t quant_max) {
  return zero_point.round().clamp_(quant_min, quant_max);
}

Tensor learnable_by_tensor(const Tensor& self, const Tensor& scale, const Tensor& zero_point, int64_t quant_min,
                           int64_t quant_max, double grad_factor) {
  check_range(quant_min, quant_max);
  if (!is_native_float(self)) {
    return call_fallback<at::_ops::_fake_quantize_learnable_per_tensor_affine>(self, scale, zero_point, quant_min,
                                                                               quant_max, grad_factor);
  }
  const auto [out, mask] = outputs(self);
  launch(Op::fake_quantize_,
         {out, mask, self, scale[0].to(at::kFloat), whole(zero_point[0].to(at::kFloat), quant_min, quant_max),
          Tensor()},
         {quant_min, quant_max, 0, 0}, {0.0});
  return out;
}

Tensor learnable_by_channel(const Tensor& self, const Tensor& scale, const Tensor& zero_point, int64_t axis,
                            int64_t quant_min, int64_t quant_max, double /*grad_factor*/) {
  return std::get<0>(by_channel(self, scale, whole(zero_point, quant_min, quant_max).to(at::kInt), axis, quant_min,
                                quant_max));
}

// What each element gives; scale and zero point are expanded to `self`.
Grads each_gives(const Tensor& grad, const Tensor& self, const Tensor& scale, const Tensor& zero_point,
                 int64_t quant_min, int64_t quant_max, double grad_factor) {
  for (const Tensor* tensor : {&grad, &self, &scale, &zero_point}) {
    TORCH_CHECK(tensor->scalar_type() == at::kFloat, "expected tensors of dtype Float, got ", tensor->scalar_type());
  }
  TORCH_CHECK(quant_min <= 0 && quant_max >= 0, "Expecting `quant_min` <= 0 and `quant_max` >= 0");
  const auto like = [&] { return at::empty_like(self, self.options(), at::MemoryFormat::Preserve); };
  Grads grads{like(), like(), like()};
  launch(Op::fake_quantize_learnable_backward_,
         {std::get<0>(grads), std::get<1>(grads), std::get<2>(grads), grad, self, scale, zero_point},
         {quant_min, quant_max}, {grad_factor});
  return grads;
}

Grads learnable_by_tensor_backward(const Tensor& grad, const Tensor& self, const Tensor& scale,
                                   const Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                                   double grad_factor) {
  TORCH_CHECK(self.numel() == grad.numel(), "`X` and `dY` are not the same size");
  if (self.numel() == 0) {
    return {self, scale, zero_point};
  }
  // Forward it is rounded to even; the gradients' is rounded up from a half.
  const Tensor zero = zero_point[0].add(0.5).clamp_(quant_min, quant_max).trunc_();
  auto [grad_self, grad_scale, grad_zero] = each_gives(grad.expand_as(self), self, scale[0].expand_as(self),
                                                       zero.expand_as(self), quant_min, quant_max, grad_factor);
  return {grad_self, grad_scale.sum().unsqueeze(0), grad_zero.sum().unsqueeze(0)};
}

Grads learnable_by_channel_backward(const Tensor& grad, const Tensor& self, const Tensor& scale,
                                    const Tensor& zero_point, int64_t axis, int64_t quant_min, int64_t quant_max,
                                    double grad_factor) {
  // PyTorch computes bf16's in f32, and gives gradients of that.
  const auto wide = [&](const Tensor& tensor) {
    return self.scalar_type() == at::kBFloat16 ? tensor.to(at::kFloat) : tensor;
  };
  TORCH_CHECK(self.sizes() == grad.sizes(), "`X` and `dY` are not the same size");
  check_channels(self, scale, zero_point, axis);
  if (self.numel() == 0) {
    return {self, scale, zero_point};
  }
  const Tensor zero = whole(wide(zero_point), quant_min, quant_max);
  auto [grad_self, grad_scale, grad_zero] =
      each_gives(wide(grad), wide(self), along(wide(scale), self, axis), along(zero, self, axis), quant_min,
                 quant_max, grad_factor);
  at::DimVector others;
  for (int64_t dim = 0; dim < self.dim(); ++dim) {
    if (dim != axis) {
      others.push_back(dim);
    }
  }
  return {grad_self, at::sum(grad_scale, others), at::sum(grad_zero, others)};
}

Operand line(const Tensor& tensor, int64_t& count) {
  static constexpr int64_t one = 1;
  count = tensor.numel();
  return Operand(tensor, {&count, 1}, {&one, 1});
}

// Moves the observed range towards that of `self`, chooses scale and zero point from it, and quantizes.
Masked observe_and_quantize(const Tensor& self, const Tensor& observer_on, const Tensor& fake_quant_on,
                            Tensor& running_min, Tensor& running_max, Tensor& scale, Tensor& zero_point,
                            double averaging_const, int64_t quant_min, int64_t quant_max, int64_t axis,
                            bool per_row, bool symmetric) {
  const bool is_usual = running_min.scalar_type() == at::kFloat && running_max.scalar_type() == at::kFloat &&
                        scale.scalar_type() == at::kFloat && zero_point.scalar_type() == at::kInt &&
                        self.scalar_type() == at::kFloat && running_min.is_contiguous() &&
                        running_max.is_contiguous() && scale.is_contiguous() && zero_point.is_contiguous();
  if (!is_usual) {
    return call_fallback<at::_ops::_fused_moving_avg_obs_fq_helper>(
        self, observer_on, fake_quant_on, running_min, running_max, scale, zero_point, averaging_const, quant_min,
        quant_max, axis, per_row, symmetric);
  }
  if (per_row) {
    TORCH_CHECK(axis == 0, "Per-channel FakeQuant in fused_moving_avg_obs_fake_quant is only supported on axis == 0");
    if (running_min.numel() == 0) {
      const double infinity = std::numeric_limits<double>::infinity();
      running_min.resize_({self.size(0)}).fill_(infinity);
      running_max.resize_({self.size(0)}).fill_(-infinity);
      scale.resize_({self.size(0)});
      zero_point.resize_({self.size(0)});
    }
  }
  std::array<int64_t, 4> counts{};
  if (observer_on.item().toInt() != 0) {
    const auto [low, high] = per_row ? at::aminmax(self.dim() == 2 ? self : self.flatten(1), 1) : at::aminmax(self);
    launch(Op::moving_range_,
           {line(running_min, counts[0]), line(running_max, counts[1]), line(low, counts[2]), line(high, counts[3])},
           {}, {averaging_const});
  }
  if (fake_quant_on.item().toInt() == 0) {
    return {self.clone(), at::ones_like(self, self.options().dtype(at::kBool), at::MemoryFormat::Preserve)};
  }
  launch(Op::choose_quantization_,
         {line(scale, counts[0]), line(zero_point, counts[1]), line(running_min, counts[2]),
          line(running_max, counts[3])},
         {quant_min, quant_max, symmetric});
  if (per_row) {
    return by_channel(self, scale, zero_point, axis, quant_min, quant_max);
  }
  check_range(quant_min, quant_max);
  const auto [out, mask] = outputs(self);
  launch(Op::fake_quantize_, {out, mask, self, scale, zero_point, Tensor()}, {quant_min, quant_max, 0, 0}, {0.0});
  return {out, mask};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("fake_quantize_per_tensor_affine_cachemask", TORCH_FN(by_numbers));
  m.impl("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams", TORCH_FN(by_tensors));
  m.impl("fake_quantize_per_channel_affine_cachemask", TORCH_FN(by_channel));
  m.impl("_fake_quantize_learnable_per_tensor_affine", TORCH_FN(learnable_by_tensor));
  m.impl("_fake_quantize_learnable_per_tensor_affine_backward", TORCH_FN(learnable_by_tensor_backward));
  m.impl("_fake_quantize_learnable_per_channel_affine", TORCH_FN(learnable_by_channel));
  m.impl("_fake_quantize_learnable_per_channel_affine_backward", TORCH_FN(learnable_by_channel_backward));
  m.impl("_fused_moving_avg_obs_fq_helper", TORCH_FN(observe_and_quantize));
}

}  // namespace rustorch
