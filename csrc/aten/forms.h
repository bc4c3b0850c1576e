// The functional, in-place and out= forms of an op that ATen has a structured meta of, from one
// function that launches. A kernel is a struct:
//
//   struct Gather {
//     using Meta = at::meta::structured_gather;
//     static void run(const at::Tensor& out, const at::Tensor& self, int64_t dim, ...);
//   };
//   m.impl("gather", TORCH_FN((Made<Gather, at::_ops::gather>::call)));
//   m.impl("gather.out", TORCH_FN((WrittenTo<Gather, at::_ops::gather_out>::call)));
//
// Dtypes that Rust lacks go to the fallback; a kernel that moves elements whatever they mean says
// `static constexpr bool any_dtype = true`.
#pragma once

#include "aten/fallback.h"
#include "aten/structured.h"
#include "bridge.h"

// OptionalRef.h asserts without including the macros.
#include <c10/util/Exception.h>

#include <c10/core/OptionalRef.h>

#include <tuple>
#include <utility>

namespace rustorch {
namespace detail {

inline bool computable(const at::Tensor& tensor) {
  return is_native(tensor.scalar_type());
}
inline bool computable(const at::Scalar& scalar) {
  return !scalar.isComplex();
}
template <class Other>
bool computable(const Other& /*argument*/) {
  return true;
}
inline bool computable(const std::optional<at::Tensor>& tensor) {
  return !tensor.has_value() || !tensor->defined() || computable(*tensor);
}
inline bool computable(const std::optional<at::Scalar>& scalar) {
  return !scalar.has_value() || computable(*scalar);
}

// An argument as a meta function takes it. Sizes are known here.
inline int64_t plain(const c10::SymInt& size) {
  return size.expect_int();
}
inline at::IntArrayRef plain(const c10::SymIntArrayRef& sizes) {
  return C10_AS_INTARRAYREF_SLOW(sizes);
}
inline at::OptionalScalarRef plain(const std::optional<at::Scalar>& scalar) {
  return scalar.has_value() ? at::OptionalScalarRef(&*scalar) : at::OptionalScalarRef();
}
inline at::OptionalTensorRef plain(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() && tensor->defined() ? at::OptionalTensorRef(*tensor) : at::OptionalTensorRef();
}
template <class Other>
const Other& plain(const Other& argument) {
  return argument;
}

// A kernel takes the tensor to write, or (an op over a TensorIterator) the iterator itself.
template <class Kernel, class Structured, class... Args>
void run(Structured& op, const Args&... args) {
  if constexpr (requires { Kernel::run(op, args...); }) {
    Kernel::run(op, args...);
  } else {
    Kernel::run(op.result(), args...);
  }
}

template <class Kernel, class... Args>
bool all_computable(const Args&... args) {
  if constexpr (requires { Kernel::any_dtype; }) {
    return true;
  } else {
    return (computable(args) && ...);
  }
}

}  // namespace detail

template <class Kernel, class Traits, class Schema = typename Traits::schema>
struct Made;
template <class Kernel, class Traits, class... Args>
struct Made<Kernel, Traits, at::Tensor(Args...)> {
  static at::Tensor call(Args... args) {
    if (!detail::all_computable<Kernel>(args...)) {
      return call_fallback<Traits>(args...);
    }
    Structured<typename Kernel::Meta> op;
    op.meta(detail::plain(args)...);
    detail::run<Kernel>(op, detail::plain(args)...);
    return op.finish();
  }
};

template <class Kernel, class Traits, class Schema = typename Traits::schema>
struct InPlace;
template <class Kernel, class Traits, class... Args>
struct InPlace<Kernel, Traits, at::Tensor&(at::Tensor&, Args...)> {
  static at::Tensor& call(at::Tensor& self, Args... args) {
    if (!detail::all_computable<Kernel>(self, args...)) {
      return call_fallback<Traits>(self, args...);
    }
    Structured<typename Kernel::Meta> op(self);
    op.meta(self, detail::plain(args)...);
    detail::run<Kernel>(op, self, detail::plain(args)...);
    op.finish();
    return self;
  }
};

template <class Kernel, class Traits, class Schema = typename Traits::schema>
struct WrittenTo;
template <class Kernel, class Traits, class... Args>
struct WrittenTo<Kernel, Traits, at::Tensor&(Args...)> {
  static at::Tensor& call(Args... args) {
    return split(std::forward_as_tuple(args...), std::make_index_sequence<sizeof...(Args) - 1>());
  }

 private:
  template <class All, size_t... Index>
  static at::Tensor& split(All all, std::index_sequence<Index...> /*inputs*/) {
    at::Tensor& out = std::get<sizeof...(Index)>(all);
    if (!detail::all_computable<Kernel>(std::get<Index>(all)..., out)) {
      return call_fallback<Traits>(std::get<Index>(all)..., out);
    }
    Structured<typename Kernel::Meta> op(out);
    op.meta(detail::plain(std::get<Index>(all))...);
    detail::run<Kernel>(op, detail::plain(std::get<Index>(all))...);
    op.finish();
    return out;
  }
};

inline bool is_native_float(const at::Tensor& tensor) {
  return is_native(tensor.scalar_type()) && at::isFloatingType(tensor.scalar_type());
}

// A form whose kernel computes in floats; other dtypes go to the fallback.
template <class Form, class Traits, class Schema = typename Traits::schema>
struct FloatsOnly;
template <class Form, class Traits, class Return, class... Args>
struct FloatsOnly<Form, Traits, Return(const at::Tensor&, Args...)> {
  static Return call(const at::Tensor& first, Args... args) {
    if (!is_native_float(first)) {
      return call_fallback<Traits>(first, args...);
    }
    return Form::call(first, args...);
  }
};

// Registers a form of a kernel (its type comes last: it may hold commas) for floats only, within a
// TORCH_LIBRARY_IMPL(.., m).
#define RUSTORCH_FLOATS(name, Form, traits, ...) \
  m.impl(name, TORCH_FN((::rustorch::FloatsOnly<Form<__VA_ARGS__, at::_ops::traits>, at::_ops::traits>::call)));

}  // namespace rustorch
