// The state of PyTorch's CPU generator, lent to a program: a model on the CPU draws from it what CPU
// eager would.
#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <array>
#include <mutex>

namespace rustorch {

// Words of the state as kernels see it: those of mt19937, and how many of them have been drawn.
inline constexpr int64_t kMersenneState = at::MERSENNE_STATE_N + 1;

// Holds the default CPU generator for the length of a program's run.
class LentGenerator {
 public:
  LentGenerator();

  void* state() { return state_.data(); }
  // Hands what the program has drawn back to the generator.
  void give_back();

 private:
  at::CPUGeneratorImpl* generator_;
  std::lock_guard<std::mutex> lock_;
  std::array<uint32_t, kMersenneState> state_;
};

// Whether this PyTorch's CPU kernels draw masks as ours do, one pair of words an element (a build may
// leave them to another library's generator).
bool draws_like_the_cpu();

}  // namespace rustorch
