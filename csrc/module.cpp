// The extension module `rustorch_device._C`.
#include <torch/extension.h>

#include "bridge.h"
#include "checkpoint/module.h"
#include "device/module.h"
#include "graph/program.h"

namespace rustorch {

static std::vector<std::string> strings(const rust::Vec<rust::String>& names) {
  return {names.begin(), names.end()};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.doc() = "The native half of rustorch_device.";
  module.def("simd_level", [] { return std::string(ffi::simd_level()); }, "The SIMD level in use.");
  module.def("op_names", [] { return strings(ffi::op_names()); }, "The ops of the table, in order.");
  module.def("dear_ops", [] { return strings(ffi::dear_ops()); },
             "The pointwise ops that cost more than it takes to write an element and read it again.");
  module.def(
      "debug_panic", [](const std::string& message) { through_door([&] { ffi::debug_panic(message); }); },
      "Panics in Rust, to prove that a panic arrives as an exception.");
  bind_device(module);
  bind_graph(module);
  bind_checkpoint(module);
}

}  // namespace rustorch
