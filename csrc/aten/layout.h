// How the result of an op over tensors lies in memory, where the op is no iterator of its own.
#pragma once

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>

namespace rustorch {

// An empty tensor, laid out as the result of a pointwise op over tensors that broadcast.
inline at::Tensor empty_of(at::ArrayRef<at::Tensor> inputs, at::ScalarType dtype) {
  at::TensorIteratorConfig config;
  config.check_all_same_dtype(false).check_all_same_device(false).set_check_mem_overlap(false);
  config.add_owned_output(at::Tensor()).declare_static_dtype_and_device(dtype, inputs[0].device());
  for (const at::Tensor& input : inputs) {
    config.add_owned_const_input(input);
  }
  return config.build().output(0);
}

}  // namespace rustorch
