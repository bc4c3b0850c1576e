// Concatenation; stack, hstack and the like are composed of it.
#include <ATen/core/Tensor.h>
#include <ATen/core/IListRef.h>
#include <ATen/ops/_chunk_cat_native.h>
#include <ATen/ops/cat_meta.h>
#include <ATen/ops/cat_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;

// Rust casts between its own dtypes; others can only be moved.
bool is_computable(const at::ITensorListRef& tensors, const Tensor* out) {
  const auto first = out != nullptr ? out->scalar_type() : tensors.front().scalar_type();
  bool native = is_native(first);
  bool same = true;
  for (const Tensor& tensor : tensors) {
    native = native && is_native(tensor.scalar_type());
    same = same && tensor.scalar_type() == first;
  }
  return native || same;
}

void launch_cat(const Tensor& out, const at::ITensorListRef& tensors, int64_t dim) {
  if (out.numel() == 0) {
    return;
  }
  const bool native = is_native(out.scalar_type());
  const auto operand = [&](const Tensor& tensor) { return native ? Operand(tensor) : Operand::bits(tensor); };
  c10::SmallVector<Operand, 8> operands{operand(out)};
  for (const Tensor& tensor : tensors) {
    // An empty 1-D tensor joins anything, for old programs' sake.
    if (tensor.dim() != 1 || tensor.numel() > 0) {
      operands.push_back(operand(tensor));
    }
  }
  launch(Op::cat_, operands, {dim});
}

Tensor cat(const at::ITensorListRef& tensors, int64_t dim) {
  if (tensors.size() > 0 && !is_computable(tensors, nullptr)) {
    return call_fallback<at::_ops::cat>(tensors, dim);
  }
  Structured<at::meta::structured_cat> op;
  const auto found = op.meta(tensors, dim);
  launch_cat(op.result(), tensors, found.dim);
  return op.finish();
}

Tensor& cat_out(const at::ITensorListRef& tensors, int64_t dim, Tensor& out) {
  if (tensors.size() > 0 && !is_computable(tensors, &out)) {
    return call_fallback<at::_ops::cat_out>(tensors, dim, out);
  }
  Structured<at::meta::structured_cat> op(out);
  const auto found = op.meta(tensors, dim);
  launch_cat(op.result(), tensors, found.dim);
  op.finish();
  return out;
}

// Composite, and the composite form reads the sizes of a tensor without dimensions.
void check_chunks(at::TensorList tensors) {
  for (const Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.dim() > 0, "_chunk_cat: expected tensors with at least one dimension");
  }
}

Tensor chunk_cat(at::TensorList tensors, int64_t dim, int64_t chunks) {
  check_chunks(tensors);
  return at::native::_chunk_cat(tensors, dim, chunks);
}

Tensor& chunk_cat_out(at::TensorList tensors, int64_t dim, int64_t chunks, Tensor& out) {
  check_chunks(tensors);
  return at::native::_chunk_cat_out(tensors, dim, chunks, out);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("cat", TORCH_FN(cat));
  m.impl("cat.out", TORCH_FN(cat_out));
  m.impl("_chunk_cat", TORCH_FN(chunk_cat));
  m.impl("_chunk_cat.out", TORCH_FN(chunk_cat_out));
}

}  // namespace rustorch
