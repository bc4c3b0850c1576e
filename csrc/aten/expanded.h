// Tensors that were expanded: dimensions along which elements are one and the same. PyTorch writes such tensors in
// some ops, those of which the result does not depend on how often an element is written.
#pragma once

#include <ATen/core/Tensor.h>

namespace rustorch {

inline at::DimVector repeated_dims(const at::Tensor& tensor) {
  at::DimVector dims;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (tensor.stride(dim) == 0 && tensor.size(dim) > 1) {
      dims.push_back(dim);
    }
  }
  return dims;
}

// The first along each dimension that repeats elements: the tensor itself, where none does.
inline at::Tensor once(const at::Tensor& tensor) {
  at::Tensor result = tensor;
  for (const int64_t dim : repeated_dims(tensor)) {
    result = result.narrow(dim, 0, 1);
  }
  return result;
}

}  // namespace rustorch
