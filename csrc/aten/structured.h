// ATen's structured meta functions with this device's outputs: they check arguments, infer shapes
// and dtypes; the kernels below them only launch.
//
//   at::Tensor mm(const at::Tensor& a, const at::Tensor& b) {
//     Structured<at::meta::structured_mm> op;
//     op.meta(a, b);
//     launch(Op::matmul_, {op.result(), a, b});
//     return op.finish();
//   }
//
// For `out=` and in-place forms, construct it with the tensors to write:
//   Structured<at::meta::structured_mm> op(out);
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/TensorIterator.h>
#include <ATen/TensorMeta.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/Allocator.h>

#include <array>
#include <optional>

#include "graph/capture.h"

namespace rustorch {

// A fresh dense tensor, without the dispatcher's round trip.
at::Tensor empty_dense(at::IntArrayRef sizes, at::ScalarType dtype);

// `Meta` is a class of at::meta; `Outputs` is how many tensors it sets.
template <class Meta, size_t Outputs = 1>
class Structured final : public Meta {
 public:
  Structured() = default;
  // Writes into the given tensors (out= and in-place).
  template <class... Given>
  explicit Structured(const at::Tensor& first, const Given&... given) : outputs_{first, given...}, given_(true) {}

  // The meta function itself. It may take the addresses of its operands.
  template <class... Args>
  auto meta(const Args&... args) {
    const OpenAddresses open(args..., at::TensorList(outputs_));
    return Meta::meta(args...);
  }

  void set_output_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides, at::TensorOptions options)
      override {
    set(index, sizes, strides, options);
    at::Tensor& output = outputs_[index];
    // The kernel wants these strides exactly: another layout of a given output is written through
    // a temporary.
    if (given_ && !strides.empty() && output.strides() != strides && output.numel() > 0) {
      temporaries_[index] = at::empty_strided(sizes, strides, output.options());
    }
    inform_base(index, sizes, strides, options);
  }

  void set_output_raw_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides, at::TensorOptions options)
      override {
    set(index, sizes, strides, options);
    inform_base(index, sizes, strides, options);
  }

  const at::Tensor& maybe_get_output(int64_t index) override {
    return temporaries_[index].defined() ? temporaries_[index] : outputs_[index];
  }

  // The tensor to write.
  const at::Tensor& result(size_t index = 0) { return maybe_get_output(static_cast<int64_t>(index)); }

  // Copies temporaries back; gives the output.
  at::Tensor finish(size_t index = 0) {
    if (temporaries_[index].defined()) {
      outputs_[index].copy_(temporaries_[index]);
      temporaries_[index].reset();
    }
    return outputs_[index];
  }

 private:
  void set(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides, const at::TensorOptions& options) {
    at::Tensor& output = outputs_[index];
    if (!output.defined()) {
      // The usual case goes without the dispatcher.
      const bool dense = strides.empty() && !options.has_memory_format() &&
                         options.device().type() == c10::DeviceType::PrivateUse1;
      const auto dtype = c10::typeMetaToScalarType(options.dtype());
      output = dense              ? empty_dense(sizes, dtype)
               : strides.empty() ? at::empty(sizes, options)
                                 : at::empty_strided(sizes, strides, options);
      return;
    }
    TORCH_CHECK(options.dtype() == output.dtype(), "Expected out tensor to have dtype ", options.dtype(), ", but got ",
                output.dtype(), " instead");
    TORCH_CHECK(options.device() == output.device(), "Expected out tensor to have device ", options.device(),
                ", but got ", output.device(), " instead");
    if (at::native::resize_output(output, sizes) && !strides.empty()) {
      output.as_strided_(sizes, strides);
    }
  }

  void inform_base(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides, at::TensorOptions options) {
    if constexpr (std::is_base_of_v<at::TensorIteratorBase, Meta>) {
      Meta::set_output_raw_strided(index, sizes, strides, options);
    }
  }

  std::array<at::Tensor, Outputs> outputs_;
  std::array<at::Tensor, Outputs> temporaries_;
  bool given_ = false;
};

}  // namespace rustorch
