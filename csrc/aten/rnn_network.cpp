// nn.LSTM and nn.GRU by whole layers, which PyTorch composes of steps on devices.
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gru_native.h>
#include <ATen/ops/lstm_native.h>
#include <ATen/ops/mkldnn_rnn_layer.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "aten/rnn.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

// One call of nn.LSTM or nn.GRU.
struct Network {
  int64_t mode;
  // `[layers * directions, batch, hidden]`: h and, for an LSTM, c.
  std::vector<Tensor> states;
  TensorList params;
  bool has_biases;
  int64_t num_layers;
  double dropout;
  bool train;
  bool bidirectional;

  int64_t directions() const { return bidirectional ? 2 : 1; }
  int64_t gates() const { return mode == kLstm ? 4 : 3; }
  size_t params_of_layer() const { return has_biases ? 4 : 2; }

  // Whether layers compute it: everything there, of one dtype and the right shapes. The rest is PyTorch's
  // composition's, with its errors: so are function transforms, forward gradients and autocast, which take
  // its parts one by one.
  bool is_of_layers(const Tensor& input, int64_t input_rank) const {
    const auto count = static_cast<size_t>(num_layers * directions());
    if (num_layers < 1 || params.size() != count * params_of_layer() || input.dim() != input_rank ||
        at::autocast::is_autocast_enabled(c10::DeviceType::PrivateUse1)) {
      return false;
    }
    const auto dtype = input.scalar_type();
    if (!is_native(dtype) || !at::isFloatingType(dtype) || input.sym_numel() == 0) {
      return false;
    }
    const auto fits = [&](const Tensor& tensor) {
      constexpr c10::DispatchKeySet transforms(
          {c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::FuncTorchGradWrapper});
      return tensor.defined() && tensor.device().type() == c10::DeviceType::PrivateUse1 &&
             tensor.scalar_type() == dtype && !tensor.key_set().has_any(transforms) &&
             !tensor._fw_grad(/*level=*/0).defined();
    };
    if (!fits(input) || !std::all_of(params.begin(), params.end(), fits) ||
        !std::all_of(states.begin(), states.end(), fits)) {
      return false;
    }
    for (const Tensor& state : states) {
      if (state.dim() != 3 || state.sym_size(0) != num_layers * directions() ||
          state.sym_sizes() != states[0].sym_sizes() || state.sym_size(2) == 0) {
        return false;
      }
    }
    const c10::SymInt hidden = states[0].sym_size(2);
    c10::SymInt width = input.sym_size(input_rank - 1);
    const auto is_of = [](const Tensor& tensor, c10::SymIntArrayRef sizes) { return tensor.sym_sizes() == sizes; };
    for (size_t at = 0; at < count; ++at) {
      if (at > 0 && at % static_cast<size_t>(directions()) == 0) {
        width = hidden * directions();
      }
      const size_t first = at * params_of_layer();
      if (!is_of(params[first], {hidden * gates(), width}) || !is_of(params[first + 1], {hidden * gates(), hidden})) {
        return false;
      }
      for (size_t bias = first + 2; bias < first + params_of_layer(); ++bias) {
        if (!is_of(params[bias], {hidden * gates()})) {
          return false;
        }
      }
    }
    return true;
  }

  // The last layer's output, and each state at the end; steps first.
  std::vector<Tensor> run(Tensor steps, IntArrayRef batch_sizes) const {
    const int64_t hidden = states[0].sym_size(2).guard_int(__FILE__, __LINE__);
    std::vector<std::vector<Tensor>> begins;
    for (const Tensor& state : states) {
      begins.push_back(state.unbind(0));
    }
    std::vector<std::vector<Tensor>> ends(states.size());
    const Tensor none = at::empty({0}, steps.options());
    size_t at = 0;
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      // Once, for both directions and for their backward, which would each make a dense copy of its own.
      steps = steps.contiguous();
      std::vector<Tensor> outputs;
      for (int64_t direction = 0; direction < directions(); ++direction, ++at) {
        const Tensor* given = &params[at * params_of_layer()];
        const auto [bias, second_bias] = biases(given, hidden, none);
        auto [out, hy, cy, workspace] = at::mkldnn_rnn_layer(
            steps, given[0], given[1], bias, second_bias, begins[0][at], mode == kLstm ? begins[1][at] : none,
            direction == 1, batch_sizes, mode, hidden, 1, has_biases, false, false, /*train=*/false);
        outputs.push_back(out);
        ends[0].push_back(hy);
        if (mode == kLstm) {
          ends[1].push_back(cy);
        }
      }
      steps = outputs.size() == 1 ? outputs[0] : at::cat(outputs, -1);
      if (dropout != 0 && train && layer + 1 < num_layers) {
        steps = at::dropout(steps, dropout, true);
      }
    }
    std::vector<Tensor> results{steps};
    for (const std::vector<Tensor>& end : ends) {
      results.push_back(end.size() == 1 ? end[0].unsqueeze(0) : at::stack(end));
    }
    return results;
  }

  std::pair<Tensor, Tensor> biases(const Tensor* given, int64_t hidden, const Tensor& none) const {
    if (!has_biases) {
      return {none, none};
    }
    if (mode == kLstm) {
      return {given[2], given[3]};
    }
    const int64_t shared = 2 * hidden;
    return {at::cat({given[2].narrow(0, 0, shared) + given[3].narrow(0, 0, shared),
                     given[2].narrow(0, shared, hidden), given[3].narrow(0, shared, hidden)}),
            none};
  }
};

std::tuple<Tensor, Tensor, Tensor> lstm(const Tensor& input, TensorList hx, TensorList params, bool has_biases,
                                        int64_t num_layers, double dropout, bool train, bool bidirectional,
                                        bool batch_first) {
  const Network network{kLstm, hx.vec(), params, has_biases, num_layers, dropout, train, bidirectional};
  if (hx.size() != 2 || !network.is_of_layers(input, 3)) {
    return at::native::lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first);
  }
  const auto results = network.run(batch_first ? input.transpose(0, 1) : input, {});
  return {batch_first ? results[0].transpose(0, 1) : results[0], results[1], results[2]};
}

std::tuple<Tensor, Tensor> gru(const Tensor& input, const Tensor& hx, TensorList params, bool has_biases,
                               int64_t num_layers, double dropout, bool train, bool bidirectional, bool batch_first) {
  const Network network{kGru, {hx}, params, has_biases, num_layers, dropout, train, bidirectional};
  if (!network.is_of_layers(input, 3)) {
    return at::native::gru(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first);
  }
  const auto results = network.run(batch_first ? input.transpose(0, 1) : input, {});
  return {batch_first ? results[0].transpose(0, 1) : results[0], results[1]};
}

// The sizes of a packed sequence's batches; none where they are not there to read, or do not fit.
std::vector<int64_t> sizes_of(const Tensor& batch_sizes, const Tensor& data, const Tensor& hx) {
  constexpr c10::DispatchKeySet traced({c10::DispatchKey::Python, c10::DispatchKey::Functionalize});
  if (batch_sizes.key_set().has_any(traced) || data.key_set().has_any(traced) || !batch_sizes.is_cpu() ||
      batch_sizes.scalar_type() != at::kLong || batch_sizes.dim() != 1 || !batch_sizes.is_contiguous() ||
      hx.dim() != 3) {
    return {};
  }
  const auto* first = batch_sizes.const_data_ptr<int64_t>();
  std::vector<int64_t> sizes(first, first + batch_sizes.numel());
  const bool fits = !sizes.empty() && sizes[0] == hx.size(1) && sizes.back() > 0 &&
                    std::is_sorted(sizes.begin(), sizes.end(), std::greater<>()) &&
                    std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) == data.size(0);
  return fits ? sizes : std::vector<int64_t>();
}

std::tuple<Tensor, Tensor, Tensor> lstm_packed(const Tensor& data, const Tensor& batch_sizes, TensorList hx,
                                               TensorList params, bool has_biases, int64_t num_layers, double dropout,
                                               bool train, bool bidirectional) {
  const Network network{kLstm, hx.vec(), params, has_biases, num_layers, dropout, train, bidirectional};
  if (hx.size() == 2 && network.is_of_layers(data, 2)) {
    if (const auto sizes = sizes_of(batch_sizes, data, hx[0]); !sizes.empty()) {
      const auto results = network.run(data, sizes);
      return {results[0], results[1], results[2]};
    }
  }
  return at::native::lstm(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional);
}

std::tuple<Tensor, Tensor> gru_packed(const Tensor& data, const Tensor& batch_sizes, const Tensor& hx,
                                      TensorList params, bool has_biases, int64_t num_layers, double dropout,
                                      bool train, bool bidirectional) {
  const Network network{kGru, {hx}, params, has_biases, num_layers, dropout, train, bidirectional};
  if (network.is_of_layers(data, 2)) {
    if (const auto sizes = sizes_of(batch_sizes, data, hx); !sizes.empty()) {
      const auto results = network.run(data, sizes);
      return {results[0], results[1]};
    }
  }
  return at::native::gru(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional);
}

void register_networks(torch::Library& m) {
  m.impl("lstm.input", TORCH_FN(lstm));
  m.impl("lstm.data", TORCH_FN(lstm_packed));
  m.impl("gru.input", TORCH_FN(gru));
  m.impl("gru.data", TORCH_FN(gru_packed));
}

}  // namespace

// Below autograd for tensors of inference mode, which autograd does not see.
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  register_networks(m);
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, m) {
  register_networks(m);
}

}  // namespace rustorch
