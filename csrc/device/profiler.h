// Rust's kernels in profiles: PyTorch's (a session of kineto's), and our own table.
#pragma once

#include <torch/extension.h>

namespace rustorch {

void bind_profiler(pybind11::module_& module);

}  // namespace rustorch
