"""What a model, an optimizer and the generators of random numbers keep, by name, and its return."""

import random
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rustorch_device import _C, _device_module
from rustorch_device.checkpoint._tensors import SPREAD, CheckpointError, Tensors, is_spread, once, repeated, to_cpu

#: `torch.compile` and its likes put this in the names of what they wrap.
_WRAPPER = "_orig_mod."
#: Modules whose way of loading is to copy into their own tensors, name by name.
_PLAIN_LOADERS = (
    nn.Module._load_from_state_dict,
    nn.modules.batchnorm._NormBase._load_from_state_dict,
)

TensorsByName = dict[str, torch.Tensor]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, of a compiled or data-parallel one: a checkpoint is the same for each."""
    while True:
        parallel = isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel))
        inner = getattr(model, "module" if parallel else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def model_state(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's `state_dict`, with the names that it has uncompiled, and what its modules say of their
    own versions."""
    state = unwrapped(model).state_dict()
    versions = getattr(state, "_metadata", {})
    values = {name.replace(_WRAPPER, ""): value for name, value in state.items()}
    return values, {f"{name}.".replace(_WRAPPER, "")[:-1]: version for name, version in versions.items()}


class ModelLoad:
    """The loading of a model: checked when made, done by `write`.

    `names` says under which tensor of the file each of the model's is; `others` are values that are no
    tensors (`get_extra_state`); `versions` came with them.
    """

    def __init__(
        self,
        model: nn.Module,
        tensors: Tensors,
        names: dict[str, str],
        others: dict[str, Any],
        versions: dict[str, Any] | None,
        strict: bool,
    ) -> None:
        self.model = unwrapped(model)
        self.tensors, self.names, self.others, self.versions, self.strict = tensors, names, others, versions, strict
        self.own, _ = model_state(self.model)
        self.plain = _is_plain(self.model)
        present = {_memory(self.own[name]) for name in names if name in self.own}
        self.missing = [
            name
            for name, value in self.own.items()
            # Tied tensors may be in a file once, under one of their names.
            if name not in names and name not in others and _memory(value) not in present
        ]
        self.unexpected = [name for name in (*names, *others) if name not in self.own]
        self._targets: list[tuple[int, torch.Tensor]] = []
        self._values: TensorsByName | None = None
        self._check()
        self._prepare()

    def _check(self) -> None:
        faults = []
        for name, stored in self.names.items():
            own = self.own.get(name)
            if isinstance(own, torch.Tensor) and not _is_lazy(own):
                shape = self.tensors.shape(stored)
                if is_spread(own):
                    faults.append(f"{name} {SPREAD}")
                elif tuple(own.shape) != shape:
                    faults.append(f"{name} is of shape {list(shape)} in the file and {list(own.shape)} in the model")
                elif own.is_meta:
                    faults.append(f"{name} is a meta tensor in the model, without memory: give it some by to_empty()")
        # Where modules load in ways of their own, they know best what is missing.
        if self.strict and self.plain:
            missing = [name for name in self.missing if not name.endswith("num_batches_tracked")]
            if missing:
                faults.append(f"the file lacks {_listed(missing)}")
            if self.unexpected:
                faults.append(f"the model has no {_listed(self.unexpected)}")
        if faults:
            raise CheckpointError(f"the checkpoint does not fit the model: {'; '.join(faults)}")

    def _prepare(self) -> None:
        """Where the file's bytes can go straight into the model, checks them; else reads them."""
        straight = self.plain and not self.missing and not self.unexpected and not self.others
        if not straight or self.tensors.mapped:
            wanted = {stored: self._device(name) for name, stored in self.names.items()}
            self._values = {}
            for device in set(wanted.values()):
                self._values |= self.tensors.get([name for name, on in wanted.items() if on == device], device)
            for name, stored in self.names.items():
                if name in self.own and not self._is_placed(self.own[name], self._values[stored]):
                    self._check_writable(name, None)
            return
        # Tied tensors are one memory, which is read once: of several in the file, the last counts.
        targets: dict[int, tuple[int, torch.Tensor]] = {}
        rest = []
        for name, stored in self.names.items():
            own, found = self.own[name], self.tensors.stored[stored]
            host = own.device.type in ("cpu", "rustorch")
            if host and own.is_contiguous() and own.dtype == found.dtype == self.tensors.dtype(stored):
                targets[own.data_ptr()] = found.place, own
            else:
                rest.append(name)
        self._targets = list(targets.values())
        self.tensors.file.verify([place for place, _ in self._targets])
        self._rest = {name: self.tensors.get([self.names[name]], "cpu")[self.names[name]] for name in rest}
        for name in self.names:
            self._check_writable(name, self._rest.get(name))

    def _is_placed(self, own: Any, value: torch.Tensor) -> bool:
        """Whether the model's tensor becomes the mapped one, which needs no writing."""
        same = isinstance(own, torch.Tensor) and own.dtype == value.dtype and own.device == value.device
        return same and self.tensors.mapped and self.plain

    def _check_writable(self, name: str, value: torch.Tensor | None) -> None:
        """Refuses, before anything is written, a tensor that cannot be: elements that share memory hold one
        value, which `value` has to have."""
        own = self.own[name]
        if not isinstance(own, torch.Tensor) or _is_lazy(own):
            return
        if own.device.type in ("cpu", "rustorch"):
            _C.check_storage(own)
        if len(repeated(own)) == 0 or own.numel() == 0:
            return
        if value is None or not _same_bytes(once(value, repeated(own)).expand(value.shape), value):
            raise CheckpointError(
                f"the checkpoint does not fit the model: elements of {name} share memory in the model, expanded, "
                "and are to be different ones; give it memory of its own by clone()"
            )

    def _device(self, name: str) -> torch.device:
        own = self.own.get(name)
        return own.device if isinstance(own, torch.Tensor) else torch.device("cpu")

    @torch.no_grad()
    def write(self) -> None:
        if self._values is None:
            self.tensors.file.read(self._targets, False)
            for name, value in self._rest.items():
                repeats = repeated(self.own[name])
                once(self.own[name], repeats).copy_(once(value, repeats))
            return
        values: dict[str, Any] = {name: self._values[stored] for name, stored in self.names.items()}
        if self.tensors.mapped and self.plain:
            for name, own in _own_tensors(self.model):
                mapped = self._values.get(self.names.get(name, ""))
                if mapped is not None and mapped.dtype == own.dtype and mapped.device == own.device:
                    own.data = mapped
            # What is in its place already is not copied.
            placed = {name for name, own in _own_tensors(self.model) if own.data_ptr() == _address(values.get(name))}
            values = {name: value for name, value in values.items() if name not in placed}
        # In the model's own names; a compiled part has others than the file.
        current = {name.replace(_WRAPPER, ""): name for name in self.model.state_dict()}
        state = OrderedDict((current.get(name, name), value) for name, value in (values | self.others).items())
        if self.versions is not None:
            state._metadata = self.versions  # type: ignore[attr-defined]
        self.model.load_state_dict(state, strict=self.strict and not self.plain)


def _same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(*(tensor.contiguous().view(torch.uint8) for tensor in (a, b)))


def _address(value: Any) -> int | None:
    return value.data_ptr() if isinstance(value, torch.Tensor) else None


def _own_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    parameters, buffers = (each(remove_duplicate=False) for each in (model.named_parameters, model.named_buffers))
    for name, tensor in (*parameters, *buffers):
        yield name.replace(_WRAPPER, ""), tensor


def _is_plain(model: nn.Module) -> bool:
    """Whether the model's state is its parameters and buffers as they are, with no hook in between."""
    return all(
        type(module)._load_from_state_dict in _PLAIN_LOADERS
        and type(module).load_state_dict is nn.Module.load_state_dict
        and type(module).state_dict is nn.Module.state_dict
        and type(module)._save_to_state_dict is nn.Module._save_to_state_dict
        and type(module).set_extra_state is nn.Module.set_extra_state
        and not module._load_state_dict_pre_hooks
        and not module._load_state_dict_post_hooks
        and not module._state_dict_hooks
        and not any(map(_is_lazy, (*module._parameters.values(), *module._buffers.values())))
        for module in map(_behind_compilation, model.modules())
    )


def _is_lazy(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and torch.nn.parameter.is_lazy(value)


def _behind_compilation(module: nn.Module) -> nn.Module:
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


def _memory(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or _is_lazy(value) or value.numel() == 0:
        return id(value)
    return value.device, value.data_ptr(), value.shape, value.stride()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


# Optimizers.


def parameter_names(optimizer: torch.optim.Optimizer, model: nn.Module | None) -> list[list[str]]:
    """The name of each parameter of each group: the model's; where that has it not, the optimizer's, or its
    place."""
    known: dict[int, str] = {}
    if model is not None:
        for name, parameter in unwrapped(model).named_parameters(remove_duplicate=False):
            known.setdefault(id(parameter), name.replace(_WRAPPER, ""))
    names = []
    for number, group in enumerate(optimizer.param_groups):
        own = group.get("param_names") or [f"group{number}.{place}" for place in range(len(group["params"]))]
        names.append([known.get(id(parameter), name) for parameter, name in zip(group["params"], own, strict=True)])
    return names


def optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module | None) -> dict[str, Any]:
    """The optimizer's `state_dict` by the parameters' names."""
    names = parameter_names(optimizer, model)
    saved = optimizer.state_dict()
    by_place = dict(enumerate(name for group in names for name in group))
    state: dict[str, Any] = {}
    others: dict[Any, Any] = {}
    for key, value in saved["state"].items():
        (state if key in by_place else others)[by_place.get(key, key)] = value
    groups = [
        {"names": group_names, "options": {key: value for key, value in group.items() if key not in _NO_OPTIONS}}
        for group_names, group in zip(names, saved["param_groups"], strict=True)
    ]
    return {"class": type(optimizer).__name__, "groups": groups, "state": state, "others": others}


#: Entries of a parameter group that name its parameters.
_NO_OPTIONS = ("params", "param_names")


class OptimizerLoad:
    """The loading of an optimizer: checked when made, done by `write`."""

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module | None, saved: dict[str, Any]) -> None:
        self.optimizer = optimizer
        if type(optimizer).__name__ != saved["class"]:
            raise CheckpointError(f"the file holds the state of {saved['class']}, not of {type(optimizer).__name__}")
        mine = parameter_names(optimizer, model)
        theirs = [group["names"] for group in saved["groups"]]
        if [len(group) for group in mine] != [len(group) for group in theirs]:
            saved_sizes, own_sizes = ([len(group) for group in groups] for groups in (theirs, mine))
            raise CheckpointError(
                f"the file's parameter groups are of {saved_sizes} parameters, the optimizer's of {own_sizes}"
            )
        if not any(set(group) & set(names) for group in mine for names in theirs):
            # Without names on both sides, the order tells.
            mine = theirs
        for number, (own, group) in enumerate(zip(mine, theirs, strict=True)):
            if set(own) != set(group):
                lost = [name for name in own if name not in group]
                raise CheckpointError(f"parameter group {number} of the file lacks {_listed(lost)}")
        places = {name: place for place, name in enumerate(name for group in mine for name in group)}
        self.state: dict[Any, Any] = {places[name]: value for name, value in saved["state"].items()}
        groups = []
        for own, group, saved_group in zip(mine, optimizer.param_groups, saved["groups"], strict=True):
            kept = {"param_names": group["param_names"]} if "param_names" in group else {}
            groups.append({**saved_group["options"], **kept, "params": [places[name] for name in own]})
        self.saved = {"state": {**self.state, **saved["others"]}, "param_groups": groups}

    def write(self) -> None:
        self.optimizer.load_state_dict(self.saved)
        # `load_state_dict` casts state to the parameter's type: what was kept in another comes back.
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for place, saved in self.state.items():
            state = self.optimizer.state[parameters[place]]
            for key, value in saved.items() if isinstance(saved, dict) else ():
                loaded = state.get(key)
                if isinstance(value, torch.Tensor) and isinstance(loaded, torch.Tensor) and loaded.dtype != value.dtype:
                    state[key] = value.to(loaded.device)


def optimizer_devices(
    optimizer: torch.optim.Optimizer, model: nn.Module | None, saved: dict[str, Any]
) -> dict[str, torch.device]:
    """Where the state of each parameter of the file belongs: with the parameter."""
    theirs = [name for group in saved["groups"] for name in group["names"]]
    mine = [name for group in parameter_names(optimizer, model) for name in group]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    by_name = set(mine) == set(theirs)
    devices = dict.fromkeys(theirs, torch.device("cpu"))
    return devices | {
        name: parameter.device for name, parameter in zip(mine if by_name else theirs, parameters, strict=False)
    }


# Generators.


def generator_states() -> dict[str, Any]:
    """The states of the generators of the CPU, rustorch, Python and, if it is loaded, NumPy."""
    states = {"cpu": torch.get_rng_state(), "rustorch": _device_module.get_rng_state(), "python": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state(legacy=False)
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Puts back what `generator_states` gave."""
    try:
        torch.set_rng_state(to_cpu(states["cpu"]))
        _device_module.set_rng_state(to_cpu(states["rustorch"]))
        random.setstate(states["python"])
        if "numpy" in states and "numpy" in sys.modules:
            sys.modules["numpy"].random.set_state(states["numpy"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"the states of the generators are unsound: {error}") from error
