// What PyTorch asks of an accelerator outside of ops.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>

#include "device/allocator.h"
#include "device/device.h"
#include "device/generator.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  void init() const override {}
  c10::DeviceIndex deviceCount() const override {
    return 1;
  }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    check_index(index);
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return 0;
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    check_index(index);
    return 0;
  }
  // A negative index means: leave the device as it is.
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    check_index(index < 0 ? 0 : index);
    return 0;
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    check_index(index);
    return default_generator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    check_index(index);
    return at::make_generator<Generator>();
  }
  at::Device getDeviceFromPtr(void*) const override {
    return device();
  }
  bool isPinnedPtr(const void* address) const override {
    return is_pinned(address);
  }
  at::Allocator* getPinnedMemoryAllocator() const override {
    return pinned_allocator();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    require_no_capture("resizing a storage cannot be compiled");
    c10::StorageImpl* const impl = storage.unsafeGetStorageImpl();
    if (bytes != 0) {
      return at::native::resize_bytes_cpu(impl, bytes);
    }
    // ATen's function would label the storage "cpu".
    TORCH_CHECK(impl->resizable(), "Trying to resize storage that is not resizable");
    impl->set_data_ptr_noswap(allocator()->allocate(0));
    impl->set_nbytes(0);
  }
};

[[maybe_unused]] const bool registered = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  return true;
}();

}  // namespace
}  // namespace rustorch
