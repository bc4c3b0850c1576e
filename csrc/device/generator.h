// Random numbers: a counter-based generator, of which kernels reserve a range of counters.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/GeneratorImpl.h>

#include <cstdint>
#include <optional>

namespace rustorch {

// A Philox stream from `offset` on.
struct RandomState {
  uint64_t seed;
  uint64_t offset;
};

// Reserves `counters` counters of the given generator, or of the device's own.
RandomState reserve_random(std::optional<at::Generator> generator, uint64_t counters);

class Generator final : public c10::GeneratorImpl {
 public:
  Generator();
  void set_current_seed(uint64_t seed) override;
  uint64_t current_seed() const override;
  uint64_t seed() override;
  void set_offset(uint64_t offset) override;
  uint64_t get_offset() const override;
  void set_state(const c10::TensorImpl& state) override;
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;
  void graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& state) override;
  c10::intrusive_ptr<c10::GeneratorImpl> graphsafe_get_state() const override;
  void philox_state(uint64_t increment, at::Tensor& seed, at::Tensor& offset, at::Tensor& intragraph_offset) override;
  static c10::DeviceType device_type();

  RandomState reserve(uint64_t counters);

 private:
  Generator* clone_impl() const override;

  RandomState state_{c10::default_rng_seed_val, 0};
};

const at::Generator& default_generator();

}  // namespace rustorch
