"""Margin losses and connectionist temporal classification against the CPU."""

import pytest
import torch
import torch.nn.functional as F
from compared import check, check_error, numbers, on_device

REDUCTIONS = ["none", "mean", "sum"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin(p, reduction):
    def loss(x, target, weight=None):
        return F.multi_margin_loss(x, target, p=p, margin=0.7, weight=weight, reduction=reduction)

    target = torch.tensor([0, 3, 1])
    check(loss, numbers(3, 4), target, grad=True)
    check(lambda x, t: loss(x.t(), t), numbers(4, 3), target, grad=True)
    check(lambda x, t: loss(x, t, torch.tensor([0.5, 1, 2, 3], device=x.device)), numbers(3, 4), target, grad=True)
    check(loss, numbers(4), torch.tensor(2), grad=True)
    check_error(loss, numbers(3, 4), target + 1)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multilabel_margin(reduction):
    def loss(x, target):
        return F.multilabel_margin_loss(x, target, reduction=reduction)

    target = torch.tensor([[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3]])
    check(loss, numbers(3, 4), target, grad=True)
    check(loss, numbers(3, 4, dtype=torch.float64), target, grad=True)
    check(loss, numbers(4), target[0], grad=True)
    check_error(loss, numbers(3, 4), target + 1)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("joined", [False, True])
def test_ctc(joined, reduction):
    steps, labels = [9, 7, 9], [3, 0, 4]
    target = torch.tensor([[1, 1, 2, 0], [4, 4, 4, 4], [3, 4, 3, 3]])
    if joined:
        target = torch.cat([row[:count] for row, count in zip(target, labels, strict=True)])

    def loss(x, target):
        return F.ctc_loss(x.log_softmax(-1), target, steps, labels, blank=5, reduction=reduction)

    for dtype in (torch.float32, torch.float64):
        check(loss, numbers(9, 3, 6, dtype=dtype), target, grad=True, rtol=1e-4, atol=1e-5)
    check(loss, numbers(9, 3, 6), target.int(), rtol=1e-4, atol=1e-5)


def test_ctc_of_what_cannot_be_said():
    target = torch.tensor([[1, 1, 2, 2]])
    for zero in (False, True):
        check(
            lambda x, t, z=zero: F.ctc_loss(x, t, [3], [4], zero_infinity=z, reduction="none"), numbers(3, 1, 4), target
        )
    check(lambda x, t: F.ctc_loss(x, t, [3], [4], zero_infinity=True), numbers(3, 1, 4), target, grad=True)
    check_error(lambda x, t: F.ctc_loss(x, t, [9], [4]), numbers(3, 1, 4), target)
    check_error(lambda x, t: F.ctc_loss(x, t, [3, 3], [4]), numbers(3, 1, 4), target)


def test_ctc_by_finite_differences():
    x = on_device(numbers(6, 2, 4, dtype=torch.float64)).requires_grad_()
    target = on_device(torch.tensor([[1, 2, 2], [3, 1, 0]]))
    assert torch.autograd.gradcheck(lambda x: F.ctc_loss(x.log_softmax(-1), target, [6, 5], [3, 2]), x)


def test_the_other_losses_are_made_of_native_ops():
    x, y, sign = numbers(4, 5), numbers(4, 5, seed=1), torch.tensor([1.0, -1, 1, -1])
    check(lambda x, y: F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"), x, y, grad=True)
    check(lambda x, y: F.poisson_nll_loss(x, y.abs(), full=True), x, y, grad=True)
    check(lambda x, y: F.gaussian_nll_loss(x, y, torch.ones_like(y) * 0.5), x, y, grad=True)
    check(lambda x, y, s: F.cosine_embedding_loss(x, y, s, margin=0.1), x, y, sign, grad=True)
    check(lambda x, y: F.triplet_margin_loss(x, y, x + y, margin=2.0), x, y, grad=True)
    check(lambda x, y: F.soft_margin_loss(x, y.sign().detach()), x, y, grad=True)
    check(lambda x, y: F.hinge_embedding_loss(x, y.sign().detach()), x, y, grad=True)
    check(lambda x, y: F.margin_ranking_loss(x, y, (x - y).sign().detach(), margin=0.2), x, y, grad=True)
    check(lambda x, y: F.multilabel_soft_margin_loss(x, (y > 0).to(x.dtype)), x, y, grad=True)
    check(lambda x, y: F.binary_cross_entropy_with_logits(x, y.sigmoid()), x, y, grad=True)
    check(lambda x, y: F.cosine_similarity(x, y), x, y, grad=True)
    check(F.bilinear, x, y, numbers(3, 5, 5, seed=2), numbers(3, seed=3), grad=True, rtol=1e-4, atol=1e-5)
    check(lambda x: F.rms_norm(x, (5,)), x, grad=True)
