#include "graph/capture.h"

#include <sys/mman.h>

#include <memory>
#include <utility>
#include <vector>

#include "bridge.h"
#include "rustorch-bridge/src/graph.rs.h"

namespace rustorch {
namespace {

// Address space that is never touched, so it costs no memory (were it touched, it would be zeros).
struct Mapping {
  explicit Mapping(size_t size) : bytes(size) {
    address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK_WITH(OutOfMemoryError, address != MAP_FAILED, "rustorch out of memory. Tried to reserve ", bytes,
                     " bytes of address space for the capture of a graph");
  }
  ~Mapping() { munmap(address, bytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void* address;
  size_t bytes;
};

// The mappings of this thread's capture: kept until its end, so that no address is given twice.
thread_local std::vector<std::shared_ptr<Mapping>> mappings;

}  // namespace

void capture_begin() {
  through_door([] { ffi::capture_begin(); });
  detail::capture_is_active = true;
  ++detail::captures;
}

void capture_abandon() noexcept {
  if (std::exchange(detail::capture_is_active, false)) {
    --detail::captures;
  }
  mappings.clear();
  ffi::capture_abandon();
}

c10::DataPtr capture_allocate(size_t bytes) {
  const c10::Device device(c10::DeviceType::PrivateUse1, 0);
  if (bytes == 0) {
    return {nullptr, device};
  }
  auto mapping = std::make_shared<Mapping>(bytes);
  void* const address = mapping->address;
  through_door([&] { ffi::capture_block(reinterpret_cast<size_t>(address), bytes); });
  mappings.push_back(mapping);
  auto* context = new std::shared_ptr<Mapping>(std::move(mapping));
  return {address, context, [](void* owned) { delete static_cast<std::shared_ptr<Mapping>*>(owned); }, device};
}

uint64_t capture_random(uint64_t counters) {
  return through_door([&] { return ffi::capture_random(counters); });
}

}  // namespace rustorch
