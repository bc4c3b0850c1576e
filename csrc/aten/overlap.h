// Whether tensors share memory, as ATen decides it, for stand-ins of a capture as well (graph/capture.h).
#pragma once

#include <ATen/MemoryOverlap.h>
#include <ATen/core/Tensor.h>

#include "graph/capture.h"

namespace rustorch {

inline bool is_alias(const at::TensorBase& a, const at::TensorBase& b) {
  const OpenAddresses open(a, b);
  return a.is_alias_of(b);
}

inline at::MemOverlapStatus overlap_status(const at::TensorBase& a, const at::TensorBase& b) {
  const OpenAddresses open(a, b);
  return at::get_overlap_status(a, b);
}

inline void refuse_overlap(const at::TensorBase& a, const at::TensorBase& b) {
  const OpenAddresses open(a, b);
  at::assert_no_overlap(a, b);
}

inline void refuse_partial_overlap(const at::TensorBase& a, const at::TensorBase& b) {
  const OpenAddresses open(a, b);
  at::assert_no_partial_overlap(a, b);
}

}  // namespace rustorch
