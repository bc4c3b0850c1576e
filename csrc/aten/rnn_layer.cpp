// A layer of nn.LSTM or nn.GRU in one direction, and its gradients.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gru_native.h>
#include <ATen/ops/lstm_native.h>
#include <ATen/ops/mkldnn_rnn_layer.h>
#include <ATen/ops/mkldnn_rnn_layer_backward.h>
#include <ATen/ops/mkldnn_rnn_layer_backward_ops.h>
#include <ATen/ops/mkldnn_rnn_layer_ops.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "aten/fallback.h"
#include "aten/rnn.h"
#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using OptionalTensor = std::optional<Tensor>;
using Layer = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// What a layer saves for each hidden unit: its activations, and the cell's state or the hidden part of
// the candidate.
int64_t saved_parts(int64_t mode) {
  return mode == kLstm ? 5 : 4;
}

bool is_layer(int64_t mode, int64_t num_layers, bool bidirectional, bool batch_first, TensorList tensors) {
  if ((mode != kLstm && mode != kGru) || num_layers != 1 || bidirectional || batch_first) {
    return false;
  }
  const auto dtype = tensors[0].scalar_type();
  return is_native(dtype) && at::isFloatingType(dtype) &&
         std::all_of(tensors.begin(), tensors.end(), [&](const Tensor& one) { return one.scalar_type() == dtype; });
}

// Shapes of a layer's operands. Those with a row for each step and sample are as the input is: `[steps,
// batch, width]`, or `[rows, width]` of a packed sequence.
struct Shapes {
  Shapes(const Tensor& input, const Tensor& hx, const Tensor& weight_hh, bool reverse, IntArrayRef batch_sizes)
      : leading(input.sizes().slice(0, input.dim() - 1).vec()),
        rows(c10::multiply_integers(leading)),
        hidden(weight_hh.size(1)),
        state{hx.numel() / std::max<int64_t>(hidden, 1), hidden},
        ints{reverse} {
    if (input.dim() == 2) {
      ints.append(batch_sizes.begin(), batch_sizes.end());
    } else {
      ints.append(static_cast<size_t>(input.size(0)), input.size(1));
    }
  }

  Tensor empty(const Tensor& like, int64_t width) const {
    std::vector<int64_t> sizes = leading;
    sizes.push_back(width);
    return empty_dense(sizes, like.scalar_type());
  }

  // A dense state, which may have a leading dimension of one.
  Operand of_state(const Tensor& tensor) const { return Operand(tensor, state, dense_strides); }
  Operand of_state(const OptionalTensor& tensor, std::array<int64_t, 2>& strides) const {
    if (!tensor.has_value() || !tensor->defined()) {
      return Operand(OptionalTensor());
    }
    strides = {tensor->stride(-2), tensor->stride(-1)};
    return Operand(*tensor, state, strides);
  }

  std::vector<int64_t> leading;
  int64_t rows;
  int64_t hidden;
  std::array<int64_t, 2> state;
  std::array<int64_t, 2> dense_strides{hidden, 1};
  // Direction, and the batch's size at each step.
  c10::SmallVector<int64_t, 65> ints;
};

// The first columns of dense rows as a matrix; and its transpose.
struct Rows {
  Rows(const Tensor& tensor, int64_t rows, int64_t width)
      : tensor(tensor),
        pitch(tensor.size(-1)),
        sizes{rows, width},
        strides{pitch, 1},
        turned_sizes{width, rows},
        turned_strides{1, pitch} {}
  Operand operand() const { return Operand(tensor, sizes, strides); }
  Operand turned() const { return Operand(tensor, turned_sizes, turned_strides); }

  const Tensor& tensor;
  int64_t pitch;
  std::array<int64_t, 2> sizes, strides, turned_sizes, turned_strides;
};

// The transpose of a weight.
struct Turned {
  explicit Turned(const Tensor& weight)
      : weight(weight), sizes{weight.size(1), weight.size(0)}, strides{weight.stride(1), weight.stride(0)} {}
  Operand operand() const { return Operand(weight, sizes, strides); }

  const Tensor& weight;
  std::array<int64_t, 2> sizes, strides;
};

Layer layer(const Tensor& given_input, const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& bias_ih,
            const Tensor& bias_hh, const Tensor& hx, const Tensor& cx, bool reverse, IntArrayRef batch_sizes,
            int64_t mode, int64_t hidden_size, int64_t num_layers, bool has_biases, bool bidirectional,
            bool batch_first, bool train) {
  const bool is_lstm = mode == kLstm;
  std::vector<Tensor> floats{given_input, weight_ih, weight_hh, hx};
  if (is_lstm) {
    floats.push_back(cx);
  }
  if (!is_layer(mode, num_layers, bidirectional, batch_first, floats)) {
    return call_fallback<at::_ops::mkldnn_rnn_layer>(given_input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx,
                                                     reverse, batch_sizes, mode, hidden_size, num_layers, has_biases,
                                                     bidirectional, batch_first, train);
  }
  // All steps' gates are one product, for which each step's samples follow the last one's as rows of one matrix.
  const Tensor input = given_input.contiguous();
  const Shapes shapes(input, hx, weight_hh, reverse, batch_sizes);
  const int64_t hidden = shapes.hidden;
  const Tensor out = shapes.empty(input, hidden);
  const Tensor hy = empty_dense(hx.sizes(), hx.scalar_type());
  const Tensor cy = empty_dense(cx.sizes(), cx.scalar_type());
  const Tensor saved = shapes.empty(input, saved_parts(mode) * hidden);
  const Turned weight(weight_ih);
  launch(Op::matmul_, {Rows(saved, shapes.rows, weight_ih.size(0)).operand(),
                       Rows(input, shapes.rows, input.size(-1)).operand(), weight.operand()});
  std::array<int64_t, 2> hx_strides{};
  std::array<int64_t, 2> cx_strides{};
  const Operand bias = has_biases ? Operand(bias_ih) : Operand(OptionalTensor());
  if (is_lstm) {
    launch(Op::lstm_layer_,
           {out, shapes.of_state(hy), shapes.of_state(cy), saved, weight_hh, shapes.of_state(hx, hx_strides),
            shapes.of_state(cx, cx_strides), bias, has_biases ? Operand(bias_hh) : Operand(OptionalTensor())},
           shapes.ints);
  } else {
    launch(Op::gru_layer_, {out, shapes.of_state(hy), saved, weight_hh, shapes.of_state(hx, hx_strides), bias},
           shapes.ints);
  }
  // Whatever `train` says: a graph that was traced on the CPU says no, and differentiates the layer all the same.
  return {out, hy, cy, saved};
}

Gradients layer_backward(const Tensor& given_input, const Tensor& weight_ih, const Tensor& weight_hh,
                         const Tensor& bias_ih, const Tensor& bias_hh, const Tensor& hx, const Tensor& cx,
                         const Tensor& output, const Tensor& hy, const Tensor& cy, const OptionalTensor& grad_output,
                         const OptionalTensor& grad_hy, const OptionalTensor& grad_cy, bool reverse, int64_t mode,
                         int64_t hidden_size, int64_t num_layers, bool has_biases, bool train, bool bidirectional,
                         IntArrayRef batch_sizes, bool batch_first, const Tensor& workspace) {
  const bool is_lstm = mode == kLstm;
  if (!is_layer(mode, num_layers, bidirectional, batch_first, {given_input, weight_ih, weight_hh, hx, output})) {
    return call_fallback<at::_ops::mkldnn_rnn_layer_backward>(
        given_input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, output, hy, cy, grad_output, grad_hy, grad_cy,
        reverse, mode, hidden_size, num_layers, has_biases, train, bidirectional, batch_sizes, batch_first, workspace);
  }
  // As forward.
  const Tensor input = given_input.contiguous();
  const Shapes shapes(input, hx, weight_hh, reverse, batch_sizes);
  const int64_t hidden = shapes.hidden;
  const int64_t rows = shapes.rows;
  const int64_t width = weight_ih.size(0);
  const Tensor grad_gates = shapes.empty(input, width);
  // The hidden gates' differ from the input's in a GRU's candidate alone.
  const Tensor grad_hidden = is_lstm ? grad_gates : shapes.empty(input, width);
  const Tensor previous = shapes.empty(input, hidden);
  const Tensor grad_hx = empty_dense(hx.sizes(), hx.scalar_type());
  const Tensor grad_cx = empty_dense(cx.sizes(), cx.scalar_type());
  std::array<std::array<int64_t, 2>, 4> strides{};
  const Operand last_hy = shapes.of_state(grad_hy, strides[0]);
  const Operand last_cy = shapes.of_state(grad_cy, strides[1]);
  const Operand first = shapes.of_state(hx, strides[2]);
  if (is_lstm) {
    launch(Op::lstm_layer_backward_,
           {grad_gates, previous, shapes.of_state(grad_hx), shapes.of_state(grad_cx), weight_hh, Operand(grad_output),
            last_hy, last_cy, workspace, output, first, shapes.of_state(cx, strides[3])},
           shapes.ints);
  } else {
    launch(Op::gru_layer_backward_, {grad_gates, grad_hidden, previous, shapes.of_state(grad_hx), weight_hh,
                                     Operand(grad_output), last_hy, workspace, output, first},
           shapes.ints);
  }
  const Tensor grad_input = shapes.empty(input, input.size(-1));
  const Tensor grad_weight_ih = empty_dense(weight_ih.sizes(), weight_ih.scalar_type());
  const Tensor grad_weight_hh = empty_dense(weight_hh.sizes(), weight_hh.scalar_type());
  const Rows gates(grad_gates, rows, width);
  const Rows inputs(input, rows, input.size(-1));
  launch(Op::matmul_, {Rows(grad_input, rows, input.size(-1)).operand(), gates.operand(), weight_ih});
  launch(Op::matmul_, {grad_weight_ih, gates.turned(), inputs.operand()});
  launch(Op::matmul_,
         {grad_weight_hh, Rows(grad_hidden, rows, width).turned(), Rows(previous, rows, hidden).operand()});
  Tensor grad_bias;
  Tensor grad_bias_hh;
  if (has_biases) {
    grad_bias = grad_gates.view({rows, width}).sum(0);
    if (is_lstm) {
      grad_bias_hh = grad_bias.clone();
    } else {
      grad_bias = at::cat({grad_bias, grad_hidden.view({rows, width}).narrow(1, 2 * hidden, hidden).sum(0)});
      // A traced graph takes the one for the other: there is one tensor in PyTorch's shape rule.
      grad_bias_hh = grad_bias;
    }
  }
  return {grad_input, grad_weight_ih, grad_weight_hh, grad_bias, grad_bias_hh, grad_hx, grad_cx};
}

// Gradients that can be differentiated themselves: of PyTorch's own composition, computed again. Both ways
// of it give the layer that goes back.
Gradients differentiable_backward(const Tensor& input, const Tensor& weight_ih, const Tensor& weight_hh,
                                  const Tensor& bias_ih, const Tensor& bias_hh, const Tensor& hx, const Tensor& cx,
                                  const OptionalTensor& grad_output, const OptionalTensor& grad_hy,
                                  const OptionalTensor& grad_cy, bool reverse, int64_t mode, bool has_biases,
                                  IntArrayRef batch_sizes) {
  std::vector<Tensor> inputs;
  const auto own = [&](const Tensor& tensor) {
    Tensor view = tensor.view_as(tensor);
    if (!view.requires_grad()) {
      view.requires_grad_();
    }
    inputs.push_back(view);
    return view;
  };
  const Tensor x = own(input);
  const int64_t hidden = weight_hh.size(1);
  std::vector<Tensor> params{own(weight_ih), own(weight_hh)};
  if (has_biases) {
    const Tensor bias = own(bias_ih);
    if (mode == kLstm) {
      params.insert(params.end(), {bias, own(bias_hh)});
    } else {
      const Tensor nothing = at::zeros({2 * hidden}, bias.options());
      params.insert(params.end(), {bias.narrow(0, 0, 3 * hidden), at::cat({nothing, bias.narrow(0, 3 * hidden, hidden)})});
    }
  }
  std::vector<Tensor> states{own(hx)};
  if (mode == kLstm) {
    states.push_back(own(cx));
  }
  const int64_t directions = reverse ? 2 : 1;
  if (reverse) {
    const std::vector<Tensor> other = params;
    params.insert(params.end(), other.begin(), other.end());
  }
  std::vector<Tensor> first;
  for (const Tensor& state : states) {
    first.push_back(state.reshape({1, -1, hidden}).expand({directions, -1, -1}));
  }
  std::vector<Tensor> outputs;
  if (batch_sizes.empty()) {
    if (mode == kLstm) {
      auto [out, hy, cy] = at::native::lstm(x, first, params, has_biases, 1, 0.0, false, reverse, false);
      outputs = {out, hy, cy};
    } else {
      auto [out, hy] = at::native::gru(x, first[0], params, has_biases, 1, 0.0, false, reverse, false);
      outputs = {out, hy};
    }
  } else {
    const Tensor sizes = at::tensor(batch_sizes, at::kLong);
    if (mode == kLstm) {
      auto [out, hy, cy] = at::native::lstm(x, sizes, first, params, has_biases, 1, 0.0, false, reverse);
      outputs = {out, hy, cy};
    } else {
      auto [out, hy] = at::native::gru(x, sizes, first[0], params, has_biases, 1, 0.0, false, reverse);
      outputs = {out, hy};
    }
  }
  const std::array<const OptionalTensor*, 3> given{&grad_output, &grad_hy, &grad_cy};
  std::vector<Tensor> results;
  std::vector<Tensor> seeds;
  for (size_t at = 0; at < outputs.size(); ++at) {
    const OptionalTensor& seed = *given[at];
    if (seed.has_value() && seed->defined()) {
      results.push_back(at == 0 ? outputs[0].narrow(-1, (directions - 1) * hidden, hidden)
                                : outputs[at].select(0, directions - 1).view_as(*seed));
      seeds.push_back(*seed);
    }
  }
  const auto grads = torch::autograd::grad(results, inputs, seeds, /*retain_graph=*/true, /*create_graph=*/true,
                                           /*allow_unused=*/true);
  size_t next = 0;
  const auto take = [&](bool is_there) { return is_there ? grads[next++] : Tensor(); };
  Gradients all;
  std::get<0>(all) = take(true);
  std::get<1>(all) = take(true);
  std::get<2>(all) = take(true);
  std::get<3>(all) = take(has_biases);
  std::get<4>(all) = take(has_biases && mode == kLstm);
  std::get<5>(all) = take(true);
  std::get<6>(all) = take(mode == kLstm);
  return all;
}

// PyTorch's own gradient of the op knows the gradients' gradients of dense LSTMs only.
class Differentiated : public torch::autograd::Function<Differentiated> {
 public:
  static std::vector<Tensor> forward(torch::autograd::AutogradContext* context, const Tensor& input,
                                     const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& bias_ih,
                                     const Tensor& bias_hh, const Tensor& hx, const Tensor& cx, bool reverse,
                                     std::vector<int64_t> batch_sizes, int64_t mode, int64_t hidden_size,
                                     bool has_biases) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [out, hy, cy, workspace] =
        at::mkldnn_rnn_layer(input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, reverse, batch_sizes, mode,
                             hidden_size, 1, has_biases, false, false, /*train=*/true);
    context->save_for_backward({input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, out, hy, cy, workspace});
    context->set_materialize_grads(false);
    context->mark_non_differentiable({workspace});
    auto& data = context->saved_data;
    data["reverse"] = reverse;
    data["batch_sizes"] = std::move(batch_sizes);
    data["mode"] = mode;
    data["hidden_size"] = hidden_size;
    data["has_biases"] = has_biases;
    return {out, hy, cy, workspace};
  }

  static std::vector<Tensor> backward(torch::autograd::AutogradContext* context, const std::vector<Tensor>& grads) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const bool reverse = data["reverse"].toBool();
    const bool has_biases = data["has_biases"].toBool();
    const int64_t mode = data["mode"].toInt();
    const std::vector<int64_t> batch_sizes = data["batch_sizes"].toIntVector();
    const auto run = [&] {
      if (c10::GradMode::is_enabled()) {
        return differentiable_backward(saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], grads[0],
                                       grads[1], grads[2], reverse, mode, has_biases, batch_sizes);
      }
      return at::mkldnn_rnn_layer_backward(saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6],
                                           saved[7], saved[8], saved[9], grads[0], grads[1], grads[2], reverse, mode,
                                           data["hidden_size"].toInt(), 1, has_biases, true, false, batch_sizes, false,
                                           saved[10]);
    };
    auto [input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx] = run();
    // Nothing for what are no tensors.
    return {input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, {}, {}, {}, {}, {}};
  }
};

Layer layer_autograd(const Tensor& input, const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& bias_ih,
                     const Tensor& bias_hh, const Tensor& hx, const Tensor& cx, bool reverse, IntArrayRef batch_sizes,
                     int64_t mode, int64_t hidden_size, int64_t num_layers, bool has_biases, bool bidirectional,
                     bool batch_first, bool train) {
  const std::array<const Tensor*, 7> given{&input, &weight_ih, &weight_hh, &bias_ih, &bias_hh, &hx, &cx};
  const bool is_differentiated =
      c10::GradMode::is_enabled() &&
      std::any_of(given.begin(), given.end(), [](const Tensor* one) { return one->requires_grad(); });
  if (!is_differentiated) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return at::mkldnn_rnn_layer(input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, reverse, batch_sizes, mode,
                                hidden_size, num_layers, has_biases, bidirectional, batch_first, train);
  }
  TORCH_CHECK_NOT_IMPLEMENTED(is_layer(mode, num_layers, bidirectional, batch_first, {input, weight_ih, weight_hh, hx}),
                              "mkldnn_rnn_layer: rustorch has gradients of one direction of one layer of an LSTM or "
                              "GRU of floats alone");
  const auto results = Differentiated::apply(input, weight_ih, weight_hh, bias_ih, bias_hh, hx, cx, reverse,
                                             batch_sizes.vec(), mode, hidden_size, has_biases);
  return {results[0], results[1], results[2], results[3]};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("mkldnn_rnn_layer", TORCH_FN(layer));
  m.impl("mkldnn_rnn_layer_backward", TORCH_FN(layer_backward));
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, m) {
  m.impl("mkldnn_rnn_layer", TORCH_FN(layer_autograd));
}

}  // namespace rustorch
