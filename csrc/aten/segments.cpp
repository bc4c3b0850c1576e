// Reductions over consecutive segments of a dimension.
#include <ATen/WrapDimUtils.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_segment_reduce_backward_ops.h>
#include <ATen/ops/segment_reduce_ops.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

int64_t code(c10::string_view reduction) {
  const std::array<c10::string_view, 5> names{"max", "mean", "min", "sum", "prod"};
  const auto found = std::find(names.begin(), names.end(), reduction);
  TORCH_CHECK(found != names.end(), "unsupported reduction given! ", reduction);
  return found - names.begin();
}

bool given(const MaybeTensor& tensor) { return tensor.has_value() && tensor->defined(); }

// The lengths of the segments of `data` along a dimension, which is their last: between the offsets, or given.
Tensor lengths_of(const Tensor& data, int64_t along, const MaybeTensor& lengths, const MaybeTensor& offsets) {
  TORCH_CHECK(given(offsets) || given(lengths), "segment_reduce(): Either lengths or offsets must be defined.");
  const Tensor& marks = given(offsets) ? *offsets : *lengths;
  const char* name = given(offsets) ? "offsets" : "lengths";
  TORCH_CHECK(marks.dim() == along + 1, "segment_reduce(): Expected axis to be the last dimension of ", name,
              " but got ", along, ".");
  TORCH_CHECK(data.dim() >= marks.dim(), "segment_reduce(): Expected data to have at least as many dimensions as ",
              name, ", ", marks.dim(), ", but it has ", data.dim(), ".");
  if (!given(offsets)) {
    return marks;
  }
  const int64_t segments = marks.size(-1) - 1;
  return marks.narrow(-1, 1, segments).sub(marks.narrow(-1, 0, segments));
}

// A tensor as [outer, along, inner], and the lengths of the segments as [outer, segments].
Tensor by_axis(const Tensor& tensor, int64_t axis) {
  const auto sizes = tensor.sizes();
  return tensor.reshape({c10::multiply_integers(sizes.slice(0, axis)), sizes[axis],
                         c10::multiply_integers(sizes.slice(axis + 1))});
}
Tensor rows_of(const Tensor& lengths) {
  return lengths.reshape({c10::multiply_integers(lengths.sizes().slice(0, lengths.dim() - 1)), lengths.size(-1)})
      .to(at::kLong);
}

void launch_segments(Op op, c10::ArrayRef<Operand> operands, c10::string_view reduction,
                     const std::optional<Scalar>& initial) {
  launch(op, operands, {code(reduction), initial.has_value()}, {initial.has_value() ? initial->toDouble() : 0.0});
}

Tensor segment_reduce(const Tensor& data, c10::string_view reduction, const MaybeTensor& lengths,
                      const MaybeTensor& indices, const MaybeTensor& offsets, int64_t axis, bool unsafe,
                      const std::optional<Scalar>& initial) {
  if (!is_native_float(data)) {
    return call_fallback<at::_ops::segment_reduce>(data, reduction, lengths, indices, offsets, axis, unsafe, initial);
  }
  const int64_t along = at::maybe_wrap_dim(axis, data.dim());
  TORCH_CHECK(!given(indices), "segment_reduce(): indices based reduction is not supported yet.");
  const Tensor counts = lengths_of(data, along, lengths, offsets);
  if (!unsafe && !given(offsets)) {
    TORCH_CHECK(counts.numel() == 0 || counts.min().item<int64_t>() >= 0, "lengths contains negative value!");
    TORCH_CHECK(counts.sum({-1}).eq(data.size(along)).all().item<bool>(),
                "segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1) when "
                "!unsafe.");
  }
  at::DimVector sizes(data.sizes());
  sizes[along] = counts.size(-1);
  Tensor out = empty_dense(sizes, data.scalar_type());
  launch_segments(Op::segment_reduce_, {by_axis(out, along), by_axis(data, along), rows_of(counts)}, reduction,
                  initial);
  return out;
}

Tensor segment_reduce_backward(const Tensor& grad, const Tensor& output, const Tensor& data,
                               c10::string_view reduction, const MaybeTensor& lengths, const MaybeTensor& offsets,
                               int64_t axis, const std::optional<Scalar>& initial) {
  if (!is_native_float(data)) {
    return call_fallback<at::_ops::_segment_reduce_backward>(grad, output, data, reduction, lengths, offsets, axis,
                                                             initial);
  }
  const int64_t along = at::maybe_wrap_dim(axis, data.dim());
  const Tensor counts = lengths_of(data, along, lengths, offsets);
  Tensor grad_data = at::zeros(data.sizes(), data.options());
  launch_segments(Op::segment_reduce_backward_,
                  {by_axis(grad_data, along), by_axis(grad, along), by_axis(output, along), by_axis(data, along),
                   rows_of(counts)},
                  reduction, initial);
  return grad_data;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("segment_reduce", TORCH_FN(segment_reduce));
  m.impl("_segment_reduce_backward", TORCH_FN(segment_reduce_backward));
}

}  // namespace rustorch
