#include "aten/fallback.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/record_function.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "aten/dense_only.h"
#include "bridge.h"
#include "device/allocator.h"
#include "device/device.h"
#include "device/generator.h"
#include "device/storage.h"
#include "graph/capturable.h"
#include "graph/capture.h"

namespace rustorch {
namespace {

enum class Policy { warn, error, silent };

Policy parse(const std::string& name) {
  if (name == "error") {
    return Policy::error;
  }
  if (name == "silent") {
    return Policy::silent;
  }
  TORCH_CHECK_VALUE(name == "warn", "RUSTORCH_FALLBACK is warn, error or silent, not '", name, "'");
  return Policy::warn;
}

std::atomic<Policy>& policy() {
  static std::atomic<Policy> value = [] {
    const char* name = std::getenv("RUSTORCH_FALLBACK");
    return parse(name == nullptr || *name == '\0' ? "warn" : name);
  }();
  return value;
}

struct Counts {
  struct Entry {
    int64_t calls = 0;
    bool warned = false;
  };
  std::mutex mutex;
  std::unordered_map<c10::OperatorName, Entry> entries;
};

Counts& counts() {
  static auto* instance = new Counts();
  return *instance;
}

// Of which no Rust kernel computes.
bool is_foreign(at::ScalarType dtype) { return at::isComplexType(dtype) || c10::isFloat8Type(dtype); }

// Which dtype to name: of the device tensors among the operands, the first foreign one, or else the first tensor's;
// Undefined where there is none.
at::ScalarType dtype_of(c10::ArrayRef<c10::IValue> operands) {
  at::ScalarType found = at::ScalarType::Undefined;
  const auto see = [&found](const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.device().type() != kRustorch) {
      return;
    }
    const at::ScalarType dtype = tensor.scalar_type();
    if (found == at::ScalarType::Undefined || (is_foreign(dtype) && !is_foreign(found))) {
      found = dtype;
    }
  };
  for (const c10::IValue& value : operands) {
    if (value.isTensor()) {
      see(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) {
        see(tensor);
      }
    }
  }
  return found;
}

// Ops whose kernel for the device is the fallback itself.
std::unordered_set<c10::OperatorName>& without_kernel() {
  static auto* instance = new std::unordered_set<c10::OperatorName>();
  return *instance;
}

// What is missing. `dtype` is named where the op has a Rust kernel for others.
std::string lacking(const c10::OperatorHandle& op, at::ScalarType dtype) {
  const auto text = c10::str("rustorch has no Rust kernel for ", op.operator_name());
  const bool has_others =
      op.hasKernelForDispatchKey(c10::DispatchKey::PrivateUse1) && without_kernel().count(op.operator_name()) == 0;
  const bool is_named = has_others && dtype != at::ScalarType::Undefined;
  return is_named ? c10::str(text, " of ", c10::getDtypeNames(dtype).first) : text;
}

// Refuses, counts and warns, as the policy says.
void note(const c10::OperatorHandle& op, at::ScalarType dtype) {
  const auto& name = op.operator_name();
  const auto now = policy().load(std::memory_order_relaxed);
  TORCH_CHECK_NOT_IMPLEMENTED(now != Policy::error, lacking(op, dtype),
                              " and RUSTORCH_FALLBACK=error forbids PyTorch's CPU kernel. Set RUSTORCH_FALLBACK=warn "
                              "(or silent) to let it run there, over the same memory.");
  bool warn = false;
  {
    Counts& all = counts();
    const std::lock_guard lock(all.mutex);
    auto& entry = all.entries[name];
    ++entry.calls;
    warn = now == Policy::warn && !std::exchange(entry.warned, true);
  }
  if (warn) {
    TORCH_WARN(lacking(op, dtype), ": it runs on PyTorch's CPU kernel, over the same memory. (Said once an op; ",
               "RUSTORCH_FALLBACK=silent hides it, RUSTORCH_FALLBACK=error makes it an error.)");
  }
}

// CPU tensors that other devices take too, whatever their size.
bool may_stay_on_cpu(const std::string& argument) {
  return argument == "indices" || argument == "input_lengths" || argument == "target_lengths" || argument == "lengths";
}

// The CPU tensors that stand for device tensors during one call.
class Mirrors {
 public:
  at::Tensor mirror(const at::Tensor& tensor, const c10::Argument& argument) {
    if (!tensor.defined()) {
      return tensor;
    }
    if (tensor.device().type() != kRustorch) {
      if (tensor.is_cpu()) {
        host_.push_back(tensor);
        if (tensor.dim() != 0 && !may_stay_on_cpu(argument.name())) {
          stranger_ = &argument.name();
        }
      }
      return tensor;
    }
    on_device_ = true;
    for (const auto& known : tensors_) {
      if (known.original.is_same(tensor)) {
        return known.mirror;
      }
    }
    if (tensor.layout() != at::kStrided || !tensor.has_storage()) {
      refuse_other_layouts(argument.name() + " is " + tensor.toString());
    }
    check_bounds(tensor);
    tensors_.push_back({tensor, retarget(tensor, mirror_storage(tensor.storage()))});
    return tensors_.back().mirror;
  }

  void check_devices(const c10::OperatorName& name) const {
    TORCH_CHECK(!on_device_ || stranger_ == nullptr,
                "Expected all tensors to be on the same device, but found at least two devices, rustorch:0 and cpu! "
                "(when checking argument ",
                *stranger_, " of ", name, ")");
  }

  // What a CPU kernel did to the metadata of its operands (resized outputs, in-place transposes).
  void write_back() {
    for (auto& storage : storages_) {
      c10::StorageImpl* mirror = storage.mirror.unsafeGetStorageImpl();
      c10::StorageImpl* original = storage.original.unsafeGetStorageImpl();
      if (mirror != original && mirror->data() != original->data()) {
        original->set_nbytes(mirror->nbytes());
        original->set_data_ptr_noswap(
            adopt(mirror->set_data_ptr(c10::DataPtr(nullptr, c10::Device(c10::kCPU))), mirror->nbytes()));
      }
    }
    for (auto& [original, mirror] : tensors_) {
      c10::TensorImpl* impl = original.unsafeGetTensorImpl();
      if (!mirror.storage().is_alias_of(find_mirror(original.storage()))) {
        impl->set_storage_keep_dtype(device_storage(mirror));
      }
      if (original.sizes() != mirror.sizes() || original.strides() != mirror.strides() ||
          original.storage_offset() != mirror.storage_offset()) {
        impl->set_sizes_and_strides(mirror.sizes(), mirror.strides(), mirror.storage_offset());
      }
    }
  }

  // The device tensor that a CPU result stands for.
  at::Tensor restore(at::Tensor result) {
    if (!result.defined() || !result.is_cpu()) {
      return result;
    }
    for (const auto& known : tensors_) {
      if (known.mirror.is_same(result)) {
        return known.original;
      }
    }
    if (result.layout() != at::kStrided || result.is_quantized() || result.is_nested()) {
      refuse_other_layouts("the result is " + result.toString());
    }
    return retarget(result, device_storage(result));
  }

 private:
  struct StoragePair {
    c10::Storage original;
    c10::Storage mirror;
  };
  struct TensorPair {
    at::Tensor original;
    at::Tensor mirror;
  };

  c10::Storage mirror_storage(const c10::Storage& original) {
    for (const auto& known : storages_) {
      if (known.original.is_alias_of(original)) {
        return known.mirror;
      }
    }
    storages_.push_back({original, resizable_alias(original)});
    return storages_.back().mirror;
  }

  const c10::Storage& find_mirror(const c10::Storage& original) const {
    for (const auto& known : storages_) {
      if (known.original.unsafeGetStorageImpl() == original.unsafeGetStorageImpl()) {
        return known.mirror;
      }
    }
    return original;
  }

  // The device storage under a CPU tensor: that of an operand, or the fresh one relabelled.
  c10::Storage device_storage(const at::Tensor& tensor) {
    const c10::Storage& storage = tensor.storage();
    c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
    for (const auto& known : storages_) {
      if (known.mirror.unsafeGetStorageImpl() == impl) {
        return known.original;
      }
    }
    // A fresh result is ours alone. Anything else may be held by others as a CPU tensor.
    bool fresh = storage.use_count() == 1 && tensor.use_count() == 1;
    for (const auto& operand : host_) {
      fresh = fresh && operand.storage().unsafeGetStorageImpl() != impl;
    }
    if (!fresh) {
      const auto shared = alias_storage(storage, device());
      storages_.push_back({shared, storage});
      return shared;
    }
    impl->set_data_ptr_noswap(adopt(std::move(impl->_mutable_data_ptr_no_checks()), impl->nbytes()));
    impl->set_allocator(allocator());
    storages_.push_back({storage, storage});
    return storage;
  }

  c10::SmallVector<TensorPair, 8> tensors_;
  c10::SmallVector<StoragePair, 8> storages_;
  std::vector<at::Tensor> host_;
  const std::string* stranger_ = nullptr;
  bool on_device_ = false;
};

// CPU kernels draw from a CPU generator, seeded by ours.
c10::IValue cpu_generator(const c10::IValue& value) {
  std::optional<at::Generator> given;
  if (value.isGenerator()) {
    given = value.toGenerator();
  }
  const auto state = reserve_random(given, 1);
  return at::detail::createCPUGenerator(state.seed ^ (state.offset + 1) * 0x9E3779B97F4A7C15ULL);
}

void to_cpu(c10::IValue& value, const c10::Argument& argument, Mirrors& mirrors) {
  if (value.isTensor()) {
    value = mirrors.mirror(value.toTensor(), argument);
  } else if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) {
      list.push_back(mirrors.mirror(tensor, argument));
    }
    value = std::move(list);
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const auto& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor.has_value() ? std::make_optional(mirrors.mirror(*tensor, argument)) : std::nullopt);
    }
    value = std::move(list);
  } else if (value.isDevice()) {
    if (value.toDevice().type() == kRustorch) {
      value = c10::Device(c10::kCPU);
    }
  } else if (value.isGenerator() || (value.isNone() && argument.name() == "generator")) {
    value = cpu_generator(value);
  }
}

void to_device(c10::IValue& value, Mirrors& mirrors) {
  if (value.isTensor()) {
    value = mirrors.restore(std::move(value).toTensor());
  } else if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    value = c10::IValue();
    c10::List<at::Tensor> list;
    for (at::Tensor& tensor : tensors) {
      list.push_back(mirrors.restore(std::move(tensor)));
    }
    value = std::move(list);
  }
}

}  // namespace

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.operator_name();
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  auto operands = torch::jit::last(*stack, arguments.size());
  const at::ScalarType dtype = dtype_of(operands);
  if (capturing()) {
    throw NotCapturable(lacking(op, dtype) + ": PyTorch's CPU kernel runs between two programs");
  }
  Mirrors mirrors;
  const size_t begin = stack->size() - arguments.size();
  for (size_t at = 0; at < operands.size(); ++at) {
    to_cpu((*stack)[begin + at], arguments[at], mirrors);
  }
  mirrors.check_devices(name);
  TORCH_CHECK_NOT_IMPLEMENTED(op.hasComputedKernelForDispatchKey(c10::DispatchKey::CPU), "rustorch has no kernel for ",
                              name, ", nor has PyTorch's CPU");
  note(op, dtype);

  RECORD_FUNCTION("rustorch::fallback", c10::ArrayRef<const c10::IValue>{});
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);

  mirrors.write_back();
  const size_t first = stack->size() - schema.returns().size();
  for (size_t at = first; at < stack->size(); ++at) {
    to_device((*stack)[at], mirrors);
  }
}

std::map<std::string, int64_t> fallback_counts() {
  Counts& all = counts();
  const std::lock_guard lock(all.mutex);
  std::map<std::string, int64_t> result;
  for (const auto& [name, entry] : all.entries) {
    if (entry.calls != 0) {
      result[c10::toString(name)] = entry.calls;
    }
  }
  return result;
}

void reset_fallback_counts() {
  Counts& all = counts();
  const std::lock_guard lock(all.mutex);
  for (auto& [name, entry] : all.entries) {
    entry.calls = 0;
  }
}

std::string fallback_policy() {
  switch (policy().load()) {
    case Policy::error: return "error";
    case Policy::silent: return "silent";
    default: return "warn";
  }
}

void set_fallback_policy(const std::string& name) {
  policy().store(parse(name));
}

namespace {

bool is_output(const c10::Argument& argument) {
  return argument.kwarg_only() && argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

// Whether `out` is the `.out` overload of `op`: the same arguments, then outputs.
bool is_out_overload(const c10::FunctionSchema& out, const c10::FunctionSchema& op) {
  const auto& inputs = op.arguments();
  const auto& all = out.arguments();
  if (all.size() <= inputs.size() || !is_output(all.back())) {
    return false;
  }
  for (size_t at = 0; at < inputs.size(); ++at) {
    if (*inputs[at].type() != *all[at].type()) {
      return false;
    }
  }
  return is_output(all[inputs.size()]);
}

std::string base_name(const std::string& name) {
  return name.back() == '_' ? name.substr(0, name.size() - 1) : name;
}

}  // namespace

void bind_structured_fallbacks() {
  static auto* library =
      new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  auto& dispatcher = c10::Dispatcher::singleton();
  std::unordered_map<std::string, std::vector<c10::OperatorHandle>> native;
  std::vector<c10::OperatorHandle> composite;
  for (const auto& name : dispatcher.getAllOpNames()) {
    if (name.name.rfind("aten::", 0) != 0) {
      continue;
    }
    const auto op = dispatcher.findOp(name);
    if (!op.has_value() || !op->hasSchema()) {
      continue;
    }
    if (op->hasKernelForDispatchKey(c10::DispatchKey::PrivateUse1)) {
      remember_kernel(*op);
      native[name.name].push_back(*op);
    } else if (op->hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutogradNonFunctional) &&
               op->hasKernelForDispatchKey(c10::DispatchKey::CPU)) {
      composite.push_back(*op);
    }
  }
  for (const auto& op : composite) {
    const auto& name = op.operator_name();
    bool has_native_out = false;
    for (const auto& out : native[base_name(name.name)]) {
      has_native_out = has_native_out || is_out_overload(out.schema(), op.schema());
    }
    if (!has_native_out) {
      const auto full = c10::toString(name);
      library->impl(full.c_str() + sizeof("aten::") - 1, torch::CppFunction::makeFromBoxedFunction<&fallback>());
      without_kernel().insert(name);
      remember_kernel(op);
    }
  }
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

}  // namespace rustorch
