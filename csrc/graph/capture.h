// Capture: while a graph is imported on this thread, kernels are recorded instead of run, and
// memory that only its address is wanted of comes from `capture_allocate`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace rustorch {

// Thrown by whatever cannot be recorded (a fallback, a read of a value): the graph's node then
// runs by the eager door.
struct NotCapturable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Whether this thread is capturing.
bool capturing();
// An address for a tensor of the capture; never freed before the capture ends.
void* capture_allocate(size_t bytes);
// What a random op is given for its offset: the counters drawn before it in this capture.
uint64_t capture_random(uint64_t counters);

}  // namespace rustorch
