// Ops that are a few launches of others.
#include <ATen/ExpandUtils.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/native/TypeProperties.h>
#include <ATen/native/UnaryOps.h>
#include <ATen/ops/_weight_norm_interface_backward_ops.h>
#include <ATen/ops/_weight_norm_interface_ops.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/complex_ops.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/equal_ops.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/isinf.h>
#include <ATen/ops/ldexp_ops.h>
#include <ATen/ops/linalg_cross_meta.h>
#include <ATen/ops/linalg_cross_ops.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/polar_ops.h>
#include <ATen/ops/renorm_meta.h>
#include <ATen/ops/renorm_ops.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/trace_ops.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include "aten/forms.h"
#include "aten/layout.h"
#include "aten/overlap.h"
#include "aten/pointwise.h"

namespace rustorch {
namespace {

using at::Tensor;

struct Cross {
  using Meta = at::meta::structured_linalg_cross;
  static void run(const Tensor& out, const Tensor& self, const Tensor& other, int64_t dim) {
    refuse_overlap(out, self);
    refuse_overlap(out, other);
    const auto sizes = out.sizes();
    const Tensor a = self.expand(sizes);
    const Tensor b = other.expand(sizes);
    for (int64_t at = 0; at < 3; ++at) {
      const int64_t next = (at + 1) % 3;
      const int64_t last = (at + 2) % 3;
      Tensor part = out.select(dim, at);
      at::mul_out(part, a.select(dim, next), b.select(dim, last));
      part.addcmul_(a.select(dim, last), b.select(dim, next), -1);
    }
  }
};

// Scales the parts along a dimension whose norm is above the bound down to it.
struct Renorm {
  using Meta = at::meta::structured_renorm;
  static void run(const Tensor& out, const Tensor& self, const at::Scalar& p, int64_t dim, const at::Scalar& most) {
    const int64_t kept = at::maybe_wrap_dim(dim, self.dim());
    at::DimVector reduced;
    for (int64_t at = 0; at < self.dim(); ++at) {
      if (at != kept) {
        reduced.push_back(at);
      }
    }
    const auto wide = self.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const Tensor norm = at::linalg_vector_norm(self, p.toDouble(), reduced, /*keepdim=*/true, wide);
    const Tensor factor = empty_dense(norm.sizes(), self.scalar_type());
    launch(Op::renorm_factor_, {factor, norm}, {static_cast<int64_t>(wide), 0}, {most.toDouble()});
    Tensor target = out;
    at::mul_out(target, self, factor);
  }
};

Tensor trace(const Tensor& self) {
  TORCH_CHECK(self.dim() == 2, "trace: expected a matrix, but got tensor with dim ", self.dim());
  // As on the CPU, which has no trace of bool.
  const bool native = is_native(self.scalar_type()) && self.scalar_type() != at::kBool;
  return native ? self.diagonal().sum() : call_fallback<at::_ops::trace>(self);
}

bool equal(const Tensor& a, const Tensor& b) {
  TORCH_CHECK(a.device() == b.device(), "Cannot compare two tensors on different devices. Got: ", a.device(), " and ",
              b.device());
  if (!is_native(a.scalar_type()) || !is_native(b.scalar_type())) {
    return call_fallback<at::_ops::equal>(a, b);
  }
  return a.sizes() == b.sizes() && !at::ne(a, b).any().item<bool>();
}

Tensor& narrow_copy_out(const Tensor& self, int64_t dim, int64_t start, int64_t length, Tensor& out) {
  TORCH_CHECK(self.dtype() == out.dtype(), "narrow_copy: expected an out tensor of ", self.dtype(), ", but got ",
              out.dtype());
  const Tensor part = self.narrow(dim, start, length);
  at::native::resize_output(out, part.sizes());
  return out.copy_(part);
}

Tensor narrow_copy(const Tensor& self, int64_t dim, c10::SymInt start, c10::SymInt length) {
  return self.narrow(dim, start.expect_int(), length.expect_int()).clone(at::MemoryFormat::Contiguous);
}

Tensor& narrow_copy_sizes_out(const Tensor& self, int64_t dim, c10::SymInt start, c10::SymInt length, Tensor& out) {
  return narrow_copy_out(self, dim, start.expect_int(), length.expect_int(), out);
}

// Windows that do not overlap are copied; others are added, one place of all windows at a time.
Tensor unfold_backward(const Tensor& grad, c10::SymIntArrayRef input_sizes, int64_t dim, int64_t size, int64_t step) {
  const auto sizes = C10_AS_INTARRAYREF_SLOW(input_sizes);
  Tensor grad_input = at::zeros(sizes, grad.options());
  if (sizes.empty()) {
    return grad_input.add_(grad.select(-1, 0));
  }
  const int64_t along = at::maybe_wrap_dim(dim, static_cast<int64_t>(sizes.size()));
  Tensor windows = grad_input.unfold(along, size, step);
  if (step >= size) {
    windows.copy_(grad);
    return grad_input;
  }
  for (int64_t at = 0; at < size; ++at) {
    windows.select(-1, at).add_(grad.select(-1, at));
  }
  return grad_input;
}

// self * 2^other by powers that exist, though that of `other` alone may not.
Tensor ldexp(const Tensor& self, const Tensor& other) {
  if (!is_native(self.scalar_type()) || !is_native(other.scalar_type())) {
    return call_fallback<at::_ops::ldexp_Tensor>(self, other);
  }
  // The CPU's kernel for floats takes integers only; others it multiplies by a power.
  TORCH_CHECK_NOT_IMPLEMENTED(other.scalar_type() != at::kBool || !self.is_floating_point(),
                              "\"ldexp_cpu_exp\" not implemented for 'Bool'");
  auto dtype = at::native::result_type(self, other);
  if (!at::isFloatingType(dtype)) {
    dtype = c10::typeMetaToScalarType(c10::get_default_dtype());
  }
  // In f64 the narrower types need one power only, and one rounding.
  constexpr double most = 1000;
  // The CPU's powers are dense, and its product is laid out by them and `self`.
  const Tensor exponent = empty_dense(other.sizes(), at::kDouble).copy_(other);
  const Tensor within = exponent.clamp(-3 * most, 3 * most);
  const Tensor first = within.clamp(-most, most);
  Tensor wide = self.to(at::kDouble);
  if (dtype == at::kDouble) {
    const Tensor rest = at::sub(within, first);
    const Tensor second = rest.clamp(-most, most);
    // The first power comes last: what it leaves of digits is not rounded again.
    const Tensor third = at::sub(rest, second);
    wide = at::mul(at::mul(wide, at::exp2(third)), at::exp2(second));
  }
  const Tensor out = empty_of({self, exponent}, dtype);
  // An infinite power of nothing is no number.
  const Tensor last = other.is_floating_point() ? at::where(at::isinf(exponent), exponent, first) : first;
  out.copy_(at::mul(wide, at::exp2(last)));
  return out;
}

Tensor& ldexp_into(const Tensor& self, const Tensor& other, Tensor& out) {
  const Tensor result = rustorch::ldexp(self, other);
  TORCH_CHECK(at::canCast(result.scalar_type(), out.scalar_type()), "result type ", result.scalar_type(),
              " can't be cast to the desired output type ", out.scalar_type());
  at::native::resize_output(out, result.sizes());
  return out.copy_(result);
}

Tensor& ldexp_out(const Tensor& self, const Tensor& other, Tensor& out) {
  return is_native(out.scalar_type()) ? ldexp_into(self, other, out)
                                      : call_fallback<at::_ops::ldexp_out>(self, other, out);
}

Tensor& ldexp_in_place(Tensor& self, const Tensor& other) {
  const auto shape = at::infer_size_dimvector(self.sizes(), other.sizes());
  TORCH_CHECK(shape == self.sizes(), "output with shape ", self.sizes(), " doesn't match the broadcast shape ",
              at::IntArrayRef(shape));
  return rustorch::ldexp_out(self, other, self);
}

// The real and the imaginary part of a complex result.
std::array<Tensor, 2> parts(Tensor& out, const Tensor& a, const Tensor& b, const char* name) {
  TORCH_CHECK((a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble || a.scalar_type() == at::kHalf) &&
                  (b.scalar_type() == at::kFloat || b.scalar_type() == at::kDouble || b.scalar_type() == at::kHalf),
              "Expected both inputs to be Half, Float or Double tensors but got ", a.scalar_type(), " and ",
              b.scalar_type());
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "Expected object of scalar type ", a.scalar_type(),
              " but got scalar type ", b.scalar_type(), " for second argument");
  TORCH_CHECK(out.scalar_type() == at::toComplexType(a.scalar_type()), "Expected object of scalar type ",
              at::toComplexType(a.scalar_type()), " but got scalar type ", out.scalar_type(), " for argument 'out'");
  const auto sizes = at::infer_size(a.sizes(), b.sizes());
  if (at::native::resize_output(out, sizes)) {
    out.as_strided_(sizes, empty_of({a, b}, out.scalar_type()).strides());
  }
  at::assert_no_internal_overlap(out);
  TORCH_CHECK(out.device() == a.device() && (a.device() == b.device() || b.dim() == 0), name,
              ": expected all tensors to be on the same device");
  const Tensor both = at::view_as_real(out);
  return {both.select(-1, 0), both.select(-1, 1)};
}

Tensor& complex_out(const Tensor& real, const Tensor& imaginary, Tensor& out) {
  const auto [to_real, to_imaginary] = parts(out, real, imaginary, "complex");
  to_real.copy_(real.expand(out.sizes()));
  to_imaginary.copy_(imaginary.expand(out.sizes()));
  return out;
}

Tensor& polar_out(const Tensor& size, const Tensor& angle, Tensor& out) {
  auto [real, imaginary] = parts(out, size, angle, "polar");
  at::mul_out(real, size, at::cos(angle));
  at::mul_out(imaginary, size, at::sin(angle));
  return out;
}

// The norm along all dimensions but one, and what a weight of that norm is scaled by.
at::DimVector all_but(int64_t dim, const Tensor& tensor) {
  at::DimVector dims;
  const int64_t kept = at::maybe_wrap_dim(dim, tensor.dim());
  for (int64_t at = 0; at < tensor.dim(); ++at) {
    if (at != kept) {
      dims.push_back(at);
    }
  }
  return dims;
}

at::ScalarType wide(const Tensor& tensor) {
  return at::isReducedFloatingType(tensor.scalar_type()) ? at::kFloat : tensor.scalar_type();
}

std::tuple<Tensor, Tensor> weight_norm(const Tensor& v, const Tensor& g, int64_t dim) {
  if (!is_native_float(v) || !is_native_float(g) || v.dim() < 2) {
    return call_fallback<at::_ops::_weight_norm_interface>(v, g, dim);
  }
  const Tensor norm = at::linalg_vector_norm(v, 2, all_but(dim, v), /*keepdim=*/true, wide(v)).reshape(g.sizes());
  const Tensor w = v.to(wide(v)).mul(g.to(wide(v)).div(norm)).to(v.scalar_type());
  // As on the CPU, where norms of bf16 stay in f32, and those of f16 do not.
  return {w, norm.to(g.scalar_type() == at::kBFloat16 ? at::kFloat : g.scalar_type())};
}

std::tuple<Tensor, Tensor> weight_norm_backward(const Tensor& grad, const Tensor& v, const Tensor& g,
                                                const Tensor& norm, int64_t dim) {
  if (!is_native_float(v) || !is_native_float(g) || v.dim() < 2) {
    return call_fallback<at::_ops::_weight_norm_interface_backward>(grad, v, g, norm, dim);
  }
  const auto dtype = wide(v);
  const Tensor from = v.to(dtype);
  const Tensor grads = grad.to(dtype);
  const Tensor norms = norm.to(dtype);
  const Tensor along = grads.mul(from).sum(all_but(dim, v), /*keepdim=*/true).reshape(g.sizes());
  const Tensor grad_v = grads.sub(from.mul(along.div(norms.mul(norms)))).mul(g.to(dtype).div(norms));
  return {grad_v.to(v.scalar_type()), along.div(norms).to(g.scalar_type())};
}

void assert_message(const Tensor& self, std::string_view message) {
  TORCH_CHECK(self.is_nonzero(), message.empty() ? "Assertion is failed" : message);
}

void assert_async(const Tensor& self) {
  TORCH_CHECK(self.is_nonzero(), "Expected Tensor with single nonzero value, but got zero");
}

Tensor assert_functional(const Tensor& self, std::string_view message, const Tensor& token) {
  assert_message(self, message);
  return token.clone();
}

// As wide as there is: the window's own type rounds it once.
void kaiser_window(at::TensorIteratorBase& iterator, int64_t length, double beta) {
  const Tensor& window = iterator.tensor(0);
  const auto options = window.options().dtype(at::kDouble);
  const Tensor place = at::arange(length, options).mul(2.0 / static_cast<double>(length - 1)).sub(1);
  const Tensor height = place.mul(place).neg().add(1).clamp_min(0).sqrt().mul(beta);
  window.copy_(height.i0().div(at::scalar_tensor(beta, options).i0()));
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_weight_norm_interface", TORCH_FN(weight_norm));
  m.impl("_weight_norm_interface_backward", TORCH_FN(weight_norm_backward));
  m.impl("_assert_async", TORCH_FN(assert_async));
  m.impl("_assert_async.msg", TORCH_FN(assert_message));
  m.impl("_functional_assert_async.msg", TORCH_FN(assert_functional));
  m.impl("linalg_cross", TORCH_FN((Made<Cross, at::_ops::linalg_cross>::call)));
  m.impl("linalg_cross.out", TORCH_FN((WrittenTo<Cross, at::_ops::linalg_cross_out>::call)));
  m.impl("renorm", TORCH_FN((Made<Renorm, at::_ops::renorm>::call)));
  m.impl("renorm_", TORCH_FN((InPlace<Renorm, at::_ops::renorm_>::call)));
  m.impl("renorm.out", TORCH_FN((WrittenTo<Renorm, at::_ops::renorm_out>::call)));
  m.impl("trace", TORCH_FN(trace));
  m.impl("equal", TORCH_FN(equal));
  m.impl("narrow_copy", TORCH_FN(narrow_copy));
  m.impl("narrow_copy.out", TORCH_FN(narrow_copy_sizes_out));
  m.impl("unfold_backward", TORCH_FN(unfold_backward));
  m.impl("ldexp.Tensor", TORCH_FN(ldexp));
  m.impl("ldexp_", TORCH_FN(ldexp_in_place));
  m.impl("ldexp.out", TORCH_FN(ldexp_out));
  m.impl("complex.out", TORCH_FN(complex_out));
  m.impl("polar.out", TORCH_FN(polar_out));
}

}  // namespace rustorch

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(kaiser_window_stub, &rustorch::kaiser_window)
}  // namespace at::native
