#pragma once

#include <torch/extension.h>

namespace rustorch {

// Adds what `torch.rustorch` is made of to the extension module.
void bind_device(pybind11::module_& module);

}  // namespace rustorch
