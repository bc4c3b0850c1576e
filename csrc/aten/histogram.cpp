// Counting: bincount, histc, histogram and histogramdd.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_histogramdd_bin_edges_ops.h>
#include <ATen/ops/_histogramdd_from_bin_cts_ops.h>
#include <ATen/ops/_histogramdd_from_bin_tensors_ops.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/bincount_ops.h>
#include <ATen/ops/histc.h>
#include <ATen/ops/histc_ops.h>
#include <ATen/ops/histogram_ops.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "aten/fallback.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;
using Weight = std::optional<Tensor>;
using Range = std::optional<at::ArrayRef<double>>;

// How a value's bin is found; the codes of the row's ints.
enum class Find { linear, linear_then_near, search };

bool is_real(const Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble;
}

Tensor bincount(const Tensor& self, const Weight& weights, c10::SymInt given_minlength) {
  const int64_t minlength = given_minlength.expect_int();
  TORCH_CHECK(minlength >= 0, "minlength should be >= 0");
  if (self.dim() == 1 && self.numel() == 0) {
    return at::zeros({minlength}, self.options().dtype(at::kLong));
  }
  TORCH_CHECK_NOT_IMPLEMENTED(at::isIntegralType(self.scalar_type(), /*includeBool=*/false),
                              "\"bincount_cpu\" not implemented for '", self.scalar_type(), "'");
  TORCH_CHECK(self.dim() == 1 && at::amin(self).item<int64_t>() >= 0,
              "bincount only supports 1-d non-negative integral inputs.");
  const bool weighted = weights.has_value() && weights->defined() && weights->numel() > 0;
  TORCH_CHECK(!weighted || (weights->dim() == 1 && weights->size(0) == self.size(0)),
              "weights should be 1-d and have the same length as input");
  const int64_t largest = at::amax(self).item<int64_t>();
  TORCH_CHECK(largest < std::numeric_limits<int64_t>::max(), "maximum value of input overflowed, it should be < ",
              std::numeric_limits<int64_t>::max(), " but got ", largest);
  const auto dtype = !weighted ? at::kLong : weights->scalar_type() == at::kFloat ? at::kFloat : at::kDouble;
  const Tensor out = empty_dense({std::max(largest + 1, minlength)}, dtype);
  launch(Op::bincount_, {out, self, weighted ? weights->to(dtype) : Tensor()});
  return out;
}

// Weights of points in the cells between edges.
void fill_cells(const Tensor& points, const Weight& weight, bool density, Find find, const Tensor& hist,
                at::TensorList edges) {
  const Tensor flat = points.reshape({-1, points.size(-1)});
  const Tensor weights = weight.has_value() && weight->defined() ? weight->reshape({-1}) : Tensor();
  std::vector<Operand> operands{hist, flat, weights};
  for (const Tensor& each : edges) {
    operands.emplace_back(each);
  }
  launch(Op::histogram_, operands, {static_cast<int64_t>(find)});
  if (density) {
    hist.div_(hist.sum());
    for (size_t dim = 0; dim < edges.size(); ++dim) {
      at::DimVector shape(edges.size(), 1);
      shape[dim] = edges[dim].numel() - 1;
      hist.div_(edges[dim].diff().reshape(shape));
    }
  }
}

void check_points(const Tensor& self, at::TensorList bins, const Weight& weight) {
  TORCH_CHECK(self.dim() >= 2, "torch.histogramdd: input tensor should have at least 2 dimensions, but got ",
              self.dim());
  TORCH_CHECK(static_cast<int64_t>(bins.size()) == self.size(-1), "torch.histogramdd: expected ", self.size(-1),
              " sequences of bin edges for a ", self.size(-1), "-dimensional histogram but got ", bins.size());
  for (size_t dim = 0; dim < bins.size(); ++dim) {
    TORCH_CHECK(self.scalar_type() == bins[dim].scalar_type(), "torch.histogramdd: input tensor and bins tensors ",
                "should have the same dtype, but got input with dtype ", self.dtype(), " and bins for dimension ", dim,
                " with dtype ", bins[dim].dtype());
    TORCH_CHECK(bins[dim].dim() == 1, "torch.histogramdd: bins tensor should have one dimension, but got ",
                bins[dim].dim(), " dimensions in the bins tensor for dimension ", dim);
    TORCH_CHECK(bins[dim].numel() > 0, "torch.histogramdd: bins tensor should have at least 1 element, but got ",
                bins[dim].numel(), " elements in the bins tensor for dimension ", dim);
    TORCH_CHECK(bins[dim].numel() > 1, "torch.histogram(): bins must be > 0, but got 0 for dimension ", dim);
  }
  if (weight.has_value() && weight->defined()) {
    TORCH_CHECK(self.scalar_type() == weight->scalar_type(), "torch.histogramdd: if weight tensor is provided, input ",
                "tensor and weight tensor should have the same dtype, but got input(", self.dtype(), "), and weight(",
                weight->dtype(), ")");
    const at::DimVector sizes = weight->dim() == 0 ? at::DimVector{1} : at::DimVector(weight->sizes());
    TORCH_CHECK(self.sizes().slice(0, self.dim() - 1) == at::IntArrayRef(sizes),
                "torch.histogramdd: if weight tensor is provided it should have the same shape as the input tensor ",
                "excluding its innermost dimension, but got input with shape ", self.sizes(),
                " and weight with shape ", weight->sizes());
  }
}

// Evenly spaced edges of each coordinate: from the range, or the smallest and largest value.
std::vector<Tensor> even_edges(const Tensor& self, at::IntArrayRef bins, const Range& range) {
  TORCH_CHECK(self.dim() >= 2, "torch.histogramdd: input tensor should have at least 2 dimensions");
  const int64_t coordinates = self.size(-1);
  TORCH_CHECK(static_cast<int64_t>(bins.size()) == coordinates, "torch.histogramdd: expected ", coordinates,
              " numbers of bins for a ", coordinates, "-dimensional histogram but got ", bins.size());
  TORCH_CHECK(!range.has_value() || static_cast<int64_t>(range->size()) == 2 * coordinates, "torch.histogramdd: for a ",
              coordinates, "-dimensional histogram range should have ", 2 * coordinates, " elements, but got ",
              range.has_value() ? range->size() : 0);
  const Tensor flat = self.reshape({-1, coordinates});
  const bool measured = !range.has_value() && self.numel() > 0;
  const Tensor low = measured ? at::amin(flat, 0) : Tensor();
  const Tensor high = measured ? at::amax(flat, 0) : Tensor();
  std::vector<Tensor> edges;
  for (int64_t dim = 0; dim < coordinates; ++dim) {
    double first = measured ? low[dim].item<double>() : range.has_value() ? (*range)[2 * dim] : 0.0;
    double last = measured ? high[dim].item<double>() : range.has_value() ? (*range)[2 * dim + 1] : 1.0;
    TORCH_CHECK(std::isfinite(first) && std::isfinite(last), "torch.histogramdd: dimension ", dim, "'s range [", first,
                ", ", last, "] is not finite");
    TORCH_CHECK(first <= last, "torch.histogramdd: min should not exceed max, but got min ", first, " max ", last,
                " for dimension ", dim);
    TORCH_CHECK(bins[dim] > 0, "torch.histogram(): bins must be > 0, but got ", bins[dim], " for dimension ", dim);
    if (first == last) {
      first -= 0.5;
      last += 0.5;
    }
    edges.push_back(at::linspace(first, last, bins[dim] + 1, self.options()));
  }
  return edges;
}

at::DimVector cells_between(at::TensorList edges) {
  at::DimVector cells;
  for (const Tensor& each : edges) {
    cells.push_back(each.numel() - 1);
  }
  return cells;
}

Tensor histogram_between(const Tensor& self, at::TensorList edges, const Weight& weight, bool density, Find find) {
  check_points(self, edges, weight);
  const Tensor hist = empty_dense(cells_between(edges), self.scalar_type());
  fill_cells(self, weight, density, find, hist, edges);
  return hist;
}

std::vector<Tensor> histogramdd_edges(const Tensor& self, at::IntArrayRef bins, Range range, const Weight& weight,
                                      bool density) {
  if (!is_real(self)) {
    return call_fallback<at::_ops::_histogramdd_bin_edges>(self, bins, range, weight, density);
  }
  return even_edges(self, bins, range);
}

Tensor histogramdd_of_counts(const Tensor& self, at::IntArrayRef bins, Range range, const Weight& weight,
                             bool density) {
  if (!is_real(self)) {
    return call_fallback<at::_ops::_histogramdd_from_bin_cts>(self, bins, range, weight, density);
  }
  return histogram_between(self, even_edges(self, bins, range), weight, density, Find::linear_then_near);
}

Tensor histogramdd_of_edges(const Tensor& self, at::TensorList bins, const Weight& weight, bool density) {
  if (!is_real(self)) {
    return call_fallback<at::_ops::_histogramdd_from_bin_tensors>(self, bins, weight, density);
  }
  return histogram_between(self, bins, weight, density, Find::search);
}

// `histogram` is one coordinate over all elements.
Tensor as_points(const Tensor& self) {
  return self.reshape({self.numel(), 1});
}
Weight as_weights(const Weight& weight) {
  return weight.has_value() && weight->defined() ? Weight(weight->reshape({weight->numel()})) : std::nullopt;
}

using Pair = std::tuple<Tensor, Tensor>;
using PairOut = std::tuple<Tensor&, Tensor&>;

Pair histogram_of_count(const Tensor& self, int64_t bins, Range range, const Weight& weight, bool density) {
  if (!is_real(self)) {
    return call_fallback<at::_ops::histogram_bin_ct>(self, bins, range, weight, density);
  }
  const Tensor points = as_points(self);
  const Tensor edges = even_edges(points, {bins}, range)[0];
  return {histogram_between(points, {edges}, as_weights(weight), density, Find::linear_then_near), edges};
}

Pair histogram_of_edges(const Tensor& self, const Tensor& bins, const Weight& weight, bool density) {
  if (!is_real(self)) {
    return call_fallback<at::_ops::histogram_bins_tensor>(self, bins, weight, density);
  }
  return {histogram_between(as_points(self), {bins}, as_weights(weight), density, Find::search), bins.clone()};
}

// Moves fresh results into the tensors of an out= form.
PairOut write_to(const Tensor& self, const Pair& made, Tensor& hist, Tensor& edges) {
  TORCH_CHECK(self.scalar_type() == hist.scalar_type(), "torch.histogram: input tensor and hist tensor should have ",
              "the same dtype, but got input ", self.dtype(), " and hist ", hist.dtype());
  TORCH_CHECK(self.scalar_type() == edges.scalar_type(), "torch.histogram: input tensor and bin_edges tensor should ",
              "have the same dtype, but got input ", self.dtype(), " and bin_edges ", edges.dtype());
  at::native::resize_output(edges, std::get<1>(made).sizes());
  at::native::resize_output(hist, std::get<0>(made).sizes());
  hist.copy_(std::get<0>(made));
  edges.copy_(std::get<1>(made));
  return {hist, edges};
}

PairOut histogram_of_count_out(const Tensor& self, int64_t bins, Range range, const Weight& weight, bool density,
                               Tensor& hist, Tensor& edges) {
  return write_to(self, histogram_of_count(self, bins, range, weight, density), hist, edges);
}

PairOut histogram_of_edges_out(const Tensor& self, const Tensor& bins, const Weight& weight, bool density,
                               Tensor& hist, Tensor& edges) {
  return write_to(self, histogram_of_edges(self, bins, weight, density), hist, edges);
}

Tensor& histc_out(const Tensor& self, int64_t bins, const Scalar& min, const Scalar& max, Tensor& out) {
  if (at::isIntegralType(self.scalar_type(), /*includeBool=*/false) && is_native(self.scalar_type())) {
    TORCH_CHECK(self.scalar_type() == out.scalar_type(), "torch.histogram: input tensor and hist tensor should have ",
                "the same dtype, but got input ", self.dtype(), " and hist ", out.dtype());
    at::native::resize_output(out, {bins});
    return out.copy_(at::histc(self.to(at::kDouble), bins, min, max));
  }
  if (!is_native(self.scalar_type()) || !at::isFloatingType(self.scalar_type())) {
    return call_fallback<at::_ops::histc_out>(self, bins, min, max, out);
  }
  TORCH_CHECK(self.scalar_type() == out.scalar_type(), "torch.histogram: input tensor and hist tensor should have the ",
              "same dtype, but got input ", self.dtype(), " and hist ", out.dtype());
  TORCH_CHECK(bins > 0, "torch.histogram(): bins must be > 0, but got ", bins, " for dimension 0");
  double first = min.to<double>();
  double last = max.to<double>();
  if (first == last && self.numel() > 0) {
    first = at::amin(self).item<double>();
    last = at::amax(self).item<double>();
  }
  if (first == last) {
    first -= 1;
    last += 1;
  }
  TORCH_CHECK(std::isfinite(first) && std::isfinite(last), "torch.histc: range of [", first, ", ", last,
              "] is not finite");
  TORCH_CHECK(first < last, "torch.histc: max must be larger than min");
  at::native::resize_output(out, {bins});
  fill_cells(as_points(self), std::nullopt, false, Find::linear, out,
             {at::linspace(first, last, bins + 1, self.options())});
  return out;
}

Tensor histc(const Tensor& self, int64_t bins, const Scalar& min, const Scalar& max) {
  Tensor out = empty_dense({0}, self.scalar_type());
  return histc_out(self, bins, min, max, out);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("bincount", TORCH_FN(bincount));
  m.impl("_histogramdd_bin_edges", TORCH_FN(histogramdd_edges));
  m.impl("_histogramdd_from_bin_cts", TORCH_FN(histogramdd_of_counts));
  m.impl("_histogramdd_from_bin_tensors", TORCH_FN(histogramdd_of_edges));
  m.impl("histogram.bin_ct", TORCH_FN(histogram_of_count));
  m.impl("histogram.bin_ct_out", TORCH_FN(histogram_of_count_out));
  m.impl("histogram.bins_tensor", TORCH_FN(histogram_of_edges));
  m.impl("histogram.bins_tensor_out", TORCH_FN(histogram_of_edges_out));
  m.impl("histc", TORCH_FN(histc));
  m.impl("histc.out", TORCH_FN(histc_out));
}

}  // namespace rustorch
