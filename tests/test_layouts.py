"""Sparse, quantized and nested tensors: refused by one sentence, wherever they meet the device."""

import pytest
import torch
from torch.nn import functional as F

SENTENCE = "rustorch has dense tensors only.*on the CPU"


def _sparse() -> torch.Tensor:
    return torch.eye(3).to_sparse()


MEETINGS = {
    "a sparse tensor comes": lambda: _sparse().to("rustorch"),
    "a compressed one comes": lambda: torch.eye(3).to_sparse_csr().to("rustorch"),
    "one in blocks comes": lambda: torch.eye(4).to_sparse_bsc((2, 2)).to("rustorch"),
    "a compressed one is made": lambda: torch.sparse_csr_tensor(
        torch.tensor([0, 1], device="rustorch"), torch.tensor([0], device="rustorch"), torch.ones(1, device="rustorch"),
        (1, 3),
    ),
    "a nested one is made": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], device="rustorch"),
    "one is made of ours": lambda: torch.nested.as_nested_tensor([torch.ones(2, device="rustorch")]),
    "a quantized one comes": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8).to("rustorch"),
    "a nested one comes": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]).to("rustorch"),
    "one is made sparse": lambda: torch.eye(3, device="rustorch").to_sparse(),
    "one is made compressed": lambda: torch.eye(3, device="rustorch").to_sparse_csr(),
    "a sparse one is made": lambda: torch.zeros(3, layout=torch.sparse_coo, device="rustorch"),
    "one is quantized": lambda: torch.quantize_per_tensor(torch.ones(2, device="rustorch"), 0.1, 0, torch.quint8),
    "a sparse gradient of gather": lambda: torch.gather(
        torch.ones(3, 3, device="rustorch", requires_grad=True), 0,
        torch.zeros(1, 3, dtype=torch.long, device="rustorch"), sparse_grad=True,
    ).sum().backward(),
    "a sparse gradient of embedding": lambda: F.embedding(
        torch.tensor([0, 1], device="rustorch"), torch.ones(3, 3, device="rustorch", requires_grad=True), sparse=True
    ).sum().backward(),
    "a sparse gradient of bags": lambda: F.embedding_bag(
        torch.tensor([[0, 1]], device="rustorch"), torch.ones(3, 3, device="rustorch", requires_grad=True), sparse=True,
        mode="sum",
    ).sum().backward(),
}  # fmt: skip


@pytest.mark.allow_fallback
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("meet", MEETINGS.values(), ids=MEETINGS)
def test_other_layouts_are_refused_by_one_sentence(meet):
    with pytest.raises(NotImplementedError, match=SENTENCE):
        meet()


def test_the_cpu_keeps_its_layouts():
    compressed = torch.eye(3).to_sparse_csr()
    assert compressed.to(torch.float64).layout == torch.sparse_csr
    assert torch.ones(2, 2).to_mkldnn().to("cpu").to_dense().sum() == 4
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])
    assert [part.tolist() for part in nested.unbind()] == [[1, 1], [0, 0, 0]]
