#include "graph/program.h"

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/record_function.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <unordered_set>

#include "bridge.h"
#include "device/allocator.h"
#include "device/generator.h"
#include "graph/capturable.h"
#include "graph/capture.h"
#include "graph/cpu_generator.h"

namespace rustorch {
namespace {

bool same(const std::vector<int64_t>& captured, at::IntArrayRef actual) {
  return actual.equals(captured);
}

size_t address_of(const at::Tensor& tensor) {
  return reinterpret_cast<size_t>(tensor.storage().data());
}

// A tensor's keys without those of autograd and autocast, which say nothing of its memory.
uint64_t kind_of(const at::Tensor& tensor) {
  constexpr auto others = c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset;
  return (tensor.key_set() - others).raw_repr();
}

// Whether a tensor is all said by dtype, sizes, strides, memory and its two lazy bits: neither sparse nor quantized,
// of another device or a class with rules of its own, nor one of zeros without memory.
bool is_plain(const at::Tensor& tensor) {
  constexpr c10::DispatchKeySet plain({c10::DispatchKey::CPU, c10::DispatchKey::PrivateUse1,
                                       c10::DispatchKey::Conjugate, c10::DispatchKey::Negative});
  return (kind_of(tensor) & ~plain.raw_repr()) == 0 && tensor.has_storage();
}

// A tensor over `storage`, without the dispatcher.
at::Tensor view_of(const c10::Storage& storage, const Result& result) {
  c10::DispatchKeySet keys(storage.device().is_cpu() ? c10::DispatchKey::CPU : c10::DispatchKey::PrivateUse1);
  keys = result.is_conj ? keys.add(c10::DispatchKey::Conjugate) : keys;
  keys = result.is_neg ? keys.add(c10::DispatchKey::Negative) : keys;
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), keys,
                                                         c10::scalarTypeToTypeMeta(result.dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(result.sizes, result.strides, result.offset);
  return tensor;
}

// Lets writes to one count for both.
void share_versions(const at::Tensor& tensor, const at::Tensor& base) {
  if (!tensor.is_inference() && !base.is_inference()) {
    tensor.unsafeGetTensorImpl()->set_version_counter(base.unsafeGetTensorImpl()->version_counter());
  }
}

// Whether `base` has every element of `other`, both over one storage.
bool has_all_of(const Result& base, const Result& other) {
  if (base.dtype != other.dtype || base.is_conj != other.is_conj || base.is_neg != other.is_neg) {
    // No view of a base anyway (`view_on`).
    return true;
  }
  // The element behind the last one; 0 where there is none.
  const auto end_of = [](const Result& result) {
    return static_cast<int64_t>(at::detail::computeStorageNbytes(result.sizes, result.strides, 1, result.offset));
  };
  const bool is_dense = c10::multiply_integers(base.sizes) == end_of(base) - base.offset;
  return base == other || (is_dense && base.offset <= other.offset && end_of(other) <= end_of(base));
}

// What the results of each storage are views of. A base must have all of their elements: AOTAutograd hands the base
// alone to the next graph, and its writes to a view of it.
std::vector<Result> bases_of(const std::vector<Result>& results, const std::vector<size_t>& bytes) {
  std::vector<Result> bases(bytes.size());
  for (size_t storage = 0; storage < bytes.size(); ++storage) {
    std::vector<const Result*> views;
    for (const Result& result : results) {
      if (!result.of_input && result.storage == storage) {
        views.push_back(&result);
      }
    }
    if (views.empty()) {
      continue;
    }
    const auto base = std::find_if(views.begin(), views.end(), [&](const Result* candidate) {
      return std::all_of(views.begin(), views.end(), [&](const Result* view) { return has_all_of(*candidate, *view); });
    });
    if (base != views.end()) {
      bases[storage] = **base;
    } else {
      bases[storage] = *views.front();
      const auto count = static_cast<int64_t>(bytes[storage] / c10::elementSize(views.front()->dtype));
      bases[storage].sizes = {count};
      bases[storage].strides = {1};
      bases[storage].offset = 0;
    }
  }
  return bases;
}

// A further result over the memory of `base`, a result as well: a view that autograd knows of, where it can be one.
at::Tensor view_on(const at::Tensor& base, const c10::Storage& storage, const Result& result) {
  if (base.scalar_type() == result.dtype && base.is_conj() == result.is_conj && base.is_neg() == result.is_neg &&
      !base.is_inference()) {
    const at::NoGradGuard no_grad;
    return base.as_strided(result.sizes, result.strides, result.offset);
  }
  at::Tensor tensor = view_of(storage, result);
  share_versions(tensor, base);
  return tensor;
}

// The storage of a result; a CPU result's bytes come from the device's pool as well.
c10::Storage storage_of(size_t address, size_t bytes, bool on_cpu) {
  const c10::Device device = on_cpu ? c10::Device(c10::kCPU) : c10::Device(c10::DeviceType::PrivateUse1, 0);
  c10::Allocator* const owner = on_cpu ? c10::GetCPUAllocator() : allocator();
  return c10::Storage(c10::Storage::use_byte_size_t(), bytes, pool_block(address, bytes, device), owner,
                      /*resizable=*/true);
}

}  // namespace

Program::Program(rust::Box<ffi::Program> program, std::vector<Argument> arguments, std::vector<Result> results,
                 std::vector<size_t> result_bytes)
    : program_(std::move(program)),
      arguments_(std::move(arguments)),
      results_(std::move(results)),
      result_bytes_(std::move(result_bytes)),
      bases_(bases_of(results_, result_bytes_)) {
  for (size_t index = 0; index < arguments_.size(); ++index) {
    if (arguments_[index].storage == first_of_storage_.size()) {
      first_of_storage_.push_back(index);
    }
    if (arguments_[index].is_generator) {
      generator_ = arguments_[index].storage;
    }
  }
  const auto written = through_door([&] { return program_->written_inputs(); });
  written_.assign(written.begin(), written.end());
  // What is written or returned is wanted after the run.
  std::vector<bool> wanted(first_of_storage_.size());
  for (const size_t storage : written_) {
    wanted[storage] = true;
  }
  for (const Result& result : results_) {
    if (result.of_input) {
      wanted[result.storage] = true;
    }
  }
  std::vector<bool> is_given(result_bytes_.size());
  for (const Result& result : results_) {
    const bool is_base = !result.of_input && !is_given[result.storage] && result == bases_[result.storage];
    is_base_.push_back(is_base);
    if (is_base) {
      is_given[result.storage] = true;
    }
  }
  for (Argument& argument : arguments_) {
    argument.given_up = argument.given_up && !wanted[argument.storage];
  }
  on_cpu_ = std::any_of(results_.begin(), results_.end(), [](const Result& result) { return result.on_cpu; });
  for (size_t index = 0; index < results_.size(); ++index) {
    order_.emplace_back(static_cast<int64_t>(index));
  }
}

bool Program::gather(const py::list& given, Tensors& tensors, Addresses& storages) const {
  for (const Argument& expected : arguments_) {
    if (expected.is_generator) {
      // It is lent for the run, when all else is known to fit.
      tensors.push_back(nullptr);
      storages.push_back(0);
      continue;
    }
    if (expected.position.has_value()) {
      PyObject* const object = PyList_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(*expected.position));
      if (!THPVariable_Check(object)) {
        return false;
      }
      tensors.push_back(&THPVariable_Unpack(object));
    } else {
      tensors.push_back(&expected.constant);
    }
    const at::Tensor& actual = *tensors.back();
    if (kind_of(actual) != expected.kind || actual.scalar_type() != expected.dtype || !same(expected.sizes, actual.sizes()) ||
        !same(expected.strides, actual.strides()) || actual.storage_offset() != expected.offset ||
        actual.storage().nbytes() < expected.storage_bytes) {
      return false;
    }
    const size_t address = address_of(actual);
    if (expected.storage == storages.size()) {
      // Storage that was distinct in the capture must be so now: views are laid over it apart.
      // Whether it is written decides if that matters, but a check costs less than the question.
      storages.push_back(address);
    } else if (storages[expected.storage] != address) {
      return false;
    }
  }
  for (const size_t written : written_) {
    for (size_t other = 0; other < storages.size(); ++other) {
      if (other != written && storages[other] == storages[written] && storages[other] != 0) {
        return false;
      }
    }
  }
  return true;
}

// The storages of the arguments that the list alone holds and does not need to: taken out of it. A
// storage, unlike a tensor, is let go without the GIL.
Program::Storages Program::take(const py::list& given, const Tensors& tensors) const {
  Storages taken(first_of_storage_.size());
  size_t bytes = 0;
  for (size_t index = 0; index < arguments_.size(); ++index) {
    const Argument& argument = arguments_[index];
    if (argument.given_up) {
      const auto position = static_cast<Py_ssize_t>(*argument.position);
      if (Py_REFCNT(PyList_GET_ITEM(given.ptr(), position)) == 1) {
        if (!taken[argument.storage]) {
          taken[argument.storage] = tensors[index]->storage();
          bytes += argument.storage_bytes;
        }
        PyList_SetItem(given.ptr(), position, py::none().release().ptr());
      }
    }
  }
  freed_bytes_.store(bytes, std::memory_order_relaxed);
  return taken;
}

py::object Program::run(const py::list& arguments) const {
  Tensors tensors;
  Addresses inputs;
  if (!gather(arguments, tensors, inputs)) {
    return py::none();
  }
  Storages taken = take(arguments, tensors);
  const std::vector<at::Tensor> results = execute(tensors, inputs, taken);
  py::list list(order_.size());
  for (size_t index = 0; index < order_.size(); ++index) {
    PyObject* object = Py_None;
    if (!order_[index].has_value()) {
      Py_INCREF(object);
    } else if (const int64_t from = *order_[index]; from < 0) {
      object = PyList_GET_ITEM(arguments.ptr(), static_cast<Py_ssize_t>(~from));
      Py_INCREF(object);
    } else {
      object = THPVariable_Wrap(results[static_cast<size_t>(from)]);
    }
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(index), object);
  }
  return std::move(list);
}

// Runs the program without the GIL, and bumps the versions of what it writes.
std::vector<at::Tensor> Program::execute(const Tensors& tensors, Addresses& inputs, Storages& taken) const {
  const py::gil_scoped_release unlocked;
  RECORD_FUNCTION("rustorch::program", c10::ArrayRef<const c10::IValue>{});
  Addresses outputs(result_bytes_.size());
  RandomState random{};
  if (const uint64_t counters = program_->random_counters(); counters > 0) {
    random = reserve_random(std::nullopt, counters);
  }
  std::optional<LentGenerator> lent;
  if (generator_.has_value()) {
    inputs[*generator_] = reinterpret_cast<size_t>(lent.emplace().state());
  }
  void (*const release)(size_t, size_t) = [](size_t context, size_t input) {
    (*reinterpret_cast<Storages*>(context))[input] = c10::Storage();
  };
  through_door([&] {
    program_->run({inputs.data(), inputs.size()}, {outputs.data(), outputs.size()}, {random.seed, random.offset},
                  reinterpret_cast<size_t>(release), reinterpret_cast<size_t>(&taken), on_cpu_);
  });
  if (lent.has_value()) {
    lent->give_back();
    lent.reset();
  }
  for (const size_t written : written_) {
    const at::Tensor* const tensor = tensors[first_of_storage_[written]];
    if (tensor != nullptr && !tensor->is_inference()) {
      tensor->unsafeGetTensorImpl()->bump_version();
    }
  }
  Storages fresh(result_bytes_.size());
  // What the results of each storage are views of: they share its version counter, as in eager.
  c10::SmallVector<at::Tensor, 4> bases(result_bytes_.size());
  std::vector<at::Tensor> results;
  results.reserve(results_.size());
  for (const Result& result : results_) {
    const size_t storage = result.storage;
    if (result.of_input) {
      const at::Tensor& input = *tensors[first_of_storage_[storage]];
      results.push_back(view_of(input.storage(), result));
      share_versions(results.back(), input);
      continue;
    }
    if (!fresh[storage]) {
      fresh[storage] = storage_of(outputs[storage], result_bytes_[storage], result.on_cpu);
      bases[storage] = view_of(fresh[storage], bases_[storage]);
    }
    if (is_base_[results.size()]) {
      results.push_back(bases[storage]);
    } else {
      results.push_back(view_on(bases[storage], fresh[storage], result));
    }
  }
  return results;
}

std::string Program::text() const {
  return through_door([&] { return std::string(program_->text()); });
}

std::string Program::captured_text() const {
  return through_door([&] { return std::string(program_->captured_text()); });
}

std::string Program::dot(const std::string& name) const {
  return through_door([&] { return std::string(program_->dot(name)); });
}

std::vector<std::string> Program::kernels() const {
  const auto names = through_door([&] { return program_->kernel_names(); });
  std::vector<std::string> list;
  for (const rust::String& name : names) {
    list.emplace_back(name);
  }
  return list;
}

size_t Program::moved_bytes() const {
  return through_door([&] { return program_->moved_bytes(); });
}

std::pair<size_t, size_t> Program::captured() const {
  const auto totals = program_->captured_totals();
  return {totals[0], totals[1]};
}

namespace {

// The arguments of this thread's capture.
struct Inputs {
  std::vector<Argument> arguments;
  // Addresses of the arguments' distinct storages, and what stands in for them.
  std::vector<size_t> actual;
  std::vector<c10::Storage> captured;
};
thread_local Inputs inputs;

void begin() {
  inputs = {};
  capture_begin();
}

void abandon() {
  inputs = {};
  capture_abandon();
}

// A tensor as a result: a view of the storage of that number.
Result describe(const at::Tensor& tensor, bool of_input, size_t storage, bool on_cpu) {
  return {of_input,
          storage,
          on_cpu,
          tensor.scalar_type(),
          tensor.sizes().vec(),
          tensor.strides().vec(),
          tensor.storage_offset(),
          tensor.is_conj(),
          tensor.is_neg()};
}

// The storages' addresses, past the seal of stand-ins.
std::vector<size_t> addresses_of(const std::vector<c10::Storage>& storages) {
  std::vector<size_t> list;
  list.reserve(storages.size());
  for (const c10::Storage& storage : storages) {
    list.push_back(reinterpret_cast<size_t>(storage.unsafeGetStorageImpl()->_mutable_data_ptr_no_checks().get()));
  }
  return list;
}

// A stand-in for `actual` (argument number `position`, or a constant of the graph): the same
// geometry, on rustorch, over memory that only has an address. Shared storage stays shared.
at::Tensor stand_in(const at::Tensor& actual, std::optional<size_t> position) {
  if (!is_plain(actual)) {
    throw NotCapturable("a program takes dense tensors with memory on the CPU or rustorch, not a " + actual.toString());
  }
  size_t storage = 0;
  // By address: a CPU tensor and its alias on rustorch have two storages over the same bytes.
  const size_t address = address_of(actual);
  while (storage < inputs.actual.size() && (address == 0 || inputs.actual[storage] != address)) {
    ++storage;
  }
  const size_t bytes = actual.storage().nbytes();
  if (storage == inputs.actual.size()) {
    inputs.actual.push_back(address);
    inputs.captured.emplace_back(c10::Storage::use_byte_size_t(), bytes, capture_allocate(bytes),
                                 c10::GetAllocator(c10::DeviceType::PrivateUse1), /*resizable=*/false);
  }
  Argument argument;
  argument.position = position;
  argument.constant = position.has_value() ? at::Tensor() : actual;
  argument.kind = kind_of(actual);
  argument.storage = storage;
  argument.dtype = actual.scalar_type();
  argument.sizes = actual.sizes().vec();
  argument.strides = actual.strides().vec();
  argument.offset = actual.storage_offset();
  argument.storage_bytes = bytes;
  const at::Tensor tensor = view_of(inputs.captured[storage], describe(actual, true, storage, false));
  capture_seal(tensor);
  inputs.arguments.push_back(std::move(argument));
  return tensor;
}

}  // namespace

at::Tensor capture_cpu_generator() {
  const auto same_state = [](const Argument& argument) { return argument.is_generator; };
  const auto found = std::find_if(inputs.arguments.begin(), inputs.arguments.end(), same_state);
  size_t storage = inputs.captured.size();
  constexpr size_t kBytes = kMersenneState * sizeof(int32_t);
  if (found != inputs.arguments.end()) {
    storage = found->storage;
  } else {
    inputs.actual.push_back(0);
    inputs.captured.emplace_back(c10::Storage::use_byte_size_t(), kBytes, capture_allocate(kBytes),
                                 c10::GetAllocator(c10::DeviceType::PrivateUse1), /*resizable=*/false);
    Argument state;
    state.is_generator = true;
    state.storage = storage;
    state.dtype = at::kInt;
    state.sizes = {kMersenneState};
    state.strides = {1};
    state.storage_bytes = kBytes;
    inputs.arguments.push_back(std::move(state));
  }
  const at::Tensor tensor = view_of(inputs.captured[storage], {true, storage, false, at::kInt, {kMersenneState}, {1}, 0});
  capture_seal(tensor);
  return tensor;
}

namespace {

// Ends the capture with the tensors that the graph gives, each to be labelled CPU or rustorch, and the
// positions of the arguments that nothing reads after the program. Whatever fails, no capture is left.
std::shared_ptr<Program> finish(const std::vector<at::Tensor>& results, const std::vector<bool>& on_cpu,
                                const std::unordered_set<size_t>& given_up, bool keep_text) {
  const struct Abandon {
    ~Abandon() { abandon(); }
  } at_the_end;
  std::vector<Result> described;
  std::vector<c10::Storage> fresh;
  std::vector<size_t> bytes;
  for (size_t index = 0; index < results.size(); ++index) {
    const at::Tensor& tensor = results[index];
    // Two stand-ins share memory where they share the storage itself.
    const auto find = [&](const std::vector<c10::Storage>& storages) {
      const auto same = [&](const c10::Storage& storage) {
        return storage.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl();
      };
      return static_cast<size_t>(std::find_if(storages.begin(), storages.end(), same) - storages.begin());
    };
    size_t storage = find(inputs.captured);
    const bool of_input = storage < inputs.captured.size();
    if (!of_input) {
      storage = find(fresh);
      if (storage == fresh.size()) {
        fresh.push_back(tensor.storage());
        bytes.push_back(tensor.storage().nbytes());
      }
    }
    described.push_back(describe(tensor, of_input, storage, on_cpu[index]));
  }
  const auto in = addresses_of(inputs.captured);
  const auto out = addresses_of(fresh);
  auto program = through_door(
      [&] { return ffi::capture_finish({in.data(), in.size()}, {out.data(), out.size()}, keep_text); });
  auto arguments = std::move(inputs.arguments);
  for (Argument& argument : arguments) {
    argument.given_up = argument.position.has_value() && given_up.count(*argument.position) != 0;
  }
  return std::make_shared<Program>(std::move(program), std::move(arguments), std::move(described), std::move(bytes));
}

// What decides an op's launches beside its arguments, and may differ from call to call, as one number: whether
// algorithms are to be deterministic, whether fresh memory is filled, and whether denormal numbers are zero.
uint32_t ambient() {
  constexpr uint32_t kFlushes = 0x8040;
  const auto& context = at::globalContext();
  uint32_t state = context.deterministicAlgorithms() ? 1 : 0;
  state |= context.deterministicFillUninitializedMemory() ? 2 : 0;
#if defined(__x86_64__)
  state |= __builtin_ia32_stmxcsr() & kFlushes;
#endif
  return state;
}

// Whether a node's result can be a program's: a stand-in, and plain.
bool accepts(const at::Tensor& tensor) {
  return is_plain(tensor) && tensor.is_privateuseone();
}

}  // namespace

void bind_graph(py::module_& module) {
  py::class_<Program, std::shared_ptr<Program>>(module, "Program", "A captured graph.")
      .def("run", &Program::run, py::arg("arguments"),
           "Runs on a list of arguments; None where one differs from what was captured. What is given up is "
           "None in the list afterwards, where nothing else holds it.")
      .def("arrange", &Program::arrange, py::arg("order"),
           "Makes `run` give, one by one: a result of that number, the argument at `~position`, or None.")
      .def("text", &Program::text, "Buffers and instructions, a line each.")
      .def("captured_text", &Program::captured_text, "The same before the passes, where it was kept.")
      .def("dot", &Program::dot, py::arg("name"), "Nodes and edges in Graphviz's language.")
      .def_property_readonly("kernels", &Program::kernels, "The names of the kernels that a run launches.")
      .def_property_readonly("moved_bytes", &Program::moved_bytes, "Bytes that kernels read and write.")
      .def_property_readonly("captured", &Program::captured, "Kernels and moved bytes before the passes.")
      .def_property_readonly("intermediate_bytes", &Program::intermediate_bytes,
                             "The most that a run holds of intermediates at once.")
      .def_property_readonly("peak_bytes", &Program::peak_bytes,
                             "The most that a run holds of intermediates and results at once.")
      .def_property_readonly("freed_bytes", &Program::freed_bytes,
                             "Bytes of arguments that the last run let go of.")
      .def_property_readonly("instructions", &Program::instructions, "How many kernels a run launches.");
  module.def("capture_begin", &begin, "Begins a capture on this thread.");
  module.def("capture_abandon", &abandon, "Ends the capture without a program.");
  module.def("capture_input", &stand_in, py::arg("tensor"), py::arg("position"),
             "A stand-in for an argument (its position in the list) or a constant (None).");
  module.def("ambient", &ambient, "The state of PyTorch's that a captured graph holds for, as one number.");
  module.def("capture_accepts", &accepts, py::arg("tensor"), "Whether a program can give this result of a node.");
  module.def("capturable", &capturable, py::arg("name"), py::arg("overload"),
             "Whether the device runs this op of PyTorch's by PyTorch's own code and the shim's: someone else's kernel "
             "may read what is not there.");
  module.def("capture_finish", &finish, py::arg("results"), py::arg("on_cpu"), py::arg("given_up"),
             py::arg("keep_text") = false,
             "Ends the capture with its program, after which nothing reads the arguments at the positions "
             "`given_up`; keeps its text before the passes, where wanted.");
  module.def(
      "capture_origin",
      [](const std::string& label, bool on_cpu) {
        detail::capture_is_of_cpu = on_cpu;
        through_door([&] { ffi::capture_origin(label); });
      },
      py::arg("label"), py::arg("on_cpu") = false,
      "Names the node that the next launches come from, and whether it was traced on the CPU.");
  module.def(
      "capture_mark", [] { return through_door([] { return ffi::capture_mark(); }); },
      "How many instructions there are.");
  module.def(
      "capture_rollback", [](size_t mark) { through_door([&] { ffi::capture_rollback(mark); }); },
      "Forgets the instructions after the mark.");
}

}  // namespace rustorch
