// Matrix products. ATen's metas check shapes and infer the output; what its CPU kernels check
// beside (dtypes, the input's expansion) is checked here in the same words.
#include <ATen/ExpandUtils.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/native/TypeProperties.h>
#include <ATen/ops/_efficientzerotensor.h>
#include <ATen/ops/addbmm_ops.h>
#include <ATen/ops/addmm_meta.h>
#include <ATen/ops/addmm_ops.h>
#include <ATen/ops/addmv_meta.h>
#include <ATen/ops/addmv_ops.h>
#include <ATen/ops/addr_native.h>
#include <ATen/ops/baddbmm_meta.h>
#include <ATen/ops/baddbmm_ops.h>
#include <ATen/ops/bmm_meta.h>
#include <ATen/ops/bmm_ops.h>
#include <ATen/ops/dot_ops.h>
#include <ATen/ops/mm_meta.h>
#include <ATen/ops/mm_ops.h>
#include <ATen/ops/vdot_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "aten/pointwise.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;

// Bool and complex products go to the CPU's kernels, which refuse or compute them.
bool has_product(const Tensor& tensor) {
  return is_native(tensor.scalar_type()) && tensor.scalar_type() != at::kBool;
}

// A tensor seen through broadcasting, for one launch.
struct Expanded {
  Expanded(const Tensor& tensor, at::IntArrayRef wanted) : sizes(wanted.begin(), wanted.end()), tensor(tensor) {
    // Strides are inferred, not set on a tensor, which would cost a trip through the dispatcher.
    strides = at::inferExpandGeometry_dimvector(tensor.sizes(), tensor.strides(), wanted).strides;
  }
  Operand operand() const { return Operand(tensor, sizes, strides); }

  at::DimVector sizes;
  at::DimVector strides;
  const Tensor& tensor;
};

// A vector as a matrix of one column or row.
struct Matrix {
  enum class As { column, row };
  Matrix(const Tensor& vector, As as) : tensor(vector) {
    const int64_t size = vector.numel();
    const int64_t stride = vector.dim() == 0 ? 1 : vector.stride(0);
    sizes = as == As::column ? std::array<int64_t, 2>{size, 1} : std::array<int64_t, 2>{1, size};
    strides = as == As::column ? std::array<int64_t, 2>{stride, 1} : std::array<int64_t, 2>{1, stride};
  }
  Operand operand() const { return Operand(tensor, sizes, strides); }

  std::array<int64_t, 2> sizes;
  std::array<int64_t, 2> strides;
  const Tensor& tensor;
};

// A factor of products of `dtype`, in the type of their arithmetic.
Number factor_of(const Scalar& factor, at::ScalarType dtype) { return Number(factor, arithmetic_type(dtype)); }

// The scalars of a product's row: of the input, and of the product.
struct Scale {
  Scale(const Scalar& beta, const Scalar& alpha, at::ScalarType dtype)
      : of_input(factor_of(beta, dtype)), of_product(factor_of(alpha, dtype)) {}
  Scale(const Number& of_input, const Number& of_product) : of_input(of_input), of_product(of_product) {}
  std::array<int64_t, 2> ints() const { return {of_input.as_int, of_product.as_int}; }
  std::array<double, 2> floats() const { return {of_input.as_float, of_product.as_float}; }

  Number of_input;
  Number of_product;
};

void check_in_place(const Tensor& self, at::IntArrayRef result) {
  TORCH_CHECK(self.sizes() == result, "Bad in-place call: input tensor size ", self.sizes(),
              " and output tensor size ", result, " should match");
}

void check_batches(const Tensor& a, const Tensor& b) {
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "expected scalar type ", a.scalar_type(), " but found ",
              b.scalar_type());
}

// Matrices that fit and are of one dtype, of which a meta would have nothing to say.
bool fit(const Tensor& a, const Tensor& b) {
  return a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && a.scalar_type() == b.scalar_type();
}

template <class... Given>
Tensor mm_into(const Tensor& a, const Tensor& b, const Given&... given) {
  Structured<at::meta::structured_mm> op(given...);
  op.meta(a, b);
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "expected m1 and m2 to have the same dtype, but got: ", a.dtype(),
              " != ", b.dtype());
  at::assert_no_internal_overlap(op.result());
  launch(Op::matmul_, {op.result(), a, b});
  return op.finish();
}

Tensor mm(const Tensor& a, const Tensor& b) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::mm>(a, b);
  }
  if (fit(a, b)) {
    Tensor result = empty_dense({a.size(0), b.size(1)}, a.scalar_type());
    launch(Op::matmul_, {result, a, b});
    return result;
  }
  return mm_into(a, b);
}

Tensor& mm_out(const Tensor& a, const Tensor& b, Tensor& out) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::mm_out>(a, b, out);
  }
  mm_into(a, b, out);
  return out;
}

template <class... Given>
Tensor bmm_into(const Tensor& a, const Tensor& b, const Given&... given) {
  Structured<at::meta::structured_bmm> op(given...);
  op.meta(a, b);
  check_batches(a, b);
  at::assert_no_internal_overlap(op.result());
  launch(Op::batch_matmul_, {op.result(), a, b});
  return op.finish();
}

Tensor bmm(const Tensor& a, const Tensor& b) {
  return has_product(a) ? bmm_into(a, b) : call_fallback<at::_ops::bmm>(a, b);
}

Tensor& bmm_out(const Tensor& a, const Tensor& b, Tensor& out) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::bmm_out>(a, b, out);
  }
  bmm_into(a, b, out);
  return out;
}

template <class... Given>
Tensor addmm_into(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha,
                  const Given&... given) {
  Structured<at::meta::structured_addmm> op(given...);
  op.meta(self, a, b, beta, alpha);
  const Expanded input(self, op.result().sizes());
  at::assert_no_internal_overlap(op.result());
  const Scale scale(beta, alpha, op.result().scalar_type());
  launch(Op::addmm_, {op.result(), input.operand(), a, b}, scale.ints(), scale.floats());
  return op.finish();
}

Tensor addmm(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::addmm>(self, a, b, beta, alpha);
  }
  // A linear layer's.
  if (self.dim() == 1 && fit(a, b) && self.size(0) == b.size(1) && self.scalar_type() == a.scalar_type()) {
    const std::array<int64_t, 2> sizes{a.size(0), b.size(1)};
    const std::array<int64_t, 2> strides{0, self.stride(0)};
    const Scale scale(beta, alpha, a.scalar_type());
    Tensor result = empty_dense(sizes, a.scalar_type());
    launch(Op::addmm_, {result, Operand(self, sizes, strides), a, b}, scale.ints(), scale.floats());
    return result;
  }
  return addmm_into(self, a, b, beta, alpha);
}

Tensor& addmm_out(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha,
                  Tensor& out) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::addmm_out>(self, a, b, beta, alpha, out);
  }
  addmm_into(self, a, b, beta, alpha, out);
  return out;
}

Tensor& addmm_in_place(Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::addmm_>(self, a, b, beta, alpha);
  }
  if (a.dim() == 2 && b.dim() == 2) {
    check_in_place(self, {a.size(0), b.size(1)});
  }
  addmm_into(self, a, b, beta, alpha, self);
  return self;
}

template <class... Given>
Tensor baddbmm_into(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha,
                    const Given&... given) {
  check_batches(a, b);
  const bool batches = a.dim() == 3 && b.dim() == 3;
  const std::array<int64_t, 3> sizes = batches ? std::array{a.size(0), a.size(1), b.size(2)} : std::array<int64_t, 3>{};
  if constexpr (sizeof...(given) == 0) {
    // The meta wants an input of the output's shape.
    if (batches && self.sizes() != at::IntArrayRef(sizes)) {
      const auto geometry = at::inferExpandGeometry_dimvector(self.sizes(), self.strides(), sizes);
      return baddbmm_into(self.as_strided(geometry.sizes, geometry.strides), a, b, beta, alpha);
    }
  }
  Structured<at::meta::structured_baddbmm> op(given...);
  op.meta(self, a, b, beta, alpha);
  const Expanded input(self, op.result().sizes());
  at::assert_no_internal_overlap(op.result());
  const Scale scale(beta, alpha, op.result().scalar_type());
  launch(Op::addmm_, {op.result(), input.operand(), a, b}, scale.ints(), scale.floats());
  return op.finish();
}

Tensor baddbmm(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  return has_product(a) ? baddbmm_into(self, a, b, beta, alpha)
                        : call_fallback<at::_ops::baddbmm>(self, a, b, beta, alpha);
}

Tensor& baddbmm_out(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha,
                    Tensor& out) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::baddbmm_out>(self, a, b, beta, alpha, out);
  }
  baddbmm_into(self, a, b, beta, alpha, out);
  return out;
}

Tensor& baddbmm_in_place(Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::baddbmm_>(self, a, b, beta, alpha);
  }
  if (a.dim() == 3 && b.dim() == 3) {
    check_in_place(self, {a.size(0), a.size(1), b.size(2)});
  }
  baddbmm_into(self, a, b, beta, alpha, self);
  return self;
}

template <class... Given>
Tensor addmv_into(const Tensor& self, const Tensor& matrix, const Tensor& vector, const Scalar& beta,
                  const Scalar& alpha, const Given&... given) {
  Structured<at::meta::structured_addmv> op(given...);
  op.meta(self, matrix, vector, beta, alpha);
  TORCH_CHECK(self.scalar_type() == matrix.scalar_type() && matrix.scalar_type() == vector.scalar_type(),
              "addmv input tensors must have the same dtype, but got ", self.scalar_type(), ", ",
              matrix.scalar_type(), ", and ", vector.scalar_type());
  at::assert_no_internal_overlap(op.result());
  const Expanded input(self, op.result().sizes());
  const std::array<int64_t, 2> input_sizes{input.sizes[0], 1};
  const std::array<int64_t, 2> input_strides{input.strides[0], 1};
  const Matrix out(op.result(), Matrix::As::column);
  const Matrix factor(vector, Matrix::As::column);
  // Other than its kin, this op takes its factors in its own type.
  const auto dtype = op.result().scalar_type();
  const Scale scale{Number(beta, dtype), Number(alpha, dtype)};
  launch(Op::addmm_, {out.operand(), Operand(self, input_sizes, input_strides), matrix, factor.operand()}, scale.ints(),
         scale.floats());
  return op.finish();
}

Tensor addmv(const Tensor& self, const Tensor& matrix, const Tensor& vector, const Scalar& beta, const Scalar& alpha) {
  return has_product(matrix) ? addmv_into(self, matrix, vector, beta, alpha)
                             : call_fallback<at::_ops::addmv>(self, matrix, vector, beta, alpha);
}

Tensor& addmv_out(const Tensor& self, const Tensor& matrix, const Tensor& vector, const Scalar& beta,
                  const Scalar& alpha, Tensor& out) {
  if (!has_product(matrix)) {
    return call_fallback<at::_ops::addmv_out>(self, matrix, vector, beta, alpha, out);
  }
  addmv_into(self, matrix, vector, beta, alpha, out);
  return out;
}

Tensor& addmv_in_place(Tensor& self, const Tensor& matrix, const Tensor& vector, const Scalar& beta,
                       const Scalar& alpha) {
  if (!has_product(matrix)) {
    return call_fallback<at::_ops::addmv_>(self, matrix, vector, beta, alpha);
  }
  if (matrix.dim() == 2) {
    check_in_place(self, {matrix.size(0)});
  }
  addmv_into(self, matrix, vector, beta, alpha, self);
  return self;
}

Tensor dot(const Tensor& a, const Tensor& b) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::dot>(a, b);
  }
  TORCH_CHECK(a.dim() == 1 && b.dim() == 1, "1D tensors expected, but got ", a.dim(), "D and ", b.dim(), "D tensors");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "dot : expected both vectors to have same dtype, but found ",
              a.scalar_type(), " and ", b.scalar_type());
  TORCH_CHECK(a.numel() == b.numel(), "inconsistent tensor size, expected tensor ", a.sizes(), " and src ", b.sizes(),
              " to have the same number of elements, but got ", a.numel(), " and ", b.numel(),
              " elements respectively");
  // Autograd hands such tensors to this op as they are: they have no memory.
  if (a._is_zerotensor() || b._is_zerotensor()) {
    return at::_efficientzerotensor({}, a.options());
  }
  const Tensor result = empty_dense({}, a.scalar_type());
  const Matrix out(result, Matrix::As::column);
  const Matrix row(a, Matrix::As::row);
  const Matrix column(b, Matrix::As::column);
  launch(Op::matmul_, {out.operand(), row.operand(), column.operand()});
  return result;
}

Tensor vdot(const Tensor& a, const Tensor& b) {
  return a.is_complex() || b.is_complex() ? call_fallback<at::_ops::vdot>(a, b) : rustorch::dot(a, b);
}

// The sum over a batch of products is one product: rows of all of `a` side by side, by all of `b`.
struct SideBySide {
  SideBySide(const Tensor& self, const Tensor& a, const Tensor& b) : input(self.expand({a.size(1), b.size(2)})) {
    TORCH_CHECK(a.dim() == 3, "batch1 must be a 3D tensor");
    TORCH_CHECK(b.dim() == 3, "batch2 must be a 3D tensor");
    TORCH_CHECK(a.size(0) == b.size(0), "batch1 and batch2 must have same number of batches, got ", a.size(0), " and ",
                b.size(0));
    TORCH_CHECK(a.size(2) == b.size(1), "Incompatible matrix sizes for bmm (", a.size(1), "x", a.size(2), " and ",
                b.size(1), "x", b.size(2), ")");
    check_batches(a, b);
    rows = a.transpose(0, 1).reshape({a.size(1), a.size(0) * a.size(2)});
    columns = b.reshape({b.size(0) * b.size(1), b.size(2)});
  }
  Tensor input;
  Tensor rows;
  Tensor columns;
};

Tensor addbmm(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::addbmm>(self, a, b, beta, alpha);
  }
  const SideBySide one(self, a, b);
  return rustorch::addmm(one.input, one.rows, one.columns, beta, alpha);
}

Tensor& addbmm_out(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha,
                   Tensor& out) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::addbmm_out>(self, a, b, beta, alpha, out);
  }
  const SideBySide one(self, a, b);
  return rustorch::addmm_out(one.input, one.rows, one.columns, beta, alpha, out);
}

Tensor& addbmm_in_place(Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  if (!has_product(a)) {
    return call_fallback<at::_ops::addbmm_>(self, a, b, beta, alpha);
  }
  const SideBySide one(self, a, b);
  if (self.sizes() != one.input.sizes()) {
    // This op, other than its kin, resizes an input that broadcasts.
    const Tensor result = rustorch::addmm(one.input, one.rows, one.columns, beta, alpha);
    return self.resize_(result.sizes()).copy_(result);
  }
  return addmm_in_place(self, one.rows, one.columns, beta, alpha);
}

// A factor of an outer product, as the CPU takes it.
Scalar addr_factor(const Scalar& factor, at::ScalarType dtype, const char* name) {
  TORCH_CHECK(!factor.isBoolean() || dtype == at::kBool, "Boolean ", name, " only supported for Boolean results.");
  const bool is_integral = at::isIntegralType(dtype, /*includeBool=*/true);
  TORCH_CHECK(!is_integral || factor.isIntegral(/*includeBool=*/true), "For integral input tensors, argument ", name,
              " must not be a floating point number.");
  if (at::isComplexType(dtype)) {
    return factor;
  }
  const Number number(factor, dtype);
  if (!is_integral) {
    return number.as_float;
  }
  return dtype == at::kBool ? Scalar(number.as_int != 0) : Scalar(number.as_int);
}

// The types that an outer product is of.
at::ScalarType addr_type(const Tensor& self, const Tensor& a, const Tensor& b) {
  return c10::promoteTypes(self.scalar_type(), at::native::result_type(a, b));
}

// Composite.
Tensor addr(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha) {
  const auto dtype = addr_type(self, a, b);
  return at::native::math_addr(self, a, b, addr_factor(beta, dtype, "beta"), addr_factor(alpha, dtype, "alpha"));
}

// Composite. In place, the composite form would resize an input that broadcasts.
Tensor& addr_out(const Tensor& self, const Tensor& a, const Tensor& b, const Scalar& beta, const Scalar& alpha,
                 Tensor& out) {
  if (out.is_same(self)) {
    TORCH_CHECK(self.dim() == 2, "2D tensor expected, got ", self.dim(), "D tensor for input");
  }
  const auto dtype = addr_type(self, a, b);
  return at::native::math_addr_out(self, a, b, addr_factor(beta, dtype, "beta"), addr_factor(alpha, dtype, "alpha"),
                                   out);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("addbmm", TORCH_FN(addbmm));
  m.impl("addbmm_", TORCH_FN(addbmm_in_place));
  m.impl("addbmm.out", TORCH_FN(addbmm_out));
  m.impl("vdot", TORCH_FN(vdot));
  m.impl("mm", TORCH_FN(mm));
  m.impl("mm.out", TORCH_FN(mm_out));
  m.impl("bmm", TORCH_FN(bmm));
  m.impl("bmm.out", TORCH_FN(bmm_out));
  m.impl("addmm", TORCH_FN(addmm));
  m.impl("addmm_", TORCH_FN(addmm_in_place));
  m.impl("addmm.out", TORCH_FN(addmm_out));
  m.impl("baddbmm", TORCH_FN(baddbmm));
  m.impl("baddbmm_", TORCH_FN(baddbmm_in_place));
  m.impl("baddbmm.out", TORCH_FN(baddbmm_out));
  m.impl("addmv", TORCH_FN(addmv));
  m.impl("addmv_", TORCH_FN(addmv_in_place));
  m.impl("addmv.out", TORCH_FN(addmv_out));
  m.impl("addr", TORCH_FN(addr));
  m.impl("addr.out", TORCH_FN(addr_out));
  m.impl("dot", TORCH_FN(dot));
}

}  // namespace
}  // namespace rustorch
