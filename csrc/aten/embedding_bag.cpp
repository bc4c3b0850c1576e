// Sums, means and maxima of bags of embeddings.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "aten/dense_only.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kSum = 0;
constexpr int64_t kMax = 2;

bool is_index(const Tensor& tensor) {
  return tensor.scalar_type() == at::kLong || tensor.scalar_type() == at::kInt;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> embedding_bag(const Tensor& weight, const Tensor& indices,
                                                         const Tensor& offsets, bool /*scale_grad_by_freq*/,
                                                         int64_t mode, bool /*sparse*/,
                                                         const OptionalTensor& per_sample_weights,
                                                         bool include_last_offset, int64_t padding_idx) {
  TORCH_CHECK(weight.dim() == 2, "weight has to be a 2D Tensor, but got Tensor of dimension ", weight.dim());
  TORCH_CHECK(indices.dim() == 1, "input has to be a 1D Tensor, but got Tensor of dimension ", indices.dim());
  TORCH_CHECK(offsets.dim() == 1, "offsets has to be a 1D Tensor, but got Tensor of dimension ", offsets.dim());
  TORCH_CHECK(is_index(indices) && is_index(offsets),
              "embedding_bag: expected indices and offsets of dtype int32 or int64, got ", indices.scalar_type(),
              " and ", offsets.scalar_type());
  const bool weighted = per_sample_weights.has_value() && per_sample_weights->defined();
  TORCH_CHECK(!weighted || mode == kSum,
              "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum'");
  TORCH_CHECK(!include_last_offset || offsets.size(0) >= 1,
              "include_last_offset: number of offset should be at least 1");
  // A negative index counts from the end, as F.embedding_bag resolved it; -1 here is none.
  const int64_t bags = offsets.size(0) - (include_last_offset ? 1 : 0);
  const std::array<int64_t, 2> sizes{bags, weight.size(1)};
  Tensor out = empty_dense(sizes, weight.scalar_type());
  Tensor offset2bag = empty_dense({indices.size(0)}, at::kLong);
  Tensor bag_size = empty_dense({bags}, at::kLong);
  Tensor largest = mode == kMax ? empty_dense(sizes, at::kLong) : Tensor();
  launch(Op::embedding_bag_,
         {out, offset2bag, bag_size, largest, weight, indices, offsets, Operand(per_sample_weights)},
         {mode, include_last_offset, padding_idx});
  return {out, offset2bag, bag_size, largest.defined() ? largest : empty_dense({0}, at::kLong)};
}

Tensor dense_backward(const Tensor& grad, const Tensor& indices, const Tensor& offset2bag, const Tensor& bag_size,
                      const Tensor& largest, c10::SymInt num_weights, bool scale_grad_by_freq, int64_t mode,
                      const OptionalTensor& per_sample_weights, int64_t padding_idx) {
  const std::array<int64_t, 2> sizes{num_weights.expect_int(), grad.size(1)};
  Tensor grad_weight = empty_dense(sizes, grad.scalar_type());
  launch(Op::embedding_bag_backward_,
         {grad_weight, grad, indices, offset2bag, bag_size, mode == kMax ? largest : Tensor(),
          Operand(per_sample_weights)},
         {mode, scale_grad_by_freq, padding_idx});
  return grad_weight;
}

Tensor backward(const Tensor& grad, const Tensor& indices, const Tensor& /*offsets*/, const Tensor& offset2bag,
                const Tensor& bag_size, const Tensor& largest, c10::SymInt num_weights, bool scale_grad_by_freq,
                int64_t mode, bool sparse, const OptionalTensor& per_sample_weights, int64_t padding_idx) {
  if (sparse) {
    refuse_other_layouts("embedding_bag");
  }
  return dense_backward(grad, indices, offset2bag, bag_size, largest, std::move(num_weights), scale_grad_by_freq, mode,
                        per_sample_weights, padding_idx);
}

Tensor weights_backward(const Tensor& grad, const Tensor& weight, const Tensor& indices, const Tensor& /*offsets*/,
                        const Tensor& offset2bag, int64_t mode, int64_t padding_idx) {
  TORCH_CHECK(mode == kSum,
              "embedding_bag_backward: expected mode='sum' if per_sample_weights was given, got mode ", mode);
  Tensor grad_weights = empty_dense({indices.size(0)}, grad.scalar_type());
  launch(Op::embedding_bag_weights_backward_, {grad_weights, grad, weight, indices, offset2bag}, {padding_idx});
  return grad_weights;
}

Tensor& embedding_renorm(Tensor& self, const Tensor& indices, double max_norm, double norm_type) {
  TORCH_CHECK(self.dim() == 2, "embedding_renorm_: expected a 2D tensor, but got ", self.sizes());
  TORCH_CHECK(is_index(indices), "embedding_renorm_: expected indices of dtype int32 or int64, got ",
              indices.scalar_type());
  launch(Op::embedding_renorm_, {self, indices.reshape(-1)}, {}, {max_norm, norm_type});
  return self;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_embedding_bag", TORCH_FN(embedding_bag));
  m.impl("_embedding_bag_forward_only", TORCH_FN(embedding_bag));
  m.impl("_embedding_bag_backward", TORCH_FN(backward));
  m.impl("_embedding_bag_dense_backward", TORCH_FN(dense_backward));
  m.impl("_embedding_bag_per_sample_weights_backward", TORCH_FN(weights_backward));
  m.impl("embedding_renorm_", TORCH_FN(embedding_renorm));
}

}  // namespace rustorch
