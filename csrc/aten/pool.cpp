// Pooling over images; the 1-D forms come through these.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_adaptive_avg_pool2d_backward_ops.h>
#include <ATen/ops/_adaptive_avg_pool2d_ops.h>
#include <ATen/ops/avg_pool2d_backward_meta.h>
#include <ATen/ops/avg_pool2d_backward_ops.h>
#include <ATen/ops/avg_pool2d_meta.h>
#include <ATen/ops/avg_pool2d_ops.h>
#include <ATen/ops/max_pool2d_with_indices_backward_meta.h>
#include <ATen/ops/max_pool2d_with_indices_backward_ops.h>
#include <ATen/ops/max_pool2d_with_indices_meta.h>
#include <ATen/ops/max_pool2d_with_indices_ops.h>
#include <torch/library.h>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;
using Ints = c10::SmallVector<int64_t, 8>;

// (height, width) of an argument that may be one number for both, or absent.
void append_pair(Ints& ints, IntArrayRef values, IntArrayRef otherwise = {}) {
  const IntArrayRef given = values.empty() ? otherwise : values;
  ints.append({given[0], given.size() > 1 ? given[1] : given[0]});
}

bool is_native_number(const Tensor& tensor) {
  return is_native(tensor.scalar_type()) && tensor.scalar_type() != at::kBool;
}

void launch_max(const Tensor& out, const Tensor& indices, const Tensor& self, IntArrayRef kernel, IntArrayRef stride,
                IntArrayRef padding, IntArrayRef dilation) {
  Ints ints;
  append_pair(ints, kernel);
  append_pair(ints, stride, kernel);
  append_pair(ints, padding);
  append_pair(ints, dilation);
  launch(Op::max_pool2d_, {out, indices, self}, ints);
}

std::tuple<Tensor, Tensor> max_pool2d(const Tensor& self, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding,
                                      IntArrayRef dilation, bool ceil_mode) {
  if (!is_native_number(self)) {
    return call_fallback<at::_ops::max_pool2d_with_indices>(self, kernel, stride, padding, dilation, ceil_mode);
  }
  Structured<at::meta::structured_max_pool2d_with_indices, 2> op;
  op.meta(self, kernel, stride, padding, dilation, ceil_mode);
  launch_max(op.result(0), op.result(1), self, kernel, stride, padding, dilation);
  return {op.finish(0), op.finish(1)};
}

std::tuple<Tensor&, Tensor&> max_pool2d_out(const Tensor& self, IntArrayRef kernel, IntArrayRef stride,
                                            IntArrayRef padding, IntArrayRef dilation, bool ceil_mode, Tensor& out,
                                            Tensor& indices) {
  if (!is_native_number(self)) {
    return call_fallback<at::_ops::max_pool2d_with_indices_out>(self, kernel, stride, padding, dilation, ceil_mode,
                                                                out, indices);
  }
  Structured<at::meta::structured_max_pool2d_with_indices, 2> op(out, indices);
  op.meta(self, kernel, stride, padding, dilation, ceil_mode);
  launch_max(op.result(0), op.result(1), self, kernel, stride, padding, dilation);
  op.finish(0);
  op.finish(1);
  return {out, indices};
}

struct MaxBackward {
  using Meta = at::meta::structured_max_pool2d_with_indices_backward;
  static void run(const Tensor& grad_in, const Tensor& grad, const Tensor& /*self*/, IntArrayRef /*kernel*/,
                  IntArrayRef /*stride*/, IntArrayRef /*padding*/, IntArrayRef /*dilation*/, bool /*ceil_mode*/,
                  const Tensor& indices) {
    launch(Op::max_pool2d_backward_, {grad_in, grad, indices});
  }
};

Ints average_ints(IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, bool count_include_pad,
                  std::optional<int64_t> divisor) {
  Ints ints;
  append_pair(ints, kernel);
  append_pair(ints, stride, kernel);
  append_pair(ints, padding);
  ints.append({static_cast<int64_t>(count_include_pad), divisor.value_or(0)});
  return ints;
}

struct Average {
  using Meta = at::meta::structured_avg_pool2d;
  static void run(const Tensor& out, const Tensor& self, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding,
                  bool /*ceil_mode*/, bool count_include_pad, std::optional<int64_t> divisor) {
    launch(Op::avg_pool2d_, {out, self}, average_ints(kernel, stride, padding, count_include_pad, divisor));
  }
};

struct AverageBackward {
  using Meta = at::meta::structured_avg_pool2d_backward;
  static void run(const Tensor& grad_in, const Tensor& grad, const Tensor& /*self*/, IntArrayRef kernel,
                  IntArrayRef stride, IntArrayRef padding, bool /*ceil_mode*/, bool count_include_pad,
                  std::optional<int64_t> divisor) {
    launch(Op::avg_pool2d_backward_, {grad_in, grad},
           average_ints(kernel, stride, padding, count_include_pad, divisor));
  }
};

Tensor adaptive_average(const Tensor& self, IntArrayRef output_size) {
  TORCH_CHECK(output_size.size() == 2, "adaptive_avg_pool2d: output_size must be 2");
  TORCH_CHECK(self.dim() == 3 || self.dim() == 4, "adaptive_avg_pool2d(): Expected 3D or 4D tensor, but got ",
              self.sizes());
  for (const int64_t dim : {-2, -1}) {
    TORCH_CHECK(self.size(dim) > 0,
                "adaptive_avg_pool2d(): Expected input to have non-zero size for non-batch dimensions, but input has "
                "sizes ",
                self.sizes(), " with dimension ", dim + self.dim(), " being empty");
  }
  if (!is_native_float(self)) {
    return call_fallback<at::_ops::_adaptive_avg_pool2d>(self, c10::fromIntArrayRefSlow(output_size));
  }
  c10::DimVector sizes(self.sizes());
  sizes[self.dim() - 2] = output_size[0];
  sizes[self.dim() - 1] = output_size[1];
  Tensor out = at::empty(sizes, self.options(), self.dim() == 4 ? self.suggest_memory_format() : at::MemoryFormat::Contiguous);
  if (out.numel() > 0) {
    launch(Op::adaptive_avg_pool2d_, {out, self});
  }
  return out;
}

Tensor adaptive_average_backward(const Tensor& grad, const Tensor& self) {
  TORCH_CHECK(grad.dim() == self.dim(), "adaptive_avg_pool2d_backward(): grad_output and input differ in rank");
  if (!is_native_float(self) || grad.scalar_type() != self.scalar_type()) {
    return call_fallback<at::_ops::_adaptive_avg_pool2d_backward>(grad, self);
  }
  Tensor grad_in = at::empty(self.sizes(), self.options(),
                             self.dim() == 4 ? self.suggest_memory_format() : at::MemoryFormat::Contiguous);
  if (grad_in.numel() > 0) {
    launch(Op::adaptive_avg_pool2d_backward_, {grad_in, grad});
  }
  return grad_in;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
// Integers take PyTorch's own average, which rounds towards zero.
  m.impl("max_pool2d_with_indices", TORCH_FN(max_pool2d));
  m.impl("max_pool2d_with_indices.out", TORCH_FN(max_pool2d_out));
  m.impl("max_pool2d_with_indices_backward",
         TORCH_FN((Made<MaxBackward, at::_ops::max_pool2d_with_indices_backward>::call)));
  m.impl("max_pool2d_with_indices_backward.grad_input",
         TORCH_FN((WrittenTo<MaxBackward, at::_ops::max_pool2d_with_indices_backward_grad_input>::call)));
  RUSTORCH_FLOATS("avg_pool2d", Made, avg_pool2d, Average)
  RUSTORCH_FLOATS("avg_pool2d.out", WrittenTo, avg_pool2d_out, Average)
  RUSTORCH_FLOATS("avg_pool2d_backward", Made, avg_pool2d_backward, AverageBackward)
  RUSTORCH_FLOATS("avg_pool2d_backward.grad_input", WrittenTo, avg_pool2d_backward_grad_input, AverageBackward)
  m.impl("_adaptive_avg_pool2d", TORCH_FN(adaptive_average));
  m.impl("_adaptive_avg_pool2d_backward", TORCH_FN(adaptive_average_backward));
}

}  // namespace rustorch
