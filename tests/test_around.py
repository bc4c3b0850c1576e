"""What of PyTorch stands around a device: checkpoints of activations, autocast, loaders, timers, streams."""

import contextlib

import pytest
import torch
from compared import DEVICE
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset, random_split

BACKEND = "rust_backend"


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 3)).to(DEVICE)


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, of)[0]


@contextlib.contextmanager
def default_device():
    torch.set_default_device(DEVICE)
    try:
        yield
    finally:
        torch.set_default_device(None)


# torch.utils.checkpoint.


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_module_draws_the_same_mask_again(reentrant):
    model, x = dropping(), torch.randn(5, 4, device=DEVICE, requires_grad=True)
    torch.manual_seed(3)
    checkpoint(model, x, use_reentrant=reentrant).sum().backward()
    torch.manual_seed(3)
    torch.testing.assert_close(x.grad, gradient(model(x).sum(), x))


def test_a_checkpoint_without_arguments_draws_the_same_mask_again():
    weight = torch.randn(64, device=DEVICE, requires_grad=True)

    def loss() -> torch.Tensor:
        return nn.functional.dropout(weight * 2, 0.5).sum()

    torch.manual_seed(3)
    checkpointed = checkpoint(loss, use_reentrant=False)
    torch.rand(3, device=DEVICE)  # Something else is drawn before backward.
    actual = gradient(checkpointed, weight)
    torch.manual_seed(3)
    torch.testing.assert_close(actual, gradient(loss(), weight))


def test_a_checkpoint_under_autocast_is_compiled(fresh_dynamo):
    model, x = mlp().to(DEVICE), torch.randn(5, 4, device=DEVICE, requires_grad=True)

    def loss(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(DEVICE):
            return checkpoint(model, x, use_reentrant=False).float().sum()

    expected = gradient(loss(x), x)
    compiled = torch.compile(loss, backend=BACKEND, fullgraph=True)
    torch.testing.assert_close(gradient(compiled(x), x), expected)


# Autocast and scalers.


def test_autocast_takes_the_device_with_its_index():
    x = torch.ones(2, 2, device=DEVICE)
    with torch.autocast("rustorch:0"):
        assert (x @ x).dtype == torch.bfloat16


def test_custom_autograd_functions_name_the_device():
    class Twice(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type=DEVICE)
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.amp.custom_bwd(device_type=DEVICE)
        def backward(ctx, grad):
            return grad * 2

    x = torch.ones(2, device=DEVICE, requires_grad=True)
    Twice.apply(x).sum().backward()
    assert x.grad.tolist() == [2, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the scaler scales where CUDA is")
def test_a_scaler_of_an_absent_cuda_is_refused_for_the_device():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = torch.amp.GradScaler()
    assert scaler.scale(torch.ones(1)).item() == 1  # A program of the CPU's goes on as ever.
    with pytest.raises(RuntimeError, match=r"say torch\.amp\.GradScaler\('rustorch'\)"):
        scaler.scale(torch.ones(1, device=DEVICE))
    for turned_off in (torch.amp.GradScaler(enabled=False), torch.amp.GradScaler("cuda", 1.0, 2.0, 0.5, 7, False)):
        assert turned_off.scale(torch.ones(1, device=DEVICE)).item() == 1
    assert torch.amp.GradScaler(DEVICE).scale(torch.ones(1, device=DEVICE)).item() == 2**16
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        torch.amp.GradScaler(surprise=1)


# torch.accelerator, the default device, loaders.


@pytest.mark.filterwarnings("ignore:Use `:FutureWarning")
def test_every_function_of_torch_accelerator():
    given = {"set_stream": torch.accelerator.current_stream, "set_device_index": lambda: 0, "set_device_idx": lambda: 0}
    called = {}
    for name in set(torch.accelerator.__all__) - {"Graph"}:
        arguments = [given[name]()] if name in given else [0] if name == "device_index" else []
        called[name] = getattr(torch.accelerator, name)(*arguments)
    assert called["current_accelerator"] == torch.device(DEVICE)
    assert called["device_count"] == 1 and called["is_available"] is True
    assert called["current_device_index"] == called["current_device_idx"] == 0
    assert torch.float16 in called["get_device_capability"]["supported_dtypes"]
    assert called["get_memory_info"][1] >= called["get_memory_info"][0] > 0
    assert called["max_memory_allocated"] >= called["memory_allocated"] >= 0
    with called["device_index"]:
        assert torch.accelerator.current_device_index() == 0


def test_the_default_device(fresh_dynamo):
    with default_device():
        model = mlp()
        model(torch.randn(2, 4)).sum().backward()
        torch.optim.AdamW(model.parameters()).step()
        assert {parameter.grad.device.type for parameter in model.parameters()} == {DEVICE}
        assert torch.get_default_device() == torch.device("rustorch:0")
        made = torch.compile(lambda x: x + torch.ones(3), backend=BACKEND, fullgraph=True)(torch.zeros(3))
        assert made.device.type == DEVICE
    assert torch.zeros(1).device.type == "cpu"


def test_shuffling_with_a_default_device_says_which_generator_it_needs():
    data = TensorDataset(torch.arange(8))
    with default_device():
        for draw in (lambda: list(DataLoader(data, shuffle=True)), lambda: random_split(data, [4, 4])):
            with pytest.raises(RuntimeError, match=r"found 'cpu': give generator=torch\.Generator\('rustorch'\)"):
                draw()
        generator = torch.Generator(DEVICE)
        drawn = [batch for (batch,) in DataLoader(data, batch_size=4, shuffle=True, generator=generator)]
        assert sorted(torch.cat(drawn).tolist()) == list(range(8))
        assert sum(len(part) for part in random_split(data, [3, 5], generator=generator)) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_pins_what_goes_to_the_device(workers):
    data = TensorDataset(torch.arange(32.0))
    batches = [batch for (batch,) in DataLoader(data, batch_size=8, pin_memory=True, num_workers=workers)]
    assert all(batch.is_pinned() for batch in batches)
    assert sum(batch.to(DEVICE, non_blocking=True).sum().item() for batch in batches) == 496


def test_saved_tensors_move_to_the_cpu_and_back():
    model, x = mlp().to(DEVICE), torch.randn(5, 4, device=DEVICE, requires_grad=True)
    for arguments in ({}, {"pin_memory": True}, {"pin_memory": True, "device_type": DEVICE}):
        with torch.autograd.graph.save_on_cpu(**arguments):
            loss = model(x).sum()
        torch.testing.assert_close(gradient(loss, x), gradient(model(x).sum(), x))


def test_a_fork_of_the_random_state_is_the_devices():
    before = torch.rustorch.get_rng_state()
    with torch.random.fork_rng():
        torch.rand(3, device=DEVICE)
    assert torch.equal(torch.rustorch.get_rng_state(), before)


# Measuring.


def test_timers_time():
    from torch.utils import benchmark

    timer = benchmark.Timer("x @ x", globals={"x": torch.randn(8, 8, device=DEVICE)})
    assert timer.timeit(10).median > 0
    assert timer.blocked_autorange(min_run_time=0.01).median > 0


def test_flops_are_the_cpus(fresh_dynamo):
    from torch.utils.flop_counter import FlopCounterMode

    def flops(device: str) -> tuple[int, int]:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 5)).to(device)
        query = torch.randn(1, 2, 8, 16, device=device, requires_grad=True)
        with FlopCounterMode(display=False) as of_model:
            model(torch.randn(2, 1, 8, 8, device=device)).sum().backward()
        with FlopCounterMode(display=False) as of_attention:
            nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
        return of_model.get_total_flops(), of_attention.get_total_flops()

    assert flops(DEVICE) == flops("cpu")
    assert min(flops(DEVICE)) > 0


def test_a_profilers_schedule_hands_over_each_cycle(tmp_path):
    from torch.profiler import profile, record_function, schedule, tensorboard_trace_handler

    cycles, write = [], tensorboard_trace_handler(str(tmp_path))

    def ready(of: profile) -> None:
        cycles.append({event.key for event in of.key_averages()})
        write(of)

    x = torch.randn(32, 32, device=DEVICE)
    plan = schedule(wait=1, warmup=1, active=2, repeat=2)
    with profile(schedule=plan, on_trace_ready=ready, profile_memory=True, record_shapes=True, acc_events=True) as ran:
        for _ in range(9):
            with record_function("my step"):
                x = (x @ x).tanh()
            ran.step()
    assert len(cycles) == 2 and all({"my step", "aten::tanh"} <= cycle for cycle in cycles)
    assert len(list(tmp_path.iterdir())) == 2
    assert "aten::tanh" in ran.key_averages().table(sort_by="self_device_time_total")


# What Dynamo knows of the device.


def test_dynamo_knows_the_device():
    from torch._dynamo.device_interface import get_interface_for_device

    known = get_interface_for_device(DEVICE)
    assert not known.is_gpu() and known.exposes_streams() and known.is_available() and known.is_bf16_supported()
    assert known.get_multi_processor_count() == torch.get_num_threads()
    assert known.Worker.get_device_properties().simd_level == known.get_compute_capability()
    with known.device(0):
        assert known.current_device() == 0 and known.get_raw_stream(0) == torch.rustorch.current_stream().stream_id


def test_a_device_loaded_after_dynamo_is_known_too(python):
    done = python(
        "import torch, torch._dynamo, rustorch_device\n"
        "from torch._dynamo.device_interface import get_interface_for_device\n"
        "print(get_interface_for_device('rustorch').current_device())",
        RUSTORCH_AUTOLOAD="0",
    )
    assert done.stdout == "0\n", done.stderr


def streams(x: torch.Tensor) -> torch.Tensor:
    side = torch.rustorch.Stream()
    with torch.rustorch.stream(side):
        y = x * 2
        event = torch.rustorch.Event()
        event.record(side)
    event.wait(torch.rustorch.current_stream())
    torch.rustorch.current_stream().wait_stream(side)
    return y + 1


def generic_streams(x: torch.Tensor) -> torch.Tensor:
    side = torch.Stream(DEVICE)
    with side:
        y = x * 2
    event = torch.Event(DEVICE)
    event.record(side)
    torch.accelerator.current_stream().wait_event(event)
    torch.accelerator.synchronize()
    return y + 1


def questions(x: torch.Tensor) -> torch.Tensor:
    torch.rustorch.set_device(0)
    torch.rustorch.synchronize()
    if torch.rustorch.is_available() and torch.rustorch.is_bf16_supported() and x.is_rustorch:
        x = x * 2
    with torch.rustorch.device(DEVICE):
        x = x + torch.rustorch.device_count() + torch.rustorch.current_device()
    cores = torch.rustorch.get_device_properties().multi_processor_count
    return (x * cores / cores).to(torch.accelerator.current_accelerator())


@pytest.mark.parametrize("function", [streams, generic_streams, questions])
def test_code_for_the_device_is_one_graph(function, fresh_dynamo):
    x = torch.ones(3, device=DEVICE)
    assert function(x).tolist() == [3, 3, 3]
    assert torch.compile(function, backend=BACKEND, fullgraph=True)(x).tolist() == [3, 3, 3]


def test_another_index_is_refused_all_the_same():
    with pytest.raises(RuntimeError, match="got index 1"):
        torch.rustorch.set_device(1)


# NumPy and what is built on it.


def test_numpy_is_told_both_ways_to_an_array():
    import numpy as np

    x = torch.ones(2, device=DEVICE)
    for ask in (np.asarray, np.sin, lambda x: np.array([x, x]), lambda x: np.asarray(x.clone().requires_grad_())):
        with pytest.raises(TypeError, match=r"Tensor\.cpu\(\).*rustorch_device\.alias\(tensor\.detach\(\)\)"):
            ask(x)
    with pytest.raises(TypeError, match=r"Tensor\.cpu\(\)"):
        x.numpy()
    assert np.asarray(torch.ones(2), dtype=np.float64).tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(torch.ones(2, requires_grad=True))


def test_libraries_on_numpy_are_told_too():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from sklearn.linear_model import LinearRegression

    x = torch.ones(3, 1, device=DEVICE)
    for ask in (lambda: pyplot.plot(x), lambda: LinearRegression().fit(x, x)):
        with pytest.raises(TypeError, match=r"rustorch_device\.alias"):
            ask()
