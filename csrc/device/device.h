// The one device of rustorch: `rustorch:0`, which is the host.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/util/Exception.h>

namespace rustorch {

constexpr c10::DeviceType kRustorch = c10::DeviceType::PrivateUse1;
constexpr c10::DispatchKeySet kKeys{c10::DispatchKey::PrivateUse1};

inline c10::Device device() {
  return c10::Device(kRustorch, 0);
}

// Refuses any index but 0 (and -1, the current one).
inline void check_index(c10::DeviceIndex index) {
  TORCH_CHECK(index == 0 || index == -1, "rustorch has one device, rustorch:0, which is all cores together, got index ",
              static_cast<int>(index),
              ". A script that picks a device by its local rank passes \"rustorch:0\" on every rank (see "
              "docs/distributed.md).");
}

}  // namespace rustorch
