// Distances between the rows of one tensor, or of two.
#include <ATen/ExpandUtils.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/ops/_cdist_backward.h>
#include <ATen/ops/_cdist_forward_ops.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/library.h>

#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;

// A tensor's rows with its batch dimensions broadcast to `batch` and made one.
Tensor batched_rows(const Tensor& tensor, at::IntArrayRef batch) {
  std::vector<int64_t> sizes = batch.vec();
  sizes.insert(sizes.end(), {tensor.size(-2), tensor.size(-1)});
  return tensor.expand(sizes).reshape({c10::multiply_integers(batch), tensor.size(-2), tensor.size(-1)});
}

// The batch dimensions of all, broadcast.
at::DimVector batch_of(at::ArrayRef<Tensor> tensors) {
  at::DimVector batch;
  for (const Tensor& tensor : tensors) {
    batch = at::infer_size_dimvector(batch, tensor.sizes().slice(0, tensor.dim() - 2));
  }
  return batch;
}

Tensor cdist(const Tensor& a, const Tensor& b, double p, std::optional<int64_t> compute_mode) {
  TORCH_CHECK(a.dim() >= 2, "cdist only supports at least 2D tensors, X1 got: ", a.dim(), "D");
  TORCH_CHECK(b.dim() >= 2, "cdist only supports at least 2D tensors, X2 got: ", b.dim(), "D");
  TORCH_CHECK(a.size(-1) == b.size(-1), "X1 and X2 must have the same number of columns. X1: ", a.size(-1),
              " X2: ", b.size(-1));
  TORCH_CHECK(p >= 0, "cdist only supports non-negative p values");
  const int64_t mode = compute_mode.value_or(0);
  TORCH_CHECK(mode >= 0 && mode <= 2, "possible modes: 0, 1, 2, but was: ", mode);
  const at::DimVector batch = batch_of({a, b});
  at::DimVector sizes(batch);
  sizes.append({a.size(-2), b.size(-2)});
  Tensor out = empty_dense(sizes, a.scalar_type());
  const Tensor flat = out.view({c10::multiply_integers(batch), a.size(-2), b.size(-2)});
  launch(Op::cdist_, {flat, batched_rows(a, batch), batched_rows(b, batch)}, {}, {p});
  return out;
}

Tensor cdist_backward(const Tensor& grad, const Tensor& a, const Tensor& b, double p, const Tensor& distances) {
  // Under vmap (torch.func.jacrev) the gradient may have batch dimensions that the points have not.
  const at::DimVector batch = batch_of({a, b, grad, distances});
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

// The gradient of the first points, of which `grad` has a row each. Where vmap hides a batch in the gradient alone
// (torch.func.jacrev), PyTorch's batching rule loses it, and where it hides another in the rest (vmap of that), the
// rule does not line the two up: so all get the gradient's batch.
Tensor gradient_of_first(const Tensor& grad, const Tensor& a, const Tensor& b, double p, const Tensor& distances) {
  if (!at::functorch::isBatchedTensor(grad)) {
    return at::_cdist_backward(grad, a, b, p, distances);
  }
  const Tensor zeros = at::zeros_like(grad);
  return at::_cdist_backward(grad, a.add(zeros.select(-1, 0).unsqueeze(-1)), b.add(zeros.select(-2, 0).unsqueeze(-1)),
                             p, distances.add(zeros));
}

// PyTorch's own node, but for such batches. (Transforms of torch.func refuse a torch::autograd::Function.)
struct DistancesBackward : torch::autograd::generated::CdistBackward0 {
  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Tensor a = x1_.unpack(), b = x2_.unpack(), distances = result_.unpack(getptr());
    const Tensor& grad = grads[0];
    torch::autograd::variable_list result(2);
    if (grad.defined() && task_should_compute_output(0)) {
      result[0] = gradient_of_first(grad, a, b, p, distances);
    }
    if (grad.defined() && task_should_compute_output(1)) {
      result[1] = gradient_of_first(grad.mT(), b, a, p, distances.mT());
    }
    return result;
  }
};

Tensor differentiated_cdist(c10::DispatchKeySet keys, const Tensor& a, const Tensor& b, double p,
                            std::optional<int64_t> compute_mode) {
  c10::intrusive_ptr<DistancesBackward> node;
  if (torch::autograd::compute_requires_grad(a, b)) {
    node = c10::make_intrusive<DistancesBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(a, b));
    node->p = p;
    node->x1_ = torch::autograd::SavedVariable(a, /*is_output=*/false);
    node->x2_ = torch::autograd::SavedVariable(b, /*is_output=*/false);
  }
  Tensor distances = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return at::_ops::_cdist_forward::redispatch(keys & c10::after_autograd_keyset, a, b, p, compute_mode);
  }();
  if (node) {
    torch::autograd::set_history(distances, node);
    node->result_ = torch::autograd::SavedVariable(distances, /*is_output=*/true);
  }
  return distances;
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

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, m) {
  m.impl("_cdist_forward", TORCH_FN(differentiated_cdist));
}

}  // namespace rustorch
