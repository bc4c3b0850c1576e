"""What TorchCTS is told that the device has, which is what it then asks for."""

import functools
import sys

import torch

# The suite compiles by PyTorch's default compiler, which makes no code for other people's devices.
if "rustorch" in sys.argv:
    torch.compile = functools.partial(torch.compile, backend="rust_backend")

manifest = {
    "manifest_version": 1,
    "device_name": "rustorch",
    "backend_import": "rustorch_device",
    "supported_dtypes": dict.fromkeys(
        (
            torch.float32,
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.int64,
            torch.int32,
            torch.int16,
            torch.int8,
            torch.uint8,
            torch.bool,
            torch.complex64,
            torch.complex128,
        ),
        True,
    ),
    "device_count": 1,
    "ieee754_seed": 67,
    "max_samples": 3,
    "max_samples_ieee754": 2,
    "semantic_level": 8,
    # The device's memory is the host's: who fills it, as the suite would, fills the machine. `make limits` does so in
    # a process that may have little.
    "hardware": {
        "memory_model": "unified",
        "device_memory_gb": [4],
        "system_memory_gb": "auto",
        "oom_recoverable": False,
    },
    "resource_limits": {
        "max_device_memory_mb": 2048,
        "max_system_memory_mb": 4096,
        "max_tensor_size_mb": 512,
        "cleanup_threshold_pct": 80,
    },
    "capabilities": {
        "inference": True,
        "training": True,
        "serialization": True,
        "rng": True,
        "device_generator": True,
        "rng_distributions": True,
        "double_backward": True,
        "gradcheck": True,
        "gradient_checkpointing": True,
        "autocast": True,
        "fused_optimizer": True,
        "dataloader": True,
        "module_hooks": True,
        "channels_last": True,
        "named_tensor": True,
        "foreach": True,
        "compile": True,
        "pinned_memory": True,
        "streams": True,
        "events": True,
        "deterministic": True,
        "device_api": True,
        "ieee754": True,
        # There is no allocator that lays guards around tensors.
        "guard_alloc": False,
        # The device has dense tensors only: these are refused, each with an error that says so.
        "sparse": False,
        "nested": False,
        "native_quantization": False,
        "quantized_container_plumbing": False,
        "custom_quantized_decode": False,
        "fp8": False,
        "multi_device": False,
    },
    "skip_ops": [],
    "tolerance_overrides": {},
    "supported_container_formats": {},
    "custom_container_decoders": {},
    "custom_test_dirs": [],
}
