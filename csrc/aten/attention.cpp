// Scaled dot-product attention, fused, and the fast paths of nn.MultiheadAttention and
// nn.TransformerEncoderLayer, which are made of it.
#include <ATen/Context.h>
#include <ATen/ExpandUtils.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_permuted.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "aten/forms.h"
#include "device/generator.h"

namespace rustorch {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

at::ScalarType compute_dtype(const Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

double scale_of(const Tensor& query, std::optional<double> scale) {
  return scale.value_or(1.0 / std::sqrt(static_cast<double>(query.size(-1))));
}

// The mask over every batch, head, query and key, by zero strides.
Tensor expanded_mask(const OptionalTensor& mask, const Tensor& query, const Tensor& key) {
  if (!mask.has_value() || !mask->defined()) {
    return Tensor();
  }
  Tensor added = *mask;
  if (added.scalar_type() == at::kBool) {
    added = at::zeros(mask->sizes(), query.options()).masked_fill_(mask->logical_not(),
                                                                  -std::numeric_limits<double>::infinity());
  }
  return added.to(query.scalar_type()).expand({query.size(0), query.size(1), query.size(2), key.size(2)});
}

// The dimensions of a tensor from the outermost in memory to the innermost.
at::DimVector layout_of(const Tensor& tensor) {
  at::DimVector order(tensor.dim());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return tensor.stride(a) > tensor.stride(b); });
  return order;
}

// A result in the query's layout.
Tensor empty_as_query(const Tensor& query, const Tensor& value) {
  if (query.size(-1) == value.size(-1)) {
    return at::empty_like(query);
  }
  at::DimVector sizes(query.sizes());
  sizes.back() = value.size(-1);
  return at::empty_permuted(sizes, layout_of(query), query.options());
}

// The same where the CPU's fused kernel takes the operands. Where their rows are not dense, its result is one of matrix
// products, which is contiguous.
Tensor empty_result(const Tensor& query, const Tensor& key, const Tensor& value) {
  if (query.stride(-1) == 1 && key.stride(-1) == 1 && value.stride(-1) == 1) {
    return empty_as_query(query, value);
  }
  return empty_dense({query.size(0), query.size(1), query.size(2), value.size(3)}, query.scalar_type());
}

void check(const Tensor& query, const Tensor& key, const Tensor& value) {
  TORCH_CHECK_INDEX(query.dim() > 0, "scaled_dot_product_attention: the query has no dimensions");
  TORCH_CHECK(query.dim() == 4 && key.dim() == 4 && value.dim() == 4,
              "scaled_dot_product_attention: expected query, key and value to be 4-D, got ", query.sizes(), ", ",
              key.sizes(), " and ", value.sizes());
  TORCH_CHECK_NOT_IMPLEMENTED(is_native_float(query), "scaled_dot_product_attention is not implemented for ",
                              query.scalar_type());
}

using Fused = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;

Fused attention(const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor& mask,
                double dropout, bool is_causal, bool return_debug_mask, std::optional<double> scale) {
  if (query.dim() == 3) {
    const auto masked = mask.has_value() && mask->dim() == 3 ? OptionalTensor(mask->unsqueeze(0)) : mask;
    Fused result = attention(query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), masked, dropout, is_causal,
                             return_debug_mask, scale);
    std::get<0>(result) = std::get<0>(result).squeeze(0);
    return result;
  }
  check(query, key, value);
  TORCH_CHECK(!return_debug_mask, "scaled_dot_product_attention: rustorch has no debug mask to return");
  const Tensor out = empty_result(query, key, value);
  const std::array<int64_t, 3> rows{query.size(0), query.size(1), query.size(2)};
  const Tensor logsumexp = empty_dense(rows, compute_dtype(query));
  const Tensor added = expanded_mask(mask, query, key);
  const Tensor state = empty_dense({2}, at::kLong);
  if (dropout > 0.0) {
    const uint64_t words = static_cast<uint64_t>((query.size(2) + 3) / 4 * 4) * key.size(2) * query.size(0) *
                           query.size(1);
    const RandomState random = reserve_random(std::nullopt, words / 4);
    launch(Op::attention_dropout_, {out, logsumexp, state, query, key, value, added},
           {static_cast<int64_t>(random.seed), static_cast<int64_t>(random.offset), is_causal},
           {scale_of(query, scale), dropout});
  } else {
    launch(Op::attention_, {out, logsumexp, query, key, value, added}, {0, 0, is_causal}, {scale_of(query, scale)});
  }
  return {out,           logsumexp,       Tensor(),        Tensor(), query.size(2), key.size(2),
          state.select(0, 0), state.select(0, 1), Tensor()};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Gradients attention_backward(const Tensor& grad, const Tensor& query, const Tensor& key, const Tensor& value,
                             const Tensor& mask, std::array<bool, 4> wanted, const Tensor& out,
                             const Tensor& logsumexp, const Tensor& /*cum_seq_q*/, const Tensor& /*cum_seq_k*/,
                             c10::SymInt max_q, c10::SymInt max_k, double dropout, bool is_causal, const Tensor& seed,
                             const Tensor& offset, std::optional<double> scale) {
  if (!grad.defined()) {
    return {};
  }
  if (query.dim() == 3) {
    const Tensor batched = mask.defined() && mask.dim() == 3 ? mask.unsqueeze(0) : mask;
    auto [grad_query, grad_key, grad_value, grad_mask] = attention_backward(
        grad.unsqueeze(0), query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), batched, wanted,
        out.unsqueeze(0), logsumexp, Tensor(), Tensor(), std::move(max_q), std::move(max_k), dropout, is_causal, seed,
        offset, scale);
    return {grad_query.squeeze(0), grad_key.squeeze(0), grad_value.squeeze(0),
            grad_mask.defined() ? grad_mask.view(mask.sizes()) : grad_mask};
  }
  check(query, key, value);
  const Tensor grad_query = at::empty_like(query);
  const Tensor grad_key = at::empty_like(key);
  const Tensor grad_value = at::empty_like(value);
  const Tensor added = expanded_mask(mask, query, key);
  Tensor grad_mask;
  if (mask.defined() && wanted[3]) {
    grad_mask = empty_dense(added.sizes(), query.scalar_type());
  }
  const bool drops = dropout > 0.0;
  launch(Op::attention_backward_,
         {grad_query, grad_key, grad_value, grad_mask, grad, query, key, value, added, out, logsumexp,
          drops ? seed : Tensor(), drops ? offset : Tensor()},
         {0, 0, is_causal}, {scale_of(query, scale), dropout});
  if (grad_mask.defined()) {
    grad_mask = at::sum_to(grad_mask, mask.sizes()).to(mask.scalar_type());
  }
  return {grad_query, grad_key, grad_value, grad_mask};
}

// What a graph that was traced on CPU tensors contains.
std::tuple<Tensor, Tensor> cpu_attention(const Tensor& query, const Tensor& key, const Tensor& value, double dropout,
                                         bool is_causal, const OptionalTensor& mask, std::optional<double> scale) {
  check(query, key, value);
  TORCH_CHECK(dropout == 0.0, "scaled_dot_product_attention_flash_attention: Currently do not support dropout > 0");
  const Tensor out = empty_as_query(query, value);
  const std::array<int64_t, 3> rows{query.size(0), query.size(2), query.size(1)};
  const Tensor logsumexp = empty_dense(rows, compute_dtype(query)).transpose(1, 2);
  launch(Op::attention_, {out, logsumexp, query, key, value, expanded_mask(mask, query, key)}, {0, 0, is_causal},
         {scale_of(query, scale)});
  return {out, logsumexp};
}

std::tuple<Tensor, Tensor, Tensor> cpu_attention_backward(const Tensor& grad, const Tensor& query, const Tensor& key,
                                                          const Tensor& value, const Tensor& out,
                                                          const Tensor& logsumexp, double /*dropout*/, bool is_causal,
                                                          const OptionalTensor& mask, std::optional<double> scale) {
  check(query, key, value);
  const auto like = [](const Tensor& tensor) {
    return at::empty_permuted(tensor.sizes(), {0, 2, 1, 3}, tensor.options());
  };
  const Tensor grad_query = like(query);
  const Tensor grad_key = like(key);
  const Tensor grad_value = like(value);
  launch(Op::attention_backward_,
         {grad_query, grad_key, grad_value, Tensor(), grad, query, key, value, expanded_mask(mask, query, key), out,
          logsumexp, Tensor(), Tensor()},
         {0, 0, is_causal}, {scale_of(query, scale), 0.0});
  return {grad_query, grad_key, grad_value};
}

// Ours where the kernel takes the operands as they are; else PyTorch's composite of matrix products
// and a softmax, which broadcasts, and raises what PyTorch raises.
int64_t choose(const Tensor& query, const Tensor& key, const Tensor& value, const OptionalTensor& mask,
               double /*dropout*/, bool is_causal, std::optional<double> /*scale*/, bool enable_gqa) {
  // vmap batches the composite, and has no rule for ours.
  constexpr c10::DispatchKeySet batched({c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched});
  for (const Tensor* tensor : {&query, &key, &value}) {
    if (tensor->key_set().has_any(batched)) {
      return static_cast<int64_t>(at::SDPBackend::math);
    }
  }
  const bool masked = mask.has_value() && mask->defined();
  const auto rank = query.dim();
  bool fused = at::globalContext().userEnabledOverrideableSDP() && is_native_float(query) &&
               (rank == 3 || rank == 4) && key.dim() == rank && value.dim() == rank &&
               query.scalar_type() == key.scalar_type() && query.scalar_type() == value.scalar_type() &&
               !(masked && is_causal) && query.size(-1) > 0;
  if (fused) {
    const int64_t heads = query.size(-3);
    const int64_t kept = key.size(-3);
    fused = query.size(-1) == key.size(-1) && key.size(-2) == value.size(-2) && value.size(-3) == kept &&
            (heads == kept || (enable_gqa && kept > 0 && heads % kept == 0)) &&
            (rank == 3 || (query.size(0) == key.size(0) && query.size(0) == value.size(0)));
  }
  if (fused && masked) {
    at::DimVector scores(query.sizes());
    scores[rank - 1] = key.size(-2);
    fused = (mask->scalar_type() == at::kBool || mask->scalar_type() == query.scalar_type()) &&
            mask->dim() <= rank && at::is_expandable_to(mask->sizes(), scores);
  }
  return static_cast<int64_t>(fused ? at::SDPBackend::overrideable : at::SDPBackend::math);
}

// (batch, length, width) as (batch, heads, length, width / heads), by strides.
Tensor split_heads(const Tensor& tensor, int64_t heads) {
  return tensor.unflatten(-1, {heads, -1}).transpose(1, 2);
}

// True where a key is hidden, over (batch, heads, queries, keys). The codes are PyTorch's: a mask
// of queries and keys, of the batch's keys, or of everything.
Tensor hidden_keys(const OptionalTensor& mask, std::optional<int64_t> mask_type) {
  if (!mask.has_value() || !mask->defined()) {
    return Tensor();
  }
  const Tensor hidden = mask->to(at::kBool);
  const bool of_keys = mask_type == 1 && hidden.dim() == 2;
  return of_keys ? hidden.unsqueeze(1).unsqueeze(1) : hidden;
}

std::tuple<Tensor, Tensor> multi_head_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                                int64_t embed_dim, int64_t heads, const Tensor& qkv_weight,
                                                const Tensor& qkv_bias, const Tensor& proj_weight,
                                                const Tensor& proj_bias, const OptionalTensor& mask, bool need_weights,
                                                bool average_weights, std::optional<int64_t> mask_type) {
  TORCH_CHECK(query.dim() == 3, "expected 3-D `query`, got ", query.dim(), "-D tensor");
  TORCH_CHECK(query.size(2) == embed_dim, "passed-in embed_dim ", embed_dim, " didn't match last dim of query ",
              query.size(2));
  TORCH_CHECK(key.dim() == 3 && value.dim() == 3, "expected 3-D `key` and `value`, got ", key.dim(), "-D and ",
              value.dim(), "-D tensors");
  TORCH_CHECK(embed_dim % heads == 0, "expected `embed_dim` to divide evenly by `num_heads`");
  std::array<Tensor, 3> parts;
  if (query.is_same(key) && key.is_same(value)) {
    const Tensor all = at::linear(query, qkv_weight, qkv_bias);
    for (int64_t part = 0; part < 3; ++part) {
      parts[part] = split_heads(all.narrow(-1, part * embed_dim, embed_dim), heads);
    }
  } else {
    const std::array<const Tensor*, 3> inputs{&query, &key, &value};
    for (int64_t part = 0; part < 3; ++part) {
      const Tensor projected = at::linear(*inputs[part], qkv_weight.narrow(0, part * embed_dim, embed_dim),
                                          qkv_bias.narrow(0, part * embed_dim, embed_dim));
      parts[part] = split_heads(projected, heads);
    }
  }
  const Tensor hidden = hidden_keys(mask, mask_type);
  Tensor weights;
  Tensor joined;
  if (need_weights) {
    Tensor scores = at::matmul(parts[0], parts[1].transpose(-2, -1)).mul_(scale_of(parts[0], std::nullopt));
    if (hidden.defined()) {
      scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
    }
    weights = at::softmax(scores, -1);
    joined = at::matmul(weights, parts[2]);
    if (average_weights) {
      weights = weights.mean(1);
    }
  } else {
    const OptionalTensor seen = hidden.defined() ? OptionalTensor(hidden.logical_not()) : std::nullopt;
    joined = std::get<0>(attention(parts[0], parts[1], parts[2], seen, 0.0, false, false, std::nullopt));
  }
  return {at::linear(joined.transpose(1, 2).flatten(2), proj_weight, proj_bias), weights};
}

Tensor encoder_layer(const Tensor& src, int64_t embed_dim, int64_t heads, const Tensor& qkv_weight,
                     const Tensor& qkv_bias, const Tensor& proj_weight, const Tensor& proj_bias, bool use_gelu,
                     bool norm_first, double eps, const Tensor& norm_weight_1, const Tensor& norm_bias_1,
                     const Tensor& norm_weight_2, const Tensor& norm_bias_2, const Tensor& ffn_weight_1,
                     const Tensor& ffn_bias_1, const Tensor& ffn_weight_2, const Tensor& ffn_bias_2,
                     const OptionalTensor& mask, std::optional<int64_t> mask_type) {
  const auto norm_1 = [&](const Tensor& x) {
    return at::layer_norm(x, {embed_dim}, norm_weight_1, norm_bias_1, eps);
  };
  const auto norm_2 = [&](const Tensor& x) {
    return at::layer_norm(x, {embed_dim}, norm_weight_2, norm_bias_2, eps);
  };
  const auto attend = [&](const Tensor& x) {
    return std::get<0>(multi_head_attention(x, x, x, embed_dim, heads, qkv_weight, qkv_bias, proj_weight, proj_bias,
                                            mask, /*need_weights=*/false, /*average_weights=*/false, mask_type));
  };
  const auto feed_forward = [&](const Tensor& x) {
    const Tensor inner = at::linear(x, ffn_weight_1, ffn_bias_1);
    return at::linear(use_gelu ? at::gelu(inner) : at::relu(inner), ffn_weight_2, ffn_bias_2);
  };
  if (norm_first) {
    const Tensor x = src.add(attend(norm_1(src)));
    return x.add(feed_forward(norm_2(x)));
  }
  const Tensor x = norm_1(src.add(attend(src)));
  return norm_2(x.add(feed_forward(x)));
}

// nn.TransformerEncoder asks whether it may turn a padded batch into a nested tensor; this device
// has dense tensors only, and "no" makes it go on with the mask.
bool is_left_aligned(const Tensor& /*tensor*/, const Tensor& /*mask*/) {
  return false;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_scaled_dot_product_fused_attention_overrideable", TORCH_FN(attention));
  m.impl("_scaled_dot_product_fused_attention_overrideable_backward", TORCH_FN(attention_backward));
  m.impl("_scaled_dot_product_flash_attention_for_cpu", TORCH_FN(cpu_attention));
  m.impl("_scaled_dot_product_flash_attention_for_cpu_backward", TORCH_FN(cpu_attention_backward));
  m.impl("_native_multi_head_attention", TORCH_FN(multi_head_attention));
  m.impl("_transformer_encoder_layer_fwd", TORCH_FN(encoder_layer));
  m.impl("_nested_tensor_from_mask_left_aligned", TORCH_FN(is_left_aligned));
}

}  // namespace rustorch

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &rustorch::choose)
}  // namespace at::native
