"""`torch.distributed.checkpoint` of a model that is sharded over ranks on the device."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


def _made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to("rustorch")
    if dist.is_initialized():
        mesh = init_device_mesh("rustorch", (dist.get_world_size(),))
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Every rank has the same batch, so that the number of ranks makes no difference."""
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).to("rustorch")
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


def _values(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _values(value) for key, value in state.items()}
    if isinstance(state, torch.Tensor):
        whole = state.full_tensor() if isinstance(state, DTensor) else state
        # A copy: the CPU's tensors would be the very ones that the next step changes.
        return whole.detach().cpu().clone()
    return state


def saved(folder: str, asynchronously: bool = False) -> dict[str, Any]:
    """Trains two steps and saves; gives the state, whole."""
    model, optimizer = _made()
    for seed in range(2):
        _step(model, optimizer, seed)
    state = _state(model, optimizer)
    values = _values(state)
    if asynchronously:
        # A group of its own: the thread that saves talks to the other ranks while they train.
        group = dist.new_group() if dist.is_initialized() else None
        saving = dcp.async_save(state, checkpoint_id=folder, process_group=group)
        # What is saved is the state at the call, whatever is trained meanwhile.
        _step(model, optimizer, 2)
        saving.result()
    else:
        dcp.save(state, checkpoint_id=folder)
    return values


def loaded(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loads into a model of other values; gives the state, whole, and that after another step."""
    model, optimizer = _made()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    state = _state(model, optimizer)
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    before = _values(_state(model, optimizer))
    _step(model, optimizer, 2)
    return before, _values(_state(model, optimizer))


def saved_and_loaded(folder: str) -> tuple[Any, ...]:
    """All of it in one group: what `saved`, `loaded` and `refused` give."""
    return saved(f"{folder}/checkpoint", True), *loaded(f"{folder}/checkpoint"), refused(f"{folder}/x.safetensors")


def refused(path: str) -> list[str]:
    """What `rustorch_device.save` and `load` say of a model whose parameters are spread over the ranks."""
    import rustorch_device

    model, _ = _made()
    texts = []
    calls = [
        lambda: rustorch_device.save(path, model=model),
        lambda: rustorch_device.save(path, model=nn.Linear(2, 2), extra=next(model.parameters())),
        lambda: rustorch_device.save_tensors(path, dict(model.named_parameters())),
    ]
    for call in calls:
        try:
            call()
        except TypeError as error:
            texts.append(str(error))
    whole = {name: parameter.full_tensor() for name, parameter in model.named_parameters()}
    if dist.get_rank() == 0:
        plain = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        plain.load_state_dict(whole)
        rustorch_device.save(path, model=plain)
    dist.barrier()
    try:
        rustorch_device.load(path, model=model)
    except rustorch_device.checkpoint.CheckpointError as error:
        texts.append(str(error))
    found = rustorch_device.load_tensors(path)
    assert all(torch.equal(found[name].cpu(), value.cpu()) for name, value in whole.items())
    return texts
