// Layers of recurrent networks. On the CPU, PyTorch's LSTM is made of `mkldnn_rnn_layer`: one direction of
// one layer, which has a gradient. That op is this device's layer as well, of both kinds. For a GRU,
// `weight2` is one bias of four parts (reset, update, candidate, and the candidate's hidden part), and
// `cx_` is empty.
#pragma once

#include <cstdint>

namespace rustorch {

// As the op's `mode` counts them; the fallback has the others.
inline constexpr int64_t kLstm = 2;
inline constexpr int64_t kGru = 3;

}  // namespace rustorch
