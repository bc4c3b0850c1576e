// Checkpoint files for Python: rust/checkpoint, with tensors in place of addresses.
#include "checkpoint/module.h"

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/storage.h"
#include "rust/cxx.h"
#include "rustorch-bridge/src/checkpoint.rs.h"

namespace rustorch {
namespace {

namespace py = pybind11;

// The exception for files that are not what they should be; made by `bind_checkpoint`.
PyObject* checkpoint_error = nullptr;

// The first letter names the exception (rust/bridge/src/checkpoint.rs).
[[noreturn]] void rethrow_checkpoint(const rust::Error& error) {
  const std::string text = error.what();
  const std::string message = text.substr(1);
  switch (text[0]) {
    case 'C': PyErr_SetString(checkpoint_error, message.c_str()); break;
    case 'O': {
      // The number picks OSError's subclass, as for Python's own file calls.
      size_t end = 0;
      errno = std::stoi(message, &end);
      PyErr_SetFromErrnoWithFilename(PyExc_OSError, message.substr(end + 1).c_str());
      break;
    }
    case 'V': PyErr_SetString(PyExc_ValueError, message.c_str()); break;
    default: PyErr_SetString(PyExc_RuntimeError, message.c_str());
  }
  throw py::error_already_set();
}

// Calls Rust without the GIL.
template <class Call>
auto unlocked(Call&& call) -> decltype(call()) {
  try {
    py::gil_scoped_release released;
    return call();
  } catch (const rust::Error& error) {
    rethrow_checkpoint(error);
  }
}

rust::Slice<const uint8_t> bytes_of(const std::string& path) {
  return {reinterpret_cast<const uint8_t*>(path.data()), path.size()};
}

// How a tensor lay in memory: its storage's number, the offset in bytes, strides in elements.
using Layout = std::tuple<uint64_t, uint64_t, std::vector<uint64_t>>;
using Saved = std::tuple<std::string, std::string, at::Tensor, std::optional<Layout>>;

void check_dense(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_cpu() || tensor.device().type() == c10::DeviceType::PrivateUse1,
              "a checkpoint is written from and read to host memory, got a tensor on ", tensor.device());
  TORCH_CHECK(tensor.is_contiguous(), "expected a contiguous tensor, got strides ", tensor.strides());
  check_storage(tensor);
}

template <class From, class To>
void append(const From& from, To& to) {
  for (const auto value : from) {
    to.push_back(static_cast<uint64_t>(value));
  }
}

void write(const std::string& path, const std::string& writer, const std::vector<Saved>& tensors,
           const std::string& state) {
  std::vector<ffi::StoredTensor> stored;
  std::vector<size_t> addresses;
  for (const auto& [name, dtype, tensor, layout] : tensors) {
    check_dense(tensor);
    ffi::StoredTensor one{};
    one.name = name;
    one.dtype = dtype;
    append(tensor.sizes(), one.shape);
    one.bytes = tensor.nbytes();
    if (layout.has_value()) {
      one.has_layout = true;
      one.storage = std::get<0>(*layout);
      one.offset = std::get<1>(*layout);
      append(std::get<2>(*layout), one.strides);
    }
    stored.push_back(std::move(one));
    addresses.push_back(reinterpret_cast<size_t>(tensor.const_data_ptr()));
  }
  unlocked([&] {
    ffi::checkpoint_write(bytes_of(path), writer, {stored.data(), stored.size()},
                          {addresses.data(), addresses.size()}, state);
  });
}

class File {
 public:
  explicit File(const std::string& path)
      : file_(unlocked([&] { return ffi::checkpoint_open(bytes_of(path)); })), tensors_(file_->tensors()) {}

  const ffi::CheckpointFile& operator*() const { return *file_; }
  const rust::Vec<ffi::StoredTensor>& tensors() const { return tensors_; }
  const ffi::StoredTensor& tensor(size_t place) const {
    TORCH_CHECK_INDEX(place < tensors_.size(), "there is no tensor ", place, " among ", tensors_.size());
    return tensors_[place];
  }

 private:
  rust::Box<ffi::CheckpointFile> file_;
  rust::Vec<ffi::StoredTensor> tensors_;
};

py::list tensors(const File& file) {
  py::list described;
  for (const ffi::StoredTensor& one : file.tensors()) {
    py::object layout = py::none();
    if (one.has_layout) {
      layout = py::make_tuple(one.storage, one.offset, std::vector<uint64_t>(one.strides.begin(), one.strides.end()));
    }
    described.append(py::make_tuple(std::string(one.name), std::string(one.dtype),
                                    std::vector<uint64_t>(one.shape.begin(), one.shape.end()), one.bytes, layout,
                                    one.has_crc32 ? py::object(py::int_(one.crc32)) : py::none()));
  }
  return described;
}

std::vector<std::string> strings(const rust::Vec<rust::String>& list) {
  return {list.begin(), list.end()};
}

py::dict storages(const File& file) {
  py::dict sizes;
  for (const ffi::StoredStorage& storage : (*file).storages()) {
    sizes[py::int_(storage.number)] = storage.bytes;
  }
  return sizes;
}

void read(const File& file, const std::vector<std::pair<size_t, at::Tensor>>& targets, bool checked) {
  std::vector<size_t> places;
  std::vector<size_t> addresses;
  for (const auto& [place, tensor] : targets) {
    check_dense(tensor);
    const ffi::StoredTensor& stored = file.tensor(place);
    TORCH_CHECK(tensor.nbytes() == stored.bytes, "tensor '", std::string(stored.name), "' has ", stored.bytes,
                " bytes, and the memory for it ", tensor.nbytes());
    places.push_back(place);
    addresses.push_back(reinterpret_cast<size_t>(tensor.mutable_data_ptr()));
    if (!tensor.is_inference()) {
      // Autograd notices that what it saved was written over.
      tensor.unsafeGetTensorImpl()->bump_version();
    }
  }
  unlocked([&] {
    (*file).read({places.data(), places.size()}, {addresses.data(), addresses.size()}, checked);
  });
}

// A tensor's bytes, mapped from the file; they keep the file open.
at::Tensor mapped(const std::shared_ptr<File>& file, size_t place) {
  const auto bytes = static_cast<int64_t>(file->tensor(place).bytes);
  const size_t address = unlocked([&] { return (**file).mapped(place); });
  return at::from_blob(
      reinterpret_cast<void*>(address), {bytes}, [file](void*) {}, at::TensorOptions(at::kCPU).dtype(at::kByte));
}

}  // namespace

void bind_checkpoint(py::module_& module) {
  checkpoint_error = PyErr_NewExceptionWithDoc(
      "rustorch_device.checkpoint.CheckpointError",
      "A file is not a sound checkpoint, its bytes have changed, or its format is newer than this release.",
      PyExc_RuntimeError, nullptr);
  module.attr("CheckpointError") = py::handle(checkpoint_error);
  module.def("checkpoint_write", &write, py::arg("path"), py::arg("writer"), py::arg("tensors"), py::arg("state"),
             "Writes contiguous tensors, each with its name, type and layout, at once.");
  py::class_<File, std::shared_ptr<File>>(module, "CheckpointFile", "An open checkpoint.")
      .def(py::init<const std::string&>(), py::arg("path"))
      .def_property_readonly("version", [](const File& file) { return std::string((*file).version()); })
      .def_property_readonly("writer", [](const File& file) { return std::string((*file).writer()); })
      .def_property_readonly("state", [](const File& file) { return std::string((*file).state()); })
      .def_property_readonly("metadata", [](const File& file) { return strings((*file).metadata()); },
                             "Other programs' metadata: keys and values in turn.")
      .def_property_readonly("files", [](const File& file) { return strings((*file).files()); })
      .def("tensors", &tensors, "Name, type, shape, bytes, layout and CRC-32 of each tensor.")
      .def("storages", &storages, "Bytes of each storage that layouts name.")
      .def("read", &read, py::arg("targets"), py::arg("checked"),
           "Reads tensors, by their places, to contiguous tensors of as many bytes.")
      .def(
          "verify",
          [](const File& file, const std::vector<size_t>& places) {
            unlocked([&] { (*file).verify({places.data(), places.size()}); });
          },
          py::arg("places"), "Compares tensors with their checksums.")
      .def("mapped", &mapped, py::arg("place"), "A tensor's bytes as memory mapped from the file.");
}

}  // namespace rustorch
