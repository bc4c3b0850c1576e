// Distances between the rows of one tensor, or of two.
#include <ATen/ExpandUtils.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;

// A tensor's rows with its batch dimensions broadcast to `batch` and made one.
Tensor batched_rows(const Tensor& tensor, at::IntArrayRef batch) {
  at::DimVector sizes(batch);
  sizes.append({tensor.size(-2), tensor.size(-1)});
  return tensor.expand(sizes).reshape({c10::multiply_integers(batch), tensor.size(-2), tensor.size(-1)});
}

at::DimVector batch_of(const Tensor& a, const Tensor& b) {
  return at::infer_size_dimvector(a.sizes().slice(0, a.dim() - 2), b.sizes().slice(0, b.dim() - 2));
}

Tensor cdist(const Tensor& a, const Tensor& b, double p, std::optional<int64_t> compute_mode) {
  TORCH_CHECK(a.dim() >= 2, "cdist only supports at least 2D tensors, X1 got: ", a.dim(), "D");
  TORCH_CHECK(b.dim() >= 2, "cdist only supports at least 2D tensors, X2 got: ", b.dim(), "D");
  TORCH_CHECK(a.size(-1) == b.size(-1), "X1 and X2 must have the same number of columns. X1: ", a.size(-1),
              " X2: ", b.size(-1));
  TORCH_CHECK(p >= 0, "cdist only supports non-negative p values");
  const int64_t mode = compute_mode.value_or(0);
  TORCH_CHECK(mode >= 0 && mode <= 2, "possible modes: 0, 1, 2, but was: ", mode);
  const at::DimVector batch = batch_of(a, b);
  at::DimVector sizes(batch);
  sizes.append({a.size(-2), b.size(-2)});
  Tensor out = empty_dense(sizes, a.scalar_type());
  const Tensor flat = out.view({c10::multiply_integers(batch), a.size(-2), b.size(-2)});
  launch(Op::cdist_, {flat, batched_rows(a, batch), batched_rows(b, batch)}, {}, {p});
  return out;
}

Tensor cdist_backward(const Tensor& grad, const Tensor& a, const Tensor& b, double p, const Tensor& distances) {
  const at::DimVector batch = batch_of(a, b);
  at::DimVector sizes(batch);
  sizes.append({a.size(-2), a.size(-1)});
  Tensor grad_a = empty_dense(sizes, a.scalar_type());
  const Tensor flat = grad_a.view({c10::multiply_integers(batch), a.size(-2), a.size(-1)});
  launch(Op::cdist_backward_,
         {flat, batched_rows(grad, batch), batched_rows(a, batch), batched_rows(b, batch),
          batched_rows(distances, batch)},
         {}, {p});
  return grad_a;
}

int64_t pairs_of(const Tensor& self) {
  TORCH_CHECK(self.dim() == 2, "pdist only supports 2D tensors, got: ", self.dim(), "D");
  return self.size(0) * (self.size(0) - 1) / 2;
}

Tensor pdist(const Tensor& self, double p) {
  Tensor out = empty_dense({pairs_of(self)}, self.scalar_type());
  launch(Op::pdist_, {out, self.unsqueeze(0)}, {}, {p});
  return out;
}

Tensor pdist_backward(const Tensor& grad, const Tensor& self, double p, const Tensor& distances) {
  pairs_of(self);
  Tensor grad_self = empty_dense(self.sizes(), self.scalar_type());
  launch(Op::pdist_backward_, {grad_self.unsqueeze(0), grad, self.unsqueeze(0), distances}, {}, {p});
  return grad_self;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_cdist_forward", TORCH_FN(cdist));
  m.impl("_cdist_backward", TORCH_FN(cdist_backward));
  m.impl("_pdist_forward", TORCH_FN(pdist));
  m.impl("_pdist_backward", TORCH_FN(pdist_backward));
}

}  // namespace rustorch
