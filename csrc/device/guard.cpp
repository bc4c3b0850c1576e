#include "device/guard.h"

#include <ATen/core/Tensor.h>
#include <c10/core/AutogradState.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/autograd/engine.h>

#include <atomic>
#include <chrono>

#include "device/device.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<bool> claiming{false};
thread_local c10::StreamId current_stream = 0;

// Every autograd node of a device tensor asks for the current stream, in forward and before its
// backward begins: from then on this thread runs backward itself.
void run_backward_here() {
  auto& state = c10::AutogradState::get_tls_state();
  if (state.get_multithreading_enabled()) {
    state.set_multithreading_enabled(false);
  }
}

c10::Stream stream(c10::StreamId id) {
  return c10::Stream(c10::Stream::UNSAFE, device(), id);
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return kRustorch;
  }
  c10::Device exchangeDevice(c10::Device to) const override {
    check_index(to.index());
    return device();
  }
  c10::Device getDevice() const override {
    return device();
  }
  void setDevice(c10::Device to) const override {
    check_index(to.index());
  }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override {
    return claiming.load(std::memory_order_relaxed) ? 0 : 1;
  }
  // Of dense tensors, natively or through the fallback: no quantized types, and none of less than a byte.
  c10::DeviceCapability getDeviceCapability(c10::Device of) const override {
    check_index(of.index());
    c10::DeviceCapability capability;
    capability.capability_data.capability_bits = 0;
    auto& types = capability.capability_data.supported_scalar_types;
    types.has_Bool = types.has_Byte = types.has_Char = types.has_Short = types.has_Int = types.has_Long = 1;
    types.has_UInt16 = types.has_UInt32 = types.has_UInt64 = 1;
    types.has_Half = types.has_BFloat16 = types.has_Float = types.has_Double = 1;
    types.has_ComplexHalf = types.has_ComplexFloat = types.has_ComplexDouble = 1;
    types.has_Float8_e5m2 = types.has_Float8_e4m3fn = types.has_Float8_e5m2fnuz = types.has_Float8_e4m3fnuz = 1;
    types.has_Float8_e8m0fnu = 1;
    return capability;
  }

  c10::Stream getStream(c10::Device of) const override {
    check_index(of.index());
    run_backward_here();
    return stream(current_stream);
  }
  c10::Stream getDefaultStream(c10::Device of) const override {
    check_index(of.index());
    return stream(0);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device to, bool high_priority) const override {
    return getNewStream(to, high_priority ? -1 : 0);
  }
  c10::Stream getNewStream(c10::Device of, int) const override {
    check_index(of.index());
    static std::atomic<c10::StreamId> next{1};
    return stream(next.fetch_add(1));
  }
  c10::Stream exchangeStream(c10::Stream to) const override {
    return stream(std::exchange(current_stream, to.id()));
  }
  void* getStreamNativeHandle(const c10::Stream to) const override {
    return reinterpret_cast<void*>(to.id());
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream&) const override {}
  bool isStreamCapturing(const c10::Stream&) const override {
    return capturing();
  }
  void synchronizeDevice(c10::DeviceIndex index) const override {
    check_index(index);
  }

  // An event is the moment at which it was recorded.
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) {
      *event = new Clock::time_point();
    }
    *static_cast<Clock::time_point*>(*event) = Clock::now();
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Clock::time_point*>(event);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  void synchronizeEvent(void*) const override {}
  double elapsedTime(void* from, void* to, c10::DeviceIndex) const override {
    TORCH_CHECK(from != nullptr && to != nullptr, "Both events must be recorded before calculating elapsed time.");
    const auto span = *static_cast<Clock::time_point*>(to) - *static_cast<Clock::time_point*>(from);
    return std::chrono::duration<double, std::milli>(span).count();
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

}  // namespace

void claim_autograd_engine() {
  // The engine starts a thread for each device that it counts, once; while it counts, there is none.
  claiming = true;
  try {
    torch::autograd::Engine::get_default_engine().initialize_device_threads_pool();
  } catch (const c10::Error&) {
    // A child of a process whose engine has threads: it says so itself when backward is called.
  }
  claiming = false;
}

}  // namespace rustorch
