#include "device/allocator.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>

#include <memory>
#include <mutex>
#include <unordered_set>

#include "bridge.h"
#include "device/device.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

using c10::CachingAllocator::Stat;
using c10::CachingAllocator::StatArray;
using c10::CachingAllocator::StatType;

void report(void* address, int64_t bytes) {
  const auto statistics = ffi::pool_statistics();
  c10::reportMemoryUsageToProfiler(address, bytes, statistics.bytes.current, statistics.reserved_bytes.current,
                                   device());
}

void* allocate_slowly(size_t bytes) {
  try {
    return reinterpret_cast<void*>(ffi::pool_allocate(bytes));
  } catch (const rust::Error& error) {
    const auto statistics = ffi::pool_statistics();
    c10::reportOutOfMemoryToProfiler(static_cast<int64_t>(bytes), statistics.bytes.current,
                                     statistics.reserved_bytes.current, device());
    // The error's first letter is its kind.
    TORCH_CHECK_WITH(OutOfMemoryError, false, error.what() + 1, "; of ", ffi::pool_total_bytes(), " bytes, ",
                     statistics.bytes.current, " are in use and ", statistics.reserved_bytes.current, " reserved");
  }
}

void* take(size_t bytes) {
  void* address = reinterpret_cast<void*>(ffi::pool_allocate_cached(bytes));
  if (C10_UNLIKELY(address == nullptr)) {
    address = allocate_slowly(bytes);
  }
  if (C10_UNLIKELY(c10::memoryProfilingEnabled())) {
    report(address, static_cast<int64_t>(bytes));
  }
  return address;
}

void give(void* address) {
  if (address == nullptr) {
    return;
  }
  const size_t bytes = ffi::pool_free(reinterpret_cast<size_t>(address));
  if (c10::memoryProfilingEnabled()) {
    report(address, -static_cast<int64_t>(bytes));
  }
}

Stat stat(const ffi::PoolCount& count) {
  Stat stat;
  stat.current = static_cast<int64_t>(count.current);
  stat.peak = static_cast<int64_t>(count.peak);
  stat.allocated = static_cast<int64_t>(count.allocated);
  stat.freed = static_cast<int64_t>(count.freed);
  return stat;
}

// The whole, and its split into small and large (whose peaks need not fall together).
StatArray stats(const ffi::PoolCount& whole, const ffi::PoolCount& large) {
  StatArray array;
  Stat& all = array[static_cast<size_t>(StatType::AGGREGATE)];
  Stat& big = array[static_cast<size_t>(StatType::LARGE_POOL)];
  Stat& small = array[static_cast<size_t>(StatType::SMALL_POOL)];
  all = stat(whole);
  big = stat(large);
  small.current = all.current - big.current;
  small.peak = std::max(all.peak - big.peak, small.current);
  small.allocated = all.allocated - big.allocated;
  small.freed = all.freed - big.freed;
  return array;
}

StatArray stats(const ffi::PoolCount& whole) {
  StatArray array;
  array[static_cast<size_t>(StatType::AGGREGATE)] = stat(whole);
  return array;
}

struct PoolAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, nullptr, &give, device()};
    }
    if (capturing()) {
      return capture_allocate(bytes);
    }
    void* address = take(bytes);
    return {address, address, &give, device()};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &give;
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  bool initialized() override {
    return true;
  }
  void emptyCache(c10::MempoolId_t) override {
    ffi::pool_empty_cache();
  }
  // Work is done when a call returns, so no stream ever holds memory.
  void recordStream(const c10::DataPtr&, c10::Stream) override {}

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    check_index(index);
    const auto pool = ffi::pool_statistics();
    c10::CachingDeviceAllocator::DeviceStats result;
    result.allocation = stats(pool.blocks, pool.large_blocks);
    result.active = result.allocation;
    result.allocated_bytes = stats(pool.bytes, pool.large_bytes);
    result.active_bytes = result.allocated_bytes;
    result.requested_bytes = result.allocated_bytes;
    result.reserved_bytes = stats(pool.reserved_bytes);
    result.segment = stats(pool.segments);
    result.num_alloc_retries = static_cast<int64_t>(pool.retries);
    result.num_ooms = static_cast<int64_t>(pool.out_of_memory);
    result.num_device_alloc = static_cast<int64_t>(pool.segments.allocated);
    result.num_device_free = static_cast<int64_t>(pool.segments.freed);
    return result;
  }
  void resetAccumulatedStats(c10::DeviceIndex index) override {
    check_index(index);
    ffi::pool_reset_accumulated();
  }
  void resetPeakStats(c10::DeviceIndex index) override {
    check_index(index);
    ffi::pool_reset_peak();
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex index) override {
    check_index(index);
    return {ffi::pool_free_bytes(), ffi::pool_total_bytes()};
  }
};

struct MirrorAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* address = bytes == 0 ? nullptr : take(bytes);
    return {address, address, &give, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &give;
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

struct PinnedAllocator final : at::HostAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* address = bytes == 0 ? nullptr : take(bytes);
    if (address != nullptr) {
      const std::lock_guard lock(mutex);
      pinned.insert(address);
    }
    return {address, address, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &release;
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  bool record_event(void*, void*, c10::Stream) override {
    return true;
  }
  void empty_cache() override {
    ffi::pool_empty_cache();
  }
  at::HostStats get_stats() override {
    return {};
  }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}

  bool holds(const void* address) {
    const std::lock_guard lock(mutex);
    return pinned.count(address) != 0;
  }

 private:
  static void release(void* address);

  std::mutex mutex;
  std::unordered_set<const void*> pinned;
};

// Allocators outlive every tensor, so they are never destroyed.
PinnedAllocator& pinned_instance() {
  static auto* instance = new PinnedAllocator();
  return *instance;
}

void PinnedAllocator::release(void* address) {
  if (address != nullptr) {
    PinnedAllocator& self = pinned_instance();
    {
      const std::lock_guard lock(self.mutex);
      self.pinned.erase(address);
    }
    give(address);
  }
}

struct Adopted {
  c10::DataPtr data;
  size_t bytes;

  static void release(void* context) {
    const std::unique_ptr<Adopted> adopted(static_cast<Adopted*>(context));
    ffi::pool_disown(adopted->bytes);
  }
};

[[maybe_unused]] const bool registered = [] {
  c10::SetAllocator(kRustorch, allocator());
  at::setHostAllocator(kRustorch, pinned_allocator());
  return true;
}();

}  // namespace

c10::DeviceAllocator* allocator() {
  static auto* instance = new PoolAllocator();
  return instance;
}

c10::Allocator* mirror_allocator() {
  static auto* instance = new MirrorAllocator();
  return instance;
}

at::HostAllocator* pinned_allocator() {
  return &pinned_instance();
}

bool is_pinned(const void* address) {
  return pinned_instance().holds(address);
}

c10::DataPtr pool_block(size_t address, size_t bytes, c10::Device labelled) {
  void* const block = reinterpret_cast<void*>(address);
  if (C10_UNLIKELY(block != nullptr && c10::memoryProfilingEnabled())) {
    report(block, static_cast<int64_t>(bytes));
  }
  return {block, block, &give, labelled};
}

c10::DataPtr adopt(c10::DataPtr data, size_t bytes) {
  if (data.get_deleter() == allocator()->raw_deleter()) {
    data.unsafe_set_device(device());
    return data;
  }
  void* address = data.get();
  if (address == nullptr) {
    return {nullptr, nullptr, allocator()->raw_deleter(), device()};
  }
  ffi::pool_adopt(bytes);
  auto* adopted = new Adopted{std::move(data), bytes};
  return {address, adopted, &Adopted::release, device()};
}

}  // namespace rustorch
