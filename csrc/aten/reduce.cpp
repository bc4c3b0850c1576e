// Sums, means, products, extremes, tests, norms, variances; running sums and products.
#include "aten/reduce.h"

#include <ATen/ops/all_meta.h>
#include <ATen/ops/all_ops.h>
#include <ATen/ops/amax_meta.h>
#include <ATen/ops/amax_ops.h>
#include <ATen/ops/amin_meta.h>
#include <ATen/ops/amin_ops.h>
#include <ATen/ops/aminmax_meta.h>
#include <ATen/ops/aminmax_ops.h>
#include <ATen/ops/any_meta.h>
#include <ATen/ops/any_ops.h>
#include <ATen/ops/argmax_meta.h>
#include <ATen/ops/argmax_ops.h>
#include <ATen/ops/argmin_meta.h>
#include <ATen/ops/argmin_ops.h>
#include <ATen/ops/count_nonzero_ops.h>
#include <ATen/ops/cumprod_meta.h>
#include <ATen/ops/cumprod_ops.h>
#include <ATen/ops/cumsum_meta.h>
#include <ATen/ops/cumsum_ops.h>
#include <ATen/ops/linalg_vector_norm_meta.h>
#include <ATen/ops/linalg_vector_norm_ops.h>
#include <ATen/ops/max_meta.h>
#include <ATen/ops/max_ops.h>
#include <ATen/ops/mean_meta.h>
#include <ATen/ops/mean_ops.h>
#include <ATen/ops/min_meta.h>
#include <ATen/ops/min_ops.h>
#include <ATen/ops/nansum_ops.h>
#include <ATen/ops/norm_meta.h>
#include <ATen/ops/norm_ops.h>
#include <ATen/ops/prod_meta.h>
#include <ATen/ops/prod_ops.h>
#include <ATen/ops/std_mean_ops.h>
#include <ATen/ops/std_ops.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/sum_meta.h>
#include <ATen/ops/sum_ops.h>
#include <ATen/ops/var_mean_ops.h>
#include <ATen/ops/var_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "aten/structured.h"

namespace rustorch {

void reduce(Op op, c10::ArrayRef<at::Tensor> outputs, const at::Tensor& self, DimMask mask,
            c10::ArrayRef<int64_t> ints, c10::ArrayRef<double> floats) {
  const int64_t rank = self.dim();
  if (mask == dims_of(self) && self.is_contiguous()) {
    // All of a dense tensor is a line.
    static constexpr int64_t one = 1;
    const int64_t numel = self.numel();
    c10::SmallVector<Operand, 3> operands;
    for (const at::Tensor& output : outputs) {
      operands.push_back(output.defined() ? Operand(output, {&one, 1}, {&one, 1}) : Operand(output));
    }
    operands.push_back(Operand(self, {&numel, 1}, {&one, 1}));
    return launch(op, operands, ints, floats);
  }
  at::DimVector sizes(self.sizes());
  for (int64_t dim = 0; dim < rank; ++dim) {
    sizes[dim] = mask[dim] ? 1 : sizes[dim];
  }
  std::array<at::DimVector, 2> strides;
  c10::SmallVector<Operand, 3> operands;
  for (size_t at = 0; at < outputs.size(); ++at) {
    const at::Tensor& output = outputs[at];
    if (!output.defined()) {
      operands.push_back(Operand(output));
      continue;
    }
    const bool kept = output.dim() == rank;
    int64_t next = 0;
    for (int64_t dim = 0; dim < rank; ++dim) {
      strides[at].push_back(mask[dim] ? 1 : output.stride(next));
      next += kept || !mask[dim];
    }
    operands.push_back(Operand(output, sizes, strides[at]));
  }
  operands.push_back(Operand(self));
  launch(op, operands, ints, floats);
}

namespace {

using at::Tensor;
using OptionalDtype = std::optional<at::ScalarType>;

bool native(const Tensor& tensor) { return is_native(tensor.scalar_type()); }
bool native(at::ScalarType dtype) { return is_native(dtype); }
bool native(const OptionalDtype& dtype) { return !dtype.has_value() || is_native(*dtype); }
bool native(const at::Scalar& scalar) { return !scalar.isComplex(); }
template <class Other>
bool native(const Other& /*dimensions and flags*/) {
  return true;
}

// A rule says which meta checks an op's arguments, and what is launched.
template <Op op, class Meta_>
struct Reduction {
  using Meta = Structured<Meta_>;
  static void run(Meta& meta, const Tensor& self) { reduce(op, {meta.result()}, self, dims_of(self)); }
  template <class Dims, class... Rest>
  static void run(Meta& meta, const Tensor& self, const Dims& dims, const Rest&...) {
    reduce(op, {meta.result()}, self, dims_of(self, dims));
  }
  template <class... Args>
  static void check(Meta& meta, const Args&... args) {
    meta.meta(args...);
    if constexpr (op == Op::mean_) {
      // Of a given output.
      const auto dtype = meta.result().scalar_type();
      TORCH_CHECK(at::isFloatingType(dtype), "result type Float can't be cast to the desired output type ", dtype);
    }
  }
};

// `any(dim=())` reduces nothing.
template <Op op, class Meta_>
struct TestOverDims : Reduction<op, Meta_> {
  using Meta = Structured<Meta_>;
  static void run(Meta& meta, const Tensor& self, at::OptionalIntArrayRef dims, bool) {
    reduce(op, {meta.result()}, self, at::native::make_dim_mask(dims, self.dim(), /*allow_empty_dims=*/true));
  }
};

template <Op op, class Meta_>
struct ArgReduction : Reduction<op, Meta_> {
  using Meta = Structured<Meta_>;
  static void run(Meta& meta, const Tensor& self, std::optional<int64_t> dim, bool) {
    reduce(op, {Tensor(), meta.result()}, self, dims_of(self, dim));
  }
};

template <Op op, class Meta_>
struct RunningTotal : Reduction<op, Meta_> {
  using Meta = Structured<Meta_>;
  static void run(Meta& meta, const Tensor& self, int64_t dim, OptionalDtype) {
    // As the CPU: of one number or none there is nothing to add up.
    TORCH_CHECK_NOT_IMPLEMENTED(meta.result().scalar_type() != at::kBool || self.dim() == 0 || self.numel() == 0, "\"",
                                op == Op::cumsum_ ? "cumsum" : "cumprod", "_out_cpu\" not implemented for 'Bool'");
    launch(op, {meta.result(), self}, {at::maybe_wrap_dim(dim, self.dim())});
  }
};

struct VectorNorm : Reduction<Op::norm_, at::meta::structured_linalg_vector_norm> {
  static void run(Meta& meta, const Tensor& self, const at::Scalar& order, at::OptionalIntArrayRef dims, bool,
                  OptionalDtype) {
    reduce(Op::norm_, {meta.result()}, self, dims_of(self, dims), {}, {order.toDouble()});
  }
};

template <class Meta_>
struct Norm {
  using Meta = Structured<Meta_>;
  template <class... Rest>
  static void check(Meta& meta, const Tensor& self, const std::optional<at::Scalar>& order, const Rest&... rest) {
    meta.meta(self, order.has_value() ? at::OptionalScalarRef(*order) : at::OptionalScalarRef(), rest...);
  }
  template <class... Rest>
  static void run(Meta& meta, const Tensor& self, const std::optional<at::Scalar>& order, at::IntArrayRef dims,
                  const Rest&...) {
    const double p = order.has_value() ? order->toDouble() : 2.0;
    reduce(Op::norm_, {meta.result()}, self, dims_of(self, dims), {}, {p});
  }
};

template <class Rule, class Traits, class Schema = typename Traits::schema>
struct Functional;
template <class Rule, class Traits, class... Args>
struct Functional<Rule, Traits, Tensor(const Tensor&, Args...)> {
  static Tensor call(const Tensor& self, Args... args) {
    if (!(native(self) && ... && native(args))) {
      return call_fallback<Traits>(self, args...);
    }
    typename Rule::Meta meta;
    Rule::check(meta, self, args...);
    Rule::run(meta, self, args...);
    return meta.finish();
  }
};

template <class Rule, class Traits, class Schema = typename Traits::schema>
struct Inplace;
template <class Rule, class Traits, class... Args>
struct Inplace<Rule, Traits, Tensor&(Tensor&, Args...)> {
  static Tensor& call(Tensor& self, Args... args) {
    if (!(native(self) && ... && native(args))) {
      return call_fallback<Traits>(self, args...);
    }
    typename Rule::Meta meta(self);
    Rule::check(meta, self, args...);
    Rule::run(meta, self, args...);
    meta.finish();
    return self;
  }
};

template <class Rule, class Traits, class Schema = typename Traits::schema>
struct Out;
template <class Rule, class Traits, class... Args>
struct Out<Rule, Traits, Tensor&(const Tensor&, Args...)> {
  static Tensor& call(const Tensor& self, Args... args) {
    auto all = std::forward_as_tuple(args...);
    return split(self, all, std::make_index_sequence<sizeof...(Args) - 1>());
  }

 private:
  template <class All, size_t... Index>
  static Tensor& split(const Tensor& self, All& all, std::index_sequence<Index...>) {
    Tensor& output = std::get<sizeof...(Index)>(all);
    if (!((native(self) && native(output)) && ... && native(std::get<Index>(all)))) {
      return call_fallback<Traits>(self, std::get<Index>(all)..., output);
    }
    typename Rule::Meta meta(output);
    Rule::check(meta, self, std::get<Index>(all)...);
    Rule::run(meta, self, std::get<Index>(all)...);
    meta.finish();
    return output;
  }
};

// `max(self, dim)`: values and indices.
template <Op op, class Meta, class Traits>
std::tuple<Tensor, Tensor> with_indices(const Tensor& self, int64_t dim, bool keepdim) {
  if (!native(self)) {
    return call_fallback<Traits>(self, dim, keepdim);
  }
  Structured<Meta, 2> meta;
  meta.meta(self, dim, keepdim);
  reduce(op, {meta.result(0), meta.result(1)}, self, dims_of(self, dim));
  return {meta.finish(0), meta.finish(1)};
}

template <Op op, class Meta, class Traits>
std::tuple<Tensor&, Tensor&> with_indices_out(const Tensor& self, int64_t dim, bool keepdim, Tensor& values,
                                              Tensor& indices) {
  if (!native(self) || !native(values)) {
    return call_fallback<Traits>(self, dim, keepdim, values, indices);
  }
  Structured<Meta, 2> meta(values, indices);
  meta.meta(self, dim, keepdim);
  reduce(op, {meta.result(0), meta.result(1)}, self, dims_of(self, dim));
  meta.finish(0);
  meta.finish(1);
  return {values, indices};
}

// `max(self)`.
template <Op op, class Traits>
Tensor extreme_of_all(const Tensor& self) {
  TORCH_CHECK(self.numel() > 0, Traits::name + 6,
              "(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the "
              "'dim' argument.");
  if (!native(self)) {
    return call_fallback<Traits>(self);
  }
  Tensor result = empty_dense({}, self.scalar_type());
  reduce(op, {result}, self, dims_of(self));
  return result;
}

template <Op op, class Traits>
Tensor& extreme_of_all_out(const Tensor& self, Tensor& out) {
  TORCH_CHECK(at::canCast(self.scalar_type(), out.scalar_type()), "Expected out tensor to have dtype ",
              self.scalar_type(), ", but got ", out.scalar_type(), " instead");
  at::native::resize_output(out, {});
  return out.copy_(extreme_of_all<op, Traits>(self));
}

Tensor sum_of_all(const Tensor& self, OptionalDtype dtype) {
  if (!native(self) || !native(dtype)) {
    return call_fallback<at::_ops::sum>(self, dtype);
  }
  Tensor result = empty_dense({}, at::native::get_dtype_from_self(self, dtype, /*promote_integers=*/true));
  reduce(Op::sum_, {result}, self, dims_of(self));
  return result;
}

Tensor mean_of_all(const Tensor& self, OptionalDtype dtype) {
  using Mean = Functional<Reduction<Op::mean_, at::meta::structured_mean_dim>, at::_ops::mean_dim>;
  return Mean::call(self, std::nullopt, false, dtype);
}

Tensor product_of_all(const Tensor& self, OptionalDtype dtype) {
  if (!native(self) || !native(dtype)) {
    return call_fallback<at::_ops::prod>(self, dtype);
  }
  Tensor result = empty_dense({}, at::native::get_dtype_from_self(self, dtype, /*promote_integers=*/true));
  reduce(Op::prod_, {result}, self, dims_of(self));
  return result;
}

// Integers have no NaN.
bool may_have_nan(const Tensor& self) { return at::isFloatingType(self.scalar_type()); }

Tensor nansum(const Tensor& self, at::OptionalIntArrayRef dims, bool keepdim, OptionalDtype dtype) {
  if (!native(self) || !native(dtype) || (may_have_nan(self) && at::isIntegralType(dtype.value_or(at::kFloat), true))) {
    return call_fallback<at::_ops::nansum>(self, dims, keepdim, dtype);
  }
  if (!may_have_nan(self)) {
    return at::sum(self, dims, keepdim, dtype);
  }
  const DimMask mask = dims_of(self, dims);
  Tensor result = empty_dense(at::native::shape_from_dim_mask(self, mask, keepdim), dtype.value_or(self.scalar_type()));
  reduce(Op::nansum_, {result}, self, mask);
  return result;
}

Tensor& nansum_out(const Tensor& self, at::OptionalIntArrayRef dims, bool keepdim, OptionalDtype dtype, Tensor& out) {
  if (!native(self) || !native(dtype) || !native(out) || (may_have_nan(self) && !may_have_nan(out))) {
    return call_fallback<at::_ops::nansum_out>(self, dims, keepdim, dtype, out);
  }
  if (!may_have_nan(self)) {
    return at::sum_out(out, self, dims, keepdim, dtype);
  }
  TORCH_CHECK(!dtype.has_value() || *dtype == out.scalar_type(), "Expected out tensor to have dtype ", *dtype,
              ", but got ", out.scalar_type(), " instead");
  const DimMask mask = dims_of(self, dims);
  at::native::resize_output(out, at::native::shape_from_dim_mask(self, mask, keepdim));
  reduce(Op::nansum_, {out}, self, mask);
  return out;
}

struct AMinMax {
  using Meta = Structured<at::meta::structured_aminmax, 2>;
  static void run(Meta& meta, const Tensor& self, std::optional<int64_t> dim, bool keepdim) {
    meta.meta(self, dim, keepdim);
    const DimMask mask = dims_of(self, dim);
    reduce(Op::amin_, {meta.result(0)}, self, mask);
    reduce(Op::amax_, {meta.result(1)}, self, mask);
  }
};

std::tuple<Tensor, Tensor> aminmax(const Tensor& self, std::optional<int64_t> dim, bool keepdim) {
  if (!native(self)) {
    return call_fallback<at::_ops::aminmax>(self, dim, keepdim);
  }
  AMinMax::Meta meta;
  AMinMax::run(meta, self, dim, keepdim);
  return {meta.finish(0), meta.finish(1)};
}

std::tuple<Tensor&, Tensor&> aminmax_out(const Tensor& self, std::optional<int64_t> dim, bool keepdim, Tensor& low,
                                         Tensor& high) {
  if (!native(self) || !native(low) || !native(high)) {
    return call_fallback<at::_ops::aminmax_out>(self, dim, keepdim, low, high);
  }
  AMinMax::Meta meta(low, high);
  AMinMax::run(meta, self, dim, keepdim);
  meta.finish(0);
  meta.finish(1);
  return {low, high};
}

Tensor count_nonzero(const Tensor& self, at::IntArrayRef dims) {
  if (!native(self)) {
    return call_fallback<at::_ops::count_nonzero_dim_IntList>(self, dims);
  }
  const DimMask mask = dims_of(self, dims);
  Tensor result = empty_dense(at::native::shape_from_dim_mask(self, mask, false), at::kLong);
  reduce(Op::count_nonzero_, {result}, self, mask);
  return result;
}

void expect_variance_of(const Tensor& self, const char* name) {
  TORCH_CHECK_NOT_IMPLEMENTED(at::isFloatingType(self.scalar_type()), name,
                              " only support floating point and complex dtypes");
}

// Variances and deviations: which of (spread, mean) are wanted, and where they go.
void launch_variance(const char* name, const Tensor& self, DimMask mask, const std::optional<at::Scalar>& correction,
                     bool root, const Tensor& spread, const Tensor& mean) {
  expect_variance_of(self, mean.defined() ? name : "std and var");
  const double less = correction.has_value() ? correction->toDouble() : 1.0;
  const int64_t outputs = spread.numel();
  const int64_t reduced = outputs == 0 ? 0 : self.numel() / outputs;
  if (static_cast<double>(reduced) - less <= 0) {
    TORCH_WARN(name,
               "(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor (input "
               "numel divided by output numel).");
  }
  reduce(Op::variance_, {spread, mean}, self, mask, {root}, {less});
}

template <bool root, class Traits>
Tensor variance(const Tensor& self, at::OptionalIntArrayRef dims, const std::optional<at::Scalar>& correction,
                bool keepdim) {
  if (!native(self)) {
    return call_fallback<Traits>(self, dims, correction, keepdim);
  }
  const DimMask mask = dims_of(self, dims);
  Tensor result = empty_dense(at::native::shape_from_dim_mask(self, mask, keepdim), self.scalar_type());
  launch_variance(root ? "std" : "var", self, mask, correction, root, result, Tensor());
  return result;
}

template <bool root, class Traits>
Tensor& variance_out(const Tensor& self, at::OptionalIntArrayRef dims, const std::optional<at::Scalar>& correction,
                     bool keepdim, Tensor& out) {
  if (!native(self) || !native(out)) {
    return call_fallback<Traits>(self, dims, correction, keepdim, out);
  }
  expect_variance_of(self, "std and var");
  TORCH_CHECK(at::isFloatingType(out.scalar_type()), "result type ", self.scalar_type(),
              " can't be cast to the desired output type ", out.scalar_type());
  const DimMask mask = dims_of(self, dims);
  at::native::resize_output(out, at::native::shape_from_dim_mask(self, mask, keepdim));
  launch_variance(root ? "std" : "var", self, mask, correction, root, out, Tensor());
  return out;
}

template <bool root, class Traits>
std::tuple<Tensor, Tensor> variance_and_mean(const Tensor& self, at::OptionalIntArrayRef dims,
                                             const std::optional<at::Scalar>& correction, bool keepdim) {
  if (!native(self)) {
    return call_fallback<Traits>(self, dims, correction, keepdim);
  }
  const DimMask mask = dims_of(self, dims);
  const auto sizes = at::native::shape_from_dim_mask(self, mask, keepdim);
  Tensor spread = empty_dense(sizes, self.scalar_type());
  Tensor mean = empty_dense(sizes, self.scalar_type());
  launch_variance(root ? "std_mean" : "var_mean", self, mask, correction, root, spread, mean);
  return {spread, mean};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("nansum", TORCH_FN(nansum));
  m.impl("nansum.out", TORCH_FN(nansum_out));
  m.impl("aminmax", TORCH_FN(aminmax));
  m.impl("aminmax.out", TORCH_FN(aminmax_out));
#define RUSTORCH_PAIR(RULE, op, structured, name, traits, out_name, out_traits)                    \
  m.impl(name, TORCH_FN((Functional<RULE<Op::op##_, at::meta::structured>, at::_ops::traits>::call))); \
  m.impl(out_name, TORCH_FN((Out<RULE<Op::op##_, at::meta::structured>, at::_ops::out_traits>::call)));
  RUSTORCH_PAIR(Reduction, sum, structured_sum_dim_IntList, "sum.dim_IntList", sum_dim_IntList, "sum.IntList_out",
                sum_IntList_out)
  RUSTORCH_PAIR(Reduction, mean, structured_mean_dim, "mean.dim", mean_dim, "mean.out", mean_out)
  RUSTORCH_PAIR(Reduction, prod, structured_prod_dim_int, "prod.dim_int", prod_dim_int, "prod.int_out", prod_int_out)
  RUSTORCH_PAIR(Reduction, amax, structured_amax, "amax", amax, "amax.out", amax_out)
  RUSTORCH_PAIR(Reduction, amin, structured_amin, "amin", amin, "amin.out", amin_out)
  RUSTORCH_PAIR(Reduction, any, structured_any, "any", any, "any.all_out", any_all_out)
  RUSTORCH_PAIR(Reduction, any, structured_any_dim, "any.dim", any_dim, "any.out", any_out)
  RUSTORCH_PAIR(TestOverDims, any, structured_any_dims, "any.dims", any_dims, "any.dims_out", any_dims_out)
  RUSTORCH_PAIR(Reduction, all, structured_all, "all", all, "all.all_out", all_all_out)
  RUSTORCH_PAIR(Reduction, all, structured_all_dim, "all.dim", all_dim, "all.out", all_out)
  RUSTORCH_PAIR(TestOverDims, all, structured_all_dims, "all.dims", all_dims, "all.dims_out", all_dims_out)
  RUSTORCH_PAIR(ArgReduction, max_position, structured_argmax, "argmax", argmax, "argmax.out", argmax_out)
  RUSTORCH_PAIR(ArgReduction, min_position, structured_argmin, "argmin", argmin, "argmin.out", argmin_out)
  RUSTORCH_PAIR(RunningTotal, cumsum, structured_cumsum, "cumsum", cumsum, "cumsum.out", cumsum_out)
  RUSTORCH_PAIR(RunningTotal, cumprod, structured_cumprod, "cumprod", cumprod, "cumprod.out", cumprod_out)
#undef RUSTORCH_PAIR
  using Cumsum = RunningTotal<Op::cumsum_, at::meta::structured_cumsum>;
  using Cumprod = RunningTotal<Op::cumprod_, at::meta::structured_cumprod>;
  m.impl("cumsum_", TORCH_FN((Inplace<Cumsum, at::_ops::cumsum_>::call)));
  m.impl("cumprod_", TORCH_FN((Inplace<Cumprod, at::_ops::cumprod_>::call)));

  using NormOver = Norm<at::meta::structured_norm_ScalarOpt_dim>;
  using NormAs = Norm<at::meta::structured_norm_ScalarOpt_dim_dtype>;
  m.impl("linalg_vector_norm", TORCH_FN((Functional<VectorNorm, at::_ops::linalg_vector_norm>::call)));
  m.impl("linalg_vector_norm.out", TORCH_FN((Out<VectorNorm, at::_ops::linalg_vector_norm_out>::call)));
  m.impl("norm.ScalarOpt_dim", TORCH_FN((Functional<NormOver, at::_ops::norm_ScalarOpt_dim>::call)));
  m.impl("norm.out", TORCH_FN((Out<NormOver, at::_ops::norm_out>::call)));
  m.impl("norm.ScalarOpt_dim_dtype", TORCH_FN((Functional<NormAs, at::_ops::norm_ScalarOpt_dim_dtype>::call)));
  m.impl("norm.dtype_out", TORCH_FN((Out<NormAs, at::_ops::norm_dtype_out>::call)));

  m.impl("sum", TORCH_FN(sum_of_all));
  m.impl("mean", TORCH_FN(mean_of_all));
  m.impl("prod", TORCH_FN(product_of_all));
  m.impl("count_nonzero.dim_IntList", TORCH_FN(count_nonzero));
#define RUSTORCH_EXTREME(name, Op_, Position)                                                             \
  m.impl(#name, TORCH_FN((extreme_of_all<Op_, at::_ops::name>)));                                         \
  m.impl(#name ".unary_out", TORCH_FN((extreme_of_all_out<Op_, at::_ops::name>)));                        \
  m.impl(#name ".dim", TORCH_FN((with_indices<Position, at::meta::structured_##name##_dim, at::_ops::name##_dim>))); \
  m.impl(#name ".dim_" #name,                                                                             \
         TORCH_FN((with_indices_out<Position, at::meta::structured_##name##_dim, at::_ops::name##_dim_##name>)));
  RUSTORCH_EXTREME(max, Op::amax_, Op::max_position_)
  RUSTORCH_EXTREME(min, Op::amin_, Op::min_position_)
#undef RUSTORCH_EXTREME

  m.impl("var.correction", TORCH_FN((variance<false, at::_ops::var_correction>)));
  m.impl("std.correction", TORCH_FN((variance<true, at::_ops::std_correction>)));
  m.impl("var.correction_out", TORCH_FN((variance_out<false, at::_ops::var_correction_out>)));
  m.impl("std.correction_out", TORCH_FN((variance_out<true, at::_ops::std_correction_out>)));
  m.impl("var_mean.correction", TORCH_FN((variance_and_mean<false, at::_ops::var_mean_correction>)));
  m.impl("std_mean.correction", TORCH_FN((variance_and_mean<true, at::_ops::std_mean_correction>)));
}

}  // namespace rustorch
