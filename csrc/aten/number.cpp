#include "aten/number.h"

#include <ATen/Dispatch_v2.h>

#include <algorithm>

namespace rustorch {

int64_t Number::nearest_int(double value) {
  constexpr double limit = 9.2233720368547748e18;
  if (std::isnan(value)) {
    return 0;
  }
  if (std::abs(value) >= limit) {
    return value > 0 ? std::numeric_limits<int64_t>::max() : std::numeric_limits<int64_t>::min();
  }
  return static_cast<int64_t>(value);
}

Number::Number(const at::Scalar& scalar, at::ScalarType dtype) {
  if (at::isFloatingType(dtype)) {
    AT_DISPATCH_V2(dtype, "number", AT_WRAP([&] { as_float = static_cast<double>(scalar.to<scalar_t>()); }),
                   AT_EXPAND(AT_FLOATING_TYPES), at::kHalf, at::kBFloat16);
    as_int = nearest_int(as_float);
  } else {
    AT_DISPATCH_V2(dtype, "number", AT_WRAP([&] { as_int = static_cast<int64_t>(scalar.to<scalar_t>()); }),
                   AT_EXPAND(AT_INTEGRAL_TYPES), at::kBool);
    as_float = static_cast<double>(as_int);
  }
}

namespace {

// What ATen's CPU kernels do with a row's numbers.
enum class Taking {
  // They convert them to the operands' type, and refuse what does not fit.
  own,
  // They convert the negative so.
  negative,
  // Of half types, they keep them in the type of the arithmetic.
  arithmetic,
  // As these two, once they have refused integer operands.
  float_own,
  float_arithmetic,
  // A bound as `arithmetic`, then a value as `own`.
  bound_and_value,
  // As a tensor of the number would be converted: nothing is refused.
  cast,
  // So too, to the type of the arithmetic.
  cast_arithmetic,
  // Bounds of a range, which integers cannot be beyond anyhow.
  low,
  high,
  low_and_high,
  // `own`; floats alone take any exponent.
  exponent,
};

Taking taking(Op op) {
  switch (op) {
    case Op::threshold_: return Taking::bound_and_value;
    case Op::threshold_backward_:
    case Op::addcmul_:
    case Op::addcdiv_: return Taking::arithmetic;
    case Op::lerp_scalar_:
    case Op::leaky_relu_:
    case Op::leaky_relu_backward_:
    case Op::elu_:
    case Op::elu_backward_:
    case Op::softplus_:
    case Op::softplus_backward_: return Taking::float_arithmetic;
    case Op::add_scalar_:
    case Op::sub_scalar_:
    case Op::eq_scalar_:
    case Op::ne_scalar_:
    case Op::lt_scalar_:
    case Op::le_scalar_:
    case Op::gt_scalar_:
    case Op::ge_scalar_: return Taking::cast;
    case Op::clamp_min_: return Taking::low;
    case Op::clamp_max_: return Taking::high;
    case Op::clamp_:
    case Op::hardtanh_:
    case Op::hardtanh_backward_: return Taking::low_and_high;
    case Op::pow_scalar_: return Taking::exponent;
    case Op::sub_: return Taking::negative;
    case Op::add_:
    case Op::masked_fill_: return Taking::own;
    case Op::hardshrink_:
    case Op::hardshrink_backward_:
    case Op::softshrink_:
    case Op::softshrink_backward_: return Taking::float_own;
    default: return Taking::cast_arithmetic;
  }
}

Number cast(const at::Scalar& scalar, at::ScalarType dtype) {
  Number number(scalar);
  switch (dtype) {
    case at::kHalf: number.as_float = at::Half(static_cast<float>(number.as_float)); break;
    case at::kBFloat16: number.as_float = at::BFloat16(static_cast<float>(number.as_float)); break;
    default: break;
  }
  return number;
}

// A bound as the nearest number that `dtype` has; refuses a low one above all of them, and a high one below.
Number bound(const at::Scalar& scalar, at::ScalarType dtype, bool is_low) {
  if (!at::isIntegralType(dtype, /*includeBool=*/false)) {
    return Number(scalar, dtype);
  }
  Number number(scalar, at::kLong);
  AT_DISPATCH_V2(dtype, "clamp", AT_WRAP([&] {
                   constexpr auto lowest = static_cast<int64_t>(std::numeric_limits<scalar_t>::lowest());
                   constexpr auto highest = static_cast<int64_t>(std::numeric_limits<scalar_t>::max());
                   TORCH_CHECK(is_low ? number.as_int <= highest : number.as_int >= lowest, "Clamp ",
                               is_low ? "min" : "max", " value ", number.as_int,
                               " is outside the representable range of ", dtype);
                   number.as_int = std::clamp(number.as_int, lowest, highest);
                 }),
                 AT_EXPAND(AT_INTEGRAL_TYPES));
  number.as_float = static_cast<double>(number.as_int);
  return number;
}

Number number_of(Taking taking, const at::Scalar& scalar, size_t place, at::ScalarType dtype) {
  switch (taking) {
    case Taking::own: return Number(scalar, dtype);
    case Taking::negative: {
      Number number(-scalar, dtype);
      number.as_float = -number.as_float;
      number.as_int = static_cast<int64_t>(-static_cast<uint64_t>(number.as_int));
      return number;
    }
    case Taking::arithmetic: return Number(scalar, arithmetic_type(dtype));
    case Taking::float_own: return at::isFloatingType(dtype) ? Number(scalar, dtype) : Number(scalar);
    case Taking::float_arithmetic:
      return at::isFloatingType(dtype) ? Number(scalar, arithmetic_type(dtype)) : Number(scalar);
    case Taking::bound_and_value: return Number(scalar, place == 0 ? arithmetic_type(dtype) : dtype);
    case Taking::cast: return cast(scalar, dtype);
    case Taking::cast_arithmetic: return Number(scalar);
    case Taking::low: return bound(scalar, dtype, true);
    case Taking::high: return bound(scalar, dtype, false);
    case Taking::low_and_high: return bound(scalar, dtype, place == 0);
    case Taking::exponent: return dtype == at::kFloat ? Number(scalar) : Number(scalar, dtype);
  }
  return Number(scalar);
}

}  // namespace

ScalarArguments ScalarArguments::of(Op op, at::ScalarType dtype) const {
  const Taking how = taking(op);
  ScalarArguments taken;
  for (size_t at = 0; at < given_.size(); ++at) {
    taken.add(given_[at], number_of(how, given_[at], at, dtype));
  }
  return taken;
}

}  // namespace rustorch
