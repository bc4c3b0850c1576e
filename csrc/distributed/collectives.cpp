// Collectives of torch.distributed: those of a backend for the CPU (gloo), on the same memory. Nothing is copied, and
// no alias outlives its collective, as FSDP resizes storages in between.
#include "distributed/collectives.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <torch/library.h>

#include <span>
#include <stdexcept>

#include "device/device.h"
#include "device/storage.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

using at::IValue;
using at::Tensor;

// The tensors of a call, and what stands for them on the CPU.
class Aliases {
 public:
  IValue on_host(const IValue& value) {
    return mapped(value, [this](const Tensor& tensor) { return host_of(tensor); });
  }

  // A result: one of the call's own tensors, or an alias of what the collective made.
  IValue on_device(const IValue& value) const {
    return mapped(value, [this](const Tensor& tensor) { return device_of(tensor); });
  }

  Tensor device_of(const Tensor& host) const {
    for (const auto& [mine, alias_of_it] : pairs_) {
      if (alias_of_it.is_same(host)) {
        return mine;
      }
    }
    return host.defined() && host.is_cpu() ? rustorch::alias(host) : host;
  }

 private:
  Tensor host_of(const Tensor& tensor) {
    if (!tensor.defined()) {
      return tensor;
    }
    TORCH_CHECK(tensor.device().type() == kRustorch, "Expected all tensors of a collective to be on the same device, ",
                "but found at least two devices, ", device(), " and ", tensor.device(),
                "! Move them to one: by .to(\"rustorch\"), or without a copy by rustorch_device.alias.");
    pairs_.emplace_back(tensor, rustorch::alias(tensor));
    return pairs_.back().second;
  }

  // `value` with every tensor in it mapped.
  template <class Map>
  static IValue mapped(const IValue& value, const Map& map) {
    if (value.isTensor()) {
      return map(value.toTensor());
    }
    if (value.isTuple()) {
      std::vector<IValue> elements;
      for (const IValue& element : value.toTupleRef().elements()) {
        elements.push_back(mapped(element, map));
      }
      return c10::ivalue::Tuple::create(std::move(elements));
    }
    if (!value.isList()) {
      return value;
    }
    const auto list = value.toList();
    c10::impl::GenericList result(list.elementType());
    result.reserve(list.size());
    for (const IValue& element : list) {
      result.push_back(mapped(element, map));
    }
    return result;
  }

  std::vector<std::pair<Tensor, Tensor>> pairs_;
};

// Calls what waits for other ranks. Errors of the connection are gloo's own, which knows of no device: with what they
// mean. All else, such as an argument that is refused, is as it comes.
template <class Call>
auto with_other_ranks(const Call& call) -> decltype(call()) {
  static constexpr const char* kMeans =
      "of a collective of tensors on rustorch:0: another rank has died, or did not answer before the group's timeout. "
      "End all ranks and start them again, as torchrun does with --max-restarts";
  try {
    return call();
  } catch (c10::DistError& error) {
    error.add_context(kMeans);
    throw;
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(c10::str(error.what(), " (", kMeans, ")"));
  }
}

// A collective on its way, whose results are on the device.
class DeviceWork : public c10d::Work {
 public:
  DeviceWork(c10::intrusive_ptr<c10d::Work> work, Aliases aliases)
      : Work(-1, work->retrieveOpType()), work_(std::move(work)), aliases_(std::move(aliases)) {}

  bool isCompleted() override { return work_->isCompleted(); }
  bool isSuccess() const override { return work_->isSuccess(); }
  std::exception_ptr exception() const override { return work_->exception(); }
  int sourceRank() const override { return work_->sourceRank(); }
  void synchronize() override {
    with_other_ranks([&] { work_->synchronize(); });
  }
  bool wait(std::chrono::milliseconds timeout) override {
    return with_other_ranks([&] { return work_->wait(timeout); });
  }
  void blockCurrentStream() override { work_->blockCurrentStream(); }
  void abort() override { work_->abort(); }
  c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override { return work_->getFutureResult(); }
  float getDuration() const override { return work_->getDuration(); }
  uint64_t getSequencenumber() const override { return work_->getSequencenumber(); }
  std::chrono::milliseconds getTimeout() const override { return work_->getTimeout(); }
  uint64_t getCompletionKey() const override { return work_->getCompletionKey(); }

  std::vector<Tensor> result() override {
    std::vector<Tensor> results = work_->result();
    for (Tensor& result : results) {
      result = aliases_.device_of(result);
    }
    return results;
  }

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    auto future = work_->getFuture();
    return future->then(
        [aliases = aliases_](c10::ivalue::Future& done) {
          return aliases.on_device(with_other_ranks([&] { return done.value(); }));
        },
        future->elementType());
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  Aliases aliases_;
};

template <class T>
bool is_a(const IValue& value) {
  return value.isObject() && value.type() == c10::getCustomClassType<c10::intrusive_ptr<T>>();
}

std::span<IValue> last(torch::jit::Stack* stack, size_t count) {
  return std::span(*stack).last(count);
}

// Refuses a group that has no backend for the device: with PyTorch's own error, and what to do.
void require_backend(c10d::ProcessGroup& group) {
  try {
    group.getBackend(kRustorch);
  } catch (c10::Error& error) {
    error.add_context(
        "rustorch talks to other processes through gloo: make the group by init_process_group(\"gloo\") or "
        "new_group(backend=\"gloo\"), or name it beside others, as in \"cuda:nccl,cpu:gloo,rustorch:gloo\"");
    throw;
  }
}

void collective(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  TORCH_CHECK_NOT_IMPLEMENTED(!capturing(), op.operator_name(), " talks to other processes, and cannot be captured");
  Aliases aliases;
  for (IValue& argument : last(stack, op.schema().arguments().size())) {
    if (is_a<c10d::ProcessGroup>(argument)) {
      require_backend(*argument.toCustomClass<c10d::ProcessGroup>());
    }
    argument = aliases.on_host(argument);
  }
  with_other_ranks([&] { op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack); });
  for (IValue& result : last(stack, op.schema().returns().size())) {
    if (is_a<c10d::Work>(result)) {
      auto work = result.toCustomClass<c10d::Work>();
      result = IValue(c10::intrusive_ptr<c10d::Work>(c10::make_intrusive<DeviceWork>(std::move(work), aliases)));
    } else {
      result = aliases.on_device(result);
    }
  }
}

// What DistributedDataParallel asks for times: kernels end before they return, so the clock tells.
class DeviceTimer : public c10d::Timer {
 public:
  explicit DeviceTimer(c10::Device /*device*/) {}

  std::optional<int64_t> measureDifference(Event start, Event end) override {
    const int64_t from = getTimeRef(start), to = getTimeRef(end);
    // PyTorch's timer of the CPU takes a start after the end for a step without one.
    return from == c10d::kUnsetTime || to == c10d::kUnsetTime || to < from ? std::nullopt : std::optional(to - from);
  }
};

}  // namespace
}  // namespace rustorch

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, rustorch::kRustorch, rustorch::DeviceTimer)
}  // namespace c10d

namespace rustorch {

void bind_collectives() {
  // PyTorch warns where a kernel takes the place of another; here its own of such devices wait for a backend that
  // knows them.
  class Silent : public c10::WarningHandler {
    void process(const c10::Warning& /*warning*/) override {}
  } silent;
  const c10::WarningUtils::WarningHandlerGuard guard(&silent);
  static auto* library =
      new torch::Library(torch::Library::IMPL, "c10d", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    if (name.getNamespace() != "c10d") {
      continue;
    }
    const auto op = dispatcher.findOp(name);
    if (op.has_value() && op->hasKernelForDispatchKey(c10::DispatchKey::PrivateUse1)) {
      library->impl(c10::toString(name).c_str(), torch::CppFunction::makeFromBoxedFunction<&collective>());
    }
  }
}

}  // namespace rustorch
