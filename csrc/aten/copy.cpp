// Copies: within the device, to it and from it, between any dtypes and strides.
#include <ATen/ExpandUtils.h>
#include <ATen/ops/_conj.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_neg_view.h>
#include <ATen/ops/copy_ops.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/view_as_real.h>
#include <torch/library.h>

#include "aten/dense_only.h"
#include "aten/fallback.h"
#include "aten/overlap.h"
#include "bridge.h"
#include "device/device.h"
#include "device/storage.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

// The values as they lie in memory, without the conjugate and negative bits.
at::Tensor plain(const at::Tensor& tensor) {
  at::Tensor result = tensor;
  if (result.is_conj()) {
    result = at::_conj(result);
  }
  if (result.is_neg()) {
    result = at::_neg_view(result);
  }
  return result;
}

at::Tensor part(const at::Tensor& tensor, int64_t index) {
  return at::view_as_real(tensor).select(-1, index);
}

void negate(const at::Tensor& tensor) {
  const int64_t dtype = static_cast<int64_t>(tensor.scalar_type());
  launch_unchecked(Op::neg_, {tensor, tensor}, {dtype});
}

// Copies values of one shape whose bits are as they lie in memory; false where Rust lacks the dtypes.
bool copy_plain(const at::Tensor& to, const at::Tensor& from) {
  if (to.scalar_type() == from.scalar_type()) {
    launch_unchecked(Op::copy_, {Operand::bits(to), Operand::bits(from)});
    return true;
  }
  if (to.is_complex() && from.is_complex()) {
    return copy_plain(at::view_as_real(to), at::view_as_real(from));
  }
  if (to.is_complex()) {
    const auto zero = at::scalar_tensor(0, at::TensorOptions(at::kCPU).dtype(at::kFloat));
    return copy_plain(part(to, 0), from) && copy_plain(part(to, 1), zero.expand(to.sizes()));
  }
  if (from.is_complex() && to.scalar_type() != at::kBool) {
    TORCH_WARN_ONCE("Casting complex values to real discards the imaginary part");
    return copy_plain(to, part(from, 0));
  }
  if (!is_native(to.scalar_type()) || !is_native(from.scalar_type())) {
    return false;
  }
  launch_unchecked(Op::copy_, {to, from});
  return true;
}

// The tensor on the device, without a copy.
at::Tensor on_device(const at::Tensor& tensor) {
  return tensor.is_cpu() ? rustorch::alias(tensor) : tensor;
}

bool is_same_data(const at::Tensor& to, const at::Tensor& from) {
  return is_alias(to, from) && to.storage_offset() == from.storage_offset() && to.sizes() == from.sizes() &&
         to.strides() == from.strides() && to.scalar_type() == from.scalar_type() && to.is_conj() == from.is_conj() &&
         to.is_neg() == from.is_neg();
}

// `non_blocking` is accepted: a copy that has ended is a valid one.
at::Tensor copy_from(const at::Tensor& source, const at::Tensor& to, bool non_blocking) {
  for (const auto* tensor : {&source, &to}) {
    if (tensor->layout() != at::kStrided || tensor->is_quantized() || tensor->is_nested()) {
      refuse_other_layouts("copy_ of " + tensor->toString());
    }
    TORCH_CHECK_NOT_IMPLEMENTED(tensor->is_cpu() || tensor->device().type() == kRustorch,
                                "rustorch copies to and from the CPU only, not ", tensor->device());
  }
  if (source.device() != to.device()) {
    require_no_capture("a copy between devices cannot be compiled");
  }
  const auto shape = at::infer_size_dimvector(to.sizes(), source.sizes());
  TORCH_CHECK(to.sizes() == at::IntArrayRef(shape), "output with shape ", to.sizes(),
              " doesn't match the broadcast shape ", at::IntArrayRef(shape));
  const auto from = source.sizes() == to.sizes() ? source : source.expand(to.sizes());
  if (to.numel() == 0 || is_same_data(to, from)) {
    return to;
  }

  const auto target = plain(to);
  if (!copy_plain(target, plain(from))) {
    at::Tensor fallback_target = on_device(to);
    call_fallback<at::_ops::copy_>(fallback_target, on_device(from), non_blocking);
    return to;
  }
  if (to.is_neg() != from.is_neg()) {
    negate(target.is_complex() ? at::view_as_real(target) : target);
  }
  if (target.is_complex() && to.is_conj() != from.is_conj()) {
    negate(part(target, 1));
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& to) {
  to.resize_(source.sizes());
  return copy_from(source, to, /*non_blocking=*/false);
}

at::Scalar local_scalar(const at::Tensor& self) {
  require_no_capture("reading a tensor's value cannot be compiled");
  check_bounds(self);
  return at::native::_local_scalar_dense_cpu(self);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_copy_from", TORCH_FN(copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(local_scalar));
}

// `copy_` lets lazy conjugates and negatives through to `_copy_from`, which honours them. The
// default, resolving them first by a copy, would come back here without end.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

}  // namespace
}  // namespace rustorch
