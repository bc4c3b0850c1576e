// Pointwise ops whose row an argument chooses: gelu by its approximation, division by its rounding
// mode, clamp by its bounds; and those without a structured meta.
#include "aten/forms.h"
#include "aten/pointwise.h"

#include <ATen/ScalarOps.h>
#include <ATen/ops/clamp_meta.h>
#include <ATen/ops/clamp_ops.h>
#include <ATen/ops/div_meta.h>
#include <ATen/ops/div_ops.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu_backward_meta.h>
#include <ATen/ops/gelu_backward_ops.h>
#include <ATen/ops/gelu_meta.h>
#include <ATen/ops/gelu_ops.h>
#include <ATen/ops/log_sigmoid_backward_ops.h>
#include <ATen/ops/log_sigmoid_forward_ops.h>
#include <ATen/ops/logit_backward_meta.h>
#include <ATen/ops/logit_backward_ops.h>
#include <ATen/ops/logit_ops.h>
#include <ATen/ops/pow.h>
#include <torch/library.h>

#include <cmath>

namespace rustorch {
namespace {

using at::Tensor;

bool is_tanh(c10::string_view approximate) {
  TORCH_CHECK(approximate == "none" || approximate == "tanh",
              "approximate argument must be either none or tanh, got ", approximate);
  return approximate == "tanh";
}

struct Gelu {
  using Meta = at::meta::structured_gelu;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, c10::string_view approximate) {
    launch_iterator(is_tanh(approximate) ? Op::gelu_tanh_ : Op::gelu_none_, iterator);
  }
};

struct GeluBackward {
  using Meta = at::meta::structured_gelu_backward;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&, c10::string_view approximate) {
    launch_iterator(is_tanh(approximate) ? Op::gelu_backward_tanh_ : Op::gelu_backward_none_, iterator);
  }
};

struct DivideWithMode {
  using Meta = at::meta::structured_div_Tensor_mode;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&,
                  std::optional<c10::string_view> mode) {
    launch_iterator(!mode.has_value() ? Op::div_ : *mode == "floor" ? Op::div_floor_ : Op::div_trunc_, iterator);
  }
};

struct Clamp {
  using Meta = at::meta::structured_clamp;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, at::OptionalScalarRef min,
                  at::OptionalScalarRef max) {
    ScalarArguments bounds;
    for (const auto& bound : {min, max}) {
      if (bound.has_value()) {
        bounds.add(bound.get());
      }
    }
    launch_iterator(!min.has_value() ? Op::clamp_max_ : !max.has_value() ? Op::clamp_min_ : Op::clamp_, iterator,
                    bounds);
  }
};

struct ClampTensor {
  using Meta = at::meta::structured_clamp_Tensor;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, at::OptionalTensorRef min,
                  at::OptionalTensorRef max) {
    launch_iterator(!min.has_value()   ? Op::clamp_max_tensor_
                    : !max.has_value() ? Op::clamp_min_tensor_
                                       : Op::clamp_tensor_,
                    iterator);
  }
};

// The row takes a negative eps for none.
ScalarArguments epsilon(std::optional<double> eps) {
  ScalarArguments scalars;
  scalars.add(eps.value_or(-1.0));
  return scalars;
}

struct LogitBackward {
  using Meta = at::meta::structured_logit_backward;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&, std::optional<double> eps) {
    launch_iterator(Op::logit_backward_, iterator, epsilon(eps));
  }
};

struct LogitMeta : at::TensorIteratorBase {
  void meta(const Tensor& self, std::optional<double>) { build_borrowing_unary_float_op(maybe_get_output(0), self); }
};

struct Logit {
  using Meta = LogitMeta;
  static void run(at::TensorIteratorBase& iterator, const Tensor&, std::optional<double> eps) {
    launch_iterator(Op::logit_, iterator, epsilon(eps));
  }
};

struct LogSigmoidBackward {
  // The buffer is the CPU's own saving; this device needs none.
  struct Meta : at::TensorIteratorBase {
    void meta(const Tensor& gradient, const Tensor& self, const Tensor&) {
      build_borrowing_binary_op(maybe_get_output(0), gradient, self);
    }
  };
  static void run(at::TensorIteratorBase& iterator, const Tensor&, const Tensor&, const Tensor&) {
    launch_iterator(Op::log_sigmoid_backward_, iterator);
  }
};

std::tuple<Tensor&, Tensor&> log_sigmoid_out(const Tensor& self, Tensor& output, Tensor& buffer) {
  Structured<PlainUnary> iterator(output);
  iterator.meta(self);
  launch_iterator(Op::log_sigmoid_, iterator);
  iterator.finish();
  return std::forward_as_tuple(output, buffer);
}

std::tuple<Tensor, Tensor> log_sigmoid(const Tensor& self) {
  Structured<PlainUnary> iterator;
  iterator.meta(self);
  launch_iterator(Op::log_sigmoid_, iterator);
  return {iterator.finish(), empty_dense({0}, self.scalar_type())};
}

// How many elements `arange` gives, by ATen's own rule: integers exactly, floats in double.
int64_t arange_size(const at::Scalar& start, const at::Scalar& end, const at::Scalar& step, at::ScalarType dtype) {
  const double first = start.toDouble();
  const double last = end.toDouble();
  const double by = step.toDouble();
  TORCH_CHECK(by != 0, "step must be nonzero");
  TORCH_CHECK(std::isfinite(first) && std::isfinite(last), "unsupported range: ", first, " -> ", last);
  TORCH_CHECK((by > 0 && last >= first) || (by < 0 && last <= first),
              "upper bound and lower bound inconsistent with step sign");
  if (dtype == at::kLong) {
    const int64_t stride = step.toLong();
    const int64_t sign = stride > 0 ? 1 : -1;
    return (end.toLong() - start.toLong() + stride - sign) / stride;
  }
  const double size = std::ceil((last - first) / by);
  TORCH_CHECK(size >= 0 && size < 9.2e18, "invalid size, possible overflow?");
  return static_cast<int64_t>(size);
}

Tensor& arange_out(const at::Scalar& start, const at::Scalar& end, const at::Scalar& step, Tensor& out) {
  const int64_t size = arange_size(start, end, step, out.scalar_type());
  if (out.numel() != size) {
    out.resize_({size});
  }
  ScalarArguments scalars;
  scalars.add(start);
  scalars.add(step);
  if (out.dim() == 1) {
    launch(Op::arange_, {out}, scalars.ints, scalars.floats);
    return out;
  }
  // An output of another shape with as many elements is filled in order.
  Tensor line = empty_dense({size}, out.scalar_type());
  launch(Op::arange_, {line}, scalars.ints, scalars.floats);
  out.copy_(line.view(out.sizes()));
  return out;
}

// number ** tensor: the number as ATen wraps it, which does not widen the result.
Tensor wrapped(const at::Scalar& number) {
  Tensor tensor = c10::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}
Tensor pow_of_number(const at::Scalar& base, const Tensor& exponent) {
  return at::pow(wrapped(base), exponent);
}
Tensor& pow_of_number_out(const at::Scalar& base, const Tensor& exponent, Tensor& out) {
  return at::pow_out(out, wrapped(base), exponent);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("pow.Scalar", TORCH_FN(pow_of_number));
  m.impl("pow.Scalar_out", TORCH_FN(pow_of_number_out));
  m.impl("gelu", TORCH_FN((Made<Gelu, at::_ops::gelu>::call)));
  m.impl("gelu_", TORCH_FN((InPlace<Gelu, at::_ops::gelu_>::call)));
  m.impl("gelu.out", TORCH_FN((WrittenTo<Gelu, at::_ops::gelu_out>::call)));
  m.impl("gelu_backward", TORCH_FN((Made<GeluBackward, at::_ops::gelu_backward>::call)));
  m.impl("gelu_backward.grad_input", TORCH_FN((WrittenTo<GeluBackward, at::_ops::gelu_backward_grad_input>::call)));
  m.impl("div.Tensor_mode", TORCH_FN((Made<DivideWithMode, at::_ops::div_Tensor_mode>::call)));
  m.impl("div_.Tensor_mode", TORCH_FN((InPlace<DivideWithMode, at::_ops::div__Tensor_mode>::call)));
  m.impl("div.out_mode", TORCH_FN((WrittenTo<DivideWithMode, at::_ops::div_out_mode>::call)));
  m.impl("clamp", TORCH_FN((Made<Clamp, at::_ops::clamp>::call)));
  m.impl("clamp_", TORCH_FN((InPlace<Clamp, at::_ops::clamp_>::call)));
  m.impl("clamp.out", TORCH_FN((WrittenTo<Clamp, at::_ops::clamp_out>::call)));
  m.impl("clamp.Tensor", TORCH_FN((Made<ClampTensor, at::_ops::clamp_Tensor>::call)));
  m.impl("clamp_.Tensor", TORCH_FN((InPlace<ClampTensor, at::_ops::clamp__Tensor>::call)));
  m.impl("clamp.Tensor_out", TORCH_FN((WrittenTo<ClampTensor, at::_ops::clamp_Tensor_out>::call)));
  m.impl("logit", TORCH_FN((Made<Logit, at::_ops::logit>::call)));
  m.impl("logit_", TORCH_FN((InPlace<Logit, at::_ops::logit_>::call)));
  m.impl("logit.out", TORCH_FN((WrittenTo<Logit, at::_ops::logit_out>::call)));
  m.impl("logit_backward", TORCH_FN((Made<LogitBackward, at::_ops::logit_backward>::call)));
  m.impl("logit_backward.grad_input",
         TORCH_FN((WrittenTo<LogitBackward, at::_ops::logit_backward_grad_input>::call)));
  m.impl("log_sigmoid_forward", TORCH_FN(log_sigmoid));
  m.impl("log_sigmoid_forward.output", TORCH_FN(log_sigmoid_out));
  m.impl("log_sigmoid_backward", TORCH_FN((Made<LogSigmoidBackward, at::_ops::log_sigmoid_backward>::call)));
  m.impl("log_sigmoid_backward.grad_input",
         TORCH_FN((WrittenTo<LogSigmoidBackward, at::_ops::log_sigmoid_backward_grad_input>::call)));
  m.impl("arange.start_out", TORCH_FN(arange_out));
}

}  // namespace
}  // namespace rustorch
