// Indexing that sees a tensor as a line of elements: take, put_, masked_scatter_, nonzero_static,
// repeat_interleave.
#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/nonzero_static_ops.h>
#include <ATen/ops/put_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "aten/overlap.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;

Tensor& take_out(const Tensor& self, const Tensor& index, Tensor& out) {
  TORCH_CHECK(index.scalar_type() == at::kLong, "take(): Expected a long tensor for index, but got ",
              index.scalar_type());
  TORCH_CHECK(self.scalar_type() == out.scalar_type(),
              "take(): self and out expected to have the same dtype, but got self.dtype = ", self.scalar_type(),
              " and out.dtype = ", out.scalar_type());
  TORCH_CHECK_INDEX(self.numel() > 0 || index.numel() == 0, "take(): tried to take from an empty tensor");
  at::assert_no_internal_overlap(out);
  refuse_overlap(out, index);
  refuse_overlap(out, self);
  at::native::resize_output(out, index.sizes());
  if (index.numel() > 0) {
    launch(Op::take_, {Operand::bits(out), Operand::bits(self), index});
  }
  return out;
}

Tensor take(const Tensor& self, const Tensor& index) {
  Tensor out = empty_dense(index.sizes(), self.scalar_type());
  return take_out(self, index, out);
}

Tensor& put_(Tensor& self, const Tensor& index, const Tensor& source, bool accumulate) {
  TORCH_CHECK(index.scalar_type() == at::kLong, "put_(): Expected a long tensor for index, but got ",
              index.scalar_type());
  TORCH_CHECK(self.scalar_type() == source.scalar_type(),
              "put_(): self and source expected to have the same dtype, but got self.dtype = ", self.scalar_type(),
              " and source.dtype = ", source.scalar_type());
  TORCH_CHECK_INDEX(source.numel() == index.numel(), "put_(): Expected source and index to have the same number of ",
                    "elements, but got source.numel() = ", source.numel(), ", index.numel() = ", index.numel());
  TORCH_CHECK_INDEX(self.numel() > 0 || index.numel() == 0, "put_(): Tried to put elements into an empty tensor");
  at::assert_no_internal_overlap(self);
  refuse_overlap(self, index);
  refuse_overlap(self, source);
  if (index.numel() == 0) {
    return self;
  }
  if (accumulate && !is_native(self.scalar_type())) {
    return call_fallback<at::_ops::put_>(self, index, source, accumulate);
  }
  const Tensor shaped = source.reshape(index.sizes());
  const auto operand = [&](const Tensor& tensor) { return accumulate ? Operand(tensor) : Operand::bits(tensor); };
  launch(Op::put_, {operand(self), index, operand(shaped)}, {static_cast<int64_t>(accumulate)});
  return self;
}

Tensor& masked_scatter_(Tensor& self, const Tensor& mask, const Tensor& source) {
  at::assert_no_internal_overlap(self);
  TORCH_CHECK(self.scalar_type() == source.scalar_type(),
              "masked_scatter: expected self and source to have same dtypes but got ", self.scalar_type(), " and ",
              source.scalar_type());
  TORCH_CHECK(mask.scalar_type() == at::kBool, "masked_scatter_ only supports boolean masks, but got mask with dtype ",
              mask.scalar_type());
  const auto expanded = at::expand_inplace(self, mask, "masked_scatter_");
  if (self.numel() > 0) {
    launch(Op::masked_scatter_, {Operand::bits(self), *expanded, Operand::bits(source.reshape({-1}))});
  }
  return self;
}

Tensor& nonzero_static_out(const Tensor& self, c10::SymInt given_size, int64_t fill_value, Tensor& out) {
  const int64_t size = given_size.expect_int();
  TORCH_CHECK(size >= 0, "nonzero_static: 'size' must be an non-negative integer");
  TORCH_CHECK(out.scalar_type() == at::kLong, "nonzero_static: Expected out tensor to have scalar type Long but got ",
              out.scalar_type());
  if (!is_native(self.scalar_type())) {
    return call_fallback<at::_ops::nonzero_static_out>(self, given_size, fill_value, out);
  }
  at::assert_no_internal_overlap(out);
  refuse_overlap(out, self);
  at::native::resize_output(out, {size, self.dim()});
  if (out.numel() > 0) {
    launch(Op::nonzero_, {out, self}, {fill_value});
  }
  return out;
}

Tensor nonzero_static(const Tensor& self, c10::SymInt size, int64_t fill_value) {
  Tensor out = empty_dense({0}, at::kLong);
  return nonzero_static_out(self, size, fill_value, out);
}

Tensor repeat_interleave(const Tensor& repeats, std::optional<c10::SymInt> output_size) {
  TORCH_CHECK(repeats.dim() == 1, "repeat_interleave only accept 1D vector as repeat");
  TORCH_CHECK_NOT_IMPLEMENTED(repeats.scalar_type() == at::kLong || repeats.scalar_type() == at::kInt,
                              "\"repeat_interleave_cpu\" not implemented for '", repeats.scalar_type(), "'");
  if (repeats.numel() == 0) {
    return at::empty_like(repeats);
  }
  const Tensor ends = repeats.cumsum(0);
  const int64_t last = ends[-1].item<int64_t>();
  TORCH_CHECK(last >= 0, "repeats can not be negative");
  const Tensor out =
      empty_dense({output_size.has_value() ? output_size->expect_int() : last}, repeats.scalar_type());
  launch(Op::repeat_interleave_, {out, ends});
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("take", TORCH_FN(take));
  m.impl("take.out", TORCH_FN(take_out));
  m.impl("put_", TORCH_FN(put_));
  m.impl("masked_scatter_", TORCH_FN(masked_scatter_));
  m.impl("nonzero_static", TORCH_FN(nonzero_static));
  m.impl("nonzero_static.out", TORCH_FN(nonzero_static_out));
  m.impl("repeat_interleave.Tensor", TORCH_FN(repeat_interleave));
}

}  // namespace rustorch
