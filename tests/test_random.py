"""Random numbers: moments, quantiles, seeds, and independence of threads and layout."""

import math

import pytest
import torch
import torch.nn.functional as F
from compared import DEVICE, check, check_error, numbers, on_device

COUNT = 1_000_000


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(11)


def fill(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(COUNT, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("draw", "distribution"),
    [
        (lambda x: x.uniform_(-1, 3), torch.distributions.Uniform(-1.0, 3.0)),
        (lambda x: x.normal_(2, 3), torch.distributions.Normal(2.0, 3.0)),
        (lambda x: x.exponential_(2), torch.distributions.Exponential(2.0)),
        (lambda x: x.log_normal_(0.5, 0.25), torch.distributions.LogNormal(0.5, 0.25)),
        (lambda x: x.cauchy_(1, 2), torch.distributions.Cauchy(1.0, 2.0)),
    ],
)
def test_quantiles(draw, distribution, dtype):
    values = draw(fill(dtype)).cpu().double().sort().values
    for quantile in (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999):
        # The share below the quantile's value, within five deviations.
        share = torch.searchsorted(values, distribution.icdf(torch.tensor(quantile)).double()).item() / COUNT
        assert abs(share - quantile) < 5 * math.sqrt(quantile * (1 - quantile) / COUNT) + 1e-6


def test_moments():
    values = torch.randn(COUNT, device=DEVICE).cpu().double()
    assert abs(values.mean()) < 5e-3 and abs(values.var() - 1) < 1e-2
    assert abs((values**3).mean()) < 2e-2 and abs((values**4).mean() - 3) < 5e-2
    values = torch.rand(COUNT, device=DEVICE).cpu()
    assert values.min() >= 0 and values.max() < 1
    pairs = values.view(-1, 2).T.corrcoef()[0, 1]
    assert abs(pairs) < 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves(dtype):
    values = fill(dtype).uniform_()
    assert values.cpu().max() < 1
    assert abs(values.cpu().float().mean() - 0.5) < 5e-3
    assert abs(fill(dtype).normal_().cpu().float().std() - 1) < 1e-2


def test_discrete():
    bernoulli = fill().bernoulli_(0.3).cpu()
    assert set(bernoulli.unique().tolist()) == {0.0, 1.0} and abs(bernoulli.mean() - 0.3) < 5e-3
    p = torch.tensor([0.0, 0.25, 1.0], device=DEVICE)[:, None].expand(3, 100_000)
    shares = torch.bernoulli(p).cpu().mean(1)
    assert shares[0] == 0 and abs(shares[1] - 0.25) < 1e-2 and shares[2] == 1
    dice = torch.randint(1, 7, (COUNT,), device=DEVICE).cpu()
    assert (dice.bincount()[1:] / COUNT - 1 / 6).abs().max() < 5e-3
    assert fill(torch.uint8).random_().cpu().unique().numel() == 256
    assert set(fill(torch.bool).random_().cpu().unique().tolist()) == {False, True}
    wide = fill(torch.int64).random_(-(1 << 50), 1 << 50).cpu()
    assert abs((wide < 0).double().mean() - 0.5) < 5e-3 and wide.abs().max() > 1 << 49
    geometric = fill(torch.int64).geometric_(0.25).cpu()
    assert geometric.min() == 1 and abs(geometric.double().mean() - 4) < 5e-2


def test_tensors_of_parameters():
    mean = torch.tensor([-3.0, 5.0], device=DEVICE)[:, None].expand(2, 100_000)
    values = torch.normal(mean, 2.0).cpu()
    assert torch.allclose(values.mean(1), torch.tensor([-3.0, 5.0]), atol=0.05)
    values = torch.normal(mean, torch.full_like(mean, 0.5)).cpu()
    assert torch.allclose(values.std(1), torch.tensor([0.5, 0.5]), atol=0.05)
    assert abs(torch.normal(1.0, torch.ones(COUNT, device=DEVICE)).cpu().mean() - 1) < 1e-2


def test_seeds():
    def draws() -> list[torch.Tensor]:
        return [
            torch.rand(1001, device=DEVICE).cpu(),
            torch.randn(1001, dtype=torch.float64, device=DEVICE).cpu(),
            torch.randperm(100, device=DEVICE).cpu(),
            torch.multinomial(torch.ones(50, device=DEVICE), 20).cpu(),
            F.dropout(torch.ones(1000, device=DEVICE)).cpu(),
        ]

    torch.manual_seed(5)
    first, second = draws(), draws()
    torch.manual_seed(5)
    again = draws()
    for one, two, three in zip(first, second, again, strict=True):
        assert torch.equal(one, three) and not torch.equal(one, two)
    generator = torch.Generator(DEVICE).manual_seed(5)
    assert torch.equal(torch.rand(1001, device=DEVICE, generator=generator).cpu(), first[0])


def test_values_depend_on_place_alone():
    before = torch.get_num_threads()
    results = []
    for threads, layout in ((1, None), (2, None), (2, (1, 300))):
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        out = torch.empty(300, 500, device=DEVICE)
        results.append((out if layout is None else out.as_strided((300, 500), layout)).normal_().cpu())
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_permutations_and_samples():
    for count in (0, 1, 1000):
        assert torch.equal(torch.randperm(count, device=DEVICE).cpu().sort().values, torch.arange(count))
    # As long as a dtype has every number, and no longer.
    for dtype, most in (
        (torch.int8, 128),
        (torch.uint8, 256),
        (torch.int16, 2**15),
        (torch.float16, 2049),
        (torch.bfloat16, 257),
    ):
        permutation = torch.randperm(most, dtype=dtype, device=DEVICE).cpu().long()
        assert torch.equal(permutation.sort().values, torch.arange(most))
        with pytest.raises(RuntimeError):
            torch.randperm(most + 1, dtype=dtype, device=DEVICE)
    with pytest.raises(NotImplementedError):
        torch.randperm(1, dtype=torch.bool, device=DEVICE)
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0], device=DEVICE)
    drawn = torch.multinomial(weights, 100_000, replacement=True).cpu().bincount(minlength=4) / 100_000
    assert torch.allclose(drawn, torch.tensor([0.0, 0.125, 0.25, 0.625]), atol=1e-2)
    rows = torch.multinomial(torch.rand(6, 9, device=DEVICE), 9).cpu()
    assert torch.equal(rows.sort(1).values, torch.arange(9).expand(6, 9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout(dtype):
    x = torch.ones(COUNT, dtype=dtype, device=DEVICE, requires_grad=True)
    y = F.dropout(x, 0.2)
    y.backward(torch.full_like(y, 3.0))
    kept = y.detach().cpu() != 0
    assert abs(kept.double().mean() - 0.8) < 5e-3
    assert torch.allclose(y.detach().cpu()[kept].double(), torch.tensor(1.25, dtype=torch.float64), rtol=1e-2)
    assert torch.equal(x.grad.cpu() != 0, kept)
    assert torch.allclose(x.grad.cpu()[kept].double(), torch.tensor(3.75, dtype=torch.float64), rtol=1e-2)
    assert F.dropout(x, 0.2, training=False) is x
    assert not F.dropout(x.detach(), 1.0).cpu().any()


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.uniform_(2, 1),
        lambda x: x.normal_(0, -1),
        lambda x: x.long().normal_(),
        lambda x: x.exponential_(-1),
        lambda x: x.random_(5, 5),
        lambda x: x.byte().random_(0, 1000),
        lambda x: x.geometric_(1.5),
        lambda x: x.bernoulli_(1.5),
        lambda x: torch.bernoulli(x + 5),
        lambda x: torch.normal(x, -x.abs() - 1),
        lambda x: torch.multinomial(-x.abs() - 1, 1),
        lambda x: torch.multinomial(x * 0, 1),
        lambda x: torch.multinomial(x.abs(), 9),
        lambda x: torch.multinomial(x.abs(), 0),
        lambda x: torch.randperm(-1, device=x.device),
        lambda x: torch.randperm(300, dtype=torch.uint8, device=x.device),
    ],
)
def test_errors(draw):
    check_error(draw, numbers(4))


def test_in_place_on_a_view():
    x = on_device(torch.zeros(4, 6))
    x[:, ::2].uniform_(1, 2)
    assert (x.cpu()[:, ::2] >= 1).all() and not x.cpu()[:, 1::2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("draw", "mean", "variance"),
    [
        (lambda x: torch.poisson(x.fill_(3.5)), 3.5, 3.5),
        (lambda x: torch.poisson(x.fill_(40.0)), 40.0, 40.0),
        (lambda x: torch.binomial(x.fill_(50.0), torch.full_like(x, 0.7)), 35.0, 10.5),
        (lambda x: torch.binomial(x.fill_(8.0), torch.full_like(x, 0.2)), 1.6, 1.28),
        (lambda x: torch._standard_gamma(x.fill_(0.7)), 0.7, 0.7),
        (lambda x: torch._standard_gamma(x.fill_(9.0)), 9.0, 9.0),
    ],
)
def test_draws_until_accepted(draw, mean, variance, dtype):
    count = 50_000
    values = draw(torch.empty(count, dtype=dtype, device=DEVICE)).cpu().double()
    assert abs(values.mean() - mean) < 5 * math.sqrt(variance / count)
    assert abs(values.var() / variance - 1) < 0.08
    again = torch.Generator(DEVICE).manual_seed(3)
    stepped = torch.full((40, 2), 5.0, device=DEVICE, dtype=dtype)[:, 0]
    first = torch.poisson(stepped, generator=again.manual_seed(5))
    assert torch.equal(first, torch.poisson(stepped.contiguous(), generator=again.manual_seed(5)))


@pytest.mark.parametrize("shape", [math.nan, math.inf, -math.inf, -1e30, -0.9, 0.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gammas_of_which_no_draw_would_be_accepted(shape, dtype):
    shapes = torch.full((5,), shape, dtype=dtype)
    torch.testing.assert_close(torch._standard_gamma(shapes.to(DEVICE)).cpu(), torch._standard_gamma(shapes))


def test_draws_are_refused_as_on_the_cpu():
    check_error(torch.poisson, torch.tensor([1.0, -1.0]))
    check_error(torch.binomial, torch.tensor([1.0]), torch.tensor([0.5], dtype=torch.float64))
    check_error(torch.poisson, torch.tensor([1]))
    shares = torch._sample_dirichlet(torch.rand(20, 4, device=DEVICE) + 0.1).cpu()
    torch.testing.assert_close(shares.sum(-1), torch.ones(20))


def test_gradients_of_draws():
    """By the parameters of their distribution: of the CPU in f64, and in f32 rounded from that."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.cat([torch.logspace(-3, 3, 400, dtype=torch.float64), torch.tensor([8.0, 1.0, 7.99, 0.0, 2.0])])
    draws = torch._standard_gamma(alpha, generator=generator)
    draws[-1] = 0
    parts = torch.tensor([[0.1], [0.5], [0.9], [1.0], [1.1], [1.5], [10.0]], dtype=torch.float64)
    for x in (draws, *(parts * alpha)):
        check(torch._standard_gamma_grad, alpha, x, rtol=1e-9, atol=1e-12)
        check(torch._standard_gamma_grad, alpha.float(), x.float(), rtol=1e-5, atol=1e-8)
    alpha = torch.logspace(-2, 2.5, 40, dtype=torch.float64)
    total = alpha[:, None] + alpha
    for share in (1e-6, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-6):
        x = torch.full_like(total, share)
        check(torch._dirichlet_grad, x, alpha[:, None].expand_as(x), total, rtol=1e-8, atol=1e-12)
        x = alpha[:, None] / total * (0.97 + 0.06 * share)
        check(torch._dirichlet_grad, x, alpha[:, None].expand_as(x), total, rtol=1e-8, atol=1e-12)
    # In f32 the CPU's series lose digits: rounded from f64, here.
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        a, b = (
            (torch.rand(300, generator=generator) * 20 + 0.1).to(dtype),
            torch.rand(300, generator=generator).to(dtype),
        )
        for function, given in ((torch._standard_gamma_grad, (a, 20 * b)), (torch._dirichlet_grad, (b, a, a + 4))):
            expected = function(*(tensor.double() for tensor in given)).to(dtype)
            torch.testing.assert_close(
                function(*(tensor.to(DEVICE) for tensor in given)).cpu(), expected, equal_nan=True
            )


def test_gradients_of_draws_in_distributions():
    for make in (
        lambda a: torch.distributions.Gamma(a, a + 1),
        lambda a: torch.distributions.Beta(a, a + 1),
        lambda a: torch.distributions.Dirichlet(a),
        lambda a: torch.distributions.Chi2(a),
        lambda a: torch.distributions.StudentT(a),
    ):
        alpha = torch.linspace(0.5, 20, 12, device=DEVICE).requires_grad_()
        make(alpha).rsample((5,)).sum().backward()
        assert alpha.grad.isfinite().all()


def test_gradients_of_draws_are_refused_as_on_the_cpu():
    x = torch.rand(3)
    check_error(torch._standard_gamma_grad, torch.ones(3).int(), torch.ones(3).int())
    check_error(torch._standard_gamma_grad, x[:2], x)
    check_error(torch._dirichlet_grad, x, x.double(), x)
    check_error(torch._dirichlet_grad, x, x[:2], x)
