// Convolutions: at::convolution checks, batches and expands; here are the output's shape and
// layout, and which of the Rust kernels computes what. A transposed convolution is the input's
// gradient of a plain one, and the other way round.
#include <ATen/native/ConvUtils.h>
#include <ATen/ops/convolution_backward_ops.h>
#include <ATen/ops/convolution_ops.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <tuple>

#include "aten/fallback.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;

// Spatial rank, then stride, padding and dilation, then groups (rust/kernels/src/conv).
c10::SmallVector<int64_t, 11> attributes(IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                                         int64_t groups) {
  c10::SmallVector<int64_t, 11> ints{static_cast<int64_t>(stride.size())};
  for (const IntArrayRef values : {stride, padding, dilation}) {
    ints.append(values.begin(), values.end());
  }
  ints.push_back(groups);
  return ints;
}

// As on the CPU: channels last, where the input or the weight is.
at::MemoryFormat layout_of(const Tensor& input, const Tensor& weight) {
  const auto format = input.suggest_memory_format();
  return format == at::MemoryFormat::Contiguous ? weight.suggest_memory_format() : format;
}

// Integer and complex convolutions run on the fallback.
bool is_computed(const Tensor& tensor) {
  return is_native(tensor.scalar_type()) && tensor.is_floating_point();
}

// The sizes behind the channels, as PyTorch's sentences have them.
std::string per_channel(IntArrayRef sizes) {
  std::ostringstream text;
  for (size_t dim = 2; dim < sizes.size(); ++dim) {
    text << (dim > 2 ? " x " : "") << sizes[dim];
  }
  return text.str();
}

Tensor convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, IntArrayRef stride,
                   IntArrayRef padding, IntArrayRef dilation, bool transposed, IntArrayRef output_padding,
                   int64_t groups) {
  TORCH_CHECK(input.scalar_type() == weight.scalar_type(), "expected scalar type ", input.scalar_type(),
              " but found ", weight.scalar_type());
  if (!is_computed(input)) {
    return call_fallback<at::_ops::convolution>(
        input, weight, bias, c10::fromIntArrayRefSlow(stride), c10::fromIntArrayRefSlow(padding),
        c10::fromIntArrayRefSlow(dilation), transposed, c10::fromIntArrayRefSlow(output_padding), c10::SymInt(groups));
  }
  std::vector<int64_t> sizes;
  if (transposed) {
    for (size_t dim = 0; dim < output_padding.size(); ++dim) {
      TORCH_CHECK(output_padding[dim] < std::max(stride[dim], dilation[dim]),
                  "output padding must be smaller than either stride or dilation, but got output_padding ",
                  output_padding, ", stride ", stride, " and dilation ", dilation);
    }
    for (const c10::SymInt& size :
         at::native::conv_input_size(input.sym_sizes(), weight.sym_sizes(), c10::fromIntArrayRefSlow(padding),
                                     c10::fromIntArrayRefSlow(output_padding), c10::fromIntArrayRefSlow(stride),
                                     c10::fromIntArrayRefSlow(dilation), groups)) {
      sizes.push_back(size.expect_int());
    }
    // The CPU's kernels of f32 and f64 refuse an output of nothing, those of the half types give it.
    const int64_t least = at::isReducedFloatingType(input.scalar_type()) ? 0 : 1;
    TORCH_CHECK(std::all_of(sizes.begin() + 2, sizes.end(), [&](int64_t size) { return size >= least; }),
                "Given input size per channel: (", per_channel(input.sizes()),
                "). Calculated output size per channel: (", per_channel(sizes), "). Output size is too small");
  } else {
    sizes = at::native::conv_output_size(input.sizes(), weight.sizes(), padding, stride, dilation);
  }
  const Tensor out = at::empty(sizes, input.options().memory_format(layout_of(input, weight)));
  const Op op = transposed ? Op::conv_input_grad_ : Op::conv_forward_;
  launch(op, {out, input, weight, bias}, attributes(stride, padding, dilation, groups));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& grad_output, const Tensor& input,
                                                        const Tensor& weight, IntArrayRef stride, IntArrayRef padding,
                                                        IntArrayRef dilation, bool transposed,
                                                        IntArrayRef output_padding, int64_t groups,
                                                        std::array<bool, 3> output_mask) {
  if (!is_computed(input)) {
    const std::vector<c10::SymInt> bias_sizes{grad_output.size(1)};
    return call_fallback<at::_ops::convolution_backward>(
        grad_output, input, weight, at::OptionalSymIntArrayRef(bias_sizes), c10::fromIntArrayRefSlow(stride),
        c10::fromIntArrayRefSlow(padding), c10::fromIntArrayRefSlow(dilation), transposed,
        c10::fromIntArrayRefSlow(output_padding), c10::SymInt(groups), output_mask);
  }
  const auto ints = attributes(stride, padding, dilation, groups);
  const auto format = layout_of(input, weight);
  Tensor grad_input;
  Tensor grad_weight;
  Tensor grad_bias;
  if (output_mask[0]) {
    grad_input = at::empty(input.sizes(), input.options().memory_format(format));
    const Op op = transposed ? Op::conv_forward_ : Op::conv_input_grad_;
    launch(op, {grad_input, grad_output, weight, Tensor()}, ints);
  }
  if (output_mask[1]) {
    grad_weight = at::empty(weight.sizes(), weight.options().memory_format(format));
    const Tensor& from = transposed ? grad_output : input;
    const Tensor& to = transposed ? input : grad_output;
    launch(Op::conv_weight_grad_, {grad_weight, from, to}, ints);
  }
  if (output_mask[2]) {
    grad_bias = at::empty({grad_output.size(1)}, grad_output.options());
    launch(Op::conv_bias_grad_, {grad_bias, grad_output});
  }
  return {grad_input, grad_weight, grad_bias};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("convolution_overrideable", TORCH_FN(convolution));
  m.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
}

}  // namespace
}  // namespace rustorch
