// Tensors of arithmetic and geometric sequences, and the identity.
#include <ATen/core/Tensor.h>
#include <ATen/native/Resize.h>
#include <ATen/native/RangeUtils.h>
#include <ATen/ops/arange_ops.h>
#include <ATen/ops/linspace_ops.h>
#include <ATen/ops/logspace_ops.h>
#include <torch/library.h>

#include <cmath>

#include "aten/fallback.h"
#include "aten/pointwise.h"
#include "aten/structured.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;

// How many elements `arange` gives, by ATen's own rule: of integers exactly, else in double.
int64_t arange_size(const Scalar& start, const Scalar& end, const Scalar& step, at::ScalarType dtype) {
  return dtype == at::kLong ? at::native::compute_arange_size<int64_t>(start, end, step)
                            : at::native::compute_arange_size<double>(start, end, step);
}

// Fills `out` as one line, in order, whatever its shape.
Tensor& write_line(Op op, Tensor& out, const ScalarArguments& scalars) {
  if (out.dim() == 1) {
    launch(op, {out}, scalars.ints, scalars.floats);
    return out;
  }
  const Tensor line = empty_dense({out.numel()}, out.scalar_type());
  launch(op, {line}, scalars.ints, scalars.floats);
  return out.copy_(line.view(out.sizes()));
}

ScalarArguments start_and_step(const Scalar& start, const Scalar& step) {
  ScalarArguments scalars;
  scalars.add(start);
  scalars.add(step);
  return scalars;
}

Tensor& arange_out(const Scalar& start, const Scalar& end, const Scalar& step, Tensor& out) {
  if (!is_native(out.scalar_type())) {
    return call_fallback<at::_ops::arange_start_out>(start, end, step, out);
  }
  TORCH_CHECK_NOT_IMPLEMENTED(out.scalar_type() != at::kBool, "\"arange_cpu\" not implemented for 'Bool'");
  const int64_t size = arange_size(start, end, step, out.scalar_type());
  if (out.numel() != size) {
    out.resize_({size});
  }
  return write_line(Op::arange_, out, start_and_step(start, step));
}

// Both ends included, by ATen's rule.
Tensor& range_out(const Scalar& start, const Scalar& end, const Scalar& step, Tensor& out) {
  const double by = step.toDouble();
  const double first = start.toDouble();
  const double last = end.toDouble();
  TORCH_CHECK(by > 0 || by < 0, "step must be nonzero");
  TORCH_CHECK(std::isfinite(first) && std::isfinite(last), "unsupported range: ", first, " -> ", last);
  TORCH_CHECK((by > 0 && last >= first) || (by < 0 && last <= first),
              "upper bound and lower bound inconsistent with step sign");
  const auto size = static_cast<int64_t>((last - first) / by + 1);
  if (out.numel() != size) {
    out.resize_({size});
  }
  return write_line(Op::arange_, out, start_and_step(start, step));
}

template <class Traits, bool geometric, class... Base>
Tensor& spaced_out(const Scalar& start, const Scalar& end, int64_t steps, Base... base, Tensor& out) {
  TORCH_CHECK(steps >= 0, "number of steps must be non-negative");
  if (start.isComplex() || end.isComplex() || !is_native(out.scalar_type()) || out.scalar_type() == at::kBool) {
    return call_fallback<Traits>(start, end, steps, base..., out);
  }
  if (out.numel() != steps) {
    out.resize_({steps});
  }
  // Both ends are numbers that the result has.
  ScalarArguments scalars;
  scalars.add_in(out.scalar_type(), start);
  scalars.add_in(out.scalar_type(), end);
  (scalars.add(base), ...);
  return write_line(geometric ? Op::logspace_ : Op::linspace_, out, scalars);
}

Tensor& eye_m_out(int64_t rows, int64_t columns, Tensor& out) {
  TORCH_CHECK(rows >= 0, "n must be greater or equal to 0, got ", rows);
  TORCH_CHECK(columns >= 0, "m must be greater or equal to 0, got ", columns);
  out.resize_({rows, columns});
  out.zero_();
  out.diagonal().fill_(1);
  return out;
}

Tensor& eye_out(int64_t size, Tensor& out) { return eye_m_out(size, size, out); }

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("arange.start_out", TORCH_FN(arange_out));
  m.impl("range.out", TORCH_FN(range_out));
  m.impl("linspace.out", TORCH_FN((spaced_out<at::_ops::linspace_out, false>)));
  m.impl("logspace.out", TORCH_FN((spaced_out<at::_ops::logspace_out, true, double>)));
  m.impl("eye.out", TORCH_FN(eye_out));
  m.impl("eye.m_out", TORCH_FN(eye_m_out));
}

}  // namespace rustorch
