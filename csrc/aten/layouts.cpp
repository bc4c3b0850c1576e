// Sparse, quantized and nested tensors, wherever they meet the device: refused, by a sentence that says what to do.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_nested_tensor_from_tensor_list_native.h>
#include <torch/library.h>

#include "aten/dense_only.h"

namespace rustorch {
namespace {

void refuse(const c10::OperatorHandle& op, torch::jit::Stack* /*stack*/) {
  refuse_other_layouts(c10::toString(op.operator_name()));
}

// PyTorch makes these around tensors of any device, and asks no kernel of the device's.
void refuse_here(std::optional<at::Device> device, const char* met) {
  if (device.has_value() && device->is_privateuseone()) {
    refuse_other_layouts(met);
  }
}

at::Tensor nested(at::TensorList list, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                  std::optional<at::Device> device, std::optional<bool> pinned) {
  refuse_here(device, "aten::_nested_tensor_from_tensor_list");
  for (const at::Tensor& tensor : list) {
    refuse_here(std::optional(tensor.device()), "aten::_nested_tensor_from_tensor_list");
  }
  return at::native::_nested_tensor_from_tensor_list(list, dtype, layout, device, pinned);
}

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("_nested_tensor_from_tensor_list", TORCH_FN(nested));
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_nested_tensor_from_tensor_list", TORCH_FN(nested));
}
// PyTorch has kernels of any device's for these.
TORCH_LIBRARY_IMPL(aten, SparseCsrPrivateUse1, m) {
  for (const char* op : {"_to_copy", "_sparse_compressed_tensor_unsafe", "_sparse_compressed_tensor_with_dims"}) {
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&refuse>());
  }
}
TORCH_LIBRARY_IMPL(_, SparsePrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&refuse>());
}
TORCH_LIBRARY_IMPL(_, SparseCsrPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&refuse>());
}
TORCH_LIBRARY_IMPL(_, QuantizedPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&refuse>());
}
TORCH_LIBRARY_IMPL(_, NestedTensorPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&refuse>());
}

}  // namespace
}  // namespace rustorch
