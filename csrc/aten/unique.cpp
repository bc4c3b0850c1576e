// What is distinct: unique over all elements or along a dimension, and among neighbours.
#include <ATen/WrapDimUtils.h>
#include <ATen/ops/_unique2_ops.h>
#include <ATen/ops/_unique_ops.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/take.h>
#include <ATen/ops/unique_consecutive_ops.h>
#include <ATen/ops/unique_dim_consecutive_ops.h>
#include <ATen/ops/unique_dim_ops.h>
#include <torch/library.h>

#include <algorithm>

#include "aten/fallback.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using Triple = std::tuple<Tensor, Tensor, Tensor>;

// Slices along `dim`, each dense in memory, one after another: as the CPU's result lies.
Tensor picked(const Tensor& self, int64_t dim, const Tensor& picks) {
  return at::index_select(self.movedim(dim, 0), 0, picks).contiguous().movedim(0, dim);
}

// Values, inverse and counts over slices along `dim`, or over all elements. How many there are is
// known only afterwards, so the kernel says where each is first, and the values are picked then.
Triple distinct(const Tensor& self, std::optional<int64_t> dim, bool consecutive, bool return_inverse,
                bool return_counts) {
  const int64_t slices = dim.has_value() ? self.size(*dim) : self.numel();
  const auto longs = [](bool wanted, int64_t size) { return wanted ? empty_dense({size}, at::kLong) : Tensor(); };
  const Tensor count = empty_dense({}, at::kLong);
  const Tensor first = longs(true, slices);
  Tensor inverse = longs(return_inverse, slices);
  Tensor counts = longs(return_counts, slices);
  launch(Op::unique_, {count, first, inverse, counts, self},
         {dim.value_or(-1), static_cast<int64_t>(consecutive)});
  const int64_t found = *count.const_data_ptr<int64_t>();
  const Tensor picks = first.narrow(0, 0, found);
  Tensor values = dim.has_value() ? picked(self, *dim, picks) : at::take(self, picks);
  inverse = !return_inverse ? longs(true, 0) : dim.has_value() ? inverse : inverse.view(self.sizes());
  // A copy, so that the result holds no more memory than it shows.
  counts = return_counts ? counts.narrow(0, 0, found).clone() : longs(true, 0);
  return {values, inverse, counts};
}

Triple distinct_along(const Tensor& self, int64_t dim, bool consecutive, bool return_inverse, bool return_counts) {
  dim = at::maybe_wrap_dim(dim, self.dim());
  const auto empty_dims = std::count(self.sizes().begin(), self.sizes().end(), 0);
  if (self.size(dim) == 0) {
    TORCH_CHECK(empty_dims == 1, "Number of zero sized dimensions is more than one, so unique cannot be applied ");
    return {at::empty(self.sizes(), self.options()), empty_dense({0}, at::kLong), empty_dense({0}, at::kLong)};
  }
  TORCH_CHECK(empty_dims == 0, "There are 0 sized dimensions, and they aren't selected, so unique cannot be applied");
  return distinct(self, dim, consecutive, return_inverse, return_counts);
}

std::tuple<Tensor, Tensor> unique(const Tensor& self, bool sorted, bool return_inverse) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::_unique>(self, sorted, return_inverse);
  }
  auto [values, inverse, counts] = distinct(self, std::nullopt, false, return_inverse, false);
  return {values, inverse};
}

Triple unique_with_counts(const Tensor& self, bool sorted, bool return_inverse, bool return_counts) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::_unique2>(self, sorted, return_inverse, return_counts);
  }
  return distinct(self, std::nullopt, false, return_inverse, return_counts);
}

Triple unique_dim(const Tensor& self, int64_t dim, bool sorted, bool return_inverse, bool return_counts) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::unique_dim>(self, dim, sorted, return_inverse, return_counts);
  }
  return distinct_along(self, dim, false, return_inverse, return_counts);
}

Triple unique_dim_consecutive(const Tensor& self, int64_t dim, bool return_inverse, bool return_counts) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::unique_dim_consecutive>(self, dim, return_inverse, return_counts);
  }
  return distinct_along(self, dim, true, return_inverse, return_counts);
}

Triple unique_consecutive(const Tensor& self, bool return_inverse, bool return_counts, std::optional<int64_t> dim) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::unique_consecutive>(self, return_inverse, return_counts, dim);
  }
  if (!dim.has_value() || (*dim == 0 && self.dim() == 1)) {
    return distinct(self, std::nullopt, true, return_inverse, return_counts);
  }
  return distinct_along(self, *dim, true, return_inverse, return_counts);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_unique", TORCH_FN(unique));
  m.impl("_unique2", TORCH_FN(unique_with_counts));
  m.impl("unique_dim", TORCH_FN(unique_dim));
  m.impl("unique_dim_consecutive", TORCH_FN(unique_dim_consecutive));
  m.impl("unique_consecutive", TORCH_FN(unique_consecutive));
}

}  // namespace rustorch
