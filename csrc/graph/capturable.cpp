#include "graph/capturable.h"

#include <unordered_map>

namespace rustorch {
namespace {

constexpr auto kKey = c10::DispatchKey::PrivateUse1;

// Written while the device is loaded, read afterwards.
std::unordered_map<c10::OperatorName, c10::KernelFunction>& kernels() {
  static auto* known = new std::unordered_map<c10::OperatorName, c10::KernelFunction>();
  return *known;
}

}  // namespace

void remember_kernel(const c10::OperatorHandle& op) {
  kernels().insert_or_assign(op.operator_name(), op.getComputedKernelForDispatchKey(kKey).kernelFunction());
}

bool capturable(const std::string& name, const std::string& overload) {
  const auto op = c10::Dispatcher::singleton().findOp({name, overload});
  if (!op.has_value()) {
    return false;
  }
  if (!op->hasKernelForDispatchKey(kKey)) {
    // A composite, or the fallback, which refuses by itself.
    return true;
  }
  const auto known = kernels().find(op->operator_name());
  return known != kernels().end() &&
         known->second._equalsBoxedAndUnboxed(op->getComputedKernelForDispatchKey(kKey).kernelFunction());
}

}  // namespace rustorch
