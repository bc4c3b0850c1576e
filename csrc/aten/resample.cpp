// Interpolation, padding by reflection and replication, and average pooling of volumes: each a
// linear map along every spatial dimension (rust/kernels/src/resample).
#include <ATen/core/Tensor.h>
#include <ATen/native/Padding.h>
#include <ATen/ops/_adaptive_avg_pool3d_backward_ops.h>
#include <ATen/ops/_adaptive_avg_pool3d_ops.h>
#include <ATen/ops/_upsample_bicubic2d_aa_backward_meta.h>
#include <ATen/ops/_upsample_bicubic2d_aa_backward_ops.h>
#include <ATen/ops/_upsample_bicubic2d_aa_meta.h>
#include <ATen/ops/_upsample_bicubic2d_aa_ops.h>
#include <ATen/ops/_upsample_bilinear2d_aa_backward_meta.h>
#include <ATen/ops/_upsample_bilinear2d_aa_backward_ops.h>
#include <ATen/ops/_upsample_bilinear2d_aa_meta.h>
#include <ATen/ops/_upsample_bilinear2d_aa_ops.h>
#include <ATen/ops/_upsample_lanczos2d_aa_backward_meta.h>
#include <ATen/ops/_upsample_lanczos2d_aa_backward_ops.h>
#include <ATen/ops/_upsample_lanczos2d_aa_meta.h>
#include <ATen/ops/_upsample_lanczos2d_aa_ops.h>
#include <ATen/ops/_upsample_nearest_exact1d_backward_meta.h>
#include <ATen/ops/_upsample_nearest_exact1d_backward_ops.h>
#include <ATen/ops/_upsample_nearest_exact1d_meta.h>
#include <ATen/ops/_upsample_nearest_exact1d_ops.h>
#include <ATen/ops/_upsample_nearest_exact2d_backward_meta.h>
#include <ATen/ops/_upsample_nearest_exact2d_backward_ops.h>
#include <ATen/ops/_upsample_nearest_exact2d_meta.h>
#include <ATen/ops/_upsample_nearest_exact2d_ops.h>
#include <ATen/ops/_upsample_nearest_exact3d_backward_meta.h>
#include <ATen/ops/_upsample_nearest_exact3d_backward_ops.h>
#include <ATen/ops/_upsample_nearest_exact3d_meta.h>
#include <ATen/ops/_upsample_nearest_exact3d_ops.h>
#include <ATen/ops/avg_pool3d_backward_meta.h>
#include <ATen/ops/avg_pool3d_backward_ops.h>
#include <ATen/ops/avg_pool3d_meta.h>
#include <ATen/ops/avg_pool3d_ops.h>
#include <ATen/ops/reflection_pad1d_backward_ops.h>
#include <ATen/ops/reflection_pad1d_ops.h>
#include <ATen/ops/reflection_pad2d_backward_ops.h>
#include <ATen/ops/reflection_pad2d_ops.h>
#include <ATen/ops/reflection_pad3d_backward_ops.h>
#include <ATen/ops/reflection_pad3d_ops.h>
#include <ATen/ops/replication_pad1d_backward_ops.h>
#include <ATen/ops/replication_pad1d_ops.h>
#include <ATen/ops/replication_pad2d_backward_ops.h>
#include <ATen/ops/replication_pad2d_ops.h>
#include <ATen/ops/replication_pad3d_backward_ops.h>
#include <ATen/ops/replication_pad3d_ops.h>
#include <ATen/ops/upsample_bicubic2d_backward_meta.h>
#include <ATen/ops/upsample_bicubic2d_backward_ops.h>
#include <ATen/ops/upsample_bicubic2d_meta.h>
#include <ATen/ops/upsample_bicubic2d_ops.h>
#include <ATen/ops/upsample_bilinear2d_backward_meta.h>
#include <ATen/ops/upsample_bilinear2d_backward_ops.h>
#include <ATen/ops/upsample_bilinear2d_meta.h>
#include <ATen/ops/upsample_bilinear2d_ops.h>
#include <ATen/ops/upsample_linear1d_backward_meta.h>
#include <ATen/ops/upsample_linear1d_backward_ops.h>
#include <ATen/ops/upsample_linear1d_meta.h>
#include <ATen/ops/upsample_linear1d_ops.h>
#include <ATen/ops/upsample_nearest1d_backward_meta.h>
#include <ATen/ops/upsample_nearest1d_backward_ops.h>
#include <ATen/ops/upsample_nearest1d_meta.h>
#include <ATen/ops/upsample_nearest1d_ops.h>
#include <ATen/ops/upsample_nearest2d_backward_meta.h>
#include <ATen/ops/upsample_nearest2d_backward_ops.h>
#include <ATen/ops/upsample_nearest2d_meta.h>
#include <ATen/ops/upsample_nearest2d_ops.h>
#include <ATen/ops/upsample_nearest3d_backward_meta.h>
#include <ATen/ops/upsample_nearest3d_backward_ops.h>
#include <ATen/ops/upsample_nearest3d_meta.h>
#include <ATen/ops/upsample_nearest3d_ops.h>
#include <ATen/ops/upsample_trilinear3d_backward_meta.h>
#include <ATen/ops/upsample_trilinear3d_backward_ops.h>
#include <ATen/ops/upsample_trilinear3d_meta.h>
#include <ATen/ops/upsample_trilinear3d_ops.h>
#include <torch/library.h>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;
using Ints = c10::SmallVector<int64_t, 12>;

// The codes of rust/kernels/src/resample.
enum Mode : int64_t { kNearest, kNearestExact, kLinear, kCubic, kLinearSmooth, kCubicSmooth, kLanczosSmooth };

// What is left of an interpolation's arguments after its sizes: corners, then scales.
struct Scaling {
  int64_t align_corners = 0;
  c10::SmallVector<double, 3> scales;

  void see(bool corners) { align_corners = corners; }
  void see(std::optional<double> scale) { scales.push_back(scale.value_or(0.0)); }
};

template <class... Rest>
void launch_upsample(Op op, Mode mode, const Tensor& out, const Tensor& from, const Rest&... rest) {
  Scaling scaling;
  (scaling.see(rest), ...);
  if (out.numel() > 0) {
    launch(op, {out, from}, {mode, scaling.align_corners}, scaling.scales);
  }
}

template <Mode mode, class StructuredMeta>
struct Upsample {
  using Meta = StructuredMeta;
  template <class... Rest>
  static void run(const Tensor& out, const Tensor& self, IntArrayRef /*size*/, const Rest&... rest) {
    launch_upsample(Op::upsample_, mode, out, self, rest...);
  }
};

template <Mode mode, class StructuredMeta>
struct UpsampleBackward {
  using Meta = StructuredMeta;
  template <class... Rest>
  static void run(const Tensor& grad_in, const Tensor& grad, IntArrayRef /*size*/, IntArrayRef /*input_size*/,
                  const Rest&... rest) {
    launch_upsample(Op::upsample_backward_, mode, grad_in, grad, rest...);
  }
};

// Channels last, where the input has them so.
at::TensorOptions in_format_of(const Tensor& self) {
  const auto format = self.suggest_memory_format();
  return format == at::MemoryFormat::Contiguous ? self.options() : self.options().memory_format(format);
}

// PyTorch's own metas differ from pad to pad; the checks are shared.
template <int64_t dims, bool reflect>
struct Pad {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& self, IntArrayRef padding) {
      set_output_raw_strided(0, at::native::padding::pad_shape_check(self, padding, dims, reflect), {},
                             in_format_of(self));
    }
  };
  // Pairs of padding run from the last dimension to the first.
  static Ints ints(IntArrayRef padding) {
    Ints ints{reflect};
    for (int64_t dim = dims - 1; dim >= 0; --dim) {
      ints.push_back(padding[2 * dim]);
    }
    return ints;
  }
  static void run(const Tensor& out, const Tensor& self, IntArrayRef padding) {
    launch(Op::pad_, {out, self}, ints(padding));
  }
};

template <int64_t dims, bool reflect>
struct PadBackward {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& grad, const Tensor& self, IntArrayRef padding) {
      at::native::padding::pad_shape_check(self, padding, dims, reflect);
      at::native::padding::pad_backward_shape_check(grad, self, padding, dims);
      set_output_raw_strided(0, self.sizes(), {}, in_format_of(self));
    }
  };
  static void run(const Tensor& grad_in, const Tensor& grad, const Tensor& /*self*/, IntArrayRef padding) {
    launch(Op::pad_backward_, {grad_in, grad}, Pad<dims, reflect>::ints(padding));
  }
};

Ints average_ints(IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding, bool count_include_pad,
                  std::optional<int64_t> divisor) {
  Ints ints;
  for (const IntArrayRef given : {kernel, stride.empty() ? kernel : stride, padding}) {
    for (size_t dim = 0; dim < 3; ++dim) {
      ints.push_back(given.size() > 1 ? given[dim] : given[0]);
    }
  }
  ints.append({static_cast<int64_t>(count_include_pad), divisor.value_or(0)});
  return ints;
}

struct Average {
  using Meta = at::meta::structured_avg_pool3d;
  static void run(const Tensor& out, const Tensor& self, IntArrayRef kernel, IntArrayRef stride, IntArrayRef padding,
                  bool /*ceil_mode*/, bool count_include_pad, std::optional<int64_t> divisor) {
    TORCH_CHECK(divisor != 0, "divisor must be not zero");
    launch(Op::average_windows_, {out, self}, average_ints(kernel, stride, padding, count_include_pad, divisor));
  }
};

struct AverageBackward {
  using Meta = at::meta::structured_avg_pool3d_backward;
  static void run(const Tensor& grad_in, const Tensor& grad, const Tensor& /*self*/, IntArrayRef kernel,
                  IntArrayRef stride, IntArrayRef padding, bool /*ceil_mode*/, bool count_include_pad,
                  std::optional<int64_t> divisor) {
    TORCH_CHECK(divisor != 0, "divisor must be not zero");
    launch(Op::average_windows_backward_, {grad_in, grad},
           average_ints(kernel, stride, padding, count_include_pad, divisor));
  }
};

struct AdaptiveAverage {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& self, IntArrayRef output_size) {
      TORCH_CHECK(output_size.size() == 3, "adaptive_avg_pool3d: output_size must be 3");
      TORCH_CHECK(self.dim() == 4 || self.dim() == 5, "adaptive_avg_pool3d(): Expected 4D or 5D tensor, but got ",
                  self.sizes());
      c10::DimVector sizes(self.sizes());
      for (int64_t dim = 1; dim < self.dim(); ++dim) {
        TORCH_CHECK(self.size(-dim) > 0,
                    "adaptive_avg_pool3d(): Expected input to have non-zero size for non-batch dimensions, but input "
                    "has sizes ",
                    self.sizes(), " with dimension ", self.dim() - dim, " being empty");
        if (dim <= 3) {
          sizes[sizes.size() - dim] = output_size[3 - dim];
        }
      }
      set_output_raw_strided(0, sizes, {}, self.options());
    }
  };
  static void run(const Tensor& out, const Tensor& self, IntArrayRef /*output_size*/) {
    launch(Op::adaptive_average_, {out, self}, {3});
  }
};

struct AdaptiveAverageBackward {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& grad, const Tensor& self) {
      TORCH_CHECK(grad.dim() == self.dim() && grad.scalar_type() == self.scalar_type(),
                  "adaptive_avg_pool3d_backward(): grad_output and input differ in rank or dtype");
      set_output_raw_strided(0, self.sizes(), {}, self.options());
    }
  };
  static void run(const Tensor& grad_in, const Tensor& grad, const Tensor& /*self*/) {
    launch(Op::adaptive_average_backward_, {grad_in, grad}, {3});
  }
};

// A form that also has integers: `any` of them, or bytes.
template <bool any, class Form, class Traits, class Schema = typename Traits::schema>
struct AndIntegers;
template <bool any, class Form, class Traits, class Return, class... Args>
struct AndIntegers<any, Form, Traits, Return(const Tensor&, Args...)> {
  static Return call(const Tensor& first, Args... args) {
    const auto dtype = first.scalar_type();
    if (dtype == at::kByte || (any && is_native(dtype) && at::isIntegralType(dtype, /*includeBool=*/false))) {
      return Form::call(first, args...);
    }
    return FloatsOnly<Form, Traits>::call(first, args...);
  }
};

#define RUSTORCH_AND_INTEGERS(any, name, Form, traits, ...) \
  m.impl(name, TORCH_FN((AndIntegers<any, Form<__VA_ARGS__, at::_ops::traits>, at::_ops::traits>::call)));

}  // namespace

// Gradients are of floats.
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
#define RUSTORCH_UPSAMPLE_BACKWARD(name, mode)                                                                    \
  RUSTORCH_FLOATS(#name "_backward", Made, name##_backward,                                                       \
                  UpsampleBackward<mode, at::meta::structured_##name##_backward>)                                 \
  RUSTORCH_FLOATS(#name "_backward.grad_input", WrittenTo, name##_backward_grad_input,                            \
                  UpsampleBackward<mode, at::meta::structured_##name##_backward>)
#define RUSTORCH_UPSAMPLE(name, mode)                                                                             \
  RUSTORCH_AND_INTEGERS(false, #name, Made, name, Upsample<mode, at::meta::structured_##name>)                    \
  RUSTORCH_AND_INTEGERS(false, #name ".out", WrittenTo, name##_out, Upsample<mode, at::meta::structured_##name>)  \
  RUSTORCH_UPSAMPLE_BACKWARD(name, mode)
// Of these the CPU has no bytes.
#define RUSTORCH_UPSAMPLE_FLOATS(name, mode)                                                                      \
  RUSTORCH_FLOATS(#name, Made, name, Upsample<mode, at::meta::structured_##name>)                                 \
  RUSTORCH_FLOATS(#name ".out", WrittenTo, name##_out, Upsample<mode, at::meta::structured_##name>)               \
  RUSTORCH_UPSAMPLE_BACKWARD(name, mode)
  RUSTORCH_UPSAMPLE(upsample_nearest1d, kNearest)
  RUSTORCH_UPSAMPLE(upsample_nearest2d, kNearest)
  RUSTORCH_UPSAMPLE(upsample_nearest3d, kNearest)
  RUSTORCH_UPSAMPLE(_upsample_nearest_exact1d, kNearestExact)
  RUSTORCH_UPSAMPLE(_upsample_nearest_exact2d, kNearestExact)
  RUSTORCH_UPSAMPLE(_upsample_nearest_exact3d, kNearestExact)
  RUSTORCH_UPSAMPLE_FLOATS(upsample_linear1d, kLinear)
  RUSTORCH_UPSAMPLE(upsample_bilinear2d, kLinear)
  RUSTORCH_UPSAMPLE_FLOATS(upsample_trilinear3d, kLinear)
  RUSTORCH_UPSAMPLE(upsample_bicubic2d, kCubic)
  RUSTORCH_UPSAMPLE(_upsample_bilinear2d_aa, kLinearSmooth)
  RUSTORCH_UPSAMPLE(_upsample_bicubic2d_aa, kCubicSmooth)
  RUSTORCH_UPSAMPLE(_upsample_lanczos2d_aa, kLanczosSmooth)
#undef RUSTORCH_UPSAMPLE_FLOATS
#undef RUSTORCH_UPSAMPLE
#undef RUSTORCH_UPSAMPLE_BACKWARD
#define RUSTORCH_PAD(name, dims, reflect)                                                            \
  RUSTORCH_AND_INTEGERS(true, #name, Made, name, Pad<dims, reflect>)                                 \
  RUSTORCH_AND_INTEGERS(true, #name ".out", WrittenTo, name##_out, Pad<dims, reflect>)               \
  RUSTORCH_FLOATS(#name "_backward", Made, name##_backward, PadBackward<dims, reflect>)              \
  RUSTORCH_FLOATS(#name "_backward.grad_input", WrittenTo, name##_backward_grad_input, PadBackward<dims, reflect>)
  RUSTORCH_PAD(reflection_pad1d, 1, true)
  RUSTORCH_PAD(reflection_pad2d, 2, true)
  RUSTORCH_PAD(reflection_pad3d, 3, true)
  RUSTORCH_PAD(replication_pad1d, 1, false)
  RUSTORCH_PAD(replication_pad2d, 2, false)
  RUSTORCH_PAD(replication_pad3d, 3, false)
#undef RUSTORCH_PAD
#undef RUSTORCH_AND_INTEGERS
  RUSTORCH_FLOATS("avg_pool3d", Made, avg_pool3d, Average)
  RUSTORCH_FLOATS("avg_pool3d.out", WrittenTo, avg_pool3d_out, Average)
  RUSTORCH_FLOATS("avg_pool3d_backward", Made, avg_pool3d_backward, AverageBackward)
  RUSTORCH_FLOATS("avg_pool3d_backward.grad_input", WrittenTo, avg_pool3d_backward_grad_input, AverageBackward)
  RUSTORCH_FLOATS("_adaptive_avg_pool3d", Made, _adaptive_avg_pool3d, AdaptiveAverage)
  RUSTORCH_FLOATS("_adaptive_avg_pool3d_backward", Made, _adaptive_avg_pool3d_backward, AdaptiveAverageBackward)
}

}  // namespace rustorch
