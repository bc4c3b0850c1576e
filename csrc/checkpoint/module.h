#pragma once

#include <torch/extension.h>

namespace rustorch {

// Adds the files under `rustorch_device.checkpoint` to the extension module.
void bind_checkpoint(pybind11::module_& module);

}  // namespace rustorch
