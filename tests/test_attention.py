"""Attention against PyTorch's composite of products and a softmax, and against itself.

`math` is the reference: F.scaled_dot_product_attention on the CPU in f64, with its math backend.
"""

import pytest
import torch
import torch.nn.functional as F
from compared import FLOATS, check, check_error, numbers, on_device
from native import compute_outside_rust
from torch.nn.attention import SDPBackend, sdpa_kernel

TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-10,
    torch.bfloat16: 2e-2,
    torch.float16: 3e-3,
}
#: (batch, heads, queries, width), heads and length of the keys, width of the values.
SHAPES = [
    ((2, 3, 5, 8), 3, 7, 8),
    ((1, 1, 1, 1), 1, 1, 1),
    ((2, 2, 64, 16), 2, 64, 16),
    ((1, 2, 131, 33), 2, 67, 20),
    ((1, 4, 65, 32), 2, 129, 32),
    ((2, 6, 3, 5), 1, 200, 7),
    ((1, 2, 1, 64), 2, 97, 64),
]


def inputs(shape, kept, keys, value_width, dtype):
    batch, _, _, width = shape
    return (
        numbers(*shape, dtype=dtype, seed=1),
        numbers(batch, kept, keys, width, dtype=dtype, seed=2),
        numbers(batch, kept, keys, value_width, dtype=dtype, seed=3),
    )


def math(*tensors, **options):
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(*tensors, **options)


def compare(query, key, value, mask=None, **options):
    """Values and gradients of every input against the CPU in f64."""
    dtype = query.dtype
    given = [tensor for tensor in (query, key, value, mask) if tensor is not None]
    wide = [t.double() if t.is_floating_point() else t for t in given]
    wide = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in wide]
    near = [t.detach().requires_grad_(t.is_floating_point()) for t in on_device(given)]
    options["enable_gqa"] = query.size(1) != key.size(1)
    expected, actual = (
        call(*tensors[:3], attn_mask=tensors[3] if mask is not None else None, **options)
        for call, tensors in ((math, wide), (F.scaled_dot_product_attention, near))
    )
    assert actual.dtype == dtype
    seed = numbers(*expected.shape, dtype=torch.float64, seed=9)
    expected.backward(seed)
    actual.backward(seed.to(dtype).to("rustorch"))
    tolerance = TOLERANCE[dtype]
    for mine, theirs in ((actual, expected), *((a.grad, b.grad) for a, b in zip(near, wide, strict=True))):
        if theirs is not None:
            torch.testing.assert_close(mine.detach().cpu().double(), theirs.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SHAPES)
def test_values_and_gradients(case, dtype):
    compare(*inputs(*case, dtype))


@pytest.mark.parametrize("case", SHAPES)
def test_causal(case):
    compare(*inputs(*case, torch.float32), is_causal=True)


@pytest.mark.parametrize("case", SHAPES)
def test_masks(case):
    (batch, heads, queries, _), _, keys, _ = case
    tensors = inputs(*case, torch.float32)
    for size in [(batch, heads, queries, keys), (1, 1, queries, keys), (queries, keys), (batch, 1, 1, keys)]:
        compare(*tensors, numbers(*size))
        allowed = numbers(*size, dtype=torch.bool)
        allowed[..., 0] = True
        compare(*tensors, allowed)


def test_scale_and_strides():
    query, key, value = inputs((2, 3, 70, 16), 3, 70, 16, torch.float32)
    compare(query, key, value, scale=0.5)
    for layout in ((0, 2, 1, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        back = sorted(range(4), key=layout.__getitem__)
        compare(*(t.permute(layout).contiguous().permute(back) for t in (query, key, value)))
    compare(query[..., ::2], key[..., 1::2], value[:, :, :, 3:4])
    check(
        lambda q, k, v: F.scaled_dot_product_attention(q, k.expand(2, 3, 70, 16), v.expand(2, 3, 70, 16)),
        *(query, key[:1], value[:, :1]),
        grad=True,
        rtol=1e-4,
        atol=1e-4,
    )


def test_extreme_scores():
    query, key, value = inputs((1, 2, 9, 4), 2, 80, 4, torch.float32)
    # A softmax of scores in the hundreds is a choice of one key.
    check(F.scaled_dot_product_attention, query * 100, key, value, rtol=1e-4, atol=1e-4)
    check(F.scaled_dot_product_attention, query, key, value + 1e4)
    key[0, 0, 3] = torch.nan
    out = F.scaled_dot_product_attention(*on_device((query, key, value))).cpu()
    assert out[0, 0].isnan().all() and out[0, 1].isfinite().all()


def test_a_query_that_sees_nothing_gets_zeros():
    query, key, value = inputs((1, 1, 3, 4), 1, 5, 4, torch.float32)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    query.requires_grad_()
    near = on_device(query)
    out = F.scaled_dot_product_attention(near, *on_device((key, value)), attn_mask=on_device(mask))
    out.sum().backward()
    assert (out[0, 0, 1] == 0).all() and (near.grad[0, 0, 1] == 0).all()
    assert out.isfinite().all() and near.grad.isfinite().all()


@pytest.mark.parametrize("far", ["lowest", -1e9, -1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_masked_at_every_key_sees_all_of_them_alike(far, dtype):
    """By the definition, in the same dtype: the CPU's fused kernel makes these gradients too large by the keys."""
    if far == -1e3 and dtype == torch.float32:
        far = -300.0  # Where f32 still tells the scores apart.
    low = torch.finfo(dtype).min if far == "lowest" else far
    query, key, value = inputs((2, 2, 70, 16), 2, 131, 16, dtype)
    mask = torch.zeros(2, 2, 70, 131, dtype=dtype)
    mask[:, :, 1] = mask[0, 0, 66] = low
    mask[:, :, 2, :100] = low
    seed = numbers(2, 2, 70, 16, dtype=dtype, seed=9)

    def defined(query, key, value, mask):
        return ((query @ key.transpose(-1, -2)) / 16**0.5 + mask).softmax(-1) @ value

    theirs = [tensor.clone().requires_grad_() for tensor in (query, key, value, mask)]
    mine = [tensor.requires_grad_() for tensor in on_device([query, key, value, mask])]
    defined(*theirs).backward(seed)
    F.scaled_dot_product_attention(*mine[:3], attn_mask=mine[3]).backward(on_device(seed))
    near = 1e-10 if dtype == torch.float64 and far != -1e9 else 1e-5 if far != -300.0 else 1e-4
    for actual, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(actual.grad.cpu(), expected.grad, rtol=near, atol=near)


def test_gradients_of_masked_queries_by_finite_differences():
    given = tuple(t.requires_grad_() for t in on_device(inputs((1, 2, 5, 3), 2, 6, 4, torch.float64)))
    mask = numbers(2, 5, 6, dtype=torch.float64)
    mask[:, 1] -= 1000
    mask[0, 3] -= 300
    assert torch.autograd.gradcheck(
        lambda *t: F.scaled_dot_product_attention(*t[:3], attn_mask=t[3]), (*given, on_device(mask).requires_grad_())
    )


def test_empty_and_unbatched():
    check(F.scaled_dot_product_attention, *inputs((0, 2, 3, 4), 2, 5, 4, torch.float32))
    check(F.scaled_dot_product_attention, *inputs((1, 2, 0, 4), 2, 5, 4, torch.float32))
    query, key, value = inputs((1, 2, 70, 8), 2, 66, 8, torch.float32)
    check(F.scaled_dot_product_attention, query[0], key[0], value[0], grad=True, rtol=1e-4, atol=1e-5)
    check(F.scaled_dot_product_attention, query[0, 0], key[0, 0], value[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"enable_gqa": True}])
def test_gradients_by_finite_differences(options):
    query, key, value = inputs((1, 2, 5, 3), 1 if options.get("enable_gqa") else 2, 6, 4, torch.float64)
    given = tuple(t.requires_grad_() for t in on_device((query, key, value)))
    assert torch.autograd.gradcheck(lambda *t: F.scaled_dot_product_attention(*t, **options), given)
    mask = on_device(numbers(2, 5, 6, dtype=torch.float64)).requires_grad_()
    if not options:
        assert torch.autograd.gradcheck(
            lambda *t: F.scaled_dot_product_attention(*t[:3], attn_mask=t[3]), (*given, mask)
        )


def test_dropout_is_unbiased_repeatable_and_has_its_own_gradient():
    query, key, value = (t.double() for t in inputs((2, 2, 70, 8), 2, 66, 8, torch.float32))
    near = [t.requires_grad_() for t in on_device([query, key, value])]

    def draw(seed):
        torch.manual_seed(seed)
        return F.scaled_dot_product_attention(*near, dropout_p=0.25)

    first = draw(3)
    assert torch.equal(first.cpu(), draw(3).cpu())
    assert not torch.equal(first.cpu(), draw(4).cpu())
    mean = sum(draw(seed).detach().cpu() for seed in range(200)) / 200
    torch.testing.assert_close(mean, math(query, key, value), rtol=0, atol=0.12)
    small = tuple(t[:1, :1, :5, :3].detach().requires_grad_() for t in near)

    def small_draw(*tensors):
        torch.manual_seed(5)
        return F.scaled_dot_product_attention(*tensors, dropout_p=0.4)

    assert torch.autograd.gradcheck(small_draw, small)


def test_results_do_not_depend_on_threads():
    tensors = on_device(inputs((2, 4, 100, 16), 4, 100, 16, torch.float32))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(F.scaled_dot_product_attention(*tensors, is_causal=True).cpu())
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("masked", [False, True])
def test_the_op_of_cpu_graphs(masked):
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    query, key, value = inputs((2, 3, 9, 8), 3, 11, 8, torch.float32)
    mask = numbers(2, 1, 9, 11) if masked else None
    check(
        lambda *t: op(*t, attn_mask=None if mask is None else mask.to(t[0].device)),
        query,
        key,
        value,
        grad=True,
        rtol=1e-4,
        atol=1e-5,
    )


def test_errors():
    query, key, value = inputs((1, 2, 3, 4), 2, 5, 4, torch.float32)
    check_error(F.scaled_dot_product_attention, query, key[..., :3], value)
    check_error(lambda *t: F.scaled_dot_product_attention(*t, attn_mask=t[0], is_causal=True), query, key, value)
    check_error(lambda *t: F.scaled_dot_product_attention(*t, dropout_p=1.5), query, key, value)


@pytest.mark.parametrize("compiled", [False, True])
def test_attention_is_native_eager_and_compiled(compiled):
    layer = numbers(2, 17, 48).requires_grad_()

    def attend(x):
        query, key, value = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in x.chunk(3, -1))
        return F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)

    wide = layer.detach().double().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        attend(wide).square().sum().backward()
    function = torch.compile(attend, backend="rust_backend") if compiled else attend
    near = layer if compiled else on_device(layer)

    def step():
        near.grad = None
        function(near).square().sum().backward()

    step()
    # Autograd's own: the seed, and square's gradient where the loss is on the CPU.
    outside = set(compute_outside_rust(step))
    assert compiled or outside == set()
    assert not any("attention" in name or "softmax" in name or "mm" in name for name in outside)
    torch.testing.assert_close(near.grad.cpu().double(), wide.grad, rtol=1e-4, atol=1e-5)
