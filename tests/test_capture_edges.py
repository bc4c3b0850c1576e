"""What crosses the edge of a compiled graph, and in which state its nodes run: every result is eager's on the CPU."""

import pytest
import torch
from compiled import DEVICES, check

pytestmark = [pytest.mark.usefixtures("fresh_dynamo"), pytest.mark.allow_fallback]


def complex_numbers(*sizes):
    return torch.randn(*sizes, dtype=torch.complex64)


def matrices(*sizes):
    return [complex_numbers(*size).requires_grad_() for size in sizes]


def conjugate_results(x):
    return (x * 2).conj(), (x + 1).conj().imag, torch.view_as_real(x).neg()


def round_trip(x):
    return torch.fft.irfft(torch.fft.rfft(x).conj() * torch.fft.rfft(x))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (conjugate_results, [complex_numbers(3)]),
        (lambda x: x + 1, [complex_numbers(3).conj()]),
        (lambda x: x * 2, [complex_numbers(3).conj().imag]),
        (lambda x: x.conj() * x, [complex_numbers(2, 2)]),
        (round_trip, [torch.tensor([1.0, 2.0, 3.0, 4.0])]),
        (lambda z: (z * z.conj()).real.sum(), [complex_numbers(3).requires_grad_()]),
        (lambda a, b: (a @ b).abs().sum(), [*matrices((2, 3), (3, 2))]),
        (lambda a, b: (a @ b.mH).real.sum(), [*matrices((2, 3), (2, 3))]),
        (lambda x: x.square().sgn().sum(), [torch.randn(3, requires_grad=True)]),
        (lambda x: x.floor().sum() + x.sign().sum(), [torch.randn(3, requires_grad=True)]),
        (lambda x: torch.view_as_complex(x).conj().real.sum(), [torch.randn(3, 2, requires_grad=True)]),
    ],
)  # fmt: skip
def test_what_is_lazy_or_not_there_crosses_a_graphs_edge(function, arguments, device):
    for argument in arguments:
        assert argument.is_leaf
    check(function, arguments, arguments, [argument.detach().clone() for argument in arguments], device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_results_that_share_memory_are_views_of_each_other(device, dynamic):
    def parts(x):
        y = x * 2
        return y, y[0], y.t()

    def broken(x):
        y = x * 2
        row = y[0]
        torch._dynamo.graph_break()
        y.add_(1)
        return row * 2, y.squeeze(0)

    y, row, turned = torch.compile(parts, backend="rust_backend", dynamic=dynamic)(torch.ones(2, 3, device=device))
    assert row._base is y and turned._base is y and row._version == y._version
    w = torch.ones(3, device=device, requires_grad=True)
    loss = (row * w).sum()
    y.add_(5)
    assert row._version == y._version == turned._version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    x = torch.arange(6.0).view(2, 3).requires_grad_()
    check(parts, (x,), (x,), device=device, dynamic=dynamic)
    check(broken, (torch.ones(2, 3),), (torch.zeros(2, 3),), device=device, dynamic=dynamic)


def test_an_argument_of_another_kind_is_told_apart():
    compiled = torch.compile(lambda x: x + 0, backend="rust_backend")
    z = torch.tensor([1 + 2j, 3 - 1j])
    for argument in (z, z.conj(), z, z.conj().resolve_conj()):
        torch.testing.assert_close(compiled(argument), argument + 0)


def test_arguments_of_other_devices_and_layouts():
    meta = torch.compile(lambda x, y: (x + 1, y + 1), backend="rust_backend")
    for _ in range(2):
        one, other = meta(torch.empty(2, device="meta"), torch.ones(2))
        assert one.device.type == "meta" and one.shape == (2,)
        assert other.tolist() == [2, 2]
    quantized = torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.5, 0, torch.qint8)
    dequantize = torch.compile(lambda q: q.dequantize() + 1, backend="rust_backend")
    assert [dequantize(quantized).tolist() for _ in range(2)] == [[2, 3]] * 2
    linear = torch.ao.nn.quantized.dynamic.Linear(4, 2)
    x = torch.randn(3, 4)
    model = torch.compile(lambda x: linear(x * 1) + 1, backend="rust_backend")
    for _ in range(2):
        torch.testing.assert_close(model(x), linear(x) + 1)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_opaque_tensors_run_as_traced():
    compiled = torch.compile(lambda x: (x * 2).to_mkldnn().to_dense() + 1, backend="rust_backend")
    for _ in range(2):
        assert compiled(torch.ones(2, 2)).tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize("device", DEVICES)
def test_data_is_set(device):
    def function(p, q):
        r = q * 2
        p.data = r
        return p + 1

    for _ in range(2):
        p, q = torch.zeros(2).to(device), torch.ones(2).to(device)
        result = torch.compile(function, backend="rust_backend")(p, q)
        assert p.tolist() == [2, 2] and result.tolist() == [3, 3]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("first", [False, True])
def test_a_backward_pass_keeps_the_dtypes_it_was_traced_with(first, device):
    def gradients(function, device, inside):
        x, w = (torch.linspace(0.1, 1.1, 6).view(size).to(device).requires_grad_() for size in ((2, 3), (3, 2)))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=True):
            loss = function(x, w).float().sum()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=inside):
            loss.backward()
        return [x.grad.cpu(), w.grad.cpu()]

    def function(x, w):
        return torch.relu(x @ w) * x.sum() @ w.t()

    compiled = torch.compile(function, backend="rust_backend")
    expected = gradients(function, "cpu", False)
    for inside in (first, not first, first):
        torch.testing.assert_close(gradients(compiled, device, inside), expected, rtol=2e-2, atol=2e-2)
    plain = torch.compile(lambda x: (x @ x).exp().sum(), backend="rust_backend")
    for inside in (first, not first):
        x = torch.full((2, 2), 1 / 3).to(device).requires_grad_()
        loss = plain(x)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=inside):
            loss.backward()
        y = torch.full((2, 2), 1 / 3, requires_grad=True)
        (y @ y).exp().sum().backward()
        torch.testing.assert_close(x.grad.cpu(), y.grad)  # In f32: no number was rounded to bf16.


STATES = {
    "default dtype": lambda on: torch.set_default_dtype(torch.float64 if on else torch.float32),
    "threads": lambda on: torch.set_num_threads(1 if on else 2),
    "grad mode": lambda on: torch.set_grad_enabled(not on),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_the_state_of_a_first_backward_call_is_not_baked_in(name, first, device):
    threads = torch.get_num_threads()

    def function(x, index):
        return (torch.sigmoid(x)[index] * torch.arange(4, device=x.device) / 3).sum() + torch.empty(0).sum().to(
            x.device
        )

    index = torch.tensor([0, 2, 0, 1]).to(device)
    compiled = torch.compile(function, backend="rust_backend")
    try:
        for on in (first, not first, first):
            x, y = (torch.linspace(-1, 1, 4).to(where).requires_grad_() for where in (device, "cpu"))
            losses = compiled(x, index), function(y, index.cpu())
            STATES[name](on)
            for loss in losses:
                loss.backward()
            STATES[name](False)
            torch.testing.assert_close(x.grad.cpu(), y.grad)
    finally:
        STATES[name](False)
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device", DEVICES)
def test_fresh_memory_is_filled_where_deterministic_algorithms_say_so(device):
    compiled = torch.compile(lambda x: torch.empty_like(x) * 1, backend="rust_backend")
    x = torch.ones(64).to(device)
    try:
        for on in (False, True, False, True):
            torch.use_deterministic_algorithms(on)
            result = compiled(x)
            assert result.shape == (64,)
            assert not on or result.isnan().all()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush denormal numbers")
@pytest.mark.parametrize("first", [False, True])
def test_denormals_are_flushed_where_and_when_the_caller_flushes_them(first):
    x = torch.full((1 << 20,), 1e-39)
    arms = [(lambda x: x * 1.0 + 0.0, "rustorch")]
    arms += [(torch.compile(lambda x: x * 1.0 + 0.0, backend="rust_backend"), device) for device in DEVICES]
    try:
        for on in (first, not first, first):
            for function, device in arms:
                y = x.to(device)
                torch.set_flush_denormal(on)
                result = function(y)
                torch.set_flush_denormal(False)
                # On all threads alike: of PyTorch's own, those that help do not flush.
                assert torch.equal(result.cpu(), torch.zeros_like(x) if on else x)
    finally:
        torch.set_flush_denormal(False)


def branches(x):
    return torch.cond(
        x.sum() > 0, lambda x: x + torch.ones(3, device=x.device), lambda x: torch.zeros_like(x) - x, (x,)
    )


def mapped(x):
    from torch._higher_order_ops.map import map as each

    return each(
        lambda row, x: row + torch.arange(2.0, device=x.device) + x[0, 0],
        x.view(3, 1).expand(3, 2).clone(),
        x.view(3, 1),
    )


def scanned(x):
    from torch._higher_order_ops.scan import scan

    carry, rows = scan(
        lambda carry, row: (carry + row, carry * torch.full((), 2.0, device=row.device)),
        torch.zeros((), device=x.device),
        x,
    )
    return carry, rows


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("function", [branches, mapped, scanned])
def test_bodies_of_higher_order_ops_make_tensors(function, device):
    check(function, (torch.tensor([1.0, 2.0, 3.0]),), (torch.tensor([-1.0, -2.0, -3.0]),), device=device)


def test_flex_attention():
    # PyTorch itself refuses it on other devices than those it knows.
    from torch.nn.attention.flex_attention import flex_attention

    def function(q, k, v):
        bias = torch.arange(16.0, device=q.device)
        return flex_attention(q + 0, k, v, score_mod=lambda score, b, h, i, j: score + bias[j] * 0.1)

    q, k, v = torch.randn(3, 1, 2, 16, 8).unbind()
    check(function, (q, k, v), (k, q, v), device="cpu")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 2, x, 0.5).t().reshape(-1),
        lambda x: torch.where(x > 2, x, 0.5).t().view(-1) + 1,
        lambda x: torch.where(x > 2, x, 0.5).as_strided((6,), (1,)) * 2,
        lambda x: torch.roll(x, 1, 0).as_strided((6,), (1,)) * 2,
        lambda x: torch.stack([x, x]).as_strided((6,), (1,)) * 2,
        lambda x: x.cumsum(0).as_strided((6,), (1,)) * 2,
    ],
)
def test_strides_inside_and_at_the_edge_are_those_traced(function, device):
    x = torch.arange(1.0, 7).view(2, 3).t()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        check(function, (x,), (x + 1,), device=device)
    expected = function(x)
    actual = torch.compile(function, backend="rust_backend")(x.to(device))
    assert actual.stride() == expected.stride()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_wrong_stride_is_mended_by_a_copy(device, dynamic, monkeypatch):
    """Whatever op it is of: here a product that comes transposed."""
    function = torch.compile(lambda x: (x @ x.t()).as_strided((4,), (1,)) + 1, backend="rust_backend", dynamic=dynamic)
    from rustorch_device import graph

    def transposed(target, args, kwargs):
        result = call(target, args, kwargs)
        return result.t().contiguous().t() if target is torch.ops.aten.mm.default else result

    call = graph._call_on_device
    monkeypatch.setattr(graph, "_call_on_device", transposed)
    x = torch.tensor([[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]])
    for _ in range(2):
        torch.testing.assert_close(function(x.to(device)).cpu(), (x @ x.t()).as_strided((4,), (1,)) + 1)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "lite"])
def test_modes_of_torch_compile_are_accepted(mode):
    assert torch.compile(lambda x: x + 1, backend="rust_backend", mode=mode)(torch.ones(1)).item() == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "fast"}, "no mode 'fast'; torch.compile has: default, reduce-overhead"),
        ({"options": {"keep_weights": "no"}}, "keep_weights is True or False, got 'no'; it knows: cache, keep_weights"),
        ({"options": {"cache": "x"}}, "cache is True or False, got 'x'"),
        ({"options": {"cache": 1}}, "cache is True or False, got 1"),
        ({"options": {"fast": True}}, "no option fast; it knows: cache, keep_weights"),
        ({"options": {"cache": True, "keep_weights": True}}, "not both"),
    ],
)
def test_other_modes_and_options_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        torch.compile(lambda x: x + 1, backend="rust_backend", **settings)(torch.ones(1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_view_of_an_argument_that_lies_apart_and_was_written(device, dynamic):
    """Its place in memory is counted once: a chunk of what was scattered into lies where the argument's does."""

    def chunks(x):
        first, second = torch.chunk(x, 2, 0)
        x[1:].add_(x.sum())
        return first, second

    def last(x):
        return chunks(x)[1]

    def unwritten(x):
        return torch.chunk(x, 2, 0)

    def apart() -> torch.Tensor:
        return torch.arange(12.0, device=device).view(3, 4)[..., 1:]

    for function in (chunks, last, unwritten):
        expected, given, argument = function(apart()), apart(), apart()
        for _ in range(2):
            given.copy_(argument)
            actual = torch.compile(function, backend="rust_backend", dynamic=dynamic)(given)
            torch.testing.assert_close(actual, expected, rtol=0, atol=0)
        for view in actual if isinstance(actual, tuple) else (actual,):
            assert view.untyped_storage()._cdata == given.untyped_storage()._cdata
        given.zero_()
        assert not any(view.any() for view in (actual if isinstance(actual, tuple) else (actual,)))


@pytest.mark.parametrize("device", DEVICES)
def test_what_results_are_views_of_has_all_of_their_elements(device):
    """A graph that writes to one of another's results is given their base alone."""

    def broken(x):
        y = -x
        nothing, rest = y.split([0, 3], 0)
        turned = y.permute(0, 1)
        torch._dynamo.graph_break()
        turned.add_(x)
        return nothing, turned, rest + 1

    def apart(x):
        y = -x
        first, second = y[:, :2], y[:, 2:]
        torch._dynamo.graph_break()
        second.mul_(2)
        return first + 1, second, first

    for function in (broken, apart):
        x = torch.arange(12.0).view(3, 4)
        check(function, (x,), (x.clone(),), device=device)
    halves = torch.compile(lambda x: (x * 2).split(2, 1), backend="rust_backend")
    first, second = halves(torch.ones(3, 4, device=device))
    assert first._base is second._base and first._base.numel() == 12
    assert first._version == second._version
    first.zero_()
    assert first._version == second._version == 1 and second.sum() == 12
