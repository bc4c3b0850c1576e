// Capture: while a graph is imported on this thread, kernels are recorded instead of run, and
// tensors (stand-ins) get memory of which only the address is wanted. Nobody can read it: the storages of
// stand-ins are sealed, so that `data_ptr` raises in C++, Python, DLPack and NumPy. Operands of `launch` take
// addresses past the seal; `OpenAddresses` lifts it for PyTorch's own code, where that compares addresses.
#pragma once

#include <ATen/core/IListRef.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/macros/Macros.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

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
}  // namespace detail

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
// Seals the storage of a fresh stand-in: at once, or when the window that is open closes.
void capture_seal(const at::TensorBase& tensor);
// A stand-in for the state of PyTorch's CPU generator.
at::Tensor capture_cpu_generator();

// While one is alive, PyTorch's own code may take the addresses of the stand-ins among its arguments, and of those
// that are made meanwhile, as iterators and checks of overlap do. At its end they are sealed.
class OpenAddresses {
 public:
  template <class... Args>
  explicit OpenAddresses(const Args&... args) : open_(capturing()) {
    if (C10_UNLIKELY(open_)) {
      begin();
      (see(args), ...);
    }
  }
  ~OpenAddresses() {
    if (C10_UNLIKELY(open_)) {
      end();
    }
  }
  OpenAddresses(const OpenAddresses&) = delete;
  OpenAddresses& operator=(const OpenAddresses&) = delete;

 private:
  static void begin();
  static void end() noexcept;
  static void open(const at::TensorBase& tensor);
  // A tensor, a list of them or one that may be missing; numbers, sizes and the like have no address.
  template <class Arg>
  static void see(const Arg& arg) {
    if constexpr (std::is_base_of_v<at::TensorBase, Arg>) {
      open(arg);
    } else if constexpr (std::is_same_v<Arg, std::optional<at::Tensor>> || std::is_same_v<Arg, at::OptionalTensorRef>) {
      if (arg.has_value()) {
        open(*arg);
      }
    } else if constexpr (std::is_same_v<Arg, at::TensorList> || std::is_same_v<Arg, at::ITensorListRef>) {
      for (const at::Tensor& tensor : arg) {
        open(tensor);
      }
    } else {
      static_assert(!std::is_convertible_v<const Arg&, at::TensorList> && !std::is_convertible_v<Arg, at::OptionalTensorRef>,
                    "tensors of a kind that OpenAddresses does not know");
    }
  }

  bool open_;
};

}  // namespace rustorch
