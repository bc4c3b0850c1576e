#include "device/module.h"

#include <c10/util/TypeCast.h>

#include "aten/fallback.h"
#include "device/device.h"
#include "device/generator.h"
#include "device/guard.h"
#include "device/profiler.h"
#include "device/storage.h"
#include "distributed/collectives.h"

namespace rustorch {

void bind_device(pybind11::module_& module) {
  namespace py = pybind11;
  module.def("claim_autograd_engine", &claim_autograd_engine, "Makes backward run on the thread that calls it.");
  module.def(
      "check_index", [](int64_t index) { check_index(c10::checked_convert<c10::DeviceIndex>(index, "DeviceIndex")); },
      "Refuses any index of a device but 0, and -1, the current one.", py::arg("index"));
  module.def("alias", &alias, "The same memory on the other device, cpu or rustorch.", py::arg("tensor"),
             py::arg("lasting") = false);
  module.def("check_storage", &check_storage, "Refuses a tensor that reaches past the end of its storage.",
             py::arg("tensor"));
  module.def("move_storage", &move_storage, "Moves a rustorch tensor's storage onto a cpu tensor's memory.",
             py::arg("tensor"), py::arg("host"));
  module.def("default_generator", [] { return default_generator(); }, "The device's own generator.");
  module.def("fallback_counts", &fallback_counts, "Calls of each op that ran on a CPU kernel.");
  module.def("reset_fallback_counts", &reset_fallback_counts);
  module.def("fallback_policy", &fallback_policy);
  module.def("set_fallback_policy", &set_fallback_policy, py::arg("policy"));
  module.def("bind_structured_fallbacks", &bind_structured_fallbacks,
             "Sends structured ops without a Rust kernel straight to the fallback.");
  module.def("bind_collectives", &bind_collectives, "Runs the collectives of torch.distributed on the CPU's backend.");
  bind_profiler(module);
}

}  // namespace rustorch
