// Looking values up: searchsorted, bucketize, isin.
#include <climits>

#include <ATen/native/BucketizationUtils.h>
#include <ATen/native/TypeProperties.h>
#include <ATen/ops/bucketize_ops.h>
#include <ATen/ops/isin_meta.h>
#include <ATen/ops/isin_ops.h>
#include <ATen/ops/searchsorted_ops.h>
#include <torch/library.h>

#include "aten/forms.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;
using Side = std::optional<c10::string_view>;
using Sorter = std::optional<Tensor>;

Tensor tensor_of(const Scalar& scalar, const Tensor& like) {
  return at::native::searchsorted_scalar_tensor(scalar, like.device());
}

Tensor indices_for(const Tensor& like, bool out_int32) {
  return empty_dense(like.sizes(), out_int32 ? at::kInt : at::kLong);
}

Tensor& searchsorted_out(const Tensor& sequence, const Tensor& self, bool out_int32, bool right, Side side,
                         const Sorter& sorter, Tensor& out) {
  if (!is_native(sequence.scalar_type()) || !is_native(self.scalar_type())) {
    return call_fallback<at::_ops::searchsorted_Tensor_out>(sequence, self, out_int32, right, side, sorter, out);
  }
  // The sorter's own checks are below, and its range is the kernel's to check.
  at::native::searchsorted_pre_check(sequence, self, out, out_int32, right, side, Tensor());
  const Tensor order = sorter.value_or(Tensor());
  if (order.defined()) {
    TORCH_CHECK(order.sizes() == sequence.sizes(), "torch.searchsorted(): boundary and sorter must have the same ",
                "size, but got boundary tensor ", sequence.sizes(), " and got sorter tensor ", order.sizes());
    TORCH_CHECK(order.scalar_type() == at::kLong, "torch.searchsorted(): sorter must be a tensor of long dtype but ",
                "got dtype ", order.scalar_type());
  }
  const auto dtype = at::native::result_type(sequence, self);
  TORCH_CHECK_NOT_IMPLEMENTED(dtype != at::kBool, "\"searchsorted_out_cpu\" not implemented for 'Bool'");
  at::native::resize_output(out, self.sizes());
  if (self.numel() > 0) {
    launch(Op::searchsorted_, {out, sequence.to(dtype), self.to(dtype), order},
           {static_cast<int64_t>(right || (side.has_value() && *side == "right"))});
  }
  return out;
}

Tensor searchsorted(const Tensor& sequence, const Tensor& self, bool out_int32, bool right, Side side,
                    const Sorter& sorter) {
  Tensor out = indices_for(self, out_int32);
  return searchsorted_out(sequence, self, out_int32, right, side, sorter, out);
}

Tensor searchsorted_scalar(const Tensor& sequence, const Scalar& self, bool out_int32, bool right, Side side,
                           const Sorter& sorter) {
  return rustorch::searchsorted(sequence, tensor_of(self, sequence), out_int32, right, side, sorter);
}

Tensor& searchsorted_scalar_out(const Tensor& sequence, const Scalar& self, bool out_int32, bool right, Side side,
                                const Sorter& sorter, Tensor& out) {
  return searchsorted_out(sequence, tensor_of(self, sequence), out_int32, right, side, sorter, out);
}

Tensor& bucketize_out(const Tensor& self, const Tensor& boundaries, bool out_int32, bool right, Tensor& out) {
  TORCH_CHECK(boundaries.dim() == 1, "bucketize(): boundaries tensor must be 1 dimension, but got dim(",
              boundaries.dim(), ")");
  return searchsorted_out(boundaries, self, out_int32, right, std::nullopt, std::nullopt, out);
}

Tensor bucketize(const Tensor& self, const Tensor& boundaries, bool out_int32, bool right) {
  Tensor out = indices_for(self, out_int32);
  return bucketize_out(self, boundaries, out_int32, right, out);
}

Tensor bucketize_scalar(const Scalar& self, const Tensor& boundaries, bool out_int32, bool right) {
  return rustorch::bucketize(tensor_of(self, boundaries), boundaries, out_int32, right);
}

void launch_isin(const Tensor& out, const Tensor& elements, const Tensor& tests, bool invert) {
  const auto dtype = at::native::result_type(elements, tests);
  launch(Op::isin_, {out, elements.to(dtype), tests.to(dtype)}, {static_cast<int64_t>(invert)});
}

struct IsIn {
  using Meta = at::meta::structured_isin_Tensor_Tensor;
  static void run(const Tensor& out, const Tensor& elements, const Tensor& tests, bool /*assume_unique*/, bool invert) {
    launch_isin(out, elements, tests, invert);
  }
};

struct IsInScalar {
  using Meta = at::meta::structured_isin_Tensor_Scalar;
  static void run(const Tensor& out, const Tensor& elements, const Scalar& test, bool /*assume_unique*/, bool invert) {
    launch_isin(out, elements, tensor_of(test, elements), invert);
  }
};

struct ScalarIsIn {
  using Meta = at::meta::structured_isin_Scalar_Tensor;
  static void run(const Tensor& out, const Scalar& element, const Tensor& tests, bool /*assume_unique*/, bool invert) {
    at::native::resize_output(out, at::IntArrayRef());  // The meta says one dimension of none.
    launch_isin(out, tensor_of(element, tests), tests, invert);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("searchsorted.Tensor", TORCH_FN(searchsorted));
  m.impl("searchsorted.Tensor_out", TORCH_FN(searchsorted_out));
  m.impl("searchsorted.Scalar", TORCH_FN(searchsorted_scalar));
  m.impl("searchsorted.Scalar_out", TORCH_FN(searchsorted_scalar_out));
  m.impl("bucketize.Tensor", TORCH_FN(bucketize));
  m.impl("bucketize.Tensor_out", TORCH_FN(bucketize_out));
  m.impl("bucketize.Scalar", TORCH_FN(bucketize_scalar));
  m.impl("isin.Tensor_Tensor", TORCH_FN((Made<IsIn, at::_ops::isin_Tensor_Tensor>::call)));
  m.impl("isin.Tensor_Tensor_out", TORCH_FN((WrittenTo<IsIn, at::_ops::isin_Tensor_Tensor_out>::call)));
  m.impl("isin.Tensor_Scalar", TORCH_FN((Made<IsInScalar, at::_ops::isin_Tensor_Scalar>::call)));
  m.impl("isin.Tensor_Scalar_out", TORCH_FN((WrittenTo<IsInScalar, at::_ops::isin_Tensor_Scalar_out>::call)));
  m.impl("isin.Scalar_Tensor", TORCH_FN((Made<ScalarIsIn, at::_ops::isin_Scalar_Tensor>::call)));
  m.impl("isin.Scalar_Tensor_out", TORCH_FN((WrittenTo<ScalarIsIn, at::_ops::isin_Scalar_Tensor_out>::call)));
}

}  // namespace rustorch
