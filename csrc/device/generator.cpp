#include "device/generator.h"

#include <ATen/Functions.h>
#include <ATen/Utils.h>

#include <cstring>

#include "device/device.h"
#include "graph/capture.h"

namespace rustorch {

Generator::Generator() : c10::GeneratorImpl(rustorch::device(), kKeys) {}

void Generator::set_current_seed(uint64_t seed) {
  state_ = {seed, 0};
}

uint64_t Generator::current_seed() const {
  return state_.seed;
}

uint64_t Generator::seed() {
  set_current_seed(c10::detail::getNonDeterministicRandom());
  return state_.seed;
}

void Generator::set_offset(uint64_t offset) {
  state_.offset = offset;
}

uint64_t Generator::get_offset() const {
  return state_.offset;
}

void Generator::set_state(const c10::TensorImpl& state) {
  at::detail::check_rng_state(state);
  TORCH_CHECK(state.numel() == sizeof(state_), "RNG state is wrong size: expected ", sizeof(state_), " bytes, got ",
              state.numel());
  std::memcpy(&state_, state.data(), sizeof(state_));
}

c10::intrusive_ptr<c10::TensorImpl> Generator::get_state() const {
  auto state = at::empty({static_cast<int64_t>(sizeof(state_))}, at::TensorOptions(at::kCPU).dtype(at::kByte));
  std::memcpy(state.mutable_data_ptr(), &state_, sizeof(state_));
  return state.getIntrusivePtr();
}

void Generator::graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& state) {
  const auto* other = dynamic_cast<Generator*>(state.get());
  TORCH_CHECK(other != nullptr, "expected the state of a rustorch generator");
  state_ = other->state_;
}

c10::intrusive_ptr<c10::GeneratorImpl> Generator::graphsafe_get_state() const {
  return clone();
}

void Generator::philox_state(uint64_t increment, at::Tensor& seed, at::Tensor& offset,
                             at::Tensor& intragraph_offset) {
  const auto reserved = reserve(increment);
  seed.fill_(static_cast<int64_t>(reserved.seed));
  offset.fill_(static_cast<int64_t>(reserved.offset));
  intragraph_offset.fill_(0);
}

c10::DeviceType Generator::device_type() {
  return kRustorch;
}

RandomState Generator::reserve(uint64_t counters) {
  const std::lock_guard lock(mutex_);
  const auto reserved = state_;
  state_.offset += counters;
  return reserved;
}

Generator* Generator::clone_impl() const {
  auto* copy = new Generator();
  copy->state_ = state_;
  return copy;
}

const at::Generator& default_generator() {
  static const auto generator = at::make_generator<Generator>();
  return generator;
}

RandomState reserve_random(std::optional<at::Generator> generator, uint64_t counters) {
  const at::Generator& chosen =
      generator.has_value() && generator->defined() ? *generator : default_generator();
  TORCH_CHECK(chosen.device().type() == kRustorch, "Expected a 'rustorch' device type for generator but found '",
              chosen.device().type(), "': give generator=torch.Generator('rustorch')");
  auto* impl = chosen.get<Generator>();
  if (capturing()) {
    if (capturing_for_cpu()) {
      throw NotCapturable("it draws from the CPU's generator");
    }
    return {impl->current_seed(), capture_random(counters)};
  }
  return impl->reserve(counters);
}

}  // namespace rustorch
