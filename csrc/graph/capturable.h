// Which ops a capture may run: those whose code for the device is PyTorch's own or the shim's, of which is known that
// they record, or say that they cannot. Anyone else's kernel may read memory that is not there, or keep state.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

namespace rustorch {

// Remembers the device's kernel for `op` as the shim's. Called once for each, when the device is loaded.
void remember_kernel(const c10::OperatorHandle& op);

// Whether the kernel that `name` (such as "aten::add") has for the device is still the shim's, or a composite of
// PyTorch's.
bool capturable(const std::string& name, const std::string& overload);

}  // namespace rustorch
