// Max pooling whose windows have three dimensions or differ from output to output, and unpooling.
#include <ATen/core/Tensor.h>
#include <ATen/native/Pool.h>
#include <ATen/ops/adaptive_max_pool2d_backward_meta.h>
#include <ATen/ops/adaptive_max_pool2d_backward_ops.h>
#include <ATen/ops/adaptive_max_pool2d_meta.h>
#include <ATen/ops/adaptive_max_pool2d_ops.h>
#include <ATen/ops/adaptive_max_pool3d_backward_meta.h>
#include <ATen/ops/adaptive_max_pool3d_backward_ops.h>
#include <ATen/ops/adaptive_max_pool3d_meta.h>
#include <ATen/ops/adaptive_max_pool3d_ops.h>
#include <ATen/ops/fractional_max_pool2d_backward_ops.h>
#include <ATen/ops/fractional_max_pool2d_meta.h>
#include <ATen/ops/fractional_max_pool2d_ops.h>
#include <ATen/ops/fractional_max_pool3d_backward_ops.h>
#include <ATen/ops/fractional_max_pool3d_meta.h>
#include <ATen/ops/fractional_max_pool3d_ops.h>
#include <ATen/ops/max_pool3d_with_indices_backward_ops.h>
#include <ATen/ops/max_pool3d_with_indices_ops.h>
#include <ATen/ops/max_unpool2d_ops.h>
#include <ATen/ops/max_unpool3d_ops.h>
#include <torch/library.h>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;

// The two results of a max pooling, made or given. `Kernel::run(out, indices, arguments...)`.
template <class Kernel, class Traits, class Schema = typename Traits::schema>
struct MadeWithIndices;
template <class Kernel, class Traits, class... Args>
struct MadeWithIndices<Kernel, Traits, std::tuple<Tensor, Tensor>(const Tensor&, Args...)> {
  static std::tuple<Tensor, Tensor> call(const Tensor& self, Args... args) {
    if (!is_native_float(self)) {
      return call_fallback<Traits>(self, args...);
    }
    Structured<typename Kernel::Meta, 2> op;
    op.meta(self, args...);
    Kernel::run(op.result(0), op.result(1), self, args...);
    return {op.finish(0), op.finish(1)};
  }
};

template <class Kernel, class Traits, class Schema = typename Traits::schema>
struct WrittenWithIndices;
template <class Kernel, class Traits, class... Args>
struct WrittenWithIndices<Kernel, Traits, std::tuple<Tensor&, Tensor&>(const Tensor&, Args...)> {
  static std::tuple<Tensor&, Tensor&> call(const Tensor& self, Args... args) {
    return split(self, std::forward_as_tuple(args...), std::make_index_sequence<sizeof...(Args) - 2>());
  }

 private:
  template <class All, size_t... Index>
  static std::tuple<Tensor&, Tensor&> split(const Tensor& self, All all, std::index_sequence<Index...> /*inputs*/) {
    Tensor& out = std::get<sizeof...(Index)>(all);
    Tensor& indices = std::get<sizeof...(Index) + 1>(all);
    if (!is_native_float(self)) {
      return call_fallback<Traits>(self, std::get<Index>(all)..., out, indices);
    }
    Structured<typename Kernel::Meta, 2> op(out, indices);
    op.meta(self, std::get<Index>(all)...);
    Kernel::run(op.result(0), op.result(1), self, std::get<Index>(all)...);
    op.finish(0);
    op.finish(1);
    return {out, indices};
  }
};

// One number for all three dimensions, or one for each.
std::array<int64_t, 3> three(IntArrayRef values, const char* name) {
  TORCH_CHECK(values.size() == 1 || values.size() == 3, "max_pool3d: ", name,
              " must either be a single int, or a tuple of three ints");
  return {values[0], values.size() == 1 ? values[0] : values[1], values.size() == 1 ? values[0] : values[2]};
}

struct Max3d {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& self, IntArrayRef kernel_size, IntArrayRef strides, IntArrayRef paddings,
              IntArrayRef dilations, bool ceil_mode) {
      const auto kernel = three(kernel_size, "kernel_size");
      const auto stride = strides.empty() ? kernel : three(strides, "stride");
      const auto padding = three(paddings, "padding");
      const auto dilation = three(dilations, "dilation");
      TORCH_CHECK(self.dim() == 4 || self.dim() == 5, "max_pool3d: Expected 4D or 5D tensor for input, but got: ",
                  self.sizes());
      c10::DimVector sizes(self.sizes());
      const auto spatial = sizes.end() - 3;
      const std::array<int64_t, 3> input{spatial[0], spatial[1], spatial[2]};
      for (size_t dim = 0; dim < 3; ++dim) {
        TORCH_CHECK(stride[dim] != 0, "stride should not be zero");
        spatial[dim] = at::native::pooling_output_shape<int64_t>(input[dim], kernel[dim], padding[dim], stride[dim],
                                                                 dilation[dim], ceil_mode);
      }
      const auto narrow = [](int64_t value) { return static_cast<int>(value); };
      at::native::pool3d_shape_check(
          self, self.size(-4), narrow(kernel[0]), narrow(kernel[1]), narrow(kernel[2]), narrow(stride[0]),
          narrow(stride[1]), narrow(stride[2]), narrow(padding[0]), narrow(padding[1]), narrow(padding[2]),
          narrow(dilation[0]), narrow(dilation[1]), narrow(dilation[2]), input[0], input[1], input[2], spatial[0],
          spatial[1], spatial[2], "max_pool3d_with_indices_out_cpu_template()");
      const auto options = self.options().memory_format(self.suggest_memory_format());
      set_output_raw_strided(0, sizes, {}, options);
      set_output_raw_strided(1, sizes, {}, options.dtype(at::kLong));
    }
  };
  static void run(const Tensor& out, const Tensor& indices, const Tensor& self, IntArrayRef kernel, IntArrayRef stride,
                  IntArrayRef padding, IntArrayRef dilation, bool /*ceil_mode*/) {
    c10::SmallVector<int64_t, 12> ints;
    for (const IntArrayRef values : {kernel, stride.empty() ? kernel : stride, padding, dilation}) {
      const auto each = three(values, "argument");
      ints.append(each.begin(), each.end());
    }
    launch(Op::max_pool3d_, {out, indices, self}, ints);
  }
};

template <int64_t dims, class StructuredMeta>
struct AdaptiveMax {
  using Meta = StructuredMeta;
  static void run(const Tensor& out, const Tensor& indices, const Tensor& self, IntArrayRef /*output_size*/) {
    launch(Op::adaptive_max_pool_, {out, indices, self}, {dims});
  }
};

template <class StructuredMeta>
struct FractionalMax {
  using Meta = StructuredMeta;
  static void run(const Tensor& out, const Tensor& indices, const Tensor& self, IntArrayRef kernel,
                  IntArrayRef /*output_size*/, const Tensor& samples) {
    launch(Op::fractional_max_pool_, {out, indices, self, samples}, kernel);
  }
};

// Every gradient of a max pooling goes back to where its maximum was, whatever the windows were.
struct BackMeta : at::impl::MetaBase {
  template <class... Ignored>
  void meta(const Tensor& grad, const Tensor& self, const Ignored&... rest) {
    const Tensor& indices = std::get<sizeof...(Ignored) - 1>(std::tie(rest...));
    TORCH_CHECK(grad.sizes() == indices.sizes(), "expected grad_output of shape ", indices.sizes(), ", got ",
                grad.sizes());
    TORCH_CHECK(grad.scalar_type() == self.scalar_type(), "expected dtype ", self.scalar_type(),
                " for `grad_output` but got dtype ", grad.scalar_type());
    set_output_raw_strided(0, self.sizes(), {}, self.options().memory_format(self.suggest_memory_format()));
  }
};

template <int64_t dims, class StructuredMeta = BackMeta>
struct Back {
  using Meta = StructuredMeta;
  template <class... Ignored>
  static void run(const Tensor& grad_in, const Tensor& grad, const Tensor& /*self*/, const Ignored&... rest) {
    const Tensor& indices = std::get<sizeof...(Ignored) - 1>(std::tie(rest...));
    launch(Op::unpool_, {grad_in, grad, indices}, {dims, /*add=*/1});
  }
};

template <int64_t dims>
struct Unpool {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& self, const Tensor& indices, IntArrayRef output_size, IntArrayRef stride = {},
              IntArrayRef padding = {}) {
      at::native::max_unpooling_shape_check(self, indices, output_size, dims,
                                            dims == 2 ? "max_unpool2d()" : "max_unpool3d()", stride, padding);
      c10::DimVector sizes(self.sizes().slice(0, self.dim() - dims));
      sizes.append(output_size.begin(), output_size.end());
      // As on the CPU: images may have their channels last, volumes have not.
      const auto format = dims == 2 ? self.suggest_memory_format() : at::MemoryFormat::Contiguous;
      set_output_raw_strided(0, sizes, {},
                             format == at::MemoryFormat::Contiguous ? self.options() : self.options().memory_format(format));
    }
  };
  template <class... Ignored>
  static void run(const Tensor& out, const Tensor& self, const Tensor& indices, const Ignored&... /*checked*/) {
    launch(Op::unpool_, {out, self, indices}, {dims, /*add=*/0});
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
#define RUSTORCH_MAX(name, out, Kernel, ...)                                                  \
  m.impl(#name, TORCH_FN((MadeWithIndices<Kernel<__VA_ARGS__>, at::_ops::name>::call)));      \
  m.impl(#name "." #out, TORCH_FN((WrittenWithIndices<Kernel<__VA_ARGS__>, at::_ops::name##_##out>::call)));
#define RUSTORCH_BACK(name, ...)                                \
  RUSTORCH_FLOATS(#name, Made, name, Back<__VA_ARGS__>)            \
  RUSTORCH_FLOATS(#name ".grad_input", WrittenTo, name##_grad_input, Back<__VA_ARGS__>)
  m.impl("max_pool3d_with_indices", TORCH_FN((MadeWithIndices<Max3d, at::_ops::max_pool3d_with_indices>::call)));
  m.impl("max_pool3d_with_indices.out",
         TORCH_FN((WrittenWithIndices<Max3d, at::_ops::max_pool3d_with_indices_out>::call)));
  RUSTORCH_BACK(max_pool3d_with_indices_backward, 3)
  RUSTORCH_MAX(adaptive_max_pool2d, out, AdaptiveMax, 2, at::meta::structured_adaptive_max_pool2d)
  RUSTORCH_MAX(adaptive_max_pool3d, out, AdaptiveMax, 3, at::meta::structured_adaptive_max_pool3d)
  RUSTORCH_BACK(adaptive_max_pool2d_backward, 2, at::meta::structured_adaptive_max_pool2d_backward)
  RUSTORCH_BACK(adaptive_max_pool3d_backward, 3, at::meta::structured_adaptive_max_pool3d_backward)
  RUSTORCH_MAX(fractional_max_pool2d, output, FractionalMax, at::meta::structured_fractional_max_pool2d)
  RUSTORCH_MAX(fractional_max_pool3d, output, FractionalMax, at::meta::structured_fractional_max_pool3d)
  RUSTORCH_BACK(fractional_max_pool2d_backward, 2)
  RUSTORCH_BACK(fractional_max_pool3d_backward, 3)
  RUSTORCH_FLOATS("max_unpool2d", Made, max_unpool2d, Unpool<2>)
  RUSTORCH_FLOATS("max_unpool2d.out", WrittenTo, max_unpool2d_out, Unpool<2>)
  RUSTORCH_FLOATS("max_unpool3d", Made, max_unpool3d, Unpool<3>)
  RUSTORCH_FLOATS("max_unpool3d.out", WrittenTo, max_unpool3d_out, Unpool<3>)
#undef RUSTORCH_BACK
#undef RUSTORCH_MAX
}

}  // namespace rustorch
