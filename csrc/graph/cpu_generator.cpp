#include "graph/cpu_generator.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace rustorch {

LentGenerator::LentGenerator()
    : generator_(at::check_generator<at::CPUGeneratorImpl>(at::detail::getDefaultCPUGenerator())),
      lock_(generator_->mutex_) {
  const at::mt19937_data_pod data = generator_->engine().data();
  std::copy(data.state_.begin(), data.state_.end(), state_.begin());
  state_.back() = at::MERSENNE_STATE_N + 1 - data.left_;
}

void LentGenerator::give_back() {
  at::mt19937 engine = generator_->engine();
  at::mt19937_data_pod data = engine.data();
  std::copy_n(state_.begin(), at::MERSENNE_STATE_N, data.state_.begin());
  data.next_ = state_.back();
  data.left_ = at::MERSENNE_STATE_N + 1 - static_cast<int>(state_.back());
  engine.set_data(data);
  generator_->set_engine(engine);
}

bool draws_like_the_cpu() {
  static const bool like = [] {
    constexpr int64_t kCount = 256;
    constexpr double kProbability = 0.3;
    const at::Generator generator = at::detail::createCPUGenerator(1);
    auto* reference = generator.get<at::CPUGeneratorImpl>();
    const at::Tensor drawn = at::empty({kCount}, at::TensorOptions(at::kCPU).dtype(at::kBool));
    drawn.bernoulli_(kProbability, at::detail::createCPUGenerator(1));
    const bool* const kept = drawn.const_data_ptr<bool>();
    constexpr uint64_t kMask = (uint64_t{1} << 53) - 1;
    return std::all_of(kept, kept + kCount, [&](bool value) {
      return value == (static_cast<double>(reference->random64() & kMask) * 0x1p-53 < kProbability);
    });
  }();
  return like;
}

}  // namespace rustorch
