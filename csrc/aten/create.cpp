// Fresh tensors.
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/TensorFactories.h>
#include <torch/library.h>

#include <limits>

#include "aten/dense_only.h"
#include "aten/structured.h"
#include "device/allocator.h"
#include "device/device.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

void check_options(std::optional<at::Layout> layout, std::optional<at::Device> wanted, std::optional<bool> pinned) {
  if (c10::layout_or_default(layout) != at::kStrided) {
    refuse_other_layouts(c10::str("layout=", *layout));
  }
  TORCH_CHECK(!c10::pinned_memory_or_default(pinned), "Only dense CPU tensors can be pinned");
  if (wanted.has_value()) {
    check_index(wanted->index());
  }
}

// `torch.use_deterministic_algorithms` fills what is otherwise whatever memory held.
at::Tensor finish(at::Tensor tensor) {
  if (capturing()) {
    capture_seal(tensor);
  }
  const auto& context = at::globalContext();
  if (C10_UNLIKELY(context.deterministicAlgorithms() && context.deterministicFillUninitializedMemory())) {
    at::native::fill_empty_deterministic_(tensor);
  }
  return tensor;
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                 std::optional<at::Device> wanted, std::optional<bool> pinned,
                 std::optional<at::MemoryFormat> memory_format) {
  check_options(layout, wanted, pinned);
  return finish(at::detail::empty_generic(sizes, allocator(), kKeys, c10::dtype_or_default(dtype), memory_format));
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> layout, std::optional<at::Device> wanted,
                         std::optional<bool> pinned) {
  check_options(layout, wanted, pinned);
  return finish(at::detail::empty_strided_generic(sizes, strides, allocator(), kKeys, c10::dtype_or_default(dtype)));
}

// A tensor of zeros without memory, of which autograd knows that it is zero.
at::Tensor zero_tensor(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                       std::optional<at::Device> wanted, std::optional<bool> pinned) {
  check_options(layout, wanted, pinned);
  static at::native::ZeroTensorAllocator none(device());
  const auto keys = kKeys.add(c10::DispatchKey::ZeroTensor);
  return at::detail::empty_generic(sizes, &none, keys, c10::dtype_or_default(dtype), std::nullopt);
}

}  // namespace

at::Tensor empty_dense(at::IntArrayRef sizes, at::ScalarType dtype) {
  // What at::detail::empty_generic does, without its detours.
  size_t bytes = c10::elementSize(dtype);
  bool fits = true;
  for (const int64_t size : sizes) {
    fits = fits && size >= 0 && !__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes);
  }
  if (C10_UNLIKELY(!fits || bytes > std::numeric_limits<int64_t>::max())) {
    // It says what is wrong.
    return at::Tensor(at::detail::empty_generic(sizes, allocator(), kKeys, dtype, std::nullopt));
  }
  static c10::Allocator* const pool = allocator();
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), static_cast<int64_t>(bytes),
                                                       pool->allocate(bytes), pool, /*resizable=*/true);
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), kKeys, c10::scalarTypeToTypeMeta(dtype));
  // A tensor is born with the sizes {0}.
  if (sizes.size() != 1 || sizes[0] != 0) {
    tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  }
  if (capturing()) {
    capture_seal(tensor);
  }
  return tensor;
}

namespace {

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("_efficientzerotensor", TORCH_FN(zero_tensor));
}

}  // namespace
}  // namespace rustorch
