// torchvision's ops. Its library defines them, before or after this one is loaded, or never.
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include <array>

#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

Tensor nms(const Tensor& boxes, const Tensor& scores, double threshold) {
  TORCH_CHECK(boxes.dim() == 2, "boxes should be a 2d tensor, got ", boxes.dim(), "D");
  TORCH_CHECK(boxes.size(1) == 4, "boxes should have 4 elements in dimension 1, got ", boxes.size(1));
  TORCH_CHECK(scores.dim() == 1, "scores should be a 1d tensor, got ", scores.dim(), "D");
  TORCH_CHECK(boxes.size(0) == scores.size(0), "boxes and scores should have same number of elements in dimension 0, ",
              "got ", boxes.size(0), " and ", scores.size(0));
  TORCH_CHECK(boxes.scalar_type() == scores.scalar_type(), "dets should have the same type as scores");
  const Tensor order = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  const Tensor keep = empty_dense(order.sizes(), at::kLong);
  const Tensor count = empty_dense({1}, at::kLong);
  launch(Op::nms_, {keep, count, boxes, order}, {}, {threshold});
  return keep.narrow(0, 0, count.item<int64_t>());
}

void check_rois(const Tensor& rois, const Tensor& like) {
  TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5, "rois must have shape as Tensor[K, 5], got ", rois.sizes());
  TORCH_CHECK(like.dim() == 4, "expected a tensor of four dimensions, got ", like.sizes());
  TORCH_CHECK(like.scalar_type() == rois.scalar_type(), "input should have the same type as rois");
}

// The channels of the bins of a region, of which each has one of the input's.
int64_t channels_of_bins(const Tensor& input, int64_t height, int64_t width) {
  TORCH_CHECK(height > 0 && width > 0, "expected bins down and across, got ", height, " and ", width);
  TORCH_CHECK(input.size(1) % (height * width) == 0,
              "input channels must be a multiple of pooling height * pooling width");
  return input.size(1) / (height * width);
}

Tensor roi_align(const Tensor& input, const Tensor& rois, double scale, int64_t height, int64_t width,
                 int64_t sampling_ratio, bool aligned) {
  check_rois(rois, input);
  const Tensor out = empty_dense({rois.size(0), input.size(1), height, width}, input.scalar_type());
  launch(Op::roi_align_, {out, input, rois}, {sampling_ratio, aligned}, {scale});
  return out;
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, double scale, int64_t /*pooled_height*/,
                          int64_t /*pooled_width*/, int64_t batch, int64_t channels, int64_t height, int64_t width,
                          int64_t sampling_ratio, bool aligned) {
  check_rois(rois, grad);
  const Tensor grad_input = empty_dense({batch, channels, height, width}, grad.scalar_type());
  launch(Op::roi_align_backward_, {grad_input, grad, rois}, {sampling_ratio, aligned}, {scale});
  return grad_input;
}

Pair roi_pool(const Tensor& input, const Tensor& rois, double scale, int64_t height, int64_t width) {
  check_rois(rois, input);
  const std::array<int64_t, 4> sizes{rois.size(0), input.size(1), height, width};
  const Tensor out = empty_dense(sizes, input.scalar_type());
  const Tensor argmax = empty_dense(sizes, at::kInt);
  launch(Op::roi_pool_, {out, argmax, input, rois}, {}, {scale});
  return {out, argmax};
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& rois, const Tensor& argmax, double scale,
                         int64_t /*pooled_height*/, int64_t /*pooled_width*/, int64_t batch, int64_t channels,
                         int64_t height, int64_t width) {
  check_rois(rois, grad);
  const Tensor grad_input = empty_dense({batch, channels, height, width}, grad.scalar_type());
  launch(Op::roi_pool_backward_, {grad_input, grad, rois, argmax}, {}, {scale});
  return grad_input;
}

Pair position_sensitive(Op op, const Tensor& input, const Tensor& rois, double scale, int64_t height, int64_t width,
                        c10::ArrayRef<int64_t> ints) {
  check_rois(rois, input);
  const std::array<int64_t, 4> sizes{rois.size(0), channels_of_bins(input, height, width), height, width};
  const Tensor out = empty_dense(sizes, input.scalar_type());
  const Tensor mapping = empty_dense(sizes, at::kInt);
  launch(op, {out, mapping, input, rois}, ints, {scale});
  return {out, mapping};
}

Tensor position_sensitive_backward(Op op, const Tensor& grad, const Tensor& rois, const Tensor& mapping, double scale,
                                   at::IntArrayRef sizes, c10::ArrayRef<int64_t> ints) {
  check_rois(rois, grad);
  const Tensor grad_input = empty_dense(sizes, grad.scalar_type());
  launch(op, {grad_input, grad, rois, mapping}, ints, {scale});
  return grad_input;
}

Pair ps_roi_align(const Tensor& input, const Tensor& rois, double scale, int64_t height, int64_t width,
                  int64_t sampling_ratio) {
  return position_sensitive(Op::ps_roi_align_, input, rois, scale, height, width, {sampling_ratio});
}

Tensor ps_roi_align_backward(const Tensor& grad, const Tensor& rois, const Tensor& mapping, double scale,
                             int64_t /*pooled_height*/, int64_t /*pooled_width*/, int64_t sampling_ratio,
                             int64_t batch, int64_t channels, int64_t height, int64_t width) {
  return position_sensitive_backward(Op::ps_roi_align_backward_, grad, rois, mapping, scale,
                                     {batch, channels, height, width}, {sampling_ratio});
}

Pair ps_roi_pool(const Tensor& input, const Tensor& rois, double scale, int64_t height, int64_t width) {
  return position_sensitive(Op::ps_roi_pool_, input, rois, scale, height, width, {});
}

Tensor ps_roi_pool_backward(const Tensor& grad, const Tensor& rois, const Tensor& mapping, double scale,
                            int64_t /*pooled_height*/, int64_t /*pooled_width*/, int64_t batch, int64_t channels,
                            int64_t height, int64_t width) {
  return position_sensitive_backward(Op::ps_roi_pool_backward_, grad, rois, mapping, scale,
                                     {batch, channels, height, width}, {});
}

// As torchvision's autocast on the CPU: in f32.
Tensor widened(const Tensor& tensor) {
  return at::autocast::cached_cast(at::kFloat, tensor, c10::DeviceType::PrivateUse1);
}

Tensor nms_in_f32(const Tensor& boxes, const Tensor& scores, double threshold) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastPrivateUse1);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("torchvision::nms", "")
                             .typed<Tensor(const Tensor&, const Tensor&, double)>();
  return op.call(widened(boxes), widened(scores), threshold);
}

Tensor roi_align_in_f32(const Tensor& input, const Tensor& rois, double scale, c10::SymInt height, c10::SymInt width,
                        int64_t sampling_ratio, bool aligned) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastPrivateUse1);
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("torchvision::roi_align", "")
          .typed<Tensor(const Tensor&, const Tensor&, double, c10::SymInt, c10::SymInt, int64_t, bool)>();
  return op.call(widened(input), widened(rois), scale, std::move(height), std::move(width), sampling_ratio, aligned)
      .to(input.scalar_type());
}

}  // namespace

TORCH_LIBRARY_IMPL(torchvision, PrivateUse1, m) {
  m.impl("nms", TORCH_FN(nms));
  m.impl("roi_align", TORCH_FN(roi_align));
  m.impl("_roi_align_backward", TORCH_FN(roi_align_backward));
  m.impl("roi_pool", TORCH_FN(roi_pool));
  m.impl("_roi_pool_backward", TORCH_FN(roi_pool_backward));
  m.impl("ps_roi_align", TORCH_FN(ps_roi_align));
  m.impl("_ps_roi_align_backward", TORCH_FN(ps_roi_align_backward));
  m.impl("ps_roi_pool", TORCH_FN(ps_roi_pool));
  m.impl("_ps_roi_pool_backward", TORCH_FN(ps_roi_pool_backward));
}

TORCH_LIBRARY_IMPL(torchvision, AutocastPrivateUse1, m) {
  m.impl("nms", TORCH_FN(nms_in_f32));
  m.impl("roi_align", TORCH_FN(roi_align_in_f32));
}

}  // namespace rustorch
