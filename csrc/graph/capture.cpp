#include "graph/capture.h"

#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "bridge.h"
#include "rustorch-bridge/src/graph.rs.h"

namespace rustorch {
namespace {

// The tests set it: who touches a stand-in's memory all the same then ends the process, and is found.
bool is_unreadable() {
  static const bool unreadable = [] {
    const char* const value = std::getenv("RUSTORCH_STAND_INS");
    return value != nullptr && std::string_view(value) == "unreadable";
  }();
  return unreadable;
}

// Address space that is never touched, so it costs no memory (were it touched, it would be zeros).
struct Mapping {
  explicit Mapping(size_t size) : bytes(size) {
    const int access = is_unreadable() ? PROT_NONE : PROT_READ | PROT_WRITE;
    address = mmap(nullptr, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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

void release_mapping(void* owned) {
  delete static_cast<std::shared_ptr<Mapping>*>(owned);
}

// How many windows are open on this thread, and the storages to be sealed when the last one closes.
thread_local int windows = 0;
thread_local std::vector<c10::intrusive_ptr<c10::StorageImpl>> opened;

bool is_stand_in(c10::StorageImpl& storage) {
  return storage._mutable_data_ptr_no_checks().get_deleter() == &release_mapping;
}

void seal(c10::StorageImpl& storage) {
  if (is_stand_in(storage) && !storage.throw_on_immutable_data_ptr()) {
    storage.release_data_and_set_meta_custom_data_ptr_error_msg_(
        "this tensor stands in for another while rust_backend captures a graph: it has an address, but no data");
  }
}

}  // namespace

void capture_seal(const at::TensorBase& tensor) {
  c10::StorageImpl& storage = *tensor.storage().unsafeGetStorageImpl();
  if (windows != 0) {
    opened.push_back(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(&storage));
  } else {
    seal(storage);
  }
}

void OpenAddresses::begin() {
  ++windows;
}

void OpenAddresses::open(const at::TensorBase& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) {
    return;
  }
  c10::StorageImpl& storage = *tensor.storage().unsafeGetStorageImpl();
  if (is_stand_in(storage) || storage.nbytes() == 0) {
    // What has no memory yet may get some.
    opened.push_back(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(&storage));
    storage.clear_data_ptr_access_error_msg_();
  }
}

void OpenAddresses::end() noexcept {
  if (--windows == 0) {
    for (const auto& storage : opened) {
      seal(*storage);
    }
    opened.clear();
  }
}

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
  try {
    ffi::capture_abandon();
  } catch (const rust::Error&) {
    // It only fails where it panics, after the capture has been taken.
  }
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
  return {address, context, &release_mapping, device};
}

uint64_t capture_random(uint64_t counters) {
  return through_door([&] { return ffi::capture_random(counters); });
}

}  // namespace rustorch
