// Numbers as kernels take them. What a dtype cannot hold is converted or refused here, as PyTorch does it on the CPU,
// and nowhere else.
#pragma once

#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/util/SmallVector.h>

#include <cmath>
#include <limits>

#include "ops.h"

namespace rustorch {

// A number as both kinds of a launch's scalars.
struct Number {
  double as_float;
  int64_t as_int;

  // As it is.
  explicit Number(const at::Scalar& scalar) {
    if (C10_LIKELY(scalar.isIntegral(/*includeBool=*/true))) {
      as_int = scalar.toLong();
      as_float = static_cast<double>(as_int);
    } else {
      as_float = scalar.isComplex() ? scalar.toComplexDouble().real() : scalar.toDouble();
      as_int = nearest_int(as_float);
    }
  }

  // As `dtype` has it; refuses, in PyTorch's words, what that cannot hold. Bool takes any number.
  Number(const at::Scalar& scalar, at::ScalarType dtype);

  // Whether a number goes into a float type as it is. Others are rounded or refused, for which the way is longer.
  static bool is_plain(double value, at::ScalarType dtype) {
    if (dtype == at::kDouble) {
      return true;
    }
    if (!(std::abs(value) <= std::numeric_limits<float>::max())) {
      return false;
    }
    const float narrow = static_cast<float>(value);
    return dtype == at::kFloat ||
           (narrow == value && (dtype == at::kHalf ? static_cast<float>(at::Half(narrow)) == narrow
                                                   : static_cast<float>(at::BFloat16(narrow)) == narrow));
  }

 private:
  Number() = default;
  // What an integer op given a float takes: the nearest integer that there is.
  static int64_t nearest_int(double value);
};

// The type that arithmetic on `dtype` is done in.
inline at::ScalarType arithmetic_type(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16 ? at::kFloat : dtype;
}

// The scalar arguments of a call, as floats and as integers.
struct ScalarArguments {
  c10::SmallVector<double, 4> floats;
  c10::SmallVector<int64_t, 4> ints;

  void add(const at::Scalar& scalar) { add(scalar, Number(scalar)); }
  void add(const at::Scalar& scalar, const Number& number) {
    given_.push_back(scalar);
    floats.push_back(number.as_float);
    ints.push_back(number.as_int);
  }
  // As `dtype` has it.
  void add_in(at::ScalarType dtype, const at::Scalar& scalar) { add(scalar, Number(scalar, dtype)); }

  // The same, as a pointwise row over operands of `dtype` takes them; refuses those that ATen's CPU kernel refuses.
  ScalarArguments of(Op op, at::ScalarType dtype) const;

 private:
  c10::SmallVector<at::Scalar, 4> given_;
};

}  // namespace rustorch
