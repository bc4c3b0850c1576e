#include "bridge.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include <atomic>

namespace rustorch {

Operand::Operand(const at::TensorBase& tensor) {
  if (!tensor.defined()) {
    return;
  }
  const auto sizes = tensor.sizes();
  *this = Operand(tensor, sizes, tensor.strides());
}

Operand::Operand(const at::TensorBase& tensor, at::IntArrayRef view_sizes, at::IntArrayRef view_strides)
    : device(tensor.device()) {
  view.data = reinterpret_cast<size_t>(tensor.const_data_ptr());
  view.sizes = reinterpret_cast<size_t>(view_sizes.data());
  view.strides = reinterpret_cast<size_t>(view_strides.data());
  view.rank = static_cast<uint32_t>(view_sizes.size());
  view.dtype = static_cast<uint8_t>(tensor.scalar_type());
  view.present = true;
}

Operand Operand::bits(const at::TensorBase& tensor) {
  Operand operand(tensor);
  at::ScalarType same_size = at::kByte;
  switch (tensor.element_size()) {
    case 2: same_size = at::kShort; break;
    case 4: same_size = at::kInt; break;
    case 8: same_size = at::kLong; break;
    case 16: same_size = at::kComplexDouble; break;
    default: break;
  }
  operand.view.dtype = static_cast<uint8_t>(same_size);
  return operand;
}

bool is_native(at::ScalarType dtype) {
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

void rethrow(const rust::Error& error) {
  // The first letter names the exception (rust/bridge/src/lib.rs).
  const std::string text = error.what();
  const std::string message = text.empty() ? text : text.substr(1);
  switch (text.empty() ? 'R' : text[0]) {
    case 'I': TORCH_CHECK_INDEX(false, message);
    case 'V': TORCH_CHECK_VALUE(false, message);
    case 'N': TORCH_CHECK_NOT_IMPLEMENTED(false, message);
    case 'M': TORCH_CHECK_WITH(OutOfMemoryError, false, message);
    default: TORCH_CHECK(false, message);
  }
  throw;  // Not reached: the macros above throw.
}

void follow_thread_count() {
  static std::atomic<int> last{0};
  if (torch::autograd::get_current_graph_task_id() != -1) {
    return;
  }
  const int threads = at::get_num_threads();
  if (last.exchange(threads, std::memory_order_relaxed) != threads) {
    ffi::set_num_threads(static_cast<size_t>(threads));
  }
}

void launch_unchecked(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints,
                      c10::ArrayRef<double> floats) {
  RECORD_FUNCTION(kOpNames[static_cast<uint32_t>(op)], c10::ArrayRef<const c10::IValue>{});
  follow_thread_count();
  c10::SmallVector<ffi::RawView, 8> views;
  for (const Operand& operand : operands) {
    views.push_back(operand.view);
  }
  try {
    ffi::launch(static_cast<uint32_t>(op), {views.data(), views.size()}, {ints.data(), ints.size()},
                {floats.data(), floats.size()});
  } catch (const rust::Error& error) {
    rethrow(error);
  }
}

void launch(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints, c10::ArrayRef<double> floats) {
  for (const Operand& operand : operands) {
    if (operand.view.present && operand.device.type() != c10::DeviceType::PrivateUse1) {
      TORCH_CHECK(operand.device.is_cpu() && operand.view.rank == 0,
                  "Expected all tensors to be on the same device, but found at least two devices, rustorch:0 and ",
                  operand.device, "! (in ", kOpNames[static_cast<uint32_t>(op)], ")");
    }
  }
  launch_unchecked(op, operands, ints, floats);
}

}  // namespace rustorch
