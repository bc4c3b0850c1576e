"""accelerate and transformers' Trainer on the device: `import rustorch_device.integrations.accelerate`.

To be imported before the first `Accelerator`, `PartialState` or `TrainingArguments` is made. From then on:

- they choose rustorch, unless ACCELERATE_TORCH_DEVICE says something else, and ranks of torchrun train together;
- `dynamo_backend="rust_backend"` is a backend that accelerate knows;
- `mixed_precision="fp16"` scales losses on the device (bf16 needs nothing);
- `save_state`, `load_state` and Trainer's checkpoints hold the device's random state, so that dropout goes on as it
  would have;
- `load_checkpoint_and_dispatch` and `device_map="auto"` give models to the device.

Raises at its import:
    ImportError: accelerate is not installed.
    RuntimeError: accelerate has chosen another device already.
"""

import os
from collections.abc import Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import accelerate
import torch
from accelerate import big_modeling
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, DynamoBackend, modeling

import rustorch_device  # noqa: F401  loads the device
from rustorch_device import _device_module
from rustorch_device._after_import import after_import

BACKEND = "RUST_BACKEND"
SWITCH = "ACCELERATE_TORCH_DEVICE"
RANDOM_STATE = "rustorch_random_state_{rank}.pt"


def _is_ours(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and str(device).partition(":")[0] == "rustorch"


def _choose_device() -> None:
    if not _is_ours(os.environ.setdefault(SWITCH, "rustorch")):
        return
    chosen = PartialState._shared_state.get("device")
    if chosen is not None and not _is_ours(chosen):
        raise RuntimeError(
            f"accelerate has chosen {chosen} already: import rustorch_device.integrations.accelerate before the first "
            "Accelerator, PartialState or TrainingArguments is made."
        )


def _join_processes() -> None:
    """Under torchrun accelerate starts a process group for devices that it knows, and would have each rank of ours
    train alone. Ours are served by gloo, as those of the CPU."""
    of_accelerate = PartialState._prepare_backend

    @wraps(of_accelerate)
    def prepare(self: Any, cpu: bool = False, *args: Any, **kwargs: Any) -> Any:
        backend, kind = of_accelerate(self, cpu, *args, **kwargs)
        if kind == DistributedType.NO and not cpu and _is_ours(self.device) and "LOCAL_RANK" in os.environ:
            return "gloo", DistributedType.MULTI_CPU
        return backend, kind

    PartialState._prepare_backend = prepare


def _know_backend() -> None:
    """Adds the backend to accelerate's enumeration, which is closed to new ones but for this."""
    if BACKEND in DynamoBackend.__members__:
        return
    member = str.__new__(DynamoBackend, BACKEND)
    member._name_, member._value_ = BACKEND, BACKEND
    DynamoBackend._member_map_[BACKEND] = member
    DynamoBackend._value2member_map_[BACKEND] = member
    DynamoBackend._member_names_.append(BACKEND)


# The random state.


def _save_random_state(folder: str | Path, rank: int) -> None:
    torch.save(_device_module.get_rng_state(), Path(folder) / RANDOM_STATE.format(rank=rank))


def _load_random_state(folder: str | Path, rank: int) -> None:
    """Sets it, where the folder has one: checkpoints of other devices have not."""
    path = Path(folder) / RANDOM_STATE.format(rank=rank)
    if path.is_file():
        _device_module.set_rng_state(torch.load(path, weights_only=True))


def _keep_random_state(accelerator: Any) -> None:
    """Through accelerate's own hooks."""

    def save(_models: Any, _weights: Any, folder: str) -> None:
        _save_random_state(folder, accelerator.process_index)

    def load(_models: Any, folder: str) -> None:
        _load_random_state(folder, accelerator.process_index)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _keep_random_state_of_trainer(trainer: ModuleType) -> None:
    save_of_trainer, load_of_trainer = trainer.Trainer._save_rng_state, trainer.Trainer._load_rng_state

    @wraps(save_of_trainer)
    def save(self: Any, output_dir: str) -> None:
        save_of_trainer(self, output_dir)
        _save_random_state(output_dir, self.args.process_index)

    @wraps(load_of_trainer)
    def load(self: Any, checkpoint: str | None) -> None:
        load_of_trainer(self, checkpoint)
        if checkpoint is not None:
            _load_random_state(checkpoint, self.args.process_index)

    trainer.Trainer._save_rng_state, trainer.Trainer._load_rng_state = save, load


# Accelerator.


def _prepare_accelerators() -> None:
    of_accelerate = accelerate.Accelerator.__init__

    @wraps(of_accelerate)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature(of_accelerate).bind(self, *args, **kwargs)
        shared = AcceleratorState._shared_state
        wished = given.arguments.get("mixed_precision") or shared.get("_mixed_precision")
        wished = str(wished or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")).lower()
        device = PartialState._shared_state.get("device") or os.environ.get(SWITCH)
        if wished != "fp16" or not _is_ours(device) or given.arguments.get("cpu"):
            of_accelerate(self, *args, **kwargs)
        else:
            # A closed list of devices refuses fp16: it is added to an Accelerator of full precision.
            if "_mixed_precision" in shared:
                shared["_mixed_precision"] = "no"
            given.arguments["mixed_precision"] = "no"
            try:
                of_accelerate(*given.args, **given.kwargs)
            finally:
                if "_mixed_precision" in shared:
                    shared["_mixed_precision"] = "fp16"
            self.native_amp = True
            settings = {} if self.scaler_handler is None else self.scaler_handler.to_kwargs()
            self.scaler = torch.amp.GradScaler("rustorch", **settings)
        if self.device.type == "rustorch":
            _keep_random_state(self)

    accelerate.Accelerator.__init__ = __init__


# Large models.


def _load_to_device(of_accelerate: Any) -> Any:
    """`load_state_dict` by way of the CPU: safetensors refuses the device's name. Its callers move the weights."""

    @wraps(of_accelerate)
    def load_state_dict(checkpoint_file: Any, device_map: Mapping[str, Any] | None = None) -> Any:
        if device_map is not None:
            device_map = {name: "cpu" if _is_ours(device) else device for name, device in device_map.items()}
        return of_accelerate(checkpoint_file, device_map=device_map)

    return load_state_dict


def _give_to_device(of_library: Any) -> Any:
    """`infer_auto_device_map`: what would stay in the host's memory is the device's, whose memory that is. What a
    `max_memory` of the caller's sends to the CPU stays there."""
    parameters = signature(of_library)

    @wraps(of_library)
    def infer_auto_device_map(*args: Any, **kwargs: Any) -> Any:
        found = of_library(*args, **kwargs)
        memory = parameters.bind(*args, **kwargs).arguments.get("max_memory") or {}
        if not set(memory) <= {"cpu", "disk"} or not _is_ours(os.environ.get(SWITCH)):
            return found
        return type(found)((name, "rustorch" if device == "cpu" else device) for name, device in found.items())

    return infer_auto_device_map


def _dispatch_models() -> None:
    modeling.load_state_dict = _load_to_device(modeling.load_state_dict)
    infer = modeling.infer_auto_device_map
    for module in (modeling, accelerate.utils, accelerate, big_modeling):
        if getattr(module, "infer_auto_device_map", None) is infer:
            module.infer_auto_device_map = _give_to_device(infer)


def _dispatch_transformers(integration: ModuleType) -> None:
    integration.infer_auto_device_map = _give_to_device(integration.infer_auto_device_map)  # type: ignore[attr-defined]


def _allow_bf16(arguments: ModuleType) -> None:
    """TrainingArguments asks a list of devices whether one knows bf16."""
    of_transformers = arguments.is_torch_bf16_gpu_available

    @wraps(of_transformers)
    def is_torch_bf16_gpu_available() -> bool:
        return _is_ours(os.environ.get(SWITCH)) or of_transformers()

    arguments.is_torch_bf16_gpu_available = is_torch_bf16_gpu_available  # type: ignore[attr-defined]


_choose_device()
_join_processes()
_know_backend()
_prepare_accelerators()
_dispatch_models()
after_import("transformers.training_args", _allow_bf16)
after_import("transformers.trainer", _keep_random_state_of_trainer)
after_import("transformers.integrations.accelerate", _dispatch_transformers)
