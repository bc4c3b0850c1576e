"""What may be captured and what runs as it was traced: each result is eager's on the CPU, in every call."""

import copy
import itertools

import numpy
import pytest
import torch
import torch.nn.functional as F
from compiled import DEVICES, check
from torch import nn

import rustorch_device
from rustorch_device import _C

pytestmark = [pytest.mark.usefixtures("fresh_dynamo"), pytest.mark.allow_fallback]


MASKS = [torch.tensor(mask) for mask in ([True, False, True], [False, False, False], [True, True, True])]


def put_mean(x, mask):
    x = x.clone()
    x[mask] = x.mean()
    return x


def put_counted(x, mask):
    return torch.index_put(x, (mask,), torch.arange(1.0, 1 + x.shape[0], device=x.device)[: x.shape[0]][mask])


def put_rows(x, mask):
    table = torch.stack([x, x + 1, x * 2], 1).clone()
    table[mask] = torch.tensor([7.0, 8.0, 9.0], device=x.device)
    table[:, 0][mask] = -1
    return table


def add_where_masked(x, mask):
    return x.index_put((mask,), torch.ones((), device=x.device, dtype=x.dtype), accumulate=True)


def scatter_by_mask(x, mask):
    return torch.zeros_like(x).masked_scatter(mask, x * 3)


def fill_by_tensor(x, mask):
    return x.masked_fill(mask, x.sum())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize(
    "function", [put_mean, put_counted, put_rows, add_where_masked, scatter_by_mask, fill_by_tensor]
)
def test_masks(function, dtype, device):
    if function in (put_mean, put_counted, put_rows) and not dtype.is_floating_point:
        pytest.skip("it writes floats, which integers refuse on the CPU as well")
    if function in (put_counted, put_rows) and dtype != torch.float32:
        pytest.skip("it writes float32")
    x = torch.tensor([0.0, 1.0, 2.0]).to(dtype)
    check(function, *((x, mask) for mask in MASKS), device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "function", [put_mean, put_counted, put_rows, add_where_masked, scatter_by_mask, fill_by_tensor]
)
def test_gradients_through_masks(function, device):
    x = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    check(function, *((x, mask) for mask in MASKS), device=device)


def test_a_mask_may_read_what_it_writes():
    def function(x):
        x = x.clone()
        x[x > 1] = x[0]
        flags = x > 0.5
        flags[flags] = False
        return x, flags

    for device in DEVICES:
        check(function, (torch.tensor([0.0, 1.0, 2.0]),), (torch.tensor([3.0, 0.7, 2.0]),), device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: x[m] * 2,
        lambda x, m: torch.nonzero(m) + 1,
        lambda x, m: torch.masked_select(x, m).sum() + 1,
        lambda x, m: torch.where(m)[0] * 2,
        lambda x, m: torch.unique(x * m) + 1,
        lambda x, m: (x[m] + 1).sum() * x[m].shape[0],
        lambda x, m: torch.bincount(m.long(), minlength=1) + 1,
        lambda x, m: torch.repeat_interleave(x, m.long() + 1) * 2,
    ],
)
def test_shapes_that_values_decide(function, device):
    x = torch.tensor([0.0, 1.0, 2.0])
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True, capture_scalar_outputs=True):
        check(function, *((x, mask) for mask in (*MASKS, MASKS[0])), device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_projector_under_masked_scatter_learns(device):
    class Model(nn.Module):
        """A vision-language model's heart: image features take the places of some tokens."""

        def __init__(self):
            super().__init__()
            self.tokens, self.projector, self.head = nn.Embedding(10, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, ids, images):
            x = self.tokens(ids)
            x = x.masked_scatter((ids == 9).unsqueeze(-1).expand_as(x), self.projector(images))
            return self.head(x).square().mean()

    model = Model()
    ids, images = torch.tensor([[1, 9, 2, 9]]), torch.randn(2, 3)
    model(ids, images).backward()
    mine = copy.deepcopy(model).to(device)
    mine.zero_grad()
    torch.compile(mine, backend="rust_backend")(ids.to(device), images.to(device)).backward()
    for theirs, parameter in zip(model.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad.cpu(), theirs.grad)


@pytest.mark.parametrize("device", DEVICES)
def test_values_are_checked_when_the_program_runs(device):
    def loss(x, target):
        return F.binary_cross_entropy(x * 1, target, reduction="none")

    good, bad, target = torch.tensor([0.2, 1.0, 0.0]), torch.tensor([0.2, 2.0, 0.1]), torch.tensor([1.0, 0.0, 1.0])
    nothing = torch.tensor([0.2, float("nan"), 0.1])
    check(loss, (good, target), (bad, target), (nothing, target), (good, target), device=device)
    check(loss, (bad, target), (good, target), device=device)
    table = torch.arange(6.0).view(3, 2)
    for device_index, wrong in itertools.product([torch.tensor([0, 2])], [torch.tensor([0, 3]), torch.tensor([-4, 0])]):
        for function in (lambda x, i: F.embedding(i, x) * 2, lambda x, i: x[i] + 1, lambda x, i: x.index_select(0, i)):
            expected = function(table, device_index)
            compiled = torch.compile(function, backend="rust_backend")
            torch.testing.assert_close(compiled(table.to(device), device_index.to(device)).cpu(), expected)
            with pytest.raises((IndexError, RuntimeError)):
                compiled(table.to(device), wrong.to(device))
            torch.testing.assert_close(compiled(table.to(device), device_index.to(device)).cpu(), expected)


def test_a_check_is_native_and_stays_where_its_result_is_dropped():
    report = rustorch_device.explain(lambda x, t: F.binary_cross_entropy(x, t), torch.rand(4), torch.rand(4))
    assert not report.not_native
    assert "expect_probabilities" in report.text()


@pytest.fixture
def library():
    with torch.library._scoped_library("rustorch_tests", "FRAGMENT") as fragment:
        yield fragment


def custom_op(name, body, fake=torch.empty_like, **settings):
    op = torch.library.custom_op(f"rustorch_tests::{name}", body, mutates_args=(), **settings)
    op.register_fake(fake)
    return op


@pytest.mark.parametrize("device", DEVICES)
def test_a_custom_op_runs_each_time_on_the_traced_device(device, library):
    calls, seen = 0, set()

    def body(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        seen.add((x.device.type, torch.is_autocast_enabled("cpu")))
        return x * calls

    op = custom_op(f"counted_{device}", body)
    compiled = torch.compile(lambda x: op(x + 1) + 1, backend="rust_backend")
    x = torch.ones(3).to(device)
    assert [compiled(x)[0].item() for _ in range(3)] == [3.0, 5.0, 7.0]
    assert seen == {(device, False)}
    report = rustorch_device.explain(lambda x: op(x + 1) + 1, x)
    assert [node.target for node in report.not_native] == [f"rustorch_tests.counted_{device}.default"]


READERS = {
    "numpy": lambda x: torch.from_numpy(x.detach().cpu().numpy() + 1.0),
    "dlpack": lambda x: torch.from_numpy(numpy.from_dlpack(x.detach()) + 1.0),
    "alias": lambda x: rustorch_device.alias(rustorch_device.alias(x) + 1.0),
    "item": lambda x: torch.full_like(x, x[0].item()),
    "list": lambda x: torch.tensor([value + 1.0 for value in x.tolist()]).to(x.device),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", READERS)
def test_a_custom_op_that_touches_memory_itself(name, device, library):
    reader = READERS[name]

    def body(x: torch.Tensor) -> torch.Tensor:
        return reader(x).to(x.device)

    op = custom_op(f"reads_{name}_{device}", body)
    op.register_autograd(lambda ctx, grad: op(grad) * 2)

    def function(x):
        return op(x * 2) * 3

    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    check(function, (x,), (x + 1,), (torch.tensor([5.0, 6.0], requires_grad=True),), device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_kernel_that_another_library_registers_for_the_device(device, library):
    def kernel(x):
        host = rustorch_device.alias(x) if x.device.type == "rustorch" else x
        return torch.from_numpy(host.numpy() + 1).to(x.device)

    library.define(f"plus_{device}(Tensor x) -> Tensor")
    for key in ("CPU", "PrivateUse1"):
        library.impl(f"plus_{device}", kernel, key)
    library.impl(f"plus_{device}", torch.empty_like, "Meta")
    op = getattr(torch.ops.rustorch_tests, f"plus_{device}")
    check(lambda x: op(x * 2) * 3, (torch.tensor([1.0, 2.0]),), (torch.tensor([3.0, 4.0]),), device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_custom_op_may_write_its_argument(device, library):
    @torch.library.custom_op(f"rustorch_tests::doubles_{device}", mutates_args={"x"})
    def doubles(x: torch.Tensor) -> None:
        x.mul_(2)

    def function(x):
        y = x + 1
        doubles(y)
        doubles(x)
        return y + x

    check(function, (torch.tensor([1.0, 2.0]),), (torch.tensor([3.0, 4.0]),), device=device)


def test_an_override_from_outside_is_not_captured():
    calls = 0

    def mine(x):
        nonlocal calls
        calls += 1
        return x * 0 + calls

    x = torch.ones(2, device="rustorch")
    with torch.library._scoped_library("aten", "IMPL") as fragment:
        fragment.impl("sinc", mine, "PrivateUse1", allow_override=True)
        assert not _C.capturable("aten::sinc", "")
        compiled = torch.compile(lambda x: torch.sinc(x + 0) + 0, backend="rust_backend")
        assert [compiled(x)[0].item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert _C.capturable("aten::sinc", "") and _C.capturable("aten::softplus", "")
    assert not _C.capturable("aten::no_such_op", "")


def test_a_stand_in_has_no_data():
    x = torch.arange(4.0, device="rustorch")
    _C.capture_begin()
    try:
        stand_in = _C.capture_input(x, 0)
        made = torch.empty(4, device="rustorch")
        torch.add(stand_in, 1, out=made)
        made.add_(made[:]).t()
        for tensor in (stand_in, made, stand_in[1:], stand_in.view(2, 2), stand_in.clone()):
            for read in (
                lambda tensor: tensor.data_ptr(),
                lambda tensor: tensor.untyped_storage().data_ptr(),
                lambda tensor: tensor.numpy(),
                lambda tensor: tensor.item() if tensor.numel() == 1 else tensor[0].item(),
                lambda tensor: tensor.tolist(),
                lambda tensor: numpy.from_dlpack(tensor),
                lambda tensor: tensor.cpu(),
            ):
                with pytest.raises((RuntimeError, TypeError, BufferError)):
                    read(tensor)
    finally:
        _C.capture_abandon()
    assert x.tolist() == [0, 1, 2, 3]


class Broken(Exception):
    pass


def breaking(monkeypatch, name, at):
    """Makes the call number `at` of a function of the native half fail."""
    real, calls = getattr(_C, name), itertools.count()

    def call(*args, **kwargs):
        if next(calls) == at:
            raise Broken(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(_C, name, call)


def assert_unharmed(x):
    assert (x + 1)[0].item() == 2
    assert "tensor" in repr(x)
    assert torch.compile(lambda x: x * 3 + 1, backend="rust_backend")(x)[0].item() == 4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    "name",
    ["capture_begin", "capture_input", "capture_mark", "capture_origin", "capture_accepts", "capture_finish",
     "capturable", "capture_rollback"],
)  # fmt: skip
def test_a_failed_capture_leaves_no_trace(name, at, device, monkeypatch):
    def function(x):
        y = torch.linalg.eigvalsh(torch.outer(x * 2, x * 2))  # Runs between two programs.
        return (y + 1).exp() @ torch.ones(2, 2, device=x.device)

    x = torch.ones(2).to(device)
    with monkeypatch.context() as patch:
        breaking(patch, name, at)
        try:
            result = torch.compile(function, backend="rust_backend")(x)
        except Broken:
            result = None
    if result is not None:  # Where a node that is not captured runs as traced, or there was no such call.
        torch.testing.assert_close(result.cpu(), function(x.cpu()))
    assert_unharmed(x)


def test_a_pass_or_a_first_run_that_fails_leaves_no_trace(monkeypatch):
    x = torch.ones(2, device="rustorch")
    real = _C.capture_finish
    with monkeypatch.context() as patch:
        # A result of another capture: Rust refuses it when the recording has ended.
        patch.setattr(_C, "capture_finish", lambda results, on_cpu, *rest: real([*results, x], [*on_cpu, False], *rest))
        with pytest.raises(RuntimeError, match="no block of the capture"):
            torch.compile(lambda x: x.exp() + 1, backend="rust_backend")(x)
    assert_unharmed(x)
    wrong = torch.tensor([5], device="rustorch")
    gather = torch.compile(lambda x, i: x.exp()[i] + 1, backend="rust_backend")
    with pytest.raises(IndexError):
        gather(x, wrong)
    assert_unharmed(x)
    assert gather(x, wrong - 5)[0].item() == pytest.approx(1 + numpy.e)
