// Fused optimizer steps and gradient scaling: one launch over the lists.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale_ops.h>
#include <ATen/ops/_fused_adagrad_ops.h>
#include <ATen/ops/_fused_adam_ops.h>
#include <ATen/ops/_fused_adamw_ops.h>
#include <ATen/ops/_fused_sgd_ops.h>
#include <torch/library.h>

#include "aten/fallback.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using at::TensorList;
using MaybeTensor = std::optional<Tensor>;

// A tensor of one element, read where it lies: the device's memory is the host's.
double number(const Tensor& tensor) {
  TORCH_CHECK(tensor.numel() == 1, "expected a tensor of one element, got ", tensor.sizes());
  check_bounds(tensor);
  switch (tensor.scalar_type()) {
    case at::kFloat: return *tensor.const_data_ptr<float>();
    case at::kDouble: return *tensor.const_data_ptr<double>();
    default: return tensor.item<double>();
  }
}

// The lists of a step: the written ones first, then the gradients.
struct Lists {
  c10::SmallVector<Operand, 32> operands;
  int64_t written = 0;

  Lists(std::initializer_list<TensorList> kept, TensorList grads, bool unscales) {
    for (const TensorList list : kept) {
      add(list);
    }
    written = static_cast<int64_t>(operands.size());
    add(grads);
    if (unscales) {
      written = static_cast<int64_t>(operands.size());
    }
  }

 private:
  void add(TensorList list) {
    for (const Tensor& tensor : list) {
      operands.emplace_back(tensor);
    }
  }
};

// Whether the step is to be left out because a gradient overflowed.
bool overflowed(const MaybeTensor& found_inf) {
  return found_inf.has_value() && found_inf->defined() && number(*found_inf) == 1.0;
}

double scale_of(const MaybeTensor& grad_scale) {
  return grad_scale.has_value() && grad_scale->defined() ? number(*grad_scale) : 0.0;
}

void append_steps(c10::SmallVectorImpl<double>& floats, TensorList steps) {
  for (const Tensor& step : steps) {
    floats.push_back(number(step));
  }
}

void sgd(TensorList self, TensorList grads, TensorList buffers, double weight_decay, double momentum, double lr,
         double dampening, bool nesterov, bool maximize, bool is_first_step, const MaybeTensor& grad_scale,
         const MaybeTensor& found_inf) {
  if (overflowed(found_inf)) {
    return;
  }
  const double scale = scale_of(grad_scale);
  const Lists lists({self, momentum == 0.0 ? TensorList{} : buffers}, grads, scale != 0.0);
  launch(Op::fused_sgd_, lists.operands, {lists.written, nesterov, maximize, is_first_step},
         {lr, momentum, dampening, weight_decay, scale});
}

void sgd_tensor_lr(TensorList self, TensorList grads, TensorList buffers, double weight_decay, double momentum,
                   const Tensor& lr, double dampening, bool nesterov, bool maximize, bool is_first_step,
                   const MaybeTensor& grad_scale, const MaybeTensor& found_inf) {
  sgd(self, grads, buffers, weight_decay, momentum, number(lr), dampening, nesterov, maximize, is_first_step,
      grad_scale, found_inf);
}

template <bool decoupled>
void adam(TensorList self, TensorList grads, TensorList exp_avgs, TensorList exp_avg_sqs, TensorList max_exp_avg_sqs,
          TensorList state_steps, double lr, double beta1, double beta2, double weight_decay, double eps, bool amsgrad,
          bool maximize, const MaybeTensor& grad_scale, const MaybeTensor& found_inf) {
  if (overflowed(found_inf)) {
    return;
  }
  const double scale = scale_of(grad_scale);
  const Lists lists({self, exp_avgs, exp_avg_sqs, amsgrad ? max_exp_avg_sqs : TensorList{}}, grads, scale != 0.0);
  c10::SmallVector<double, 16> floats{lr, beta1, beta2, weight_decay, eps, scale};
  append_steps(floats, state_steps);
  launch(Op::fused_adam_, lists.operands, {lists.written, amsgrad, maximize, decoupled}, floats);
}

template <bool decoupled>
void adam_tensor_lr(TensorList self, TensorList grads, TensorList exp_avgs, TensorList exp_avg_sqs,
                    TensorList max_exp_avg_sqs, TensorList state_steps, const Tensor& lr, double beta1, double beta2,
                    double weight_decay, double eps, bool amsgrad, bool maximize, const MaybeTensor& grad_scale,
                    const MaybeTensor& found_inf) {
  adam<decoupled>(self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, number(lr), beta1, beta2,
                  weight_decay, eps, amsgrad, maximize, grad_scale, found_inf);
}

void adagrad(TensorList self, TensorList grads, TensorList state_sums, TensorList state_steps, double lr,
             double lr_decay, double weight_decay, double eps, bool maximize, const MaybeTensor& grad_scale,
             const MaybeTensor& found_inf) {
  if (overflowed(found_inf)) {
    return;
  }
  const double scale = scale_of(grad_scale);
  const Lists lists({self, state_sums}, grads, scale != 0.0);
  c10::SmallVector<double, 16> floats{lr, lr_decay, weight_decay, eps, scale};
  append_steps(floats, state_steps);
  launch(Op::fused_adagrad_, lists.operands, {lists.written, maximize}, floats);
}

void adagrad_tensor_lr(TensorList self, TensorList grads, TensorList state_sums, TensorList state_steps,
                       const Tensor& lr, double lr_decay, double weight_decay, double eps, bool maximize,
                       const MaybeTensor& grad_scale, const MaybeTensor& found_inf) {
  adagrad(self, grads, state_sums, state_steps, number(lr), lr_decay, weight_decay, eps, maximize, grad_scale,
          found_inf);
}

void unscale(TensorList grads, Tensor& found_inf, const Tensor& inv_scale) {
  for (const Tensor& grad : grads) {
    if (!is_native(grad.scalar_type())) {
      return call_fallback<at::_ops::_amp_foreach_non_finite_check_and_unscale_>(grads, found_inf, inv_scale);
    }
  }
  c10::SmallVector<Operand, 32> operands;
  for (const Tensor& grad : grads) {
    operands.emplace_back(grad);
  }
  operands.emplace_back(found_inf);
  const auto written = static_cast<int64_t>(operands.size());
  operands.emplace_back(inv_scale);
  launch(Op::amp_unscale_, operands, {written});
}

Tensor& update_scale(Tensor& self, Tensor& growth_tracker, const Tensor& found_inf, double growth_factor,
                     double backoff_factor, int64_t growth_interval) {
  TORCH_CHECK(growth_tracker.numel() == 1, "growth_tracker must be a 1-element tensor.");
  TORCH_CHECK(self.numel() == 1, "current_scale must be a 1-element tensor.");
  TORCH_CHECK(found_inf.numel() == 1, "found_inf must be a 1-element tensor.");
  launch(Op::amp_update_scale_, {self, growth_tracker, found_inf}, {growth_interval}, {growth_factor, backoff_factor});
  return self;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_fused_sgd_", TORCH_FN(sgd));
  m.impl("_fused_sgd_.tensor_lr", TORCH_FN(sgd_tensor_lr));
  m.impl("_fused_adam_", TORCH_FN(adam<false>));
  m.impl("_fused_adam_.tensor_lr", TORCH_FN(adam_tensor_lr<false>));
  m.impl("_fused_adamw_", TORCH_FN(adam<true>));
  m.impl("_fused_adamw_.tensor_lr", TORCH_FN(adam_tensor_lr<true>));
  m.impl("_fused_adagrad_", TORCH_FN(adagrad));
  m.impl("_fused_adagrad_.tensor_lr", TORCH_FN(adagrad_tensor_lr));
  m.impl("_amp_foreach_non_finite_check_and_unscale_", TORCH_FN(unscale));
  m.impl("_amp_update_scale_", TORCH_FN(update_scale));
}

}  // namespace rustorch
