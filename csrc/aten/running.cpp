// Running extremes and logarithms of sums. Running sums and products are in reduce.cpp.
#include <ATen/WrapDimUtils.h>
#include <ATen/ops/_cummax_helper_ops.h>
#include <ATen/ops/_cummin_helper_ops.h>
#include <ATen/ops/_logcumsumexp_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;

template <Op op, class Traits>
void running_extreme(const Tensor& self, Tensor& values, Tensor& indices, int64_t dim) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<Traits>(self, values, indices, dim);
  }
  launch(op, {values, indices, self}, {at::maybe_wrap_dim(dim, self.dim())});
}

Tensor& logcumsumexp_out(const Tensor& self, int64_t dim, Tensor& out) {
  if (!is_native(self.scalar_type()) || !at::isFloatingType(self.scalar_type())) {
    return call_fallback<at::_ops::_logcumsumexp_out>(self, dim, out);
  }
  at::native::resize_output(out, self.sizes());
  launch(Op::logcumsumexp_, {out, self}, {at::maybe_wrap_dim(dim, self.dim())});
  return out;
}

Tensor logcumsumexp(const Tensor& self, int64_t dim) {
  Tensor out = empty_dense(self.sizes(), self.scalar_type());
  return logcumsumexp_out(self, dim, out);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_cummax_helper", TORCH_FN((running_extreme<Op::cummax_, at::_ops::_cummax_helper>)));
  m.impl("_cummin_helper", TORCH_FN((running_extreme<Op::cummin_, at::_ops::_cummin_helper>)));
  m.impl("_logcumsumexp", TORCH_FN(logcumsumexp));
  m.impl("_logcumsumexp.out", TORCH_FN(logcumsumexp_out));
}

}  // namespace rustorch
