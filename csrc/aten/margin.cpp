// Margin losses, and connectionist temporal classification.
#include <ATen/core/Reduction.h>
#include <ATen/native/LossMulti.h>
#include <ATen/native/Resize.h>
#include <torch/library.h>

#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Scalar;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Scores as [samples, classes]: a vector is one sample.
Tensor rows(const Tensor& tensor) {
  return tensor.dim() == 2 ? tensor : tensor.reshape({1, -1});
}

// One number a sample, or their reduction, where a loss or its gradient is `[samples]` or scalar.
Tensor each(const Tensor& tensor, int64_t reduction) {
  return reduction == at::Reduction::None && tensor.dim() == 0 ? tensor.unsqueeze(0) : tensor;
}

void check_multi(const Tensor& self, const Tensor& target, const OptionalTensor& weight) {
  int64_t samples = 0;
  int64_t classes = 0;
  at::native::multi_margin_loss_shape_check(samples, classes, self.dim(), self, target, weight);
  TORCH_CHECK(target.scalar_type() == at::kLong, "multi_margin_loss: expected target of dtype int64, got ",
              target.scalar_type());
}

OptionalTensor flat(const OptionalTensor& weight) {
  return weight.has_value() && weight->defined() ? OptionalTensor(weight->reshape(-1)) : std::nullopt;
}

Tensor& multi_margin_out(const Tensor& self, const Tensor& target, const Scalar& p, const Scalar& margin,
                         const OptionalTensor& weight, int64_t reduction, Tensor& out) {
  check_multi(self, target, weight);
  const bool each_sample = reduction == at::Reduction::None && target.dim() > 0;
  at::native::resize_output(out, each_sample ? target.sizes() : IntArrayRef());
  launch(Op::multi_margin_, {each(out, reduction), rows(self), target.reshape(-1), Operand(flat(weight))},
         {p.toLong(), reduction}, {margin.toDouble()});
  return out;
}

Tensor multi_margin(const Tensor& self, const Tensor& target, const Scalar& p, const Scalar& margin,
                    const OptionalTensor& weight, int64_t reduction) {
  Tensor out = empty_dense({0}, self.scalar_type());
  return multi_margin_out(self, target, p, margin, weight, reduction, out);
}

Tensor& multi_margin_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target, const Scalar& p,
                                  const Scalar& margin, const OptionalTensor& weight, int64_t reduction,
                                  Tensor& grad_input) {
  check_multi(self, target, weight);
  at::native::resize_output(grad_input, self.sizes());
  if (self.numel() > 0) {
    launch(Op::multi_margin_backward_,
           {rows(grad_input), each(grad, reduction), rows(self), target.reshape(-1), Operand(flat(weight))},
           {p.toLong(), reduction}, {margin.toDouble()});
  }
  return grad_input;
}

Tensor multi_margin_backward(const Tensor& grad, const Tensor& self, const Tensor& target, const Scalar& p,
                             const Scalar& margin, const OptionalTensor& weight, int64_t reduction) {
  Tensor grad_input = empty_dense(self.sizes(), self.scalar_type());
  return multi_margin_backward_out(grad, self, target, p, margin, weight, reduction, grad_input);
}

void check_multilabel(const Tensor& self, const Tensor& target) {
  int64_t samples = 0;
  int64_t classes = 0;
  at::native::multilabel_margin_loss_shape_check(samples, classes, self.dim(), self, target);
  TORCH_CHECK(target.scalar_type() == at::kLong, "multilabel_margin_loss: expected target of dtype int64, got ",
              target.scalar_type());
}

std::tuple<Tensor&, Tensor&> multilabel_out(const Tensor& self, const Tensor& target, int64_t reduction, Tensor& out,
                                            Tensor& is_target) {
  check_multilabel(self, target);
  const std::array<int64_t, 1> samples{self.dim() == 2 ? self.size(0) : 1};
  const bool each_sample = reduction == at::Reduction::None && self.dim() == 2;
  at::native::resize_output(out, each_sample ? IntArrayRef(samples) : IntArrayRef());
  at::native::resize_output(is_target, target.sizes());
  launch(Op::multilabel_margin_, {each(out, reduction), rows(is_target), rows(self), rows(target)}, {reduction});
  return {out, is_target};
}

std::tuple<Tensor, Tensor> multilabel(const Tensor& self, const Tensor& target, int64_t reduction) {
  Tensor out = empty_dense({0}, self.scalar_type());
  Tensor is_target = empty_dense(target.sizes(), self.scalar_type());
  multilabel_out(self, target, reduction, out, is_target);
  return {out, is_target};
}

Tensor& multilabel_backward_out(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                                const Tensor& /*is_target*/, Tensor& grad_input) {
  check_multilabel(self, target);
  at::native::resize_output(grad_input, self.sizes());
  if (self.numel() > 0) {
    launch(Op::multilabel_margin_backward_, {rows(grad_input), each(grad, reduction), rows(self), rows(target)},
           {reduction});
  }
  return grad_input;
}

Tensor multilabel_backward(const Tensor& grad, const Tensor& self, const Tensor& target, int64_t reduction,
                           const Tensor& is_target) {
  Tensor grad_input = empty_dense(self.sizes(), self.scalar_type());
  return multilabel_backward_out(grad, self, target, reduction, is_target, grad_input);
}

using Ints = std::vector<int64_t>;

Ints ctc_ints(const Tensor& log_probs, const Tensor& targets, IntArrayRef steps, IntArrayRef labels, int64_t blank,
              bool zero_infinity) {
  TORCH_CHECK_NOT_IMPLEMENTED(is_native(log_probs.scalar_type()) && log_probs.is_floating_point(),
                              "\"ctc_loss\" not implemented for '", c10::toString(log_probs.scalar_type()), "'");
  TORCH_CHECK(log_probs.dim() == 3, "ctc_loss: expected log_probs of 3 dimensions, got ", log_probs.sizes());
  TORCH_CHECK(log_probs.numel() > 0, "log_probs tensor must not be empty");
  TORCH_CHECK(targets.scalar_type() == at::kLong || targets.scalar_type() == at::kInt,
              "ctc_loss: expected targets of dtype int32 or int64, got ", targets.scalar_type());
  const auto samples = static_cast<size_t>(log_probs.size(1));
  TORCH_CHECK(steps.size() == samples, "input_lengths must be of size batch_size");
  TORCH_CHECK(labels.size() == samples, "target_lengths must be of size batch_size");
  Ints ints{blank, zero_infinity};
  ints.insert(ints.end(), steps.begin(), steps.end());
  ints.insert(ints.end(), labels.begin(), labels.end());
  return ints;
}

std::tuple<Tensor, Tensor> ctc(const Tensor& log_probs, const Tensor& targets, IntArrayRef steps, IntArrayRef labels,
                               int64_t blank, bool zero_infinity) {
  const Ints ints = ctc_ints(log_probs, targets, steps, labels, blank, zero_infinity);
  const int64_t longest = labels.empty() ? 0 : *std::max_element(labels.begin(), labels.end());
  const std::array<int64_t, 3> sizes{log_probs.size(1), log_probs.size(0), 2 * std::max<int64_t>(longest, 0) + 1};
  Tensor loss = empty_dense({log_probs.size(1)}, log_probs.scalar_type());
  Tensor log_alpha = empty_dense(sizes, log_probs.scalar_type());
  launch(Op::ctc_loss_, {loss, log_alpha, log_probs, targets}, ints);
  return {loss, log_alpha};
}

Tensor ctc_backward(const Tensor& grad, const Tensor& log_probs, const Tensor& targets, IntArrayRef steps,
                    IntArrayRef labels, const Tensor& loss, const Tensor& log_alpha, int64_t blank,
                    bool zero_infinity) {
  const Ints ints = ctc_ints(log_probs, targets, steps, labels, blank, zero_infinity);
  Tensor grad_probs = empty_dense(log_probs.sizes(), log_probs.scalar_type());
  launch(Op::ctc_loss_backward_, {grad_probs, grad, log_probs, targets, loss, log_alpha}, ints);
  return grad_probs;
}

Ints numbers(const Tensor& lengths) {
  const Tensor here = lengths.to(at::kCPU, at::kLong).contiguous();
  const auto* const data = here.const_data_ptr<int64_t>();
  return Ints(data, data + here.numel());
}

std::tuple<Tensor, Tensor> ctc_tensors(const Tensor& log_probs, const Tensor& targets, const Tensor& steps,
                                       const Tensor& labels, int64_t blank, bool zero_infinity) {
  return ctc(log_probs, targets, numbers(steps), numbers(labels), blank, zero_infinity);
}

Tensor ctc_tensors_backward(const Tensor& grad, const Tensor& log_probs, const Tensor& targets, const Tensor& steps,
                            const Tensor& labels, const Tensor& loss, const Tensor& log_alpha, int64_t blank,
                            bool zero_infinity) {
  return ctc_backward(grad, log_probs, targets, numbers(steps), numbers(labels), loss, log_alpha, blank,
                      zero_infinity);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("multi_margin_loss", TORCH_FN(multi_margin));
  m.impl("multi_margin_loss.out", TORCH_FN(multi_margin_out));
  m.impl("multi_margin_loss_backward", TORCH_FN(multi_margin_backward));
  m.impl("multi_margin_loss_backward.grad_input", TORCH_FN(multi_margin_backward_out));
  m.impl("multilabel_margin_loss_forward", TORCH_FN(multilabel));
  m.impl("multilabel_margin_loss_forward.output", TORCH_FN(multilabel_out));
  m.impl("multilabel_margin_loss_backward", TORCH_FN(multilabel_backward));
  m.impl("multilabel_margin_loss_backward.grad_input", TORCH_FN(multilabel_backward_out));
  m.impl("_ctc_loss", TORCH_FN(ctc));
  m.impl("_ctc_loss.Tensor", TORCH_FN(ctc_tensors));
  m.impl("_ctc_loss_backward", TORCH_FN(ctc_backward));
  m.impl("_ctc_loss_backward.Tensor", TORCH_FN(ctc_tensors_backward));
}

}  // namespace rustorch
