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
  Operand(const at::TensorBase& tensor) {  // NOLINT: implicit, so that calls read as lists of tensors
    if (tensor.defined()) {
      set(tensor, tensor.sizes(), tensor.strides(), tensor.scalar_type());
    } else {
      view = {};
    }
  }
  Operand(const std::optional<at::Tensor>& tensor)
      : Operand(tensor.has_value() ? static_cast<const at::TensorBase&>(*tensor) : at::TensorBase()) {}
  // Another shape over the tensor's memory; strides in elements. The arrays outlive the launch.
  Operand(const at::TensorBase& tensor, at::IntArrayRef sizes, at::IntArrayRef strides) {
    set(tensor, sizes, strides, tensor.scalar_type());
  }
  // To be `set`.
  Operand() {}  // NOLINT: leaves the view as it is
  // The tensor's bits as an integer or complex type of the same size: for ops that only move
  // elements, whatever they mean.
  static Operand bits(const at::TensorBase& tensor);

  // Writes the view where it lies: copied right after, it would be read in other pieces than it was
  // written in, for which a processor waits.
  C10_ALWAYS_INLINE void set(const at::TensorBase& tensor, at::IntArrayRef sizes, at::IntArrayRef strides,
                             at::ScalarType dtype) {
    const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
    c10::StorageImpl* storage = impl.storage().unsafeGetStorageImpl();
    // Past the seal of a capture's stand-ins, of which only the address is wanted (graph/capture.h), and without
    // the checks of `const_data_ptr`, which cost more than they tell here.
    const void* const start = storage->_mutable_data_ptr_no_checks().get();
    const bool has_memory = start != nullptr && impl.numel() != 0;
    const size_t offset = static_cast<size_t>(impl.storage_offset()) * c10::elementSize(dtype);
    view = ffi::RawView{
        .data = has_memory ? reinterpret_cast<size_t>(start) + offset : 0,
        .sizes = reinterpret_cast<size_t>(sizes.data()),
        .strides = reinterpret_cast<size_t>(strides.data()),
        .storage = reinterpret_cast<size_t>(start),
        .storage_bytes = storage->nbytes(),
        .rank = static_cast<uint32_t>(sizes.size()),
        .dtype = static_cast<uint8_t>(dtype),
        .present = true,
        .named = static_cast<uint8_t>(dtype),
        .device = static_cast<int8_t>(tensor.device().type()),
    };
  }

  // In a union, so that an operand to be set is not first cleared.
  union {
    ffi::RawView view;
  };
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

}  // namespace rustorch
