// One value everywhere.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/fill_ops.h>
#include <torch/library.h>

#include "aten/expanded.h"
#include "aten/fallback.h"
#include "aten/number.h"
#include "aten/overlap.h"
#include "bridge.h"

namespace rustorch {
namespace {

void launch_fill(const at::Tensor& self, int64_t integer, double real, double imaginary) {
  if (self.numel() != 0) {
    launch(Op::fill_, {once(self)}, {integer}, {real, imaginary});
  }
}

at::Tensor& fill_scalar(at::Tensor& self, const at::Scalar& scalar) {
  const auto dtype = self.scalar_type();
  if (!is_native(dtype) && dtype != at::kComplexFloat && dtype != at::kComplexDouble) {
    return call_fallback<at::_ops::fill__Scalar>(self, scalar);
  }
  if (at::isComplexType(dtype)) {
    const auto value = scalar.toComplexDouble();
    launch_fill(self, 0, value.real(), value.imag());
  } else {
    const Number number(scalar, dtype);
    launch_fill(self, number.as_int, number.as_float, 0);
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
    launch(Op::fill_, {Operand::bits(once(self))}, {0}, {0, 0});
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
