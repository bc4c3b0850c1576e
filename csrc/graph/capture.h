// Capture: while a graph is imported on this thread, kernels are recorded instead of run, and
// tensors get memory of which only the address is wanted.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/macros/Macros.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace rustorch {

// Thrown by whatever cannot be recorded (a fallback, a read of a value): the graph's node then
// runs by the eager door.
struct NotCapturable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {
// How many threads capture: mostly none, and then no thread asks for its own flag, which costs more.
inline std::atomic<int> captures{0};
inline thread_local bool capture_is_active = false;
inline thread_local bool capture_is_of_cpu = false;
}

// Whether this thread is capturing.
inline bool capturing() {
  return C10_UNLIKELY(detail::captures.load(std::memory_order_relaxed) != 0) && detail::capture_is_active;
}

// Whether the node that is being captured was traced on the CPU, whose generator it then draws from.
inline bool capturing_for_cpu() {
  return capturing() && detail::capture_is_of_cpu;
}

// Refuses what cannot be recorded.
inline void require_no_capture(const char* what) {
  if (capturing()) {
    throw NotCapturable(what);
  }
}

void capture_begin();
// Ends a capture without a program.
void capture_abandon() noexcept;
// Memory for a tensor of the capture: address space, not pages. It lives as long as the tensor,
// and its address is not given again before the capture ends.
c10::DataPtr capture_allocate(size_t bytes);
// What a random op is given for its offset: the counters drawn before it in this capture.
uint64_t capture_random(uint64_t counters);
// A stand-in for the state of PyTorch's CPU generator.
at::Tensor capture_cpu_generator();

}  // namespace rustorch
