// How the result of an op over tensors lies in memory, where the op is no iterator of its own.
#pragma once

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

#include "graph/capture.h"

namespace rustorch {

// An empty tensor, laid out as the result of a pointwise op over tensors that broadcast.
inline at::Tensor empty_of(at::ArrayRef<at::Tensor> inputs, at::ScalarType dtype) {
  const OpenAddresses open(inputs);
  at::TensorIteratorConfig config;
  config.check_all_same_dtype(false).check_all_same_device(false).set_check_mem_overlap(false);
  // A number on the CPU may stand beside tensors of the device.
  const auto* const first = std::find_if(inputs.begin(), inputs.end(), [](const at::Tensor& input) {
    return !input.device().is_cpu();
  });
  const at::Device device = (first == inputs.end() ? inputs[0] : *first).device();
  config.add_owned_output(at::Tensor()).declare_static_dtype_and_device(dtype, device);
  for (const at::Tensor& input : inputs) {
    config.add_owned_const_input(input);
  }
  return config.build().output(0);
}

}  // namespace rustorch
