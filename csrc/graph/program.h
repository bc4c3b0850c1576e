// A captured graph as Python calls it: checks that its arguments are of the shapes it was captured
// for, and runs the Rust program in one call without the GIL.
#pragma once

#include <c10/util/SmallVector.h>
#include <torch/extension.h>

#include <atomic>
#include <optional>
#include <vector>

#include "rust/cxx.h"
#include "rustorch-bridge/src/graph.rs.h"

namespace rustorch {

// A result: a view of an argument's storage, or of storage that a run allocates.
struct Result {
  bool of_input;
  size_t storage;
  bool on_cpu;
  at::ScalarType dtype;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset;
  // Whether its elements are to be taken with the other sign of their imaginary part, or of both.
  bool is_conj = false;
  bool is_neg = false;

  bool operator==(const Result&) const = default;
};

// What an argument must look like.
struct Argument {
  // Its place in the list of arguments; constants of the graph and the generator have none.
  std::optional<size_t> position;
  // Neither argument nor constant: the state of the CPU's generator.
  bool is_generator = false;
  at::Tensor constant;
  // What kind of tensor it is: its backend, and whether it is conjugate or negative (`kind_of`).
  uint64_t kind = 0;
  // Which distinct storage it views: arguments that share storage have the same.
  size_t storage;
  at::ScalarType dtype;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset;
  size_t storage_bytes;
  // Whether the list of arguments need not hold it any longer once the program runs.
  bool given_up = false;
};

class Program {
 public:
  Program(rust::Box<ffi::Program> program, std::vector<Argument> arguments, std::vector<Result> results,
          std::vector<size_t> result_bytes);

  // The list of results, or None where an argument differs from what was captured. Takes the arguments that
  // are given up out of the list, and lets go of each when the program has done with it.
  py::object run(const py::list& arguments) const;
  // Makes `run` give a graph's own results: of each the number of a program's result, `~position` for an
  // argument as it is, or None.
  void arrange(std::vector<std::optional<int64_t>> order) { order_ = std::move(order); }

  std::string text() const;
  // The program before the passes; empty where it was not kept.
  std::string captured_text() const;
  std::string dot(const std::string& name) const;
  std::vector<std::string> kernels() const;
  size_t moved_bytes() const;
  // Kernels and moved bytes before the passes.
  std::pair<size_t, size_t> captured() const;
  // The most that a run holds at once: of intermediates, and of them and results.
  size_t intermediate_bytes() const { return program_->peaks()[0]; }
  size_t peak_bytes() const { return program_->peaks()[1]; }
  // Bytes of arguments that the last run let go of.
  size_t freed_bytes() const { return freed_bytes_.load(std::memory_order_relaxed); }
  size_t instructions() const { return program_->instruction_count(); }

 private:
  // By argument; what the list holds, it holds during the run.
  using Tensors = c10::SmallVector<const at::Tensor*, 16>;
  // By distinct input storage.
  using Addresses = c10::SmallVector<size_t, 16>;
  using Storages = c10::SmallVector<c10::Storage, 16>;

  bool gather(const py::list& arguments, Tensors& tensors, Addresses& storages) const;
  Storages take(const py::list& arguments, const Tensors& tensors) const;
  std::vector<at::Tensor> execute(const Tensors& tensors, Addresses& inputs, Storages& taken) const;

  rust::Box<ffi::Program> program_;
  std::vector<Argument> arguments_;
  std::vector<Result> results_;
  // Bytes of each storage that a run allocates.
  std::vector<size_t> result_bytes_;
  // For each storage that a run allocates, what its results are views of: the first of them that has all elements of
  // the others, or, where none has, a tensor of the whole storage that is no result.
  std::vector<Result> bases_;
  // By result: whether it is the base of its storage itself.
  std::vector<bool> is_base_;
  // For each distinct input storage, the first argument of it.
  std::vector<size_t> first_of_storage_;
  std::vector<size_t> written_;
  // Which input storage is the state of the CPU's generator, if the program draws from it.
  std::optional<size_t> generator_;
  std::vector<std::optional<int64_t>> order_;
  // Of a model on the CPU, whose other work runs on OpenMP's threads: so does the program.
  bool on_cpu_ = false;
  mutable std::atomic<size_t> freed_bytes_{0};
};

void bind_graph(py::module_& module);

}  // namespace rustorch
