// Memory of the device, from the Rust pool (rust/kernels/src/alloc).
#pragma once

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

namespace rustorch {

// Memory labelled rustorch:0.
c10::DeviceAllocator* allocator();
// The same memory labelled cpu: for CPU kernels that resize a device tensor's storage.
c10::Allocator* mirror_allocator();
// Page-locked memory, as far as a host device has any: ordinary pool memory that is remembered as
// pinned, so that `pin_memory` and DataLoader work as on other devices.
at::HostAllocator* pinned_allocator();
bool is_pinned(const void* address);

// A block that Rust has allocated from the pool (null for none): freed, and counted, as the device's own.
c10::DataPtr pool_block(size_t address, size_t bytes, c10::Device labelled);

// Makes CPU memory count as the device's: takes `data`, gives it back labelled rustorch:0 and
// counted in the statistics until it is freed.
c10::DataPtr adopt(c10::DataPtr data, size_t bytes);

}  // namespace rustorch
