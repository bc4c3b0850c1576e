// The cells of nn.LSTM and nn.GRU after their matrix products.
#include <torch/library.h>

#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// The activated gates, then the tensors saved beside them: `count` times the state's width.
Tensor empty_gates(const Tensor& state, int64_t count) {
  const std::array<int64_t, 2> sizes{state.size(0), count * state.size(1)};
  return empty_dense(sizes, state.scalar_type());
}

void check_state(const Tensor& state, const char* op) {
  TORCH_CHECK(state.dim() == 2, op, ": expected a state of 2 dimensions, got ", state.sizes());
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell(const Tensor& input_gates, const Tensor& hidden_gates, const Tensor& cx,
                                             const OptionalTensor& input_bias, const OptionalTensor& hidden_bias) {
  check_state(cx, "_thnn_fused_lstm_cell");
  Tensor hy = empty_dense(cx.sizes(), cx.scalar_type());
  Tensor cy = empty_dense(cx.sizes(), cx.scalar_type());
  Tensor activations = empty_gates(cx, 4);
  launch(Op::lstm_cell_,
         {hy, cy, activations, input_gates, hidden_gates, cx, Operand(input_bias), Operand(hidden_bias)});
  return {hy, cy, activations};
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell_backward(const OptionalTensor& grad_hy, const OptionalTensor& grad_cy,
                                                      const Tensor& cx, const Tensor& cy, const Tensor& activations,
                                                      bool has_bias) {
  const auto given = [](const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); };
  if (!given(grad_hy) && !given(grad_cy)) {
    return {};
  }
  check_state(cx, "_thnn_fused_lstm_cell_backward");
  Tensor grad_gates = empty_gates(cx, 4);
  Tensor grad_cx = empty_dense(cx.sizes(), cx.scalar_type());
  launch(Op::lstm_cell_backward_,
         {grad_gates, grad_cx, Operand(grad_hy), Operand(grad_cy), cx, cy, activations});
  return {grad_gates, grad_cx, has_bias ? grad_gates.sum(0) : Tensor()};
}

std::tuple<Tensor, Tensor> gru_cell(const Tensor& input_gates, const Tensor& hidden_gates, const Tensor& hx,
                                    const OptionalTensor& input_bias, const OptionalTensor& hidden_bias) {
  check_state(hx, "_thnn_fused_gru_cell");
  Tensor hy = empty_dense(hx.sizes(), hx.scalar_type());
  Tensor saved = empty_gates(hx, 5);
  launch(Op::gru_cell_, {hy, saved, input_gates, hidden_gates, hx, Operand(input_bias), Operand(hidden_bias)});
  return {hy, saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_cell_backward(const Tensor& grad_hy, const Tensor& saved,
                                                                     bool has_bias) {
  check_state(grad_hy, "_thnn_fused_gru_cell_backward");
  Tensor grad_input = empty_gates(grad_hy, 3);
  Tensor grad_hidden = empty_gates(grad_hy, 3);
  Tensor grad_hx = empty_dense(grad_hy.sizes(), grad_hy.scalar_type());
  launch(Op::gru_cell_backward_, {grad_input, grad_hidden, grad_hx, grad_hy, saved});
  return {grad_input, grad_hidden, grad_hx, has_bias ? grad_input.sum(0) : Tensor(),
          has_bias ? grad_hidden.sum(0) : Tensor()};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_thnn_fused_lstm_cell", TORCH_FN(lstm_cell));
  m.impl("_thnn_fused_lstm_cell_backward_impl", TORCH_FN(lstm_cell_backward));
  m.impl("_thnn_fused_gru_cell", TORCH_FN(gru_cell));
  m.impl("_thnn_fused_gru_cell_backward", TORCH_FN(gru_cell_backward));
}

}  // namespace rustorch
