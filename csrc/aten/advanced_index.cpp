// Indexing with tensors and masks: index, index_put_, nonzero, masked_select, masked_fill_, where.
#include <ATen/ExpandUtils.h>
#include <ATen/native/IndexingUtils.h>
#include <ATen/native/TypeProperties.h>
#include <ATen/ops/_index_put_impl_ops.h>
#include <ATen/ops/any.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/masked_fill_ops.h>
#include <ATen/ops/nonzero_ops.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/where_ops.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "aten/expanded.h"
#include "aten/fallback.h"
#include "aten/layout.h"
#include "aten/overlap.h"
#include "aten/pointwise.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;
using Indices = c10::List<std::optional<Tensor>>;

// How many elements of a result there are.
int64_t count_true(const Tensor& self) {
  require_no_capture("how many elements there are depends on the values of a tensor");
  const Tensor count = empty_dense({}, at::kLong);
  launch(Op::count_true_, {count, self});
  return *count.const_data_ptr<int64_t>();
}

Tensor& nonzero_out(const Tensor& self, Tensor& out) {
  TORCH_CHECK(out.scalar_type() == at::kLong, "nonzero: Expected out tensor to have scalar type Long but got ",
              out.scalar_type());
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::nonzero_out>(self, out);
  }
  at::assert_no_internal_overlap(out);
  refuse_overlap(out, self);
  at::native::resize_output(out, {count_true(self), self.dim()});
  if (out.numel() > 0) {
    launch(Op::nonzero_, {out, self}, {0});
  }
  return out;
}

Tensor nonzero(const Tensor& self) {
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::nonzero>(self);
  }
  // As the CPU's: the places along a dimension lie side by side.
  const int64_t count = count_true(self);
  const Tensor out = at::empty_strided({count, self.dim()}, {1, count}, self.options().dtype(at::kLong));
  if (out.numel() > 0) {
    launch(Op::nonzero_, {out, self}, {0});
  }
  return out;
}

Tensor& masked_select_out(const Tensor& self, const Tensor& mask, Tensor& out) {
  TORCH_CHECK(mask.scalar_type() == at::kBool, "masked_select: expected BoolTensor for mask");
  TORCH_CHECK(self.scalar_type() == out.scalar_type(),
              "masked_select(): self and result must have the same scalar type");
  at::assert_no_internal_overlap(out);
  refuse_overlap(out, self);
  refuse_overlap(out, mask);
  const auto [expanded_mask, expanded] = at::expand_outplace(mask, self);
  at::native::resize_output(out, {count_true(*expanded_mask)});
  launch(Op::masked_select_, {Operand::bits(out), Operand::bits(*expanded), *expanded_mask});
  return out;
}

Tensor masked_select(const Tensor& self, const Tensor& mask) {
  Tensor out = empty_dense({0}, self.scalar_type());
  return masked_select_out(self, mask, out);
}

// The index tensors of a call: masks made into coordinates, on this device.
struct Prepared {
  std::vector<Tensor> indices;
  c10::DimVector sizes;
  // Where in the result's sizes those of the broadcast indices are, and how many.
  int64_t place = 0;
  int64_t broadcast_rank = 0;

  Prepared(const Tensor& self, const Indices& given) {
    at::native::checkIndexTensorTypes(given, /*allow_int=*/true);
    TORCH_CHECK_INDEX(static_cast<int64_t>(given.size()) <= self.dim() || has_mask(given),
                      "too many indices for tensor of dimension ", self.dim(), " (got ", given.size(), ")");
    indices = at::native::expandTensors(self, given, /*ensure_same_device=*/true);
    TORCH_CHECK_INDEX(static_cast<int64_t>(indices.size()) <= self.dim(), "too many indices for tensor of dimension ",
                      self.dim(), " (got ", indices.size(), ")");
    c10::DimVector broadcast;
    int64_t first = -1;
    int64_t last = -1;
    bool neighbours = true;
    for (int64_t dim = 0; dim < static_cast<int64_t>(indices.size()); ++dim) {
      if (!indices[dim].defined()) {
        continue;
      }
      neighbours = neighbours && (last < 0 || last == dim - 1);
      first = first < 0 ? dim : first;
      last = dim;
      include(broadcast, indices[dim].sizes());
    }
    place = neighbours && first > 0 ? first : 0;
    broadcast_rank = static_cast<int64_t>(broadcast.size());
    for (int64_t dim = 0; dim < self.dim(); ++dim) {
      const bool indexed = dim < static_cast<int64_t>(indices.size()) && indices[dim].defined();
      if (!indexed) {
        sizes.push_back(self.size(dim));
      }
    }
    sizes.insert(sizes.begin() + place, broadcast.begin(), broadcast.end());
    const auto is_empty = [&](int64_t dim) { return indices[dim].defined() && self.size(dim) == 0; };
    if (std::find(broadcast.begin(), broadcast.end(), 0) == broadcast.end()) {
      for (int64_t dim = 0; dim < static_cast<int64_t>(indices.size()); ++dim) {
        TORCH_CHECK_INDEX(!is_empty(dim), "index is out of bounds for dimension with size 0");
      }
    }
  }

  // As the CPU's iterator lays it out: over `self` with the indices' dimensions in place of those that are indexed.
  Tensor empty_result(const Tensor& self) const {
    const auto is_dense = [](const Tensor& tensor) { return !tensor.defined() || tensor.is_contiguous(); };
    if (is_dense(self) && std::all_of(indices.begin(), indices.end(), is_dense)) {
      return empty_dense(sizes, self.scalar_type());
    }
    const int64_t rest = static_cast<int64_t>(sizes.size()) - broadcast_rank;
    at::DimVector strides;
    for (int64_t dim = 0; dim < self.dim(); ++dim) {
      if (dim >= static_cast<int64_t>(indices.size()) || !indices[dim].defined()) {
        strides.push_back(self.stride(dim));
      }
    }
    strides.insert(strides.begin() + place, broadcast_rank, 0);
    // Only sizes and strides count; the iterator reads no element.
    std::vector<Tensor> inputs{self.as_strided(sizes, strides)};
    for (const Tensor& index : indices) {
      if (index.defined()) {
        at::DimVector shape(place, 1);
        shape.append(index.sizes().begin(), index.sizes().end());
        shape.append(rest - place, 1);
        inputs.push_back(index.reshape(shape));
      }
    }
    return empty_of(inputs, self.scalar_type());
  }

  std::vector<Operand> operands(std::initializer_list<Operand> first) const {
    std::vector<Operand> all(first);
    for (const Tensor& index : indices) {
      all.emplace_back(index);
    }
    return all;
  }

 private:
  static bool has_mask(const Indices& given) {
    for (const std::optional<Tensor>& index : given) {
      if (index.has_value() && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte)) {
        return true;
      }
    }
    return false;
  }

  void include(c10::DimVector& broadcast, at::IntArrayRef own) const {
    if (own.size() > broadcast.size()) {
      broadcast.insert(broadcast.begin(), own.size() - broadcast.size(), 1);
    }
    const size_t added = broadcast.size() - own.size();
    for (size_t dim = 0; dim < own.size(); ++dim) {
      int64_t& size = broadcast[added + dim];
      if (size != own[dim] && size != 1 && own[dim] != 1) {
        std::ostringstream shapes;
        for (const Tensor& index : indices) {
          if (index.defined()) {
            shapes << (shapes.tellp() > 0 ? ", " : "") << index.sizes();
          }
        }
        TORCH_CHECK_INDEX(false, "shape mismatch: indexing tensors could not be broadcast together with shapes ",
                          shapes.str());
      }
      size = size == 1 ? own[dim] : size;
    }
  }
};

Tensor& index_out(const Tensor& self, const Indices& indices, Tensor& out) {
  TORCH_CHECK(self.scalar_type() == out.scalar_type(), "index_out: self (", self.scalar_type(), ") and result (",
              out.scalar_type(), ") must have the same scalar type");
  at::assert_no_internal_overlap(out);
  refuse_overlap(out, self);
  for (const std::optional<Tensor>& index : indices) {
    if (index.has_value()) {
      refuse_overlap(out, *index);
    }
  }
  const Prepared prepared(self, indices);
  at::native::resize_output(out, prepared.sizes);
  if (out.numel() > 0) {
    launch(Op::index_, prepared.operands({Operand::bits(out), Operand::bits(self)}));
  }
  return out;
}

Tensor index(const Tensor& self, const Indices& indices) {
  const Prepared prepared(self, indices);
  const Tensor out = prepared.empty_result(self);
  if (out.numel() > 0) {
    launch(Op::index_, prepared.operands({Operand::bits(out), Operand::bits(self)}));
  }
  return out;
}

// A launch of a pointwise row over operands that were expanded to one shape; `compute` leads the
// ints.
void launch_expanded(Op op, std::initializer_list<Operand> operands, at::ScalarType compute,
                     const ScalarArguments& scalars = {}) {
  c10::SmallVector<int64_t, 2> ints{static_cast<int64_t>(compute)};
  ints.append(scalars.ints.begin(), scalars.ints.end());
  launch(op, operands, ints, scalars.floats);
}

// `self[mask] = value` where the value does not count the mask's elements, which makes it a choice for each element.
// False where it is another assignment.
bool put_where(const Tensor& self, const Indices& indices, const Tensor& value) {
  const std::optional<Tensor>& mask = indices[0];
  if (indices.size() != 1 || !mask.has_value() || mask->scalar_type() != at::kBool || mask->dim() == 0 ||
      mask->device() != self.device() || value.device() != self.device() || !is_native(self.scalar_type()) ||
      mask->dim() > self.dim() || self.sizes().slice(0, mask->dim()) != mask->sizes()) {
    return false;
  }
  const int64_t rest = self.dim() - mask->dim();
  const bool is_counted = value.dim() > rest && value.size(value.dim() - rest - 1) != 1;
  if (is_counted || value.dim() > rest + 1 || at::has_internal_overlap(self) != at::MemOverlap::No) {
    return false;
  }
  const Tensor each = value.dim() > rest ? value.squeeze(0) : value;
  if (!at::is_expandable_to(each.sizes(), self.sizes().slice(mask->dim()))) {
    return false;
  }
  c10::DimVector sizes(mask->sizes());
  sizes.append(rest, 1);
  launch_expanded(Op::where_self_, {self, mask->view(sizes).expand(self.sizes()), each.expand(self.sizes()), self},
                  self.scalar_type());
  return true;
}

bool is_of_masks(const Indices& indices) {
  return std::all_of(indices.begin(), indices.end(), [](const std::optional<Tensor>& index) {
    return !index.has_value() || !index->defined() || index->scalar_type() == at::kBool ||
           index->scalar_type() == at::kByte;
  });
}

// An assignment to an expanded tensor: to a dense one first, then what each element got, together or at last.
void put_expanded(const Tensor& self, const Indices& indices, const Tensor& value, bool accumulate) {
  c10::List<std::optional<Tensor>> list(indices);
  const auto repeated = repeated_dims(self);
  Tensor target = once(self);
  if (accumulate) {
    const Tensor added = at::zeros(self.sizes(), self.options()).index_put_(list, value, /*accumulate=*/true);
    target.add_(added.sum(repeated, /*keepdim=*/true, self.scalar_type()));
    return;
  }
  const Prepared prepared(self, indices);
  const Tensor values = value.expand(prepared.sizes).reshape(-1);
  const auto longs = self.options().dtype(at::kLong);
  const Tensor places = at::arange(values.numel(), longs).reshape(prepared.sizes);
  const Tensor last = at::full(self.sizes(), -1, longs).index_put_(list, places).amax(repeated, /*keepdim=*/true);
  const Tensor got = values.index_select(0, last.clamp_min(0).reshape(-1)).reshape(last.sizes());
  target.copy_(at::where(last.ge(0), got, target));
}

Tensor& index_put_impl(Tensor& self, const Indices& indices, const Tensor& given, bool accumulate, bool unsafe) {
  TORCH_CHECK_INDEX(static_cast<int64_t>(indices.size()) <= self.dim(), "too many indices for tensor of dimension ",
                    self.dim(), " (got ", indices.size(), ")");
  if (at::has_internal_overlap(self) == at::MemOverlap::Yes) {
    TORCH_WARN("Use of index_put_ on expanded tensors is deprecated. Please clone() the tensor before performing this "
               "operation. This also applies to advanced indexing e.g. tensor[indices] = tensor");
  }
  const bool same_dtype = self.scalar_type() == given.scalar_type();
  if (accumulate && same_dtype && !is_native(self.scalar_type())) {
    return call_fallback<at::_ops::_index_put_impl_>(self, indices, given, accumulate, unsafe);
  }
  const bool elsewhere = given.device() != self.device();
  // One number for one mask is `masked_fill_`: in any dtype that it fits, of any shape, from here or from the CPU.
  const bool fills = !accumulate && given.numel() == 1 && indices.size() == 1 && is_of_masks(indices);
  if (fills && (!same_dtype || (elsewhere && given.dim() > 0))) {
    return index_put_impl(self, indices, at::scalar_tensor(given.item(), self.options()), accumulate, unsafe);
  }
  Tensor value = elsewhere && given.dim() == 0 ? given.to(self.device()) : fills ? given.reshape({}) : given;
  if (!accumulate && value.numel() == 1 && is_alias(self, value) && is_of_masks(indices)) {
    // `x[x > 1] = x[0]` reads its number before it writes.
    value = value.clone();
  }
  refuse_overlap(self, value);
  if (!accumulate && same_dtype && !indices.empty() && put_where(self, indices, value)) {
    return self;
  }
  const Prepared prepared(self, indices);
  TORCH_CHECK(at::is_expandable_to(value.sizes(), prepared.sizes), "shape mismatch: value tensor of shape ",
              value.sizes(), " cannot be broadcast to indexing result of shape ", at::IntArrayRef(prepared.sizes));
  TORCH_CHECK(same_dtype, "Index put requires the source and destination dtypes match, got ", self.scalar_type(),
              " for the destination and ", given.scalar_type(), " for the source.");
  if (c10::multiply_integers(prepared.sizes) == 0) {
    return self;
  }
  if (!repeated_dims(self).empty()) {
    put_expanded(self, indices, value, accumulate);
    return self;
  }
  const auto operand = [&](const Tensor& tensor) { return accumulate ? Operand(tensor) : Operand::bits(tensor); };
  launch(Op::index_put_, prepared.operands({operand(self), operand(value)}), {static_cast<int64_t>(accumulate)});
  return self;
}

Tensor& masked_fill_scalar(Tensor& self, const Tensor& mask, const Scalar& value) {
  TORCH_CHECK(mask.scalar_type() == at::kBool, "masked_fill_ only supports boolean masks, but got mask with dtype ",
              mask.dtype());
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::masked_fill__Scalar>(self, mask, value);
  }
  ScalarArguments scalars;
  scalars.add_in(self.scalar_type(), value);
  if (at::has_internal_overlap(self) == at::MemOverlap::Yes) {
    TORCH_WARN("Use of masked_fill_ on expanded tensors is deprecated. Please clone() the tensor before performing "
               "this operation. This also applies to advanced indexing e.g. tensor[mask] = scalar");
  }
  refuse_partial_overlap(self, mask);
  const auto expanded = at::expand_inplace(self, mask, "masked_fill_");
  const auto repeated = repeated_dims(self);
  const Tensor any = repeated.empty() ? *expanded : at::any(*expanded, repeated, /*keepdim=*/true);
  const Tensor target = once(self);
  launch_expanded(Op::masked_fill_, {target, target, any}, self.scalar_type(), scalars);
  return self;
}

Tensor& masked_fill_tensor(Tensor& self, const Tensor& mask, const Tensor& value) {
  TORCH_CHECK(value.dim() == 0, "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with ",
              value.dim(), " dimension(s).");
  if (capturing() && value.scalar_type() == self.scalar_type() && mask.scalar_type() == at::kBool &&
      is_native(self.scalar_type()) && at::has_internal_overlap(self) == at::MemOverlap::No) {
    // Of the same dtype, so that no value is refused: it need not be known.
    refuse_partial_overlap(self, mask);
    const auto expanded = at::expand_inplace(self, mask, "masked_fill_");
    launch_expanded(Op::where_self_, {self, *expanded, value.expand(self.sizes()), self}, self.scalar_type());
    return self;
  }
  return masked_fill_scalar(self, mask, value.item());
}

// Shape and strides of a choice, as the CPU has them.
struct Where : at::TensorIteratorBase {
  void meta(const Tensor& condition, const Tensor& self, const Tensor& other) {
    build(at::TensorIteratorConfig()
              .check_all_same_dtype(false)
              .add_owned_output(maybe_get_output(0))
              .add_owned_const_input(condition)
              .add_owned_const_input(self)
              .add_owned_const_input(other));
  }
};

Tensor& where_out(const Tensor& condition, const Tensor& self, const Tensor& other, Tensor& out) {
  const auto dtype = at::native::result_type(self, other);
  TORCH_CHECK(out.scalar_type() == dtype, "Expected out type to be ", dtype, " but got ", out.scalar_type());
  TORCH_CHECK(condition.scalar_type() == at::kBool || condition.scalar_type() == at::kByte,
              "where expected condition to be a boolean tensor, but got a tensor with dtype ",
              condition.scalar_type());
  if (condition.scalar_type() == at::kByte) {
    TORCH_WARN_ONCE("where received a uint8 condition tensor. This behavior is deprecated and will be removed in a "
                    "future version of PyTorch. Use a boolean condition instead.");
  }
  if (!is_native(self.scalar_type()) || !is_native(other.scalar_type())) {
    return call_fallback<at::_ops::where_self_out>(condition, self, other, out);
  }
  const auto here = [&](const Tensor& tensor) {
    return tensor.dim() == 0 && tensor.is_cpu() ? tensor.to(out.device()) : tensor;
  };
  Structured<Where> iterator(out);
  iterator.meta(here(condition), here(self), here(other));
  launch_iterator(Op::where_self_, iterator, {}, {}, dtype);
  return out;
}

Tensor where(const Tensor& condition, const Tensor& self, const Tensor& other) {
  const auto device = self.is_cpu() ? (other.is_cpu() ? condition.device() : other.device()) : self.device();
  const auto dtype = at::native::result_type(self, other);
  Tensor out = at::empty({0}, self.options().dtype(dtype).device(device));
  const bool is_last = !condition.is_contiguous() && condition.sizes() == self.sizes() && self.sizes() == other.sizes();
  if (is_last) {
    out = empty_of({condition, self, other}, dtype);
  }
  return where_out(condition, self, other, out);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("nonzero", TORCH_FN(nonzero));
  m.impl("nonzero.out", TORCH_FN(nonzero_out));
  m.impl("masked_select", TORCH_FN(masked_select));
  m.impl("masked_select.out", TORCH_FN(masked_select_out));
  m.impl("index.Tensor", TORCH_FN(index));
  m.impl("index.Tensor_out", TORCH_FN(index_out));
  m.impl("_index_put_impl_", TORCH_FN(index_put_impl));
  m.impl("masked_fill_.Scalar", TORCH_FN(masked_fill_scalar));
  m.impl("masked_fill_.Tensor", TORCH_FN(masked_fill_tensor));
  m.impl("where.self", TORCH_FN(where));
  m.impl("where.self_out", TORCH_FN(where_out));
}

}  // namespace rustorch
