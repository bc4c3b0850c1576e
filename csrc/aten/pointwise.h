// Pointwise ops: a TensorIterator (or a structured meta on top of one) decides shapes and dtypes;
// Rust loops. Small dense calls skip the iterator.
#pragma once

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>

#include "aten/fallback.h"
#include "aten/structured.h"
#include "bridge.h"

namespace at::meta {
struct structured_softshrink;
}

namespace rustorch {

// Metas that check the values of numbers; the dense path, which calls no meta, is not for them.
template <class Meta>
constexpr bool kChecksNumbers = false;
template <>
inline constexpr bool kChecksNumbers<at::meta::structured_softshrink> = true;

// The scalar arguments of a call, as floats and as integers.
struct ScalarArguments {
  c10::SmallVector<double, 4> floats;
  c10::SmallVector<int64_t, 4> ints;

  void add(const at::Scalar& scalar);
};

// Launches `op` over the iterator's operands, output first. `inputs` are the call's own tensors, in
// the row's order: some metas give the iterator another order (threshold_backward), or add a number
// as one more operand, which the row takes as a scalar. Without them the iterator's order is right.
void launch_iterator(Op op, at::TensorIteratorBase& iterator, const ScalarArguments& scalars = {},
                     c10::ArrayRef<const at::Tensor*> inputs = {});

namespace detail {

// What the arguments of a call have in common; decides between the dense path, the iterator and
// the fallback.
struct Arguments {
  ScalarArguments scalars;
  c10::SmallVector<const at::Tensor*, 4> tensors;
  bool native = true;
  // All on rustorch, of one floating dtype and shape, and contiguous; numbers may stand among them.
  bool dense = true;

  void see(const at::Tensor& tensor);
  void see(const at::Scalar& scalar);
  void see(bool flag) { scalars.add(flag); }
  void see(int64_t number) { scalars.add(number); }
  template <class Other>
  void see(const Other& /*rounding mode and the like*/) {}
};

template <class... Args>
Arguments look_at(const Args&... args) {
  Arguments arguments;
  (arguments.see(args), ...);
  return arguments;
}

}  // namespace detail

// Launches `op` over dense arguments; `output` is dense and of their shape.
void launch_dense(Op op, const at::Tensor& output, const detail::Arguments& arguments);

// The metas of ops that ATen has no structured meta of.
struct PlainUnary : at::TensorIteratorBase {
  void meta(const at::Tensor& self) { build_borrowing_unary_op(maybe_get_output(0), self); }
  template <class... Scalars>
  void meta(const at::Tensor& self, const Scalars&...) {
    build_borrowing_unary_op(maybe_get_output(0), self);
  }
};
struct PlainUnaryTest : at::TensorIteratorBase {
  template <class... Scalars>
  void meta(const at::Tensor& self, const Scalars&...) {
    build_borrowing_unary_force_boolean_op(maybe_get_output(0), self);
  }
};
struct PlainBinary : at::TensorIteratorBase {
  template <class... Scalars>
  void meta(const at::Tensor& a, const at::Tensor& b, const Scalars&...) {
    build_borrowing_binary_op(maybe_get_output(0), a, b);
  }
};
struct PlainBinaryTest : at::TensorIteratorBase {
  template <class... Scalars>
  void meta(const at::Tensor& a, const at::Tensor& b, const Scalars&...) {
    build_borrowing_comparison_op(maybe_get_output(0), a, b);
  }
};
struct PlainTernary : at::TensorIteratorBase {
  template <class... Scalars>
  void meta(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, const Scalars&...) {
    build_ternary_op(maybe_get_output(0), a, b, c);
  }
};

// `exp(self)`, `add(self, other, alpha)`: makes its output.
template <Op op, class Meta, class Traits, bool is_test, class Schema = typename Traits::schema>
struct Functional;
template <Op op, class Meta, class Traits, bool is_test, class... Args>
struct Functional<op, Meta, Traits, is_test, at::Tensor(Args...)> {
  static at::Tensor call(Args... args) {
    auto arguments = detail::look_at(args...);
    if (arguments.dense && !kChecksNumbers<Meta>) {
      const at::Tensor& first = *arguments.tensors[0];
      at::Tensor output = empty_dense(first.sizes(), is_test ? at::kBool : first.scalar_type());
      launch_dense(op, output, arguments);
      return output;
    }
    if (!arguments.native) {
      return call_fallback<Traits>(args...);
    }
    Structured<Meta> iterator;
    iterator.meta(args...);
    launch_iterator(op, iterator, arguments.scalars, arguments.tensors);
    return iterator.finish();
  }
};

// `add_(self, other, alpha)`: writes its first argument.
template <Op op, class Meta, class Traits, bool is_test, class Schema = typename Traits::schema>
struct Inplace;
template <Op op, class Meta, class Traits, bool is_test, class... Args>
struct Inplace<op, Meta, Traits, is_test, at::Tensor&(at::Tensor&, Args...)> {
  static at::Tensor& call(at::Tensor& self, Args... args) {
    auto arguments = detail::look_at(self, args...);
    if (arguments.dense && !is_test && !kChecksNumbers<Meta>) {
      launch_dense(op, self, arguments);
      return self;
    }
    if (!arguments.native) {
      return call_fallback<Traits>(self, args...);
    }
    Structured<Meta> iterator(self);
    iterator.meta(self, args...);
    launch_iterator(op, iterator, arguments.scalars, arguments.tensors);
    iterator.finish();
    return self;
  }
};

// `add(self, other, alpha, out=)`: writes its last argument.
template <Op op, class Meta, class Traits, bool is_test, class Schema = typename Traits::schema>
struct Out;
template <Op op, class Meta, class Traits, bool is_test, class... Args>
struct Out<op, Meta, Traits, is_test, at::Tensor&(Args...)> {
  static at::Tensor& call(Args... args) {
    auto all = std::forward_as_tuple(args...);
    return split(all, std::make_index_sequence<sizeof...(Args) - 1>());
  }

 private:
  template <class All, size_t... Index>
  static at::Tensor& split(All& all, std::index_sequence<Index...>) {
    at::Tensor& output = std::get<sizeof...(Index)>(all);
    auto arguments = detail::look_at(std::get<Index>(all)...);
    if (!arguments.native || !is_native(output.scalar_type())) {
      return call_fallback<Traits>(std::get<Index>(all)..., output);
    }
    Structured<Meta> iterator(output);
    iterator.meta(std::get<Index>(all)...);
    launch_iterator(op, iterator, arguments.scalars, arguments.tensors);
    iterator.finish();
    return output;
  }
};

}  // namespace rustorch
