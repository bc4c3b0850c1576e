// Reductions for the other files of this folder.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/native/ReduceOpsUtils.h>

#include "bridge.h"

namespace rustorch {

using at::native::DimMask;

// Launches a reduction of `self` over the dimensions in `mask`. Outputs may have kept their reduced
// dimensions or not, and may be undefined where the op allows it.
void reduce(Op op, c10::ArrayRef<at::Tensor> outputs, const at::Tensor& self, DimMask mask,
            c10::ArrayRef<int64_t> ints = {}, c10::ArrayRef<double> floats = {});

// The dimensions that an op's `dim` argument names; without one, or with an empty list, all.
inline DimMask dims_of(const at::Tensor& self) { return at::native::make_dim_mask(std::nullopt, self.dim()); }
inline DimMask dims_of(const at::Tensor& self, int64_t dim) {
  return at::native::make_dim_mask(at::IntArrayRef(dim), self.dim());
}
inline DimMask dims_of(const at::Tensor& self, std::optional<int64_t> dim) {
  return dim.has_value() ? dims_of(self, *dim) : dims_of(self);
}
inline DimMask dims_of(const at::Tensor& self, at::IntArrayRef dims) {
  return at::native::make_dim_mask(dims, self.dim());
}
inline DimMask dims_of(const at::Tensor& self, at::OptionalIntArrayRef dims) {
  return at::native::make_dim_mask(dims, self.dim());
}

}  // namespace rustorch
