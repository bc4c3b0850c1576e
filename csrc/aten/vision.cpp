// torchvision's ops. Its library defines them, before or after this one is loaded, or never.
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>
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

// A deformable convolution: its weights times the columns that its taps read, an image at a time.
struct Deformed {
  std::array<int64_t, 9> ints;
  int64_t groups;
  bool use_mask;
  std::array<int64_t, 2> out_size;

  // (height, width) pairs.
  Deformed(const Tensor& input, const Tensor& weight, const Tensor& offset, const Tensor& mask, const Tensor& bias,
           std::array<int64_t, 2> stride, std::array<int64_t, 2> padding, std::array<int64_t, 2> dilation,
           int64_t weight_groups, int64_t offset_groups, bool masked)
      : groups(weight_groups), use_mask(masked) {
    for (const Tensor* tensor : {&input, &weight, &offset}) {
      TORCH_CHECK(tensor->dim() == 4, "expected tensors of four dimensions, got ", tensor->sizes());
    }
    TORCH_CHECK(!masked || mask.dim() == 4, "expected a mask of four dimensions, got ", mask.sizes());
    for (const Tensor* tensor : {&weight, &offset, &mask, &bias}) {
      TORCH_CHECK(tensor->scalar_type() == input.scalar_type(), "expected tensors of dtype ", input.scalar_type(),
                  ", got ", tensor->scalar_type());
    }
    const std::array<int64_t, 2> kernel{weight.size(2), weight.size(3)};
    TORCH_CHECK(kernel[0] > 0 && kernel[1] > 0, "weight_h: ", kernel[0], " weight_w: ", kernel[1]);
    TORCH_CHECK(stride[0] > 0 && stride[1] > 0, "stride_h: ", stride[0], " stride_w: ", stride[1]);
    TORCH_CHECK(padding[0] >= 0 && padding[1] >= 0, "pad_h: ", padding[0], " pad_w: ", padding[1]);
    TORCH_CHECK(dilation[0] > 0 && dilation[1] > 0, "dilation_h: ", dilation[0], " dilation_w: ", dilation[1]);
    TORCH_CHECK(groups > 0 && weight.size(1) * groups == input.size(1) && weight.size(0) % groups == 0,
                "a weight of ", weight.sizes(), " in ", groups, " groups does not fit an input of ", input.sizes());
    TORCH_CHECK(offset_groups > 0 && input.size(1) % offset_groups == 0, input.size(1), " channels do not make ",
                offset_groups, " groups of offsets");
    const int64_t taps = kernel[0] * kernel[1];
    TORCH_CHECK(offset.size(1) == offset_groups * 2 * taps, "offset.shape[1] is not valid: got: ", offset.size(1),
                " expected: ", offset_groups * 2 * taps);
    TORCH_CHECK(!masked || mask.size(1) == offset_groups * taps, "mask.shape[1] is not valid: got: ", mask.size(1),
                " expected: ", offset_groups * taps);
    for (size_t dim = 0; dim < 2; ++dim) {
      const int64_t reach = dilation[dim] * (kernel[dim] - 1) + 1;
      const int64_t room = input.size(2 + static_cast<int64_t>(dim)) + 2 * padding[dim] - reach;
      TORCH_CHECK(room >= 0, "Calculated output size too small");
      out_size[dim] = room / stride[dim] + 1;
    }
    const int64_t batch = input.size(0);
    TORCH_CHECK(offset.size(0) == batch, "invalid batch size of offset");
    TORCH_CHECK(mask.dim() > 0 && mask.size(0) == batch, "invalid batch size of mask");
    TORCH_CHECK(offset.size(2) == out_size[0] && offset.size(3) == out_size[1], "offset output dims: ",
                offset.sizes().slice(2), " - computed output dims: ", at::IntArrayRef(out_size));
    TORCH_CHECK(!masked || (mask.size(2) == out_size[0] && mask.size(3) == out_size[1]), "mask output dims: ",
                mask.sizes().slice(2), " - computed output dims: ", at::IntArrayRef(out_size));
    TORCH_CHECK(bias.numel() == weight.size(0), "expected a bias of ", weight.size(0), " elements, got ",
                bias.sizes());
    ints = {kernel[0],  kernel[1],   stride[0],   stride[1],    padding[0],
            padding[1], dilation[0], dilation[1], offset_groups};
  }

  int64_t positions() const { return out_size[0] * out_size[1]; }

  Tensor make_columns(const Tensor& input) const {
    return empty_dense({1, input.size(1) * ints[0] * ints[1], positions()}, input.scalar_type());
  }

  void fill_columns(const Tensor& columns, const Tensor& input, const Tensor& offset, const Tensor& mask,
                    int64_t image) const {
    launch(Op::deform_columns_,
           {columns, input.narrow(0, image, 1), offset.narrow(0, image, 1),
            use_mask ? mask.narrow(0, image, 1) : Tensor()},
           ints);
  }

  // Columns, weights and outputs by group.
  Tensor by_group(const Tensor& tensor) const {
    return tensor.reshape({groups, tensor.numel() / groups / positions(), positions()});
  }
  Tensor weight_by_group(const Tensor& weight) const {
    return weight.reshape({groups, weight.size(0) / groups, weight.size(1) * ints[0] * ints[1]});
  }
};

Tensor deform_conv2d(const Tensor& input, const Tensor& weight, const Tensor& offset, const Tensor& mask,
                     const Tensor& bias, int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w,
                     int64_t dilation_h, int64_t dilation_w, int64_t groups, int64_t offset_groups, bool use_mask) {
  const Deformed deformed(input, weight, offset, mask, bias, {stride_h, stride_w}, {pad_h, pad_w},
                          {dilation_h, dilation_w}, groups, offset_groups, use_mask);
  const int64_t batch = input.size(0);
  const Tensor out =
      empty_dense({batch, weight.size(0), deformed.out_size[0], deformed.out_size[1]}, input.scalar_type());
  if (out.numel() == 0) {
    return out;
  }
  const Tensor columns = deformed.make_columns(input);
  const Tensor weights = deformed.weight_by_group(weight);
  for (int64_t image = 0; image < batch; ++image) {
    deformed.fill_columns(columns, input, offset, mask, image);
    Tensor part = deformed.by_group(out.select(0, image));
    at::bmm_out(part, weights, deformed.by_group(columns));
  }
  return out.add_(bias.reshape({1, -1, 1, 1}));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(
    const Tensor& grad, const Tensor& input, const Tensor& weight, const Tensor& offset, const Tensor& mask,
    const Tensor& bias, int64_t stride_h, int64_t stride_w, int64_t pad_h, int64_t pad_w, int64_t dilation_h,
    int64_t dilation_w, int64_t groups, int64_t offset_groups, bool use_mask) {
  const Deformed deformed(input, weight, offset, mask, bias, {stride_h, stride_w}, {pad_h, pad_w},
                          {dilation_h, dilation_w}, groups, offset_groups, use_mask);
  const int64_t batch = input.size(0);
  TORCH_CHECK(grad.sizes() == at::IntArrayRef({batch, weight.size(0), deformed.out_size[0], deformed.out_size[1]}) &&
                  grad.scalar_type() == input.scalar_type(),
              "a gradient of ", grad.sizes(), " does not fit an output of ", deformed.out_size[0], " by ",
              deformed.out_size[1]);
  const Tensor grad_input = empty_dense(input.sizes(), input.scalar_type());
  const Tensor grad_offset = empty_dense(offset.sizes(), input.scalar_type());
  const Tensor grad_mask =
      use_mask ? empty_dense(mask.sizes(), input.scalar_type()) : at::zeros_like(mask, at::MemoryFormat::Contiguous);
  const Tensor grad_weight = at::zeros_like(weight, at::MemoryFormat::Contiguous);
  const Tensor columns = deformed.make_columns(input);
  const Tensor weights = deformed.weight_by_group(weight);
  Tensor grad_weights = deformed.weight_by_group(grad_weight);
  for (int64_t image = 0; image < batch; ++image) {
    const Tensor of_image = deformed.by_group(grad.select(0, image));
    Tensor part = deformed.by_group(columns);
    at::bmm_out(part, weights.transpose(1, 2), of_image);
    const auto one = [image](const Tensor& tensor) { return tensor.narrow(0, image, 1); };
    launch(Op::deform_columns_backward_,
           {one(grad_input), one(grad_offset), use_mask ? one(grad_mask) : Tensor(), columns, one(input), one(offset),
            use_mask ? one(mask) : Tensor()},
           deformed.ints);
    deformed.fill_columns(columns, input, offset, mask, image);
    grad_weights.baddbmm_(of_image, part.transpose(1, 2));
  }
  return {grad_input, grad_weight, grad_offset, grad_mask, at::sum(grad, {0, 2, 3})};
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
  m.impl("deform_conv2d", TORCH_FN(deform_conv2d));
  m.impl("_deform_conv2d_backward", TORCH_FN(deform_conv2d_backward));
}

TORCH_LIBRARY_IMPL(torchvision, AutocastPrivateUse1, m) {
  m.impl("nms", TORCH_FN(nms_in_f32));
  m.impl("roi_align", TORCH_FN(roi_align_in_f32));
}

}  // namespace rustorch
