// softmax, log_softmax and their gradients.
#include <ATen/WrapDimUtils.h>
#include <ATen/ops/_log_softmax_backward_data_meta.h>
#include <ATen/ops/_log_softmax_meta.h>
#include <ATen/ops/_softmax_backward_data_meta.h>
#include <ATen/ops/_softmax_meta.h>
#include <torch/library.h>

#include "aten/structured.h"
#include "bridge.h"

namespace rustorch {
namespace {

using at::Tensor;

template <class Meta, bool log>
void forward(Structured<Meta>& meta, const Tensor& self, int64_t dim, bool half_to_float) {
  meta.meta(self, dim, half_to_float);
  // Of nothing, in any dtype.
  if (self.numel() == 0) {
    return;
  }
  launch(Op::softmax_, {meta.result(), self}, {at::maybe_wrap_dim(dim, self.dim()), log});
}

template <class Meta, bool log>
Tensor softmax(const Tensor& self, int64_t dim, bool half_to_float) {
  Structured<Meta> meta;
  forward<Meta, log>(meta, self, dim, half_to_float);
  return meta.finish();
}

template <class Meta, bool log>
Tensor& softmax_out(const Tensor& self, int64_t dim, bool half_to_float, Tensor& out) {
  Structured<Meta> meta(out);
  forward<Meta, log>(meta, self, dim, half_to_float);
  meta.finish();
  return out;
}

template <class Meta, bool log>
void backward(Structured<Meta>& meta, const Tensor& grad, const Tensor& output, int64_t dim, at::ScalarType dtype) {
  meta.meta(grad, output, dim, dtype);
  launch(Op::softmax_backward_, {meta.result(), grad, output}, {at::maybe_wrap_dim(dim, grad.dim()), log});
}

template <class Meta, bool log>
Tensor softmax_backward(const Tensor& grad, const Tensor& output, int64_t dim, at::ScalarType dtype) {
  Structured<Meta> meta;
  backward<Meta, log>(meta, grad, output, dim, dtype);
  return meta.finish();
}

template <class Meta, bool log>
Tensor& softmax_backward_out(const Tensor& grad, const Tensor& output, int64_t dim, at::ScalarType dtype, Tensor& out) {
  Structured<Meta> meta(out);
  backward<Meta, log>(meta, grad, output, dim, dtype);
  meta.finish();
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
#define RUSTORCH_SOFTMAX(name, log)                                                                            \
  m.impl(#name, TORCH_FN((softmax<at::meta::structured_##name, log>)));                                        \
  m.impl(#name ".out", TORCH_FN((softmax_out<at::meta::structured_##name, log>)));                             \
  m.impl(#name "_backward_data", TORCH_FN((softmax_backward<at::meta::structured_##name##_backward_data, log>))); \
  m.impl(#name "_backward_data.out",                                                                           \
         TORCH_FN((softmax_backward_out<at::meta::structured_##name##_backward_data, log>)));
  RUSTORCH_SOFTMAX(_softmax, false)
  RUSTORCH_SOFTMAX(_log_softmax, true)
#undef RUSTORCH_SOFTMAX
}

}  // namespace rustorch
