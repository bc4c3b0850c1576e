// Ops over lists of tensors, in one launch where the lists are plain: floats of one dtype, of equal
// shapes. Other lists go to ATen's loop over the ops of single tensors.
#include <ATen/core/Tensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/_foreach_abs_native.h>
#include <ATen/ops/_foreach_acos_native.h>
#include <ATen/ops/_foreach_add_native.h>
#include <ATen/ops/_foreach_addcdiv_native.h>
#include <ATen/ops/_foreach_addcmul_native.h>
#include <ATen/ops/_foreach_asin_native.h>
#include <ATen/ops/_foreach_atan_native.h>
#include <ATen/ops/_foreach_ceil_native.h>
#include <ATen/ops/_foreach_clamp_max_native.h>
#include <ATen/ops/_foreach_clamp_min_native.h>
#include <ATen/ops/_foreach_copy_native.h>
#include <ATen/ops/_foreach_cos_native.h>
#include <ATen/ops/_foreach_cosh_native.h>
#include <ATen/ops/_foreach_div_native.h>
#include <ATen/ops/_foreach_erf_native.h>
#include <ATen/ops/_foreach_erfc_native.h>
#include <ATen/ops/_foreach_exp_native.h>
#include <ATen/ops/_foreach_expm1_native.h>
#include <ATen/ops/_foreach_floor_native.h>
#include <ATen/ops/_foreach_frac_native.h>
#include <ATen/ops/_foreach_lerp_native.h>
#include <ATen/ops/_foreach_lgamma_native.h>
#include <ATen/ops/_foreach_log_native.h>
#include <ATen/ops/_foreach_log10_native.h>
#include <ATen/ops/_foreach_log1p_native.h>
#include <ATen/ops/_foreach_log2_native.h>
#include <ATen/ops/_foreach_maximum_native.h>
#include <ATen/ops/_foreach_minimum_native.h>
#include <ATen/ops/_foreach_mul_native.h>
#include <ATen/ops/_foreach_neg_native.h>
#include <ATen/ops/_foreach_norm_native.h>
#include <ATen/ops/_foreach_pow_native.h>
#include <ATen/ops/_foreach_reciprocal_native.h>
#include <ATen/ops/_foreach_round_native.h>
#include <ATen/ops/_foreach_rsqrt_native.h>
#include <ATen/ops/_foreach_sigmoid_native.h>
#include <ATen/ops/_foreach_sign_native.h>
#include <ATen/ops/_foreach_sin_native.h>
#include <ATen/ops/_foreach_sinh_native.h>
#include <ATen/ops/_foreach_sqrt_native.h>
#include <ATen/ops/_foreach_sub_native.h>
#include <ATen/ops/_foreach_tan_native.h>
#include <ATen/ops/_foreach_tanh_native.h>
#include <ATen/ops/_foreach_trunc_native.h>
#include <ATen/ops/_foreach_zero_native.h>
#include <torch/library.h>

#include <algorithm>

#include "aten/expanded.h"
#include "aten/overlap.h"
#include "aten/pointwise.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

using at::Scalar;
using at::Tensor;
using at::TensorList;

// What a call gives: its lists, and a scalar for all tensors or one for each.
class Lists {
 public:
  void see(TensorList list) { lists_.push_back(list); }
  void see(const Scalar& scalar) { see(scalar, 1); }
  void see(at::ArrayRef<Scalar> scalars) {
    each_ = true;
    for (const Scalar& scalar : scalars) {
      see(scalar, scalars.size());
    }
  }
  // A number as a tensor; after three lists, a tensor of a number for each.
  void see(const Tensor& numbers) {
    each_ = lists_.size() == 3;
    plain_ = plain_ && !numbers.is_complex() && !capturing() &&
             (each_ ? numbers.dim() == 1 && numbers.is_cpu() && numbers.is_contiguous() : numbers.dim() == 0);
    number_dtype_ = each_ ? at::ScalarType::Undefined : numbers.scalar_type();
    for (int64_t at = 0; plain_ && at < numbers.numel(); ++at) {
      see(each_ ? numbers[at].item() : numbers.item(), static_cast<size_t>(numbers.numel()));
    }
  }

  // Whether one launch does it. While a graph is captured single ops are wanted, which it can fuse.
  bool plain(bool in_place) const {
    if (!plain_ || capturing() || lists_[0].empty()) {
      return false;
    }
    const auto dtype = lists_[0][0].scalar_type();
    const size_t count = lists_[0].size();
    if (!is_native(dtype) || !at::isFloatingType(dtype) || (each_ && scalars_.floats.size() != count)) {
      return false;
    }
    for (const TensorList list : lists_) {
      if (list.size() != count) {
        return false;
      }
      for (size_t at = 0; at < count; ++at) {
        if (list[at].scalar_type() != dtype || !list[at].is_privateuseone() ||
            list[at].sizes() != lists_[0][at].sizes() || (list[at].dim() == 0 && is_promoted(dtype))) {
          return false;
        }
      }
    }
    return !in_place || apart();
  }

  // Fresh results in the layouts of the first list.
  std::vector<Tensor> results() const {
    std::vector<Tensor> results;
    results.reserve(lists_[0].size());
    for (const Tensor& tensor : lists_[0]) {
      results.push_back(tensor.is_contiguous() ? empty_dense(tensor.sizes(), tensor.scalar_type())
                                               : at::empty_like(tensor));
    }
    return results;
  }

  TensorList first() const { return lists_[0]; }

  void launch(Op op, TensorList results) const {
    c10::SmallVector<Operand, 32> operands;
    operands.append(results.begin(), results.end());
    for (const TensorList list : lists_) {
      operands.append(list.begin(), list.end());
    }
    c10::SmallVector<int64_t, 8> ints{static_cast<int64_t>(results.size()), static_cast<int64_t>(op),
                                      static_cast<int64_t>(results[0].scalar_type()), each_};
    const ScalarArguments scalars = scalars_.of(op, results[0].scalar_type());
    ints.append(scalars.ints.begin(), scalars.ints.end());
    rustorch::launch(Op::foreach_, operands, ints, scalars.floats);
  }

 private:
  void see(const Scalar& scalar, size_t count) {
    // A second scalar beside a tensor of numbers is alpha, of which only one leaves them as they are.
    if (scalars_.floats.size() == count) {
      plain_ = plain_ && scalar.equal(1);
      return;
    }
    // ATen's loop says where a bool is legal.
    plain_ = plain_ && !scalar.isComplex() && !scalar.isBoolean();
    scalars_.add(scalar);
  }

  // A number as a tensor takes part in the promotion of tensors that are numbers themselves.
  bool is_promoted(at::ScalarType dtype) const {
    return number_dtype_ != at::ScalarType::Undefined && c10::promoteTypes(dtype, number_dtype_) != dtype;
  }

  // Whether each written tensor has memory of its own: tasks write them at once.
  bool apart() const {
    c10::SmallVector<std::pair<const char*, const char*>, 32> ranges;
    for (const Tensor& tensor : lists_[0]) {
      if (!tensor.is_non_overlapping_and_dense()) {
        return false;
      }
      const char* begin = static_cast<const char*>(tensor.const_data_ptr());
      ranges.emplace_back(begin, begin + tensor.nbytes());
    }
    std::sort(ranges.begin(), ranges.end());
    for (size_t at = 1; at < ranges.size(); ++at) {
      if (ranges[at].first < ranges[at - 1].second) {
        return false;
      }
    }
    return true;
  }

  c10::SmallVector<TensorList, 3> lists_;
  ScalarArguments scalars_;
  at::ScalarType number_dtype_ = at::ScalarType::Undefined;
  bool each_ = false;
  bool plain_ = true;
};

// `slow` is ATen's loop, and has the op's signature.
template <Op op, auto slow, class Signature = decltype(slow)>
struct Foreach;
template <Op op, auto slow, class Return, class... Args>
struct Foreach<op, slow, Return (*)(Args...)> {
  static Return call(Args... args) {
    constexpr bool in_place = std::is_void_v<Return>;
    Lists lists;
    (lists.see(args), ...);
    if (!lists.plain(in_place)) {
      return slow(args...);
    }
    if constexpr (in_place) {
      lists.launch(op, lists.first());
    } else {
      auto results = lists.results();
      lists.launch(op, results);
      return results;
    }
  }
};

// A row that is no pointwise one, over each tensor in turn; `head` is what it takes beside operands.
void launch_each(Op op, size_t count, c10::ArrayRef<Operand> operands, c10::ArrayRef<int64_t> ints = {},
                 c10::ArrayRef<double> floats = {}) {
  c10::SmallVector<int64_t, 8> head{static_cast<int64_t>(count), static_cast<int64_t>(op), 0, 0};
  head.append(ints.begin(), ints.end());
  launch(Op::foreach_, operands, head, floats);
}

bool all_here(TensorList list) {
  return !capturing() && !list.empty() && std::all_of(list.begin(), list.end(), [](const Tensor& tensor) {
    return tensor.is_privateuseone() && is_native(tensor.scalar_type());
  });
}

void copy(TensorList self, TensorList from, bool non_blocking) {
  bool plain = all_here(self) && all_here(from) && self.size() == from.size();
  for (size_t at = 0; plain && at < self.size(); ++at) {
    plain = self[at].sizes() == from[at].sizes() && !is_alias(self[at], from[at]) &&
            self[at].is_non_overlapping_and_dense();
  }
  if (!plain) {
    return at::native::foreach_tensor_copy_list_kernel_slow_(self, from, non_blocking);
  }
  c10::SmallVector<Operand, 32> operands;
  operands.append(self.begin(), self.end());
  operands.append(from.begin(), from.end());
  launch_each(Op::copy_, self.size(), operands);
}

// Zero is zero bits in every dtype.
void zero(TensorList self) {
  if (!all_here(self)) {
    return at::native::foreach_tensor_zero_slow_(self);
  }
  c10::SmallVector<Operand, 32> operands;
  for (const Tensor& tensor : self) {
    operands.push_back(Operand::bits(once(tensor)));
  }
  launch_each(Op::fill_, self.size(), operands, {0}, {0, 0});
}

std::vector<Tensor> norm(TensorList self, const Scalar& order, std::optional<at::ScalarType> dtype) {
  const bool plain = all_here(self) && !dtype.has_value() && !order.isComplex() &&
                     std::all_of(self.begin(), self.end(), [](const Tensor& tensor) {
                       return at::isFloatingType(tensor.scalar_type()) && tensor.numel() > 0;
                     });
  if (!plain) {
    return at::native::foreach_tensor_norm_slow(self, order, dtype);
  }
  // A result has the rank of its tensor, with one element.
  size_t rank = 0;
  std::vector<Tensor> results;
  c10::SmallVector<Operand, 32> operands;
  for (const Tensor& tensor : self) {
    rank = std::max(rank, tensor.sizes().size());
  }
  const c10::DimVector ones(rank, 1);
  for (const Tensor& tensor : self) {
    const at::IntArrayRef shape(ones.data(), tensor.sizes().size());
    results.push_back(empty_dense({}, tensor.scalar_type()));
    operands.push_back(Operand(results.back(), shape, shape));
  }
  operands.append(self.begin(), self.end());
  launch_each(Op::norm_, self.size(), operands, {}, {order.toDouble()});
  return results;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
#define RUSTORCH_FOREACH(name, op, slow) \
  m.impl("_foreach_" name, TORCH_FN((Foreach<Op::op##_, &at::native::foreach_##slow>::call)));
// The functional form and the in-place one.
#define RUSTORCH_BOTH(base, overload, op, slow)        \
  RUSTORCH_FOREACH(base overload, op, tensor_##slow)   \
  RUSTORCH_FOREACH(base "_" overload, op, tensor_##slow##_)
#define RUSTORCH_UNARY(name) RUSTORCH_BOTH(#name, "", name, name##_slow)
// With a number, a number for each tensor, and another list.
#define RUSTORCH_BINARY(name, with_number, with_list, slow)                                 \
  RUSTORCH_BOTH(#name, ".Scalar", with_number, slow##_scalar_kernel_slow)                   \
  RUSTORCH_BOTH(#name, ".ScalarList", with_number, slow##_scalarlist_kernel_slow)           \
  RUSTORCH_BOTH(#name, ".List", with_list, slow##_list_kernel_slow)
#define RUSTORCH_TERNARY(name)                                       \
  RUSTORCH_BOTH(#name, ".Scalar", name, name##_scalar_slow)          \
  RUSTORCH_BOTH(#name, ".ScalarList", name, name##_scalarlist_slow)  \
  RUSTORCH_BOTH(#name, ".Tensor", name, name##_tensor_slow)
  RUSTORCH_UNARY(abs)
  RUSTORCH_UNARY(acos)
  RUSTORCH_UNARY(asin)
  RUSTORCH_UNARY(atan)
  RUSTORCH_UNARY(ceil)
  RUSTORCH_UNARY(cos)
  RUSTORCH_UNARY(cosh)
  RUSTORCH_UNARY(erf)
  RUSTORCH_UNARY(erfc)
  RUSTORCH_UNARY(exp)
  RUSTORCH_UNARY(expm1)
  RUSTORCH_UNARY(floor)
  RUSTORCH_UNARY(frac)
  RUSTORCH_UNARY(lgamma)
  RUSTORCH_UNARY(log)
  RUSTORCH_UNARY(log10)
  RUSTORCH_UNARY(log1p)
  RUSTORCH_UNARY(log2)
  RUSTORCH_UNARY(neg)
  RUSTORCH_UNARY(reciprocal)
  RUSTORCH_UNARY(round)
  RUSTORCH_UNARY(rsqrt)
  RUSTORCH_UNARY(sigmoid)
  RUSTORCH_UNARY(sign)
  RUSTORCH_UNARY(sin)
  RUSTORCH_UNARY(sinh)
  RUSTORCH_UNARY(sqrt)
  RUSTORCH_UNARY(tan)
  RUSTORCH_UNARY(tanh)
  RUSTORCH_UNARY(trunc)
  RUSTORCH_BINARY(add, add_scalar, add, add)
  RUSTORCH_BINARY(sub, sub_scalar, sub, sub)
  RUSTORCH_BINARY(mul, mul_scalar, mul, mul)
  RUSTORCH_BINARY(div, div_scalar, div, div)
  RUSTORCH_BINARY(pow, pow_scalar, pow, pow)
  RUSTORCH_BINARY(clamp_min, clamp_min, clamp_min_tensor, clamp_min)
  RUSTORCH_BINARY(clamp_max, clamp_max, clamp_max_tensor, clamp_max)
  RUSTORCH_BINARY(maximum, clamp_min, clamp_min_tensor, clamp_min)
  RUSTORCH_BINARY(minimum, clamp_max, clamp_max_tensor, clamp_max)
  RUSTORCH_BOTH("add", ".Tensor", add_scalar, add_tensor_kernel_slow)
  RUSTORCH_BOTH("mul", ".Tensor", mul_scalar, mul_tensor_kernel_slow)
  RUSTORCH_BOTH("div", ".Tensor", div_scalar, div_tensor_kernel_slow)
  RUSTORCH_TERNARY(addcmul)
  RUSTORCH_TERNARY(addcdiv)
  RUSTORCH_BOTH("lerp", ".List", lerp_tensor, ternary_lerp_slow)
  RUSTORCH_BOTH("lerp", ".Scalar", lerp_scalar, lerp_list_kernel_slow)
  RUSTORCH_BOTH("lerp", ".ScalarList", lerp_scalar, lerp_scalarlist_kernel_slow)
  m.impl("_foreach_copy_", TORCH_FN(copy));
  m.impl("_foreach_zero_", TORCH_FN(zero));
  m.impl("_foreach_norm.Scalar", TORCH_FN(norm));
}

}  // namespace rustorch
