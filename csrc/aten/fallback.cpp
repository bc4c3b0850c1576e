#include "aten/fallback.h"

namespace rustorch {

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  TORCH_CHECK(false, "no fallback for ", op.operator_name());
}

}  // namespace rustorch
