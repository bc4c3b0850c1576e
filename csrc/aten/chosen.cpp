// Pointwise ops whose row an argument chooses: gelu by its approximation, division by its rounding
// mode, clamp by its bounds; and those without a structured meta.
#include "aten/forms.h"
#include "aten/overlap.h"
#include "aten/pointwise.h"

#include <ATen/Dispatch.h>
#include <ATen/ScalarOps.h>
#include <ATen/ops/angle_ops.h>
#include <ATen/ops/clamp_meta.h>
#include <ATen/ops/clamp_ops.h>
#include <ATen/ops/conj_physical_ops.h>
#include <ATen/ops/div.h>
#include <ATen/ops/div_meta.h>
#include <ATen/ops/div_ops.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu_backward_meta.h>
#include <ATen/ops/gelu_backward_ops.h>
#include <ATen/ops/gelu_meta.h>
#include <ATen/ops/gelu_ops.h>
#include <ATen/ops/log_sigmoid_backward_ops.h>
#include <ATen/ops/log_sigmoid_forward_ops.h>
#include <ATen/ops/logit_backward_meta.h>
#include <ATen/ops/logit_backward_ops.h>
#include <ATen/ops/logit_ops.h>
#include <ATen/ops/nan_to_num_ops.h>
#include <ATen/ops/nextafter_meta.h>
#include <ATen/ops/nextafter_ops.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/result_type.h>
#include <ATen/ops/sub.h>
#include <torch/library.h>

#include <limits>

namespace rustorch {
namespace {

using at::Tensor;

bool is_tanh(c10::string_view approximate) {
  TORCH_CHECK(approximate == "none" || approximate == "tanh",
              "approximate argument must be either none or tanh, got ", approximate);
  return approximate == "tanh";
}

struct Gelu {
  using Meta = at::meta::structured_gelu;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, c10::string_view approximate) {
    launch_iterator(is_tanh(approximate) ? Op::gelu_tanh_ : Op::gelu_none_, iterator);
  }
};

struct GeluBackward {
  using Meta = at::meta::structured_gelu_backward;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&, c10::string_view approximate) {
    launch_iterator(is_tanh(approximate) ? Op::gelu_backward_tanh_ : Op::gelu_backward_none_, iterator);
  }
};

struct DivideWithMode {
  using Meta = at::meta::structured_div_Tensor_mode;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&,
                  std::optional<c10::string_view> mode) {
    launch_iterator(!mode.has_value() ? Op::div_ : *mode == "floor" ? Op::div_floor_ : Op::div_trunc_, iterator);
  }
};

struct Clamp {
  using Meta = at::meta::structured_clamp;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, at::OptionalScalarRef min,
                  at::OptionalScalarRef max) {
    ScalarArguments bounds;
    for (const auto& bound : {min, max}) {
      if (bound.has_value()) {
        bounds.add(bound.get());
      }
    }
    launch_iterator(!min.has_value() ? Op::clamp_max_ : !max.has_value() ? Op::clamp_min_ : Op::clamp_, iterator,
                    bounds);
  }
};

struct ClampTensor {
  using Meta = at::meta::structured_clamp_Tensor;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, at::OptionalTensorRef min,
                  at::OptionalTensorRef max) {
    launch_iterator(!min.has_value()   ? Op::clamp_max_tensor_
                    : !max.has_value() ? Op::clamp_min_tensor_
                                       : Op::clamp_tensor_,
                    iterator);
  }
};

// The row takes a negative eps for none.
ScalarArguments epsilon(std::optional<double> eps) {
  ScalarArguments scalars;
  scalars.add(eps.value_or(-1.0));
  return scalars;
}

struct LogitBackward {
  using Meta = at::meta::structured_logit_backward;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&, std::optional<double> eps) {
    launch_iterator(Op::logit_backward_, iterator, epsilon(eps));
  }
};

// Integers become floats.
struct UnaryToFloat : at::TensorIteratorBase {
  template <class... Arguments>
  void meta(const Tensor& self, const Arguments&...) {
    build_borrowing_unary_float_op(maybe_get_output(0), self);
  }
};

struct Angle {
  using Meta = UnaryToFloat;
  static void run(at::TensorIteratorBase& iterator, const Tensor&) { launch_iterator(Op::angle_, iterator); }
};

struct Logit {
  using Meta = UnaryToFloat;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, std::optional<double> eps) {
    launch_iterator(Op::logit_, iterator, epsilon(eps));
  }
};

struct LogSigmoidBackward {
  // The buffer is the CPU's own saving; this device needs none.
  struct Meta : at::TensorIteratorBase {
    void meta(const Tensor& gradient, const Tensor& self, const Tensor&) {
      build_borrowing_binary_op(maybe_get_output(0), gradient, self);
    }
  };
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&, const Tensor&) {
    launch_iterator(Op::log_sigmoid_backward_, iterator);
  }
};

std::tuple<Tensor&, Tensor&> log_sigmoid_out(const Tensor& self, Tensor& output, Tensor& buffer) {
  Structured<PlainUnary> iterator(output);
  iterator.meta(self);
  launch_iterator(Op::log_sigmoid_, iterator);
  iterator.finish();
  return std::forward_as_tuple(output, buffer);
}

// The CPU's result is dense, whatever the layout of the input.
std::tuple<Tensor, Tensor> log_sigmoid(const Tensor& self) {
  Tensor output = empty_dense(self.sizes(), self.scalar_type());
  Tensor buffer = empty_dense({0}, self.scalar_type());
  log_sigmoid_out(self, output, buffer);
  return {output, buffer};
}

// The CPU's gradient is laid out as the result's.
Tensor log_sigmoid_backward(const Tensor& gradient, const Tensor& self, const Tensor& buffer) {
  Tensor grad_input = at::empty_like(gradient);
  return WrittenTo<LogSigmoidBackward, at::_ops::log_sigmoid_backward_grad_input>::call(gradient, self, buffer,
                                                                                        grad_input);
}

// number ** tensor: the number as ATen wraps it, which does not widen the result.
Tensor wrapped(const at::Scalar& number) {
  Tensor tensor = c10::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}
// Dense, as on the CPU, whatever the layout of the exponent.
Tensor pow_of_number(const at::Scalar& base, const Tensor& exponent) {
  const auto dtype = at::result_type(base, exponent);
  if (!is_native(dtype)) {
    return at::pow(wrapped(base), exponent);
  }
  Tensor out = empty_dense(exponent.sizes(), dtype);
  return at::pow_out(out, wrapped(base), exponent);
}
Tensor& pow_of_number_out(const at::Scalar& base, const Tensor& exponent, Tensor& out) {
  return at::pow_out(out, wrapped(base), exponent);
}

// Integers have neither NaN nor infinity, and are copied.
struct NanToNum {
  using Meta = PlainUnary;
  static void run(at::TensorIteratorBase& iterator, const Tensor& self, std::optional<double> nan,
                  std::optional<double> positive, std::optional<double> negative) {
    if (!at::isFloatingType(self.scalar_type())) {
      iterator.tensor(0).copy_(self);
      return;
    }
    ScalarArguments scalars;
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, self.scalar_type(), "nan_to_num", [&] {
      scalars.add(nan.value_or(0.0));
      scalars.add(positive.value_or(static_cast<double>(std::numeric_limits<scalar_t>::max())));
      scalars.add(negative.value_or(static_cast<double>(std::numeric_limits<scalar_t>::lowest())));
    });
    launch_iterator(Op::nan_to_num_, iterator, scalars);
  }
};

// A float's neighbour is found on its bits.
struct NextAfter {
  using Meta = at::meta::structured_nextafter;
  static void run(at::TensorIteratorBase& iterator, const Tensor& self, const Tensor& other) {
    const auto dtype = iterator.common_dtype();
    TORCH_CHECK_NOT_IMPLEMENTED(at::isFloatingType(dtype), "\"nextafter\" not implemented for '", dtype, "'");
    const auto bits = dtype == at::kDouble ? at::kLong : dtype == at::kFloat ? at::kInt : at::kShort;
    const Tensor& out = iterator.tensor(0);
    const Tensor result = out.scalar_type() == dtype ? out : empty_dense(out.sizes(), dtype);
    const Tensor from = self.to(result.device(), dtype).view(bits);
    const Tensor target = other.to(result.device(), dtype).view(bits);
    Structured<PlainBinary> on_bits(result.view(bits));
    on_bits.meta(from, target);
    ScalarArguments infinity;
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "nextafter", [&] {
      using Narrow = std::conditional_t<sizeof(scalar_t) == 4, int32_t, int16_t>;
      using Bits = std::conditional_t<sizeof(scalar_t) == 8, int64_t, Narrow>;
      infinity.add(static_cast<int64_t>(c10::bit_cast<Bits>(std::numeric_limits<scalar_t>::infinity())));
    });
    launch_iterator(Op::nextafter_, on_bits, infinity);
    if (!result.is_same(out)) {
      out.copy_(result);
    }
  }
};

std::tuple<Tensor&, Tensor&> frexp_out(const Tensor& self, Tensor& mantissa, Tensor& exponent) {
  TORCH_CHECK(at::isFloatingType(self.scalar_type()), "torch.frexp() only supports floating-point dtypes");
  TORCH_CHECK(mantissa.dtype() == self.dtype(), "torch.frexp() expects mantissa to have dtype ", self.dtype(),
              " but got ", mantissa.dtype());
  TORCH_CHECK(exponent.dtype() == at::kInt, "torch.frexp() expects exponent to have int dtype but got ",
              exponent.dtype());
  at::native::resize_output(mantissa, self.sizes());
  at::native::resize_output(exponent, self.sizes());
  const auto compute = static_cast<int64_t>(self.scalar_type());
  const Tensor from = is_alias(self, exponent) || is_alias(self, mantissa) ? self.clone() : self;
  launch(Op::frexp_mantissa_, {mantissa, from}, {compute});
  launch(Op::frexp_exponent_, {exponent, from}, {compute});
  return std::forward_as_tuple(mantissa, exponent);
}

Tensor floor_divide(const Tensor& self, const Tensor& other) { return at::div(self, other, "floor"); }
Tensor& floor_divide_out(const Tensor& self, const Tensor& other, Tensor& out) {
  return at::div_out(out, self, other, "floor");
}
Tensor& floor_divide_in_place(Tensor& self, const Tensor& other) { return self.div_(other, "floor"); }

Tensor rsub(const Tensor& self, const Tensor& other, const at::Scalar& alpha) { return at::sub(other, self, alpha); }

Tensor remainder_of_number(const at::Scalar& self, const Tensor& other) { return at::remainder(wrapped(self), other); }

// A real number is its own conjugate.
Tensor& conj_physical_out(const Tensor& self, Tensor& out) {
  if (self.is_complex()) {
    return call_fallback<at::_ops::conj_physical_out>(self, out);
  }
  TORCH_CHECK(out.scalar_type() == self.scalar_type(), "Found dtype ", out.scalar_type(), " but expected ",
              self.scalar_type());
  at::native::resize_output(out, self.sizes());
  return out.copy_(self);
}
// ATen's composite form calls the kernels of its own devices.
Tensor& conj_physical_in_place(Tensor& self) { return rustorch::conj_physical_out(self, self); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("angle", TORCH_FN((Made<Angle, at::_ops::angle>::call)));
  m.impl("angle.out", TORCH_FN((WrittenTo<Angle, at::_ops::angle_out>::call)));
  m.impl("nan_to_num.out", TORCH_FN((WrittenTo<NanToNum, at::_ops::nan_to_num_out>::call)));
  m.impl("nextafter", TORCH_FN((Made<NextAfter, at::_ops::nextafter>::call)));
  m.impl("nextafter_", TORCH_FN((InPlace<NextAfter, at::_ops::nextafter_>::call)));
  m.impl("nextafter.out", TORCH_FN((WrittenTo<NextAfter, at::_ops::nextafter_out>::call)));
  m.impl("frexp.Tensor_out", TORCH_FN(frexp_out));
  m.impl("floor_divide", TORCH_FN(floor_divide));
  m.impl("floor_divide_.Tensor", TORCH_FN(floor_divide_in_place));
  m.impl("floor_divide.out", TORCH_FN(floor_divide_out));
  m.impl("rsub.Tensor", TORCH_FN(rsub));
  m.impl("remainder.Scalar_Tensor", TORCH_FN(remainder_of_number));
  m.impl("conj_physical.out", TORCH_FN(conj_physical_out));
  m.impl("conj_physical_", TORCH_FN(conj_physical_in_place));
  m.impl("pow.Scalar", TORCH_FN(pow_of_number));
  m.impl("pow.Scalar_out", TORCH_FN(pow_of_number_out));
  m.impl("gelu", TORCH_FN((Made<Gelu, at::_ops::gelu>::call)));
  m.impl("gelu_", TORCH_FN((InPlace<Gelu, at::_ops::gelu_>::call)));
  m.impl("gelu.out", TORCH_FN((WrittenTo<Gelu, at::_ops::gelu_out>::call)));
  m.impl("gelu_backward", TORCH_FN((Made<GeluBackward, at::_ops::gelu_backward>::call)));
  m.impl("gelu_backward.grad_input", TORCH_FN((WrittenTo<GeluBackward, at::_ops::gelu_backward_grad_input>::call)));
  m.impl("div.Tensor_mode", TORCH_FN((Made<DivideWithMode, at::_ops::div_Tensor_mode>::call)));
  m.impl("div_.Tensor_mode", TORCH_FN((InPlace<DivideWithMode, at::_ops::div__Tensor_mode>::call)));
  m.impl("div.out_mode", TORCH_FN((WrittenTo<DivideWithMode, at::_ops::div_out_mode>::call)));
  m.impl("clamp", TORCH_FN((Made<Clamp, at::_ops::clamp>::call)));
  m.impl("clamp_", TORCH_FN((InPlace<Clamp, at::_ops::clamp_>::call)));
  m.impl("clamp.out", TORCH_FN((WrittenTo<Clamp, at::_ops::clamp_out>::call)));
  m.impl("clamp.Tensor", TORCH_FN((Made<ClampTensor, at::_ops::clamp_Tensor>::call)));
  m.impl("clamp_.Tensor", TORCH_FN((InPlace<ClampTensor, at::_ops::clamp__Tensor>::call)));
  m.impl("clamp.Tensor_out", TORCH_FN((WrittenTo<ClampTensor, at::_ops::clamp_Tensor_out>::call)));
  m.impl("logit", TORCH_FN((Made<Logit, at::_ops::logit>::call)));
  m.impl("logit_", TORCH_FN((InPlace<Logit, at::_ops::logit_>::call)));
  m.impl("logit.out", TORCH_FN((WrittenTo<Logit, at::_ops::logit_out>::call)));
  m.impl("logit_backward", TORCH_FN((Made<LogitBackward, at::_ops::logit_backward>::call)));
  m.impl("logit_backward.grad_input",
         TORCH_FN((WrittenTo<LogitBackward, at::_ops::logit_backward_grad_input>::call)));
  m.impl("log_sigmoid_forward", TORCH_FN(log_sigmoid));
  m.impl("log_sigmoid_forward.output", TORCH_FN(log_sigmoid_out));
  m.impl("log_sigmoid_backward", TORCH_FN(log_sigmoid_backward));
  m.impl("log_sigmoid_backward.grad_input",
         TORCH_FN((WrittenTo<LogSigmoidBackward, at::_ops::log_sigmoid_backward_grad_input>::call)));
}

}  // namespace
}  // namespace rustorch
