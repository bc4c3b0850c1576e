// The pointwise ops: one registration for each overload that a row of the op table names.
#include "aten/pointwise.h"

#include <torch/library.h>

#include <algorithm>

#include "pointwise_headers.inc"

namespace rustorch {

static void launch_pointwise(Op op, c10::ArrayRef<Operand> operands, at::ScalarType compute,
                             const ScalarArguments& scalars) {
  const ScalarArguments taken = scalars.of(op, compute);
  c10::SmallVector<int64_t, 5> ints{static_cast<int64_t>(compute)};
  ints.append(taken.ints.begin(), taken.ints.end());
  launch(op, operands, ints, taken.floats);
}

// The iterator's operands in the row's order: the output, then the call's tensors where they are in
// the iterator.
static c10::SmallVector<int, 4> operand_order(const at::TensorIteratorBase& iterator,
                                              c10::ArrayRef<const at::Tensor*> inputs) {
  const auto as_it_is = [&] {
    c10::SmallVector<int, 4> order{0};
    const int count = inputs.empty() ? iterator.ntensors() : static_cast<int>(inputs.size()) + 1;
    for (int at = 1; at < std::min(iterator.ntensors(), count); ++at) {
      order.push_back(at);
    }
    return order;
  };
  if (inputs.empty()) {
    return as_it_is();
  }
  c10::SmallVector<int, 4> order{0};
  for (const at::Tensor* input : inputs) {
    int at = 1;
    while (at < iterator.ntensors() && !iterator.tensor_base(at).is_same(*input)) {
      ++at;
    }
    if (at == iterator.ntensors()) {
      // The meta put another tensor in its place (a bool's square is of integers); it keeps the order.
      return as_it_is();
    }
    order.push_back(at);
  }
  return order;
}

void launch_iterator(Op op, at::TensorIteratorBase& iterator, const ScalarArguments& scalars,
                     c10::ArrayRef<const at::Tensor*> inputs, at::ScalarType compute) {
  // Of empty tensors too, so that their dtypes are refused where those of others are.
  const auto rank = static_cast<size_t>(iterator.ndim());
  const auto shape = iterator.shape();
  const auto order = operand_order(iterator, inputs);
  c10::SmallVector<int64_t, 24> strides(rank * order.size());
  c10::SmallVector<Operand, 4> operands;
  for (const int at : order) {
    int64_t* of_operand = strides.data() + rank * operands.size();
    const int64_t size = static_cast<int64_t>(iterator.element_size(at));
    const auto bytes = iterator.strides(at);
    for (size_t dim = 0; dim < rank; ++dim) {
      of_operand[dim] = bytes[dim] / size;
    }
    const auto& tensor = iterator.tensor_base(at);
    Operand operand(tensor, shape, {of_operand, rank});
    operand.view.data = reinterpret_cast<size_t>(iterator.data_ptr(at));
    if (iterator.is_cpu_scalar(at)) {
      operand.view.device = static_cast<int8_t>(c10::DeviceType::PrivateUse1);
    }
    operands.push_back(operand);
  }
  // What is expanded alike in all operands is written once, where the iterator allows that at all (threshold_).
  c10::SmallVector<int64_t, 6> sizes(shape.begin(), shape.end());
  for (size_t dim = 0; dim < rank; ++dim) {
    bool repeats = true;
    for (size_t at = 0; at < operands.size(); ++at) {
      repeats = repeats && strides[rank * at + dim] == 0;
    }
    sizes[dim] = repeats && sizes[dim] > 1 ? 1 : sizes[dim];
  }
  for (Operand& operand : operands) {
    operand.view.sizes = reinterpret_cast<size_t>(sizes.data());
  }
  for (const auto dtype : {iterator.common_dtype(), iterator.input_dtype()}) {
    compute = compute == at::ScalarType::Undefined ? dtype : compute;
  }
  launch_pointwise(op, operands, compute, scalars);
}

// Like softshrink, it refuses numbers.
template <>
inline constexpr bool kChecksNumbers<at::meta::structured_polygamma> = true;

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
#define RUSTORCH_REGISTER(KIND, overload, op, meta_class, traits, is_test) \
  m.impl(overload, TORCH_FN((KIND<Op::op, meta_class, at::_ops::traits, is_test>::call)));
#define RUSTORCH_FUNCTIONAL(...) RUSTORCH_REGISTER(Functional, __VA_ARGS__)
#define RUSTORCH_INPLACE(...) RUSTORCH_REGISTER(Inplace, __VA_ARGS__)
#define RUSTORCH_OUT(...) RUSTORCH_REGISTER(Out, __VA_ARGS__)
#include "pointwise_rows.inc"
}

}  // namespace rustorch
