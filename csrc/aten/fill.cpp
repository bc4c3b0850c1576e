// One value everywhere.
#include <ATen/Dispatch_v2.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/fill_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "aten/overlap.h"
#include "bridge.h"

namespace rustorch {
namespace {

// The scalar as the row wants it; refuses, as PyTorch does, what the dtype cannot hold.
struct Value {
  int64_t integer = 0;
  double real = 0;
  double imaginary = 0;
};

Value value_for(at::ScalarType dtype, const at::Scalar& scalar) {
  Value value;
  if (at::isComplexType(dtype)) {
    const auto number = scalar.toComplexDouble();
    value.real = number.real();
    value.imaginary = number.imag();
  } else if (at::isFloatingType(dtype)) {
    AT_DISPATCH_V2(dtype, "fill_", AT_WRAP([&] { value.real = static_cast<double>(scalar.to<scalar_t>()); }),
                   AT_EXPAND(AT_FLOATING_TYPES), at::kHalf, at::kBFloat16);
  } else {
    AT_DISPATCH_V2(dtype, "fill_", AT_WRAP([&] { value.integer = static_cast<int64_t>(scalar.to<scalar_t>()); }),
                   AT_EXPAND(AT_INTEGRAL_TYPES), at::kBool);
  }
  return value;
}

at::Tensor& fill_scalar(at::Tensor& self, const at::Scalar& scalar) {
  const auto dtype = self.scalar_type();
  if (!is_native(dtype) && dtype != at::kComplexFloat && dtype != at::kComplexDouble) {
    return call_fallback<at::_ops::fill__Scalar>(self, scalar);
  }
  const auto value = value_for(dtype, scalar);
  if (self.numel() != 0) {
    launch(Op::fill_, {self}, {value.integer}, {value.real, value.imaginary});
  }
  return self;
}

at::Tensor& fill_tensor(at::Tensor& self, const at::Tensor& value) {
  TORCH_CHECK(value.dim() == 0, "fill_ only supports 0-dimension value tensor but got tensor with ", value.dim(),
              " dimensions.");
  // The value may lie within what is filled.
  return self.copy_(is_alias(self, value) ? value.clone() : value);
}

// Zero is zero bits in every dtype.
at::Tensor& zero(at::Tensor& self) {
  if (self.numel() != 0) {
    launch(Op::fill_, {Operand::bits(self)}, {0}, {0, 0});
  }
  return self;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("fill_.Scalar", TORCH_FN(fill_scalar));
  m.impl("fill_.Tensor", TORCH_FN(fill_tensor));
  m.impl("zero_", TORCH_FN(zero));
}

}  // namespace
}  // namespace rustorch
