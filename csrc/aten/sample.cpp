// Sampling at the positions of a grid, and patches of images as columns.
#include <ATen/core/Tensor.h>
#include <ATen/native/GridSamplerUtils.h>
#include <ATen/native/im2col_shape_check.h>
#include <ATen/ops/col2im_ops.h>
#include <ATen/ops/im2col_ops.h>
#include <torch/library.h>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;

template <int64_t dims>
void check_grid(const Tensor& input, const Tensor& grid) {
  at::native::check_grid_sampler_common(input, grid);
  if constexpr (dims == 2) {
    at::native::check_grid_sampler_2d(input, grid);
  } else {
    at::native::check_grid_sampler_3d(input, grid);
  }
  TORCH_CHECK(input.scalar_type() == grid.scalar_type(), "grid_sampler(): expected input and grid to have same dtype, ",
              "but input has ", input.scalar_type(), " and grid has ", grid.scalar_type());
}

template <int64_t dims>
Tensor grid_sample(const Tensor& input, const Tensor& grid, int64_t interpolation, int64_t padding,
                   bool align_corners) {
  check_grid<dims>(input, grid);
  at::DimVector sizes{input.size(0), input.size(1)};
  sizes.append(grid.sizes().begin() + 1, grid.sizes().end() - 1);
  Tensor out = empty_dense(sizes, input.scalar_type());
  launch(Op::grid_sample_, {out, input, grid}, {interpolation, padding, align_corners});
  return out;
}

template <int64_t dims>
std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad, const Tensor& input, const Tensor& grid,
                                                int64_t interpolation, int64_t padding, bool align_corners,
                                                std::array<bool, 2> wanted) {
  check_grid<dims>(input, grid);
  at::native::check_grid_sampler_backward(input, grid, grad);
  const Tensor grad_input = wanted[0] ? empty_dense(input.sizes(), input.scalar_type()) : Tensor();
  const Tensor grad_grid = wanted[1] ? empty_dense(grid.sizes(), grid.scalar_type()) : Tensor();
  launch(Op::grid_sample_backward_, {grad_input, grad_grid, grad, input, grid},
         {interpolation, padding, align_corners});
  return {grad_input, grad_grid};
}

using Ints = c10::SmallVector<int64_t, 8>;

Ints patch_ints(IntArrayRef kernel, IntArrayRef dilation, IntArrayRef padding, IntArrayRef stride) {
  Ints ints;
  for (const IntArrayRef pair : {kernel, dilation, padding, stride}) {
    ints.append(pair.begin(), pair.end());
  }
  return ints;
}

void check_pairs(IntArrayRef kernel, IntArrayRef dilation, IntArrayRef padding, IntArrayRef stride) {
  for (const IntArrayRef pair : {kernel, dilation, padding, stride}) {
    TORCH_CHECK(pair.size() == 2, "It is expected kernel_size, dilation, padding and stride equal to 2, but got size ",
                pair.size());
  }
}

// A tensor without a batch gets one of one.
Operand batched(const Tensor& tensor, int64_t rank, at::DimVector& sizes, at::DimVector& strides) {
  sizes = at::DimVector(tensor.sizes());
  strides = at::DimVector(tensor.strides());
  if (tensor.dim() < rank) {
    sizes.insert(sizes.begin(), 1);
    strides.insert(strides.begin(), 0);
  }
  return Operand(tensor, sizes, strides);
}

void launch_patches(Op op, const Tensor& out, int64_t out_rank, const Tensor& self, int64_t rank,
                    c10::ArrayRef<int64_t> ints) {
  at::DimVector out_sizes;
  at::DimVector out_strides;
  at::DimVector sizes;
  at::DimVector strides;
  launch(op, {batched(out, out_rank, out_sizes, out_strides), batched(self, rank, sizes, strides)}, ints);
}

struct Columns {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& self, IntArrayRef kernel, IntArrayRef dilation, IntArrayRef padding, IntArrayRef stride) {
      check_pairs(kernel, dilation, padding, stride);
      at::native::im2col_shape_check(self, Tensor(), kernel[0], kernel[1], dilation[0], dilation[1], padding[0],
                                     padding[1], stride[0], stride[1]);
      int64_t patches = 1;
      for (int64_t dim = 0; dim < 2; ++dim) {
        patches *= at::native::sliding_window_count(self.size(dim - 2), padding[dim], dilation[dim], kernel[dim],
                                                    stride[dim]);
      }
      at::DimVector sizes(self.sizes().slice(0, self.dim() - 3));
      sizes.append({self.size(-3) * kernel[0] * kernel[1], patches});
      set_output_raw_strided(0, sizes, {}, self.options());
    }
  };
  static void run(const Tensor& out, const Tensor& self, IntArrayRef kernel, IntArrayRef dilation, IntArrayRef padding,
                  IntArrayRef stride) {
    launch_patches(Op::im2col_, out, 3, self, 4, patch_ints(kernel, dilation, padding, stride));
  }
};

struct Images {
  struct Meta : at::impl::MetaBase {
    void meta(const Tensor& self, IntArrayRef output_size, IntArrayRef kernel, IntArrayRef dilation,
              IntArrayRef padding, IntArrayRef stride) {
      TORCH_CHECK(output_size.size() == 2, "It is expected output_size equals to 2, but got size ",
                  output_size.size());
      check_pairs(kernel, dilation, padding, stride);
      at::native::col2im_shape_check(self, Tensor(), output_size[0], output_size[1], kernel[0], kernel[1],
                                     dilation[0], dilation[1], padding[0], padding[1], stride[0], stride[1]);
      at::DimVector sizes(self.sizes().slice(0, self.dim() - 2));
      sizes.append({self.size(-2) / (kernel[0] * kernel[1]), output_size[0], output_size[1]});
      set_output_raw_strided(0, sizes, {}, self.options());
    }
  };
  static void run(const Tensor& out, const Tensor& self, IntArrayRef /*output_size*/, IntArrayRef kernel,
                  IntArrayRef dilation, IntArrayRef padding, IntArrayRef stride) {
    launch_patches(Op::col2im_, out, 4, self, 3, patch_ints(kernel, dilation, padding, stride));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("grid_sampler_2d", TORCH_FN(grid_sample<2>));
  m.impl("grid_sampler_2d_backward", TORCH_FN(grid_sample_backward<2>));
  m.impl("grid_sampler_3d", TORCH_FN(grid_sample<3>));
  m.impl("grid_sampler_3d_backward", TORCH_FN(grid_sample_backward<3>));
  RUSTORCH_FLOATS("im2col", Made, im2col, Columns)
  RUSTORCH_FLOATS("im2col.out", WrittenTo, im2col_out, Columns)
  RUSTORCH_FLOATS("col2im", Made, col2im, Images)
  RUSTORCH_FLOATS("col2im.out", WrittenTo, col2im_out, Images)
}

}  // namespace rustorch
