// The C++ side of the one door: tensors become views, errors become exceptions.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <optional>

#include "ops.h"
#include "rust/cxx.h"
#include "rustorch-bridge/src/lib.rs.h"

namespace rustorch {

// A tensor as an operand of `launch`. An undefined or missing tensor is an absent operand.
struct Operand {
  Operand(const at::TensorBase& tensor);  // NOLINT: implicit, so that calls read as lists of tensors
  Operand(const std::optional<at::Tensor>& tensor)
      : Operand(tensor.has_value() ? static_cast<const at::TensorBase&>(*tensor) : at::TensorBase()) {}
  // Another shape over the tensor's memory; strides in elements. The arrays outlive the launch.
  Operand(const at::TensorBase& tensor, at::IntArrayRef sizes, at::IntArrayRef strides);
  // The tensor's bits as an integer or complex type of the same size: for ops that only move
  // elements, whatever they mean.
  static Operand bits(const at::TensorBase& tensor);

  ffi::RawView view{};

 private:
  Operand() = default;
};
// Operands cross the door where they are.
static_assert(sizeof(Operand) == sizeof(ffi::RawView));

// Runs a Rust kernel: outputs first in `operands`; scalars in the order that the op's row states.
// Every operand is on rustorch, or is a CPU tensor with one element.
void launch(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints = {},
            c10::ArrayRef<double> floats = {});
// The same, for operands whose device the caller has checked (copies to and from the CPU).
void launch_unchecked(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints = {},
                      c10::ArrayRef<double> floats = {});

// Refuses a tensor that reaches out of its storage, as `launch` does: for kernels other than Rust's.
void check_bounds(const at::TensorBase& tensor);

// Calls a function of the door; its error is thrown as the exception that PyTorch users expect.
template <class Call>
auto through_door(Call&& call) -> decltype(call());
[[noreturn]] void rethrow(const rust::Error& error);

template <class Call>
auto through_door(Call&& call) -> decltype(call()) {
  try {
    return call();
  } catch (const rust::Error& error) {
    rethrow(error);
  }
}

// Whether Rust computes in this dtype (complex, quantised and 8-bit floats go to the fallback).
inline bool is_native(at::ScalarType dtype) {
  switch (dtype) {
    case at::kByte:
    case at::kChar:
    case at::kShort:
    case at::kInt:
    case at::kLong:
    case at::kHalf:
    case at::kFloat:
    case at::kDouble:
    case at::kBool:
    case at::kBFloat16: return true;
    default: return false;
  }
}

inline Operand::Operand(const at::TensorBase& tensor, at::IntArrayRef sizes, at::IntArrayRef strides) {
  view.data = reinterpret_cast<size_t>(tensor.const_data_ptr());
  const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  view.storage = reinterpret_cast<size_t>(storage->data());
  view.storage_bytes = storage->nbytes();
  view.sizes = reinterpret_cast<size_t>(sizes.data());
  view.strides = reinterpret_cast<size_t>(strides.data());
  view.rank = static_cast<uint32_t>(sizes.size());
  view.dtype = static_cast<uint8_t>(tensor.scalar_type());
  view.present = true;
  view.device = static_cast<int8_t>(tensor.device().type());
}

inline Operand::Operand(const at::TensorBase& tensor)
    : Operand(tensor.defined() ? Operand(tensor, tensor.sizes(), tensor.strides()) : Operand()) {}

}  // namespace rustorch
