// Pointwise ops: a TensorIterator (or a structured meta on top of one) decides shapes and dtypes;
// Rust loops. Small dense calls skip the iterator.
#pragma once

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>

#include "aten/fallback.h"
#include "aten/number.h"
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

// Launches `op` over the iterator's operands, output first. `inputs` are the call's own tensors, in
// the row's order: some metas give the iterator another order (threshold_backward), or add a number
// as one more operand, which the row takes as a scalar. Without them the iterator's order is right. `compute` is the
// dtype to compute in, where it is not the iterator's common one.
void launch_iterator(Op op, at::TensorIteratorBase& iterator, const ScalarArguments& scalars = {},
                     c10::ArrayRef<const at::Tensor*> inputs = {},
                     at::ScalarType compute = at::ScalarType::Undefined);

namespace detail {

// What the arguments of a call have in common; decides between the iterator and the fallback.
struct Arguments {
  ScalarArguments scalars;
  c10::SmallVector<const at::Tensor*, 4> tensors;
  bool native = true;

  void see(const at::Tensor& tensor) {
    native = native && is_native(tensor.scalar_type());
    tensors.push_back(&tensor);
  }
  void see(const at::Scalar& scalar) {
    native = native && !scalar.isComplex();
    scalars.add(scalar);
  }
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

template <class Arg>
constexpr bool kIsTensor = std::is_same_v<std::remove_cvref_t<Arg>, at::Tensor>;
template <class Arg>
constexpr bool kIsNumber = std::is_same_v<std::remove_cvref_t<Arg>, at::Scalar> ||
                           std::is_same_v<std::remove_cvref_t<Arg>, bool> ||
                           std::is_same_v<std::remove_cvref_t<Arg>, int64_t>;

// Contiguous, and its result too: with one channel, a tensor of channels-last strides is contiguous as
// well, and what is made of it keeps those.
inline bool is_row_major(const at::Tensor& tensor) {
  const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  return tensor.is_contiguous() && !impl->is_strides_like_channels_last() && !impl->is_strides_like_channels_last_3d();
}

// The launch of a call whose tensors are all on rustorch, of one floating dtype and shape, and
// contiguous; numbers may stand among them. Small calls are made of little else, so the operands are
// written where they are launched from, in one pass over the arguments.
template <class... Args>
class DenseLaunch {
 public:
  // Takes the arguments; false where they are not such a call's.
  bool take(const Args&... args) { return (see(args) && ...); }

  at::Tensor make_output(bool is_test) const {
    return empty_dense(first_->sizes(), is_test ? at::kBool : static_cast<at::ScalarType>(ints_[0]));
  }

  // `output` is dense and of the tensors' shape.
  void run(Op op, const at::Tensor& output) {
    line(operands_[0], output, output.scalar_type(), 1);
    launch_unchecked(op, operands_, ints_, floats_);
  }

 private:
  bool see(const at::Tensor& tensor) {
    const auto dtype = tensor.scalar_type();
    if (first_ == nullptr) {
      if (!is_native(dtype) || !at::isFloatingType(dtype) || !tensor.is_privateuseone() || !is_row_major(tensor)) {
        return false;
      }
      first_ = &tensor;
      ints_[0] = static_cast<int64_t>(dtype);
      numel_ = tensor.numel();
    } else if (C10_UNLIKELY(tensor.unsafeGetTensorImpl()->is_wrapped_number())) {
      // A number takes the dtype of the tensors; of a bool, the meta says whether it is legal.
      if (!is_native(dtype) || dtype == at::kBool || first_->dim() == 0) {
        return false;
      }
      line(operands_[++tensors_], tensor, dtype, 0);
      return true;
    } else if (static_cast<int64_t>(dtype) != ints_[0] || !tensor.is_privateuseone() ||
               tensor.sizes() != first_->sizes() || !is_row_major(tensor)) {
      return false;
    }
    line(operands_[++tensors_], tensor, dtype, 1);
    return true;
  }
  // Of a bool, the meta says whether it is legal.
  bool see(const at::Scalar& scalar) { return !scalar.isComplex() && !scalar.isBoolean() && add(Number(scalar)); }
  bool see(bool flag) { return add(Number(flag)); }
  bool see(int64_t number) { return add(Number(number)); }
  template <class Other>
  bool see(const Other& /*rounding mode and the like*/) {
    return true;
  }

  bool add(const Number& number) {
    if (C10_UNLIKELY(!Number::is_plain(number.as_float, static_cast<at::ScalarType>(ints_[0])))) {
      return false;
    }
    floats_[numbers_] = number.as_float;
    ints_[++numbers_] = number.as_int;
    return true;
  }

  // Elements in one line, or one element again and again.
  C10_ALWAYS_INLINE void line(Operand& operand, const at::Tensor& tensor, at::ScalarType dtype, int stride) {
    static constexpr std::array<int64_t, 2> strides{0, 1};
    operand.set(tensor, {&numel_, 1}, {&strides[stride], 1}, dtype);
  }

  static constexpr size_t kTensors = (static_cast<size_t>(kIsTensor<Args>) + ...);
  static constexpr size_t kNumbers = (static_cast<size_t>(kIsNumber<Args>) + ...);
  std::array<Operand, kTensors + 1> operands_;
  std::array<int64_t, kNumbers + 1> ints_;
  std::array<double, kNumbers> floats_;
  const at::Tensor* first_ = nullptr;
  int64_t numel_ = 0;
  size_t tensors_ = 0;
  size_t numbers_ = 0;
};

}  // namespace detail

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
    if constexpr (!kChecksNumbers<Meta>) {
      detail::DenseLaunch<Args...> launch;
      if (launch.take(args...)) {
        at::Tensor output = launch.make_output(is_test);
        launch.run(op, output);
        return output;
      }
    }
    const auto arguments = detail::look_at(args...);
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
    if constexpr (!is_test && !kChecksNumbers<Meta>) {
      detail::DenseLaunch<at::Tensor, Args...> launch;
      if (launch.take(self, args...)) {
        launch.run(op, self);
        return self;
      }
    }
    const auto arguments = detail::look_at(self, args...);
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
    const auto arguments = detail::look_at(std::get<Index>(all)...);
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
