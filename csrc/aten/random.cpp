// Random numbers: arguments are checked here, the part of the generator's sequence that a launch
// consumes is reserved, and Rust draws.
#include <ATen/Dispatch.h>
#include <ATen/Dispatch_v2.h>
#include <ATen/ExpandUtils.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_dropout_backward_ops.h>
#include <ATen/ops/native_dropout_ops.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <limits>

#include "aten/fallback.h"
#include "aten/layout.h"
#include "aten/number.h"
#include "aten/pointwise.h"
#include "aten/structured.h"
#include "bridge.h"
#include "device/generator.h"
#include "graph/capture.h"
#include "graph/cpu_generator.h"

namespace rustorch {
namespace {

using at::Tensor;
using MaybeGenerator = std::optional<at::Generator>;

// Launches with the seed and the offset before `ints`; each of `numel` elements takes `words`.
void launch_random(Op op, c10::ArrayRef<Operand> operands, MaybeGenerator generator, int64_t numel, uint64_t words,
                   c10::ArrayRef<int64_t> ints = {}, c10::ArrayRef<double> floats = {}) {
  if (numel == 0) {
    return;
  }
  const uint64_t counters = (static_cast<uint64_t>(numel) * words + 3) / 4;
  const RandomState state = reserve_random(std::move(generator), counters);
  c10::SmallVector<int64_t, 4> all{static_cast<int64_t>(state.seed), static_cast<int64_t>(state.offset)};
  all.append(ints.begin(), ints.end());
  launch(op, operands, all, floats);
}

// Draws into a tensor of the user's, none of whose elements lies on another.
Tensor& fill_random(Op op, Tensor& self, MaybeGenerator generator, uint64_t words, c10::ArrayRef<int64_t> ints,
                    c10::ArrayRef<double> floats) {
  at::assert_no_internal_overlap(self);
  launch_random(op, {self}, std::move(generator), self.numel(), words, ints, floats);
  return self;
}

uint64_t words_of(const Tensor& self) {
  return self.scalar_type() == at::kDouble ? 2 : 1;
}

void check_float(const Tensor& self, const char* name) {
  TORCH_CHECK_NOT_IMPLEMENTED(at::isFloatingType(self.scalar_type()) && is_native(self.scalar_type()), "\"", name,
                              "\" not implemented for '", c10::toString(self.scalar_type()), "'");
}

Tensor& fill_float(Op op, const char* name, Tensor& self, MaybeGenerator generator, double first, double second) {
  check_float(self, name);
  return fill_random(op, self, std::move(generator), words_of(self), {}, {first, second});
}

Tensor& uniform(Tensor& self, double from, double to, MaybeGenerator generator) {
  if (self.is_complex()) {
    Tensor parts = at::view_as_real(self);
    uniform(parts, from, to, std::move(generator));
    return self;
  }
  check_float(self, "check_uniform_bounds");
  TORCH_CHECK(from <= to, "uniform_ expects to return a [from, to) range, but found from=", from, " > to=", to);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, self.scalar_type(), "check_uniform_bounds", [&] {
    const auto lowest = static_cast<double>(std::numeric_limits<scalar_t>::lowest());
    const auto highest = static_cast<double>(std::numeric_limits<scalar_t>::max());
    TORCH_CHECK(from >= lowest && from <= highest, "from is out of bounds for ", self.dtype());
    TORCH_CHECK(to >= lowest && to <= highest, "to is out of bounds for ", self.dtype());
    TORCH_CHECK(to - from <= highest, "uniform_ expects to-from <= std::numeric_limits<",
                c10::toString(self.scalar_type()), ">::max(), but found to=", to, " and from=", from);
  });
  return fill_float(Op::uniform_, "uniform", self, std::move(generator), from, to);
}

Tensor& normal(Tensor& self, double mean, double std, MaybeGenerator generator) {
  TORCH_CHECK(std >= 0.0, "normal expects std >= 0.0, but found std ", std);
  if (self.is_complex()) {
    // Real and imaginary parts each have half of the variance.
    Tensor parts = at::view_as_real(self);
    normal(parts, 0.0, std / std::sqrt(2.0), std::move(generator));
    if (mean != 0.0) {
      self.add_(mean);
    }
    return self;
  }
  return fill_float(Op::normal_, "normal_kernel", self, std::move(generator), mean, std);
}

Tensor& log_normal(Tensor& self, double mean, double std, MaybeGenerator generator) {
  TORCH_CHECK(std > 0.0, "log_normal_ expects std > 0.0, but found std=", std);
  return fill_float(Op::log_normal_, "log_normal", self, std::move(generator), mean, std);
}

Tensor& exponential(Tensor& self, double rate, MaybeGenerator generator) {
  TORCH_CHECK(rate > 0.0, "exponential_ expects lambda > 0.0, but found lambda=", rate);
  return fill_float(Op::exponential_, "exponential", self, std::move(generator), rate, 0.0);
}

Tensor& cauchy(Tensor& self, double median, double sigma, MaybeGenerator generator) {
  TORCH_CHECK(sigma > 0.0, "cauchy_ expects sigma > 0.0, but found sigma=", sigma);
  TORCH_CHECK(at::isFloatingType(self.scalar_type()),
              "Cauchy distribution is a continuous probability distribution. dtype must be a floating point but you "
              "specified ",
              self.dtype());
  return fill_float(Op::cauchy_, "cauchy", self, std::move(generator), median, sigma);
}

Tensor& geometric(Tensor& self, double p, MaybeGenerator generator) {
  TORCH_CHECK(0 < p && p < 1, "geometric_ expects p to be in (0, 1), but got p=", p);
  return fill_random(Op::geometric_, self, std::move(generator), 2, {}, {p});
}

// normal(mean, std) with tensors of parameters: standard values, scaled and shifted.
Tensor& shift(Tensor& out, const Tensor* mean, const Tensor* std, double mean_number, double std_number) {
  if (std != nullptr) {
    out.mul_(*std);
  } else if (std_number != 1.0) {
    out.mul_(std_number);
  }
  return mean != nullptr ? out.add_(*mean) : out.add_(mean_number);
}

void check_deviations(const Tensor& std) {
  TORCH_CHECK(!std.is_complex(), "normal expects standard deviation to be non-complex");
  TORCH_CHECK(std.numel() == 0 || std.min().ge(0).item<bool>(), "normal expects all elements of std >= 0.0");
}

Tensor& normal_tensor_number_out(const Tensor& mean, double std, MaybeGenerator generator, Tensor& out) {
  TORCH_CHECK(std >= 0.0, "normal expects std >= 0.0, but found std ", std);
  at::native::resize_output(out, mean.sizes());
  const Tensor held = out.is_same(mean) ? mean.clone() : mean;
  normal(out, 0.0, 1.0, std::move(generator));
  return shift(out, &held, nullptr, 0.0, std);
}

Tensor& normal_number_tensor_out(double mean, const Tensor& std, MaybeGenerator generator, Tensor& out) {
  check_deviations(std);
  at::native::resize_output(out, std.sizes());
  const Tensor held = out.is_same(std) ? std.clone() : std;
  normal(out, 0.0, 1.0, std::move(generator));
  return shift(out, nullptr, &held, mean, 1.0);
}

Tensor& normal_tensors_out(const Tensor& mean, const Tensor& std, MaybeGenerator generator, Tensor& out) {
  check_deviations(std);
  at::native::resize_output(out, at::infer_size(mean.sizes(), std.sizes()));
  const Tensor held_mean = out.is_same(mean) ? mean.clone() : mean;
  const Tensor held_std = out.is_same(std) ? std.clone() : std;
  normal(out, 0.0, 1.0, std::move(generator));
  return shift(out, &held_mean, &held_std, 0.0, 1.0);
}

Tensor normal_tensor_number(const Tensor& mean, double std, MaybeGenerator generator) {
  Tensor out = at::empty_like(mean, at::MemoryFormat::Contiguous);
  return normal_tensor_number_out(mean, std, std::move(generator), out);
}

Tensor normal_number_tensor(double mean, const Tensor& std, MaybeGenerator generator) {
  Tensor out = at::empty_like(std, at::MemoryFormat::Contiguous);
  return normal_number_tensor_out(mean, std, std::move(generator), out);
}

Tensor normal_tensors(const Tensor& mean, const Tensor& std, MaybeGenerator generator) {
  Tensor out = at::empty(at::infer_size(mean.sizes(), std.sizes()), mean.options());
  return normal_tensors_out(mean, std, std::move(generator), out);
}

Tensor& bernoulli_number(Tensor& self, double p, MaybeGenerator generator) {
  TORCH_CHECK(0 <= p && p <= 1, "bernoulli_ expects p to be in [0, 1], but got p=", p);
  return fill_random(Op::bernoulli_, self, std::move(generator), 1, {}, {p});
}

Tensor& bernoulli_tensor(Tensor& self, const Tensor& p, MaybeGenerator generator) {
  check_float(p, "bernoulli_tensor");
  at::assert_no_internal_overlap(self);
  const Tensor here = p.is_cpu() ? p.to(self.device()) : p;
  const auto expanded = at::expand_inplace(self, here, "bernoulli_");
  launch_random(Op::bernoulli_tensor_, {self, *expanded}, std::move(generator), self.numel(), 1);
  return self;
}

Tensor& bernoulli_out(const Tensor& self, MaybeGenerator generator, Tensor& out) {
  at::native::resize_output(out, self.sizes());
  const Tensor p = out.is_same(self) ? self.clone() : self;
  return bernoulli_tensor(out, p, std::move(generator));
}

// Unsigned types that Rust does not compute in: integers are drawn as signed ones of the same bits.
bool is_unsigned(const Tensor& self) {
  return self.scalar_type() == at::kUInt16 || self.scalar_type() == at::kUInt32 || self.scalar_type() == at::kUInt64;
}

// Integers in [from, from + range); a range of zero stands for all of 64 bits.
Tensor& launch_integers(Tensor& self, int64_t from, uint64_t range, MaybeGenerator generator) {
  const uint64_t words = range == 0 || range > (uint64_t{1} << 32) ? 2 : 1;
  if (is_unsigned(self)) {
    at::assert_no_internal_overlap(self);
    launch_random(Op::random_, {Operand::bits(self)}, std::move(generator), self.numel(), words,
                  {from, static_cast<int64_t>(range)}, {});
    return self;
  }
  return fill_random(Op::random_, self, std::move(generator), words, {from, static_cast<int64_t>(range)}, {});
}

// The numbers up to which a dtype holds every integer; -1 where it holds all of i64.
int64_t last_exact(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble: return int64_t{1} << std::numeric_limits<double>::digits;
    case at::kFloat: return int64_t{1} << std::numeric_limits<float>::digits;
    case at::kHalf: return int64_t{1} << std::numeric_limits<c10::Half>::digits;
    case at::kBFloat16: return int64_t{1} << std::numeric_limits<c10::BFloat16>::digits;
    case at::kBool: return 1;
    case at::kByte: return std::numeric_limits<uint8_t>::max();
    case at::kChar: return std::numeric_limits<int8_t>::max();
    case at::kShort: return std::numeric_limits<int16_t>::max();
    case at::kInt: return std::numeric_limits<int32_t>::max();
    case at::kUInt16: return std::numeric_limits<uint16_t>::max();
    case at::kUInt32: return std::numeric_limits<uint32_t>::max();
    default: return -1;
  }
}

void check_bounds(int64_t from, int64_t last, const Tensor& self) {
  AT_DISPATCH_V2(self.scalar_type(), "check_random_bounds", AT_WRAP([&] {
    const auto lowest = static_cast<double>(std::numeric_limits<scalar_t>::lowest());
    const auto highest = static_cast<double>(std::numeric_limits<scalar_t>::max());
    const auto inside = [&](int64_t value) {
      return static_cast<double>(value) >= lowest && static_cast<double>(value) <= highest;
    };
    TORCH_CHECK(inside(from), "from is out of bounds for ", self.dtype());
    TORCH_CHECK(inside(last), "to - 1 is out of bounds for ", self.dtype());
  }), AT_EXPAND(AT_ALL_TYPES), AT_EXPAND(AT_BAREBONES_UNSIGNED_TYPES), at::kBool, at::kHalf, at::kBFloat16);
  const int64_t exact = last_exact(self.scalar_type());
  if (at::isFloatingType(self.scalar_type()) && (from < -exact || last > exact)) {
    TORCH_WARN("from or to - 1 is out of bounds [-", exact, ", ", exact, "]. Due to precision limitations ",
               self.dtype(), " can support discrete uniform distribution only within this range.");
  }
}

Tensor& random_from_to(Tensor& self, int64_t from, std::optional<int64_t> to, MaybeGenerator generator) {
  TORCH_CHECK_NOT_IMPLEMENTED(is_native(self.scalar_type()) || is_unsigned(self), "\"random_from_to\" not implemented for '",
                              c10::toString(self.scalar_type()), "'");
  if (to.has_value()) {
    TORCH_CHECK(from < *to, "random_ expects 'from' to be less than 'to', but got from=", from, " >= to=", *to);
    check_bounds(from, *to - 1, self);
    return launch_integers(self, from, static_cast<uint64_t>(*to) - static_cast<uint64_t>(from),
                           std::move(generator));
  }
  // Without an end: up to the largest integer that the dtype holds.
  const int64_t exact = last_exact(self.scalar_type());
  const int64_t last = exact < 0 ? std::numeric_limits<int64_t>::max() : exact;
  check_bounds(from, from, self);
  return launch_integers(self, from, static_cast<uint64_t>(last) - static_cast<uint64_t>(from) + 1,
                         std::move(generator));
}

Tensor& random_to(Tensor& self, int64_t to, MaybeGenerator generator) {
  return random_from_to(self, 0, to, std::move(generator));
}

Tensor& random(Tensor& self, MaybeGenerator generator) {
  return random_from_to(self, 0, std::nullopt, std::move(generator));
}

// Refuses, as the CPU does, a dtype that has not every number below `n`.
void check_count(int64_t n, const Tensor& out) {
  const auto check = [&](int64_t most, const char* name) {
    TORCH_CHECK(n <= most, "n cannot be greater than ", most, " for ", name, " type.");
  };
  // Refuses a last number that the dtype cannot hold.
  const Number last(c10::Scalar(n > 0 ? n - 1 : n), out.scalar_type());
  switch (out.scalar_type()) {
    case at::kHalf: return check((int64_t{1} << 11) + 1, "Half");
    case at::kBFloat16: return check((int64_t{1} << 8) + 1, "BFloat16");
    case at::kFloat: return check((int64_t{1} << 24) + 1, "Float");
    case at::kDouble: return check((int64_t{1} << 53) + 1, "Double");
    case at::kBool: TORCH_CHECK_NOT_IMPLEMENTED(false, "\"randperm\" not implemented for 'Bool'");
    default: return;
  }
}

Tensor& randperm_generator_out(int64_t n, MaybeGenerator generator, Tensor& out) {
  TORCH_CHECK(n >= 0, "n must be non-negative, got", n);
  check_count(n, out);
  at::native::resize_output(out, {n});
  launch_random(Op::randperm_, {out}, std::move(generator), n, 2);
  return out;
}

Tensor& randperm_out(int64_t n, Tensor& out) {
  return randperm_generator_out(n, std::nullopt, out);
}

Tensor& multinomial_out(const Tensor& self, int64_t samples, bool replacement, MaybeGenerator generator, Tensor& out) {
  TORCH_CHECK(self.dim() > 0 && self.dim() <= 2, "prob_dist must be 1 or 2 dim");
  TORCH_CHECK(at::isFloatingType(self.scalar_type()), "multinomial only supports floating-point dtypes for input, got: ",
              self.scalar_type());
  TORCH_CHECK(out.scalar_type() == at::kLong, "multinomial expects Long tensor out, got: ", out.scalar_type());
  TORCH_CHECK(samples > 0, "cannot sample n_sample <= 0 samples");
  const int64_t categories = self.size(-1);
  TORCH_CHECK(replacement || samples <= categories,
              "cannot sample n_sample > prob_dist.size(-1) samples without replacement");
  TORCH_CHECK(categories <= (int64_t{1} << 24), "number of categories cannot exceed 2^24");
  const Tensor weights = self.dim() == 1 ? self.unsqueeze(0) : self;
  const int64_t rows = weights.size(0);
  if (self.dim() == 1) {
    at::native::resize_output(out, {samples});
  } else {
    at::native::resize_output(out, {rows, samples});
  }
  const Tensor by_rows = self.dim() == 1 ? out.unsqueeze(0) : out;
  launch_random(Op::multinomial_, {by_rows, weights}, std::move(generator), rows * (replacement ? samples : categories), 2,
                {static_cast<int64_t>(replacement)});
  return out;
}

Tensor multinomial(const Tensor& self, int64_t samples, bool replacement, MaybeGenerator generator) {
  Tensor out = empty_dense({0}, at::kLong);
  return multinomial_out(self, samples, replacement, std::move(generator), out);
}

// Each element has a counter, from which a sequence of its own starts.
Tensor poisson(const Tensor& rate, MaybeGenerator generator) {
  check_float(rate, "poisson");
  Tensor out = at::empty_like(rate);
  launch_random(Op::poisson_, {out, rate}, std::move(generator), rate.numel(), 4);
  return out;
}

Tensor binomial(const Tensor& count, const Tensor& p, MaybeGenerator generator) {
  check_float(count, "binomial_cpu");
  TORCH_CHECK(count.scalar_type() == p.scalar_type(), "Found dtype ", p.scalar_type(), " but expected ",
              count.scalar_type());
  const auto [counts, probabilities] = at::expand_outplace(count, p);
  Tensor out = empty_dense(counts->sizes(), count.scalar_type());
  launch_random(Op::binomial_, {out, *counts, *probabilities}, std::move(generator), out.numel(), 4);
  return out;
}

Tensor standard_gamma(const Tensor& shape, MaybeGenerator generator) {
  check_float(shape, "gamma");
  Tensor out = at::empty_like(shape);
  launch_random(Op::standard_gamma_, {out, shape}, std::move(generator), out.numel(), 4);
  return out;
}

Tensor sample_dirichlet(const Tensor& alpha, MaybeGenerator generator) {
  check_float(alpha, "dirichlet");
  const Tensor gammas = standard_gamma(alpha, std::move(generator));
  return at::div(gammas, gammas.sum(-1, /*keepdim=*/true));
}

// How draws move with the parameters of their distribution.
Tensor standard_gamma_grad(const Tensor& self, const Tensor& output) {
  check_float(self, "_standard_gamma_grad");
  Tensor grad = at::empty(self.sizes(), self.options());
  auto iterator = [&] {
    const OpenAddresses open(grad, self, output);
    return at::TensorIterator::borrowing_binary_op(grad, self, output);
  }();
  launch_iterator(Op::standard_gamma_grad_, iterator);
  return grad;
}

Tensor dirichlet_grad(const Tensor& x, const Tensor& alpha, const Tensor& total) {
  check_float(x, "_dirichlet_grad");
  Tensor grad = at::empty(x.sizes(), x.options());
  auto iterator = [&] {
    const OpenAddresses open(grad, x, alpha, total);
    at::TensorIteratorConfig config;
    return config.add_output(grad).add_const_input(x).add_const_input(alpha).add_const_input(total).build();
  }();
  launch_iterator(Op::dirichlet_grad_, iterator);
  return grad;
}

std::tuple<Tensor, Tensor> native_dropout(const Tensor& input, double p, std::optional<bool> train) {
  if (!is_native(input.scalar_type()) || !at::isFloatingType(input.scalar_type())) {
    return call_fallback<at::_ops::native_dropout>(input, p, train);
  }
  const bool drops = train.value_or(true);
  if (drops && p == 1.0) {
    // Nothing is left to chance: `dropout` draws nothing.
    return {input.mul(0), at::zeros_like(input, input.options().dtype(at::kBool))};
  }
  Tensor out = at::empty_like(input);
  Tensor mask = at::empty_like(input, input.options().dtype(at::kBool));
  // Outside of training everything is kept.
  const double dropped = drops ? p : 0.0;
  if (drops && capturing_for_cpu() && draws_like_the_cpu()) {
    launch(Op::mersenne_dropout_, {out, mask, capture_cpu_generator(), input}, {}, {dropped});
    return {out, mask};
  }
  launch_random(Op::dropout_, {out, mask, input}, std::nullopt, input.numel(), 1, {}, {dropped});
  return {out, mask};
}

Tensor native_dropout_backward(const Tensor& grad, const Tensor& mask, double scale) {
  TORCH_CHECK(mask.scalar_type() == at::kBool, "Mask should be Bool Scalar Type ", mask.scalar_type());
  if (!is_native(grad.scalar_type()) || !at::isFloatingType(grad.scalar_type())) {
    return call_fallback<at::_ops::native_dropout_backward>(grad, mask, scale);
  }
  const Tensor grad_in = empty_of({grad, mask}, grad.scalar_type());
  launch(Op::dropout_backward_, {grad_in, grad.expand(grad_in.sizes()), mask.expand(grad_in.sizes())}, {}, {scale});
  return grad_in;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("uniform_", TORCH_FN(uniform));
  m.impl("normal_", TORCH_FN(normal));
  m.impl("log_normal_", TORCH_FN(log_normal));
  m.impl("exponential_", TORCH_FN(exponential));
  m.impl("cauchy_", TORCH_FN(cauchy));
  m.impl("geometric_", TORCH_FN(geometric));
  m.impl("normal.Tensor_float", TORCH_FN(normal_tensor_number));
  m.impl("normal.Tensor_float_out", TORCH_FN(normal_tensor_number_out));
  m.impl("normal.float_Tensor", TORCH_FN(normal_number_tensor));
  m.impl("normal.float_Tensor_out", TORCH_FN(normal_number_tensor_out));
  m.impl("normal.Tensor_Tensor", TORCH_FN(normal_tensors));
  m.impl("normal.Tensor_Tensor_out", TORCH_FN(normal_tensors_out));
  m.impl("bernoulli_.float", TORCH_FN(bernoulli_number));
  m.impl("bernoulli_.Tensor", TORCH_FN(bernoulli_tensor));
  m.impl("bernoulli.out", TORCH_FN(bernoulli_out));
  m.impl("random_.from", TORCH_FN(random_from_to));
  m.impl("random_.to", TORCH_FN(random_to));
  m.impl("random_", TORCH_FN(random));
  m.impl("randperm.out", TORCH_FN(randperm_out));
  m.impl("randperm.generator_out", TORCH_FN(randperm_generator_out));
  m.impl("multinomial", TORCH_FN(multinomial));
  m.impl("multinomial.out", TORCH_FN(multinomial_out));
  m.impl("poisson", TORCH_FN(poisson));
  m.impl("binomial", TORCH_FN(binomial));
  m.impl("_standard_gamma", TORCH_FN(standard_gamma));
  m.impl("_sample_dirichlet", TORCH_FN(sample_dirichlet));
  m.impl("_standard_gamma_grad", TORCH_FN(standard_gamma_grad));
  m.impl("_dirichlet_grad", TORCH_FN(dirichlet_grad));
  m.impl("native_dropout", TORCH_FN(native_dropout));
  m.impl("native_dropout_backward", TORCH_FN(native_dropout_backward));
}

}  // namespace rustorch
