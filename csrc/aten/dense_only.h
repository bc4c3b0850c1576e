// The one sentence that refuses tensors of other kinds than dense ones.
#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace rustorch {

[[noreturn]] inline void refuse_other_layouts(const std::string& met) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, met, ": rustorch has dense tensors only, and no sparse, quantized or nested ones. Make such a tensor dense ",
      "on the CPU, by to_dense(), dequantize() or to_padded_tensor(), before it comes to rustorch, and leave ",
      "sparse=True and sparse_grad=True out, so that gradients are dense.");
  throw;  // Not reached: the macro above throws.
}

}  // namespace rustorch
