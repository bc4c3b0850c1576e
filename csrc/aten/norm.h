// What the C++ sides of normalisation share.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "aten/structured.h"

namespace rustorch {

// Statistics are as wide as the arithmetic.
inline at::ScalarType statistics_dtype(const at::Tensor& input) {
  return at::isReducedFloatingType(input.scalar_type()) ? at::kFloat : input.scalar_type();
}

// A gradient that is wanted, or an absent operand.
inline at::Tensor gradient(bool wanted, at::IntArrayRef sizes, const std::optional<at::Tensor>& parameter,
                           const at::Tensor& input) {
  if (!wanted) {
    return at::Tensor();
  }
  const bool given = parameter.has_value() && parameter->defined();
  return empty_dense(sizes, given ? parameter->scalar_type() : statistics_dtype(input));
}

inline at::Tensor as_input(const at::Tensor& grad, const at::Tensor& input) {
  return grad.scalar_type() == input.scalar_type() ? grad : grad.to(input.scalar_type());
}

}  // namespace rustorch
