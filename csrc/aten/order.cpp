// Sorting and selection along a dimension: sort, topk, kthvalue, median, nanmedian, mode.
#include <ATen/WrapDimUtils.h>
#include <ATen/native/ReduceOpsUtils.h>
#include <ATen/native/SortingUtils.h>
#include <ATen/ops/full.h>
#include <ATen/ops/kthvalue_ops.h>
#include <ATen/ops/median_ops.h>
#include <ATen/ops/mode_ops.h>
#include <ATen/ops/nanmedian_ops.h>
#include <ATen/ops/sort_meta.h>
#include <ATen/ops/sort_ops.h>
#include <ATen/ops/topk_meta.h>
#include <ATen/ops/topk_ops.h>
#include <torch/library.h>

#include <limits>

#include "aten/fallback.h"
#include "aten/overlap.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;
using PairOut = std::tuple<Tensor&, Tensor&>;

int64_t wrapped(int64_t dim, const Tensor& self) {
  return at::maybe_wrap_dim(dim, self.dim());
}

void refuse_bool(const char* name, const Tensor& self) {
  TORCH_CHECK_NOT_IMPLEMENTED(self.scalar_type() != at::kBool, "\"", name, "\" not implemented for 'Bool'");
}

// The kernels read the input again while they write.
Tensor apart(const Tensor& self, const Tensor& values) {
  return overlap_status(self, values) == at::MemOverlapStatus::No ? self : self.clone();
}

using Sort = Structured<at::meta::structured_sort_stable, 2>;

void run_sort(Sort& op, const Tensor& self, std::optional<bool> stable, int64_t dim, bool descending) {
  op.meta(self, stable, dim, descending);
  launch(Op::sort_, {op.result(0), op.result(1), apart(self, op.result(0))},
         {wrapped(dim, self), static_cast<int64_t>(descending)});
  op.finish(0);
  op.finish(1);
}

Pair sort(const Tensor& self, std::optional<bool> stable, int64_t dim, bool descending) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::sort_stable>(self, stable, dim, descending);
  }
  Sort op;
  run_sort(op, self, stable, dim, descending);
  return {op.result(0), op.result(1)};
}

PairOut sort_out(const Tensor& self, std::optional<bool> stable, int64_t dim, bool descending, Tensor& values,
                 Tensor& indices) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::sort_values_stable>(self, stable, dim, descending, values, indices);
  }
  Sort op(values, indices);
  run_sort(op, self, stable, dim, descending);
  return {values, indices};
}

using TopK = Structured<at::meta::structured_topk, 2>;

// Sorted, also where the caller asks for less.
void run_topk(TopK& op, const Tensor& self, int64_t k, int64_t dim, bool largest, bool sorted) {
  refuse_bool("topk", self);
  op.meta(self, k, dim, largest, sorted);
  launch(Op::topk_, {op.result(0), op.result(1), apart(self, op.result(0))},
         {wrapped(dim, self), static_cast<int64_t>(largest)});
  op.finish(0);
  op.finish(1);
}

Pair topk(const Tensor& self, c10::SymInt k, int64_t dim, bool largest, bool sorted) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::topk>(self, k, dim, largest, sorted);
  }
  TopK op;
  run_topk(op, self, k.expect_int(), dim, largest, sorted);
  return {op.result(0), op.result(1)};
}

PairOut topk_out(const Tensor& self, c10::SymInt k, int64_t dim, bool largest, bool sorted, Tensor& values,
                 Tensor& indices) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::topk_values>(self, k, dim, largest, sorted, values, indices);
  }
  TopK op(values, indices);
  run_topk(op, self, k.expect_int(), dim, largest, sorted);
  return {values, indices};
}

// Picks one element of each line along `dim`; `scalar` follows the dim in the row's ints.
PairOut choose(Op op, const char* name, const Tensor& self, int64_t dim, bool keepdim, int64_t scalar, Tensor& values,
               Tensor& indices) {
  TORCH_CHECK(self.scalar_type() == values.scalar_type(), name, ": expected values of dtype ", self.scalar_type(),
              ", but got ", values.scalar_type());
  TORCH_CHECK(indices.scalar_type() == at::kLong, name, ": expected indices of dtype Long, but got ",
              indices.scalar_type());
  refuse_overlap(self, values);
  at::native::_reduction_with_indices_allocate_or_resize_output(values, indices, self, dim, keepdim);
  if (values.numel() > 0) {
    launch(op, {values, indices, self}, {dim, scalar});
  }
  if (!keepdim) {
    values.squeeze_(dim);
    indices.squeeze_(dim);
  }
  return {values, indices};
}

PairOut kthvalue_out(const Tensor& self, c10::SymInt k, int64_t dim, bool keepdim, Tensor& values, Tensor& indices) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::kthvalue_values>(self, k, dim, keepdim, values, indices);
  }
  refuse_bool("kthvalue_cpu", self);
  dim = wrapped(dim, self);
  at::native::zero_numel_check_dims(self, dim, "kthvalue()");
  const int64_t rank = k.expect_int();
  TORCH_CHECK(rank >= 1 && rank <= (self.dim() > 0 ? self.size(dim) : 1),
              "kthvalue(): selected number k out of range for dimension ", dim);
  return choose(Op::kth_value_, "kthvalue()", self, dim, keepdim, rank, values, indices);
}

template <bool ignore_nan, class Traits>
PairOut median_out(const Tensor& self, int64_t dim, bool keepdim, Tensor& values, Tensor& indices) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<Traits>(self, dim, keepdim, values, indices);
  }
  refuse_bool("median_out", self);
  dim = wrapped(dim, self);
  at::native::zero_numel_check_dims(self, dim, "median()");
  return choose(Op::median_, "median()", self, dim, keepdim, ignore_nan, values, indices);
}

template <bool ignore_nan, class Traits>
Tensor median_of_all(const Tensor& self) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<Traits>(self);
  }
  refuse_bool("median_cpu", self);
  if (self.numel() == 0) {
    return at::full({}, std::numeric_limits<float>::quiet_NaN()).to(self.scalar_type()).to(self.device());
  }
  Tensor value = empty_dense({1}, self.scalar_type());
  // One line of all: packed where the strides do not make one.
  launch(Op::median_, {value, empty_dense({1}, at::kLong), self.reshape({-1})}, {0, ignore_nan});
  return value.squeeze_(0);
}

PairOut mode_out(const Tensor& self, int64_t dim, bool keepdim, Tensor& values, Tensor& indices) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::mode_values>(self, dim, keepdim, values, indices);
  }
  dim = wrapped(dim, self);
  at::native::zero_numel_check_dims(self, dim, "mode()");
  return choose(Op::mode_, "mode()", self, dim, keepdim, 0, values, indices);
}

Pair mode(const Tensor& self, int64_t dim, bool keepdim) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::mode>(self, dim, keepdim);
  }
  Tensor values = empty_dense({0}, self.scalar_type());
  Tensor indices = empty_dense({0}, at::kLong);
  mode_out(self, dim, keepdim, values, indices);
  return {values, indices};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("sort.stable", TORCH_FN(sort));
  m.impl("sort.values_stable", TORCH_FN(sort_out));
  m.impl("topk", TORCH_FN(topk));
  m.impl("topk.values", TORCH_FN(topk_out));
  m.impl("kthvalue.values", TORCH_FN(kthvalue_out));
  m.impl("median", TORCH_FN((median_of_all<false, at::_ops::median>)));
  m.impl("median.dim_values", TORCH_FN((median_out<false, at::_ops::median_dim_values>)));
  m.impl("nanmedian", TORCH_FN((median_of_all<true, at::_ops::nanmedian>)));
  m.impl("nanmedian.dim_values", TORCH_FN((median_out<true, at::_ops::nanmedian_dim_values>)));
  m.impl("mode", TORCH_FN(mode));
  m.impl("mode.values", TORCH_FN(mode_out));
}

}  // namespace rustorch
