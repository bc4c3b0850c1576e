#include "device/storage.h"

#include <ATen/native/Resize.h>

#include "device/allocator.h"
#include "device/device.h"

namespace rustorch {
namespace {

// The context of an aliasing DataPtr is the original StorageImpl, with a reference held.
void release_original(void* context) {
  c10::intrusive_ptr<c10::StorageImpl>::reclaim(static_cast<c10::StorageImpl*>(context));
}

// A storage that moved: where to, and its former memory, which aliases may still hold.
struct Moved {
  c10::intrusive_ptr<c10::StorageImpl> host;
  c10::DataPtr before;
};

void release_moved(void* context) {
  delete static_cast<Moved*>(context);
}

// The storage of which this is an alias, or none.
c10::StorageImpl* original_of(const c10::DataPtr& data) {
  if (data.get_deleter() == &release_original) {
    return static_cast<c10::StorageImpl*>(data.get_context());
  }
  return data.get_deleter() == &release_moved ? static_cast<Moved*>(data.get_context())->host.get() : nullptr;
}

c10::DispatchKeySet keys_on(c10::Device device, const at::Tensor& like) {
  using c10::DispatchKey;
  c10::DispatchKeySet keys = device.is_cpu() ? c10::DispatchKeySet(DispatchKey::CPU) : kKeys;
  for (const auto bit : {DispatchKey::Conjugate, DispatchKey::Negative, DispatchKey::ZeroTensor}) {
    if (like.key_set().has(bit)) {
      keys = keys.add(bit);
    }
  }
  return keys;
}

}  // namespace

c10::Storage alias_storage(const c10::Storage& storage, c10::Device device) {
  c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
  const c10::DataPtr& data = impl->mutable_data_ptr();
  c10::StorageImpl* known = original_of(data);
  if (known != nullptr && known->device() == device) {
    return c10::Storage(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(known));
  }
  auto original = c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(impl);
  void* address = data.get();
  c10::DataPtr shared(address, original.release(), &release_original, device);
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), impl->nbytes(),
                                                            std::move(shared), nullptr, /*resizable=*/false));
}

c10::Storage resizable_alias(const c10::Storage& storage) {
  c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
  auto original = c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(impl);
  void* address = impl->mutable_data();
  c10::DataPtr shared(address, original.release(), &release_original, c10::Device(c10::kCPU));
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), impl->nbytes(),
                                                            std::move(shared), mirror_allocator(),
                                                            impl->resizable()));
}

at::Tensor retarget(const at::Tensor& like, c10::Storage storage) {
  const auto keys = keys_on(storage.device(), like);
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  return tensor;
}

void check_storage(const at::Tensor& tensor) {
  at::native::checkInBoundsForStorage(tensor.sizes(), tensor.strides(), tensor.storage_offset(), tensor.dtype(),
                                      tensor.storage());
}

void move_storage(const at::Tensor& tensor, const at::Tensor& host) {
  c10::StorageImpl* impl = tensor.storage().unsafeGetStorageImpl();
  TORCH_CHECK(impl->device().type() == kRustorch && host.is_cpu() && host.storage().nbytes() == impl->nbytes(),
              "move_storage: expected as many bytes on the cpu as on rustorch");
  auto* moved = new Moved{c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(host.storage().unsafeGetStorageImpl()), {}};
  moved->before = impl->set_data_ptr({moved->host->mutable_data(), moved, &release_moved, device()});
  impl->set_resizable(false);
}

at::Tensor alias(const at::Tensor& tensor, bool lasting) {
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.has_storage(), "alias: expected a dense tensor, got layout ",
              tensor.layout());
  TORCH_CHECK(tensor.is_cpu() || tensor.device().type() == kRustorch, "alias: expected a cpu or rustorch tensor, got ",
              tensor.device());
  TORCH_CHECK(!tensor.is_quantized(), "alias: quantized tensors are not supported");
  check_storage(tensor);
  if (lasting) {
    tensor.storage().unsafeGetStorageImpl()->set_resizable(false);
  }
  const c10::Device other = tensor.is_cpu() ? device() : c10::Device(c10::kCPU);
  return retarget(tensor, alias_storage(tensor.storage(), other));
}

}  // namespace rustorch
