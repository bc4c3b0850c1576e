// Tensors over the same bytes under another device's name: host memory is shared, never copied.
#pragma once

#include <ATen/core/Tensor.h>

namespace rustorch {

// A storage over the bytes of `storage`, labelled `device`; it keeps the original alive. Given an
// alias back to its own device, this is the original itself.
c10::Storage alias_storage(const c10::Storage& storage, c10::Device device);

// A cpu storage over the bytes of a device storage, for the time of a CPU kernel's call, which may
// resize it where the original may be resized.
c10::Storage resizable_alias(const c10::Storage& storage);

// A tensor over `storage` with the metadata of `like` (sizes, strides, offset, dtype, conjugate and
// negative bits), on the storage's device.
at::Tensor retarget(const at::Tensor& like, c10::Storage storage);

// Refuses a tensor that reaches past the end of its storage, which may have shrunk under it.
void check_storage(const at::Tensor& tensor);

// Moves the storage of a device tensor, with every tensor that views it, onto the memory of `host`, a
// CPU tensor that holds its bytes already.
void move_storage(const at::Tensor& tensor, const at::Tensor& host);

// The same memory on the other device, cpu or rustorch: no copy, and no autograd history. While a
// `lasting` one may be about, the memory must stay where it is: as PyTorch does for NumPy arrays, the
// storage is no longer resizable.
at::Tensor alias(const at::Tensor& tensor, bool lasting = false);

}  // namespace rustorch
