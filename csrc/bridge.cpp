#include "bridge.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include <dlfcn.h>

namespace rustorch {

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

void check_bounds(const at::TensorBase& tensor) {
  const Operand operand = Operand::bits(tensor);
  through_door([&] { ffi::check_bounds(operand.view); });
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

namespace {

// The pool follows `torch.set_num_threads`, which is a count of each thread.
extern "C" size_t thread_count() {
  return static_cast<size_t>(at::get_num_threads());
}

// OpenMP's door to its workers, of the runtime that torch itself calls: others may be loaded beside it.
void* find_host() {
  Dl_info torch;
  // The address of a function of libtorch_cpu.
  if (dladdr(reinterpret_cast<void*>(&at::get_num_threads), &torch) == 0 || torch.dli_fname == nullptr) {
    return nullptr;
  }
  void* const library = dlopen(torch.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, "GOMP_parallel");
}

[[maybe_unused]] const bool joined = [] {
  ffi::follow_num_threads(reinterpret_cast<size_t>(&thread_count));
  if (void* const enter = find_host(); enter != nullptr) {
    ffi::join_host(reinterpret_cast<size_t>(enter));
  }
  return true;
}();

void call(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints, c10::ArrayRef<double> floats) {
  const auto* views = reinterpret_cast<const ffi::RawView*>(operands.data());
  try {
    ffi::launch(static_cast<uint32_t>(op), {views, operands.size()}, {ints.data(), ints.size()},
                {floats.data(), floats.size()});
  } catch (const rust::Error& error) {
    rethrow(error);
  }
}

[[noreturn]] void refuse_device(Op op, const Operand& operand) {
  TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, rustorch:0 and ",
              c10::Device(static_cast<c10::DeviceType>(operand.view.device)), "! (in ",
              kOpNames[static_cast<uint32_t>(op)], ")");
}

}  // namespace

void launch_unchecked(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints,
                      c10::ArrayRef<double> floats) {
  // RECORD_FUNCTION, save that nothing is made where nobody listens.
  auto listeners = at::getStepCallbacksUnlessEmpty(at::RecordScope::FUNCTION);
  if (C10_UNLIKELY(listeners.has_value())) {
    at::RecordFunction guard(std::move(*listeners));
    at::detail::record_function_with_scope(guard, kOpNames[static_cast<uint32_t>(op)],
                                           c10::ArrayRef<const c10::IValue>{});
    call(op, operands, ints, floats);
    return;
  }
  call(op, operands, ints, floats);
}

void launch(Op op, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints, c10::ArrayRef<double> floats) {
  constexpr auto here = static_cast<int8_t>(c10::DeviceType::PrivateUse1);
  for (const Operand& operand : operands) {
    if (operand.view.device != here && operand.view.present) {
      // A number may stay on the CPU.
      if (operand.view.device != static_cast<int8_t>(c10::DeviceType::CPU) || operand.view.rank != 0) {
        refuse_device(op, operand);
      }
    }
  }
  launch_unchecked(op, operands, ints, floats);
}

}  // namespace rustorch
