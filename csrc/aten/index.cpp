// Reading and writing along one dimension: gather, scatter, index_select, index_add, index_copy,
// index_fill, embedding; and cat's neighbours flip, roll, tril, triu.
#include <ATen/ExpandUtils.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/WrapDimUtilsMulti.h>
#include <ATen/ops/embedding_dense_backward_ops.h>
#include <ATen/ops/embedding_ops.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gather_meta.h>
#include <ATen/ops/gather_ops.h>
#include <ATen/ops/index_add_meta.h>
#include <ATen/ops/index_add_ops.h>
#include <ATen/ops/index_copy_meta.h>
#include <ATen/ops/index_copy_ops.h>
#include <ATen/ops/index_fill_ops.h>
#include <ATen/ops/index_reduce_meta.h>
#include <ATen/ops/index_reduce_ops.h>
#include <ATen/ops/scatter_add_meta.h>
#include <ATen/ops/scatter_add_ops.h>
#include <ATen/ops/scatter_meta.h>
#include <ATen/ops/scatter_ops.h>
#include <ATen/ops/scatter_reduce_meta.h>
#include <ATen/ops/scatter_reduce_ops.h>
#include <ATen/ops/tril_meta.h>
#include <ATen/ops/tril_ops.h>
#include <ATen/ops/triu_meta.h>
#include <ATen/ops/triu_ops.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "aten/forms.h"
#include "aten/overlap.h"
#include "aten/pointwise.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;

int64_t wrapped(int64_t dim, const Tensor& self) {
  return at::maybe_wrap_dim(dim, self.dim());
}

// The op writes a part of `out`, which otherwise is `self`.
void start_from(const Tensor& out, const Tensor& self) {
  if (!out.is_same(self)) {
    out.copy_(self);
  }
}

struct Gather {
  static constexpr bool any_dtype = true;
  using Meta = at::meta::structured_gather;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, bool /*sparse_grad*/) {
    if (index.numel() > 0) {
      launch(Op::gather_, {Operand::bits(out), Operand::bits(self), index}, {wrapped(dim, self)});
    }
  }
};

struct ScatterSrc {
  static constexpr bool any_dtype = true;
  using Meta = at::meta::structured_scatter_src;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src) {
    start_from(out, self);
    if (index.numel() > 0) {
      launch(Op::scatter_, {Operand::bits(out), index, Operand::bits(src)}, {wrapped(dim, self)});
    }
  }
};

// A scalar after a dim, as the rows of fills take it.
void launch_fill(Op op, const Tensor& out, int64_t dim, const Tensor& index, const Scalar& value) {
  const Number number(value, out.scalar_type());
  launch(op, {out, index}, {dim, number.as_int}, {number.as_float});
}

struct ScatterValue {
  using Meta = at::meta::structured_scatter_value;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Scalar& value) {
    start_from(out, self);
    if (index.numel() > 0) {
      launch_fill(Op::scatter_value_, out, wrapped(dim, self), index, value);
    }
  }
};

enum class Reduction { sum, prod, mean, amax, amin };

Reduction reduction_of(std::string_view name) {
  if (name == "sum" || name == "add") {
    return Reduction::sum;
  }
  if (name == "prod" || name == "multiply") {
    return Reduction::prod;
  }
  if (name == "mean") {
    return Reduction::mean;
  }
  if (name == "amax") {
    return Reduction::amax;
  }
  TORCH_CHECK(name == "amin", "reduce argument must be either sum, prod, mean, amax or amin, got ", name);
  return Reduction::amin;
}

void launch_reduce(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src,
                   Reduction reduction, bool include_self) {
  start_from(out, self);
  if (index.numel() > 0) {
    launch(Op::scatter_reduce_, {out, index, src},
           {wrapped(dim, self), static_cast<int64_t>(reduction), static_cast<int64_t>(include_self)});
  }
}

struct ScatterAdd {
  using Meta = at::meta::structured_scatter_add;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src) {
    launch_reduce(out, self, dim, index, src, Reduction::sum, true);
  }
};

struct ScatterReduce {
  using Meta = at::meta::structured_scatter_reduce;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src,
                  std::string_view reduce) {
    launch_reduce(out, self, dim, index, src, reduction_of(reduce), true);
  }
};

struct ScatterReduceTwo {
  using Meta = at::meta::structured_scatter_reduce_two;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& src,
                  std::string_view reduce, bool include_self) {
    launch_reduce(out, self, dim, index, src, reduction_of(reduce), include_self);
  }
};

struct ScatterValueReduce {
  using Meta = at::meta::structured_scatter_value_reduce;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Scalar& value,
                  std::string_view reduce) {
    const Tensor src = empty_dense({}, out.scalar_type());
    src.fill_(value);
    launch_reduce(out, self, dim, index, src.expand(index.sizes()), reduction_of(reduce), true);
  }
};

struct IndexReduce {
  using Meta = at::meta::structured_index_reduce;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& source,
                  std::string_view reduce, bool include_self) {
    TORCH_CHECK(reduce != "sum", "reduce argument must be either prod, mean, amax or amin, got ", reduce, ".");
    TORCH_CHECK_NOT_IMPLEMENTED(self.scalar_type() != at::kBool, "\"index_reduce\" not implemented for 'Bool'");
    const Reduction reduction = reduction_of(reduce);
    start_from(out, self);
    if (index.numel() > 0) {
      launch(Op::index_reduce_, {out, index, source},
             {wrapped(dim, self), static_cast<int64_t>(reduction), static_cast<int64_t>(include_self)});
    }
  }
};

struct IndexAdd {
  using Meta = at::meta::structured_index_add;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& source,
                  const Scalar& alpha) {
    start_from(out, self);
    if (index.numel() == 0) {
      return;
    }
    const Number factor(alpha, out.scalar_type());
    launch(Op::index_add_, {out, index, source}, {wrapped(dim, self), factor.as_int}, {factor.as_float});
  }
};

struct IndexCopy {
  static constexpr bool any_dtype = true;
  using Meta = at::meta::structured_index_copy;
  static void run(const Tensor& out, const Tensor& self, int64_t dim, const Tensor& index, const Tensor& source) {
    start_from(out, self);
    if (index.numel() > 0) {
      launch(Op::index_copy_, {Operand::bits(out), index, Operand::bits(source)}, {wrapped(dim, self)});
    }
  }
};

struct Tril {
  static constexpr bool any_dtype = true;
  using Meta = at::meta::structured_tril;
  static void run(const Tensor& out, const Tensor& self, int64_t diagonal) {
    launch(Op::tril_, {Operand::bits(out), Operand::bits(self)}, {diagonal});
  }
};

struct Triu {
  static constexpr bool any_dtype = true;
  using Meta = at::meta::structured_triu;
  static void run(const Tensor& out, const Tensor& self, int64_t diagonal) {
    launch(Op::triu_, {Operand::bits(out), Operand::bits(self)}, {diagonal});
  }
};

// What a matrix without rows is asked for; a vector's elements are refused by the kernel.
void check_selectable(int64_t size, const Tensor& index) {
  TORCH_CHECK(size > 0 || index.numel() == 0, "index_select(): self indexing axis dim should be positive");
}

Tensor& index_select_out(const Tensor& self, int64_t dim, const Tensor& index, Tensor& out) {
  dim = wrapped(dim, self);
  TORCH_CHECK_INDEX(index.dim() <= 1, "index_select(): Index is supposed to be a vector");
  TORCH_CHECK(self.dim() > 0 || index.numel() == 1,
              "index_select(): Index to scalar can have only 1 value, got ", index.numel(), " value(s)");
  TORCH_CHECK(index.scalar_type() == at::kLong || index.scalar_type() == at::kInt,
              "index_select(): Expected dtype int32 or int64 for index");
  TORCH_CHECK(self.scalar_type() == out.scalar_type(),
              "index_select(): self and result must have the same scalar type");
  if (self.dim() > 1) {
    check_selectable(self.size(dim), index);
  }
  at::assert_no_internal_overlap(out);
  refuse_overlap(out, self);
  refuse_overlap(out, index);
  c10::DimVector sizes(self.sizes());
  if (!sizes.empty()) {
    sizes[dim] = index.numel();
  }
  at::native::resize_output(out, sizes);
  launch(Op::index_select_, {Operand::bits(out), Operand::bits(self), index}, {dim});
  return out;
}

Tensor index_select(const Tensor& self, int64_t dim, const Tensor& index) {
  Tensor out = empty_dense({0}, self.scalar_type());
  return index_select_out(self, dim, index, out);
}

Tensor& index_fill_scalar(Tensor& self, int64_t dim, const Tensor& index, const Scalar& value) {
  TORCH_CHECK_INDEX(index.scalar_type() == at::kLong, "index_fill_(): Expected dtype int64 for index.");
  TORCH_CHECK(index.dim() <= 1, "Index has to be a vector/scalar");
  TORCH_CHECK(at::isComplexType(self.scalar_type()) || !value.isComplex(),
              "index_fill_(): Converting complex Scalar to non-complex type is not supported");
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::index_fill__int_Scalar>(self, dim, index, value);
  }
  refuse_overlap(self, index);
  dim = wrapped(dim, self);
  // Of nothing, the CPU refuses what it cannot make one element of.
  TORCH_CHECK(index.numel() == 0 || self.dim() == 0 || self.size(dim) > 0,
              "index_fill_(): nothing to fill along dimension ", dim, " of size 0");
  if (at::has_internal_overlap(self) == at::MemOverlap::Yes) {
    TORCH_WARN("Use of index_fill_ on expanded tensors is deprecated. Please clone() the tensor before performing "
               "this operation. This also applies to advanced indexing e.g. tensor[mask] = scalar");
    return self.masked_fill_(at::zeros(self.sizes(), self.options().dtype(at::kBool)).index_fill_(dim, index, true),
                             value);
  }
  if (index.numel() > 0) {
    launch_fill(Op::index_fill_, self, dim, index, value);
  }
  return self;
}

Tensor& index_fill_tensor(Tensor& self, int64_t dim, const Tensor& index, const Tensor& value) {
  TORCH_CHECK(value.dim() == 0, "index_fill_ only supports a 0-dimensional value tensor, but got tensor with ",
              value.dim(), " dimension(s).");
  return index_fill_scalar(self, dim, index, value.item());
}

Tensor embedding(const Tensor& weight, const Tensor& indices, int64_t /*padding_idx*/, bool /*scale_grad_by_freq*/,
                 bool /*sparse*/) {
  TORCH_CHECK(weight.dim() == 2, "'weight' must be 2-D");
  TORCH_CHECK(indices.scalar_type() == at::kLong || indices.scalar_type() == at::kInt,
              "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got ",
              indices.toString(), " instead (while checking arguments for embedding)");
  check_selectable(weight.size(0), indices);
  c10::DimVector sizes(indices.sizes());
  sizes.push_back(weight.size(1));
  Tensor out = empty_dense(sizes, weight.scalar_type());
  launch(Op::embedding_, {Operand::bits(out), Operand::bits(weight), indices});
  return out;
}

Tensor embedding_dense_backward(const Tensor& grad, const Tensor& indices, int64_t num_weights, int64_t padding_idx,
                                bool scale_grad_by_freq) {
  TORCH_CHECK(indices.scalar_type() == at::kLong || indices.scalar_type() == at::kInt,
              "Expected tensor for argument #2 'indices' to have one of the following scalar types: Long, Int; but got ",
              indices.toString(), " instead (while checking arguments for embedding_backward)");
  if (!is_native(grad.scalar_type()) || !at::isFloatingType(grad.scalar_type())) {
    return call_fallback<at::_ops::embedding_dense_backward>(grad, indices, num_weights, padding_idx,
                                                             scale_grad_by_freq);
  }
  Tensor out = empty_dense({num_weights, grad.size(-1)}, grad.scalar_type());
  launch(Op::embedding_backward_, {out, grad, indices}, {padding_idx, static_cast<int64_t>(scale_grad_by_freq)});
  return out;
}

Tensor flip(const Tensor& self, at::IntArrayRef dims) {
  const auto flipped = at::dim_list_to_bitset(dims, self.dim());
  c10::SmallVector<int64_t, 6> ints;
  for (int64_t dim = 0; dim < self.dim(); ++dim) {
    if (flipped[dim]) {
      ints.push_back(dim);
    }
  }
  Tensor out = at::empty_like(self);
  launch(Op::flip_, {Operand::bits(out), Operand::bits(self)}, ints);
  return out;
}

Tensor roll(const Tensor& self, at::IntArrayRef shifts, at::IntArrayRef dims) {
  TORCH_CHECK(!shifts.empty(), "`shifts` required");
  if (dims.empty() && shifts.size() == 1) {
    const Tensor flat = self.contiguous().view(self.numel());
    return rustorch::roll(flat, shifts, {0}).view(self.sizes());
  }
  TORCH_CHECK(shifts.size() == dims.size(), "shifts and dimensions must align. shifts: ", shifts.size(),
              ", dims:", dims.size());
  TORCH_CHECK_INDEX(self.dim() > 0, "Dimension specified as ", dims[0], " but tensor has no dimensions");
  // A dimension that is named twice is rolled by the sum.
  c10::SmallVector<int64_t, 6> shift_of(self.dim(), 0);
  for (size_t at = 0; at < dims.size(); ++at) {
    const int64_t dim = wrapped(dims[at], self);
    if (self.size(dim) > 0) {
      shift_of[dim] = (shift_of[dim] + shifts[at] % self.size(dim)) % self.size(dim);
    }
  }
  c10::SmallVector<int64_t, 12> ints;
  for (int64_t dim = 0; dim < self.dim(); ++dim) {
    if (shift_of[dim] != 0) {
      ints.append({dim, shift_of[dim]});
    }
  }
  const Tensor out = at::empty(self.sizes(), self.options(), self.suggest_memory_format());
  launch(Op::roll_, {Operand::bits(out), Operand::bits(self)}, ints);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("gather", TORCH_FN((Made<Gather, at::_ops::gather>::call)));
  m.impl("gather.out", TORCH_FN((WrittenTo<Gather, at::_ops::gather_out>::call)));
#define RUSTORCH_FORMS(Kernel, name, in_place_name, out_name, made, in_place, written) \
  m.impl(name, TORCH_FN((Made<Kernel, at::_ops::made>::call)));                        \
  m.impl(in_place_name, TORCH_FN((InPlace<Kernel, at::_ops::in_place>::call)));        \
  m.impl(out_name, TORCH_FN((WrittenTo<Kernel, at::_ops::written>::call)));
  RUSTORCH_FORMS(ScatterSrc, "scatter.src", "scatter_.src", "scatter.src_out", scatter_src, scatter__src, scatter_src_out)
  RUSTORCH_FORMS(ScatterValue, "scatter.value", "scatter_.value", "scatter.value_out", scatter_value, scatter__value, scatter_value_out)
  RUSTORCH_FORMS(ScatterReduce, "scatter.reduce", "scatter_.reduce", "scatter.reduce_out", scatter_reduce, scatter__reduce, scatter_reduce_out)
  RUSTORCH_FORMS(ScatterAdd, "scatter_add", "scatter_add_", "scatter_add.out", scatter_add, scatter_add_, scatter_add_out)
  RUSTORCH_FORMS(ScatterReduceTwo, "scatter_reduce.two", "scatter_reduce_.two", "scatter_reduce.two_out", scatter_reduce_two, scatter_reduce__two, scatter_reduce_two_out)
  RUSTORCH_FORMS(IndexAdd, "index_add", "index_add_", "index_add.out", index_add, index_add_, index_add_out)
  RUSTORCH_FORMS(ScatterValueReduce, "scatter.value_reduce", "scatter_.value_reduce", "scatter.value_reduce_out", scatter_value_reduce, scatter__value_reduce, scatter_value_reduce_out)
  RUSTORCH_FORMS(IndexReduce, "index_reduce", "index_reduce_", "index_reduce.out", index_reduce, index_reduce_, index_reduce_out)
  RUSTORCH_FORMS(IndexCopy, "index_copy", "index_copy_", "index_copy.out", index_copy, index_copy_, index_copy_out)
  RUSTORCH_FORMS(Tril, "tril", "tril_", "tril.out", tril, tril_, tril_out)
  RUSTORCH_FORMS(Triu, "triu", "triu_", "triu.out", triu, triu_, triu_out)
#undef RUSTORCH_FORMS
  m.impl("index_select", TORCH_FN(index_select));
  m.impl("index_select.out", TORCH_FN(index_select_out));
  m.impl("index_fill_.int_Scalar", TORCH_FN(index_fill_scalar));
  m.impl("index_fill_.int_Tensor", TORCH_FN(index_fill_tensor));
  m.impl("embedding", TORCH_FN(embedding));
  m.impl("embedding_dense_backward", TORCH_FN(embedding_dense_backward));
  m.impl("flip", TORCH_FN(flip));
  m.impl("roll", TORCH_FN(roll));
}

}  // namespace rustorch
