// Everything that Rust does not do yet runs on PyTorch's CPU kernel over the same memory.
#pragma once

#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <map>
#include <string>

namespace rustorch {

// The boxed fallback: counted, warned about once an op, an error under RUSTORCH_FALLBACK=error.
void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack);

// Calls of each op since the last reset, by the op's full name.
std::map<std::string, int64_t> fallback_counts();
void reset_fallback_counts();
// "warn", "error" or "silent": at first what RUSTORCH_FALLBACK says.
std::string fallback_policy();
void set_fallback_policy(const std::string& policy);

// A structured op meets a composite kernel before the boxed fallback, which makes an output and
// calls the `.out` overload: slower, and with a false warning about a resized output. This sends
// those for which neither Rust nor the `.out` overload in Rust exists straight to the fallback.
void bind_structured_fallbacks();

namespace detail {

template <class Schema>
struct FallbackCall;

template <class Return, class... Args>
struct FallbackCall<Return(Args...)> {
  static Return call(const c10::OperatorHandle& op, Args... args) {
    static const auto kernel = c10::BoxedKernel::makeFromFunction<&fallback>();
    const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
    return c10::impl::BoxedKernelWrapper<Return(Args...)>::call(kernel, op, keys, std::forward<Args>(args)...);
  }
};

}  // namespace detail

// Calls the fallback of the op of `Traits` (a struct of at::_ops) from a native kernel that lacks
// a dtype: `return call_fallback<at::_ops::exp>(self);`.
template <class Traits, class... Args>
auto call_fallback(Args&&... args) -> decltype(Traits::call(std::forward<Args>(args)...)) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(Traits::name, Traits::overload_name);
  return detail::FallbackCall<typename Traits::schema>::call(op, std::forward<Args>(args)...);
}

}  // namespace rustorch
