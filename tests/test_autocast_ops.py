"""torch.autocast("rustorch") op for op: each op that the CPU's autocast knows gives the CPU's dtypes."""

import copy

import pytest
import torch
from compared import DEVICE
from torch.utils._pytree import tree_flatten, tree_map_only

LOWER = [torch.bfloat16, torch.float16]


def numbers(*shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    return torch.empty(shape).uniform_(low, high, generator=torch.Generator().manual_seed(len(shape)))


def labels(*shape: int, below: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape) % below


def positive(size: int) -> torch.Tensor:
    """A symmetric matrix whose inverse is well behaved."""
    return numbers(size, size) @ numbers(size, size).t() + size * torch.eye(size)


ROW, MATRIX, SQUARE, SIGNS = numbers(8), numbers(4, 3), positive(3), torch.tensor([1.0, -1.0, 1.0, 1.0])
IMAGE, VOLUME, GRID = numbers(1, 2, 6, 6), numbers(1, 2, 4, 4, 4), numbers(1, 3, 3, 2)
PROBABILITIES = numbers(4, 3, low=0.1, high=0.9)
TRIPLE = (ROW.view(2, 4), ROW.view(2, 4) + 1, ROW.view(2, 4) - 1)
LENGTHS = [4, 4]
HEADS = (numbers(1, 2, 4, 8),) * 3
LU, PIVOTS = torch.linalg.lu_factor(SQUARE)
REFLECTIONS, SCALES = torch.geqrf(MATRIX)
POOLED = torch.nn.functional.max_pool2d(IMAGE, 2, return_indices=True)
POOLED_3D = torch.nn.functional.max_pool3d(VOLUME, 2, return_indices=True)

#: By op: arguments. Tensors go to the device, and float32 ones also in the lower precision.
SAMPLES: dict[str, tuple] = {
    "_addmm_activation": (numbers(3), MATRIX, SQUARE),
    "_convolution.deprecated": (IMAGE, numbers(3, 2, 2, 2), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    + (False,) * 3,
    "_lu_with_info": (SQUARE,),
    "_native_multi_head_attention": (
        *(numbers(2, 3, 4),) * 3,
        *(4, 2),
        *(numbers(12, 4), numbers(12), numbers(4, 4), numbers(4)),
    ),
    "adaptive_avg_pool3d": (VOLUME, [2, 2, 2]),
    "adaptive_max_pool3d": (VOLUME, [2, 2, 2]),
    "addbmm": (SQUARE, numbers(2, 3, 4), numbers(2, 4, 3)),
    "addmm": (numbers(3), MATRIX, SQUARE),
    "avg_pool3d": (VOLUME, [2, 2, 2]),
    "baddbmm": (numbers(2, 3, 3), numbers(2, 3, 4), numbers(2, 4, 3)),
    "binary_cross_entropy": (PROBABILITIES, PROBABILITIES),
    "binary_cross_entropy_with_logits": (MATRIX, PROBABILITIES),
    "bmm": (numbers(2, 3, 4), numbers(2, 4, 3)),
    "cat": ([MATRIX, MATRIX],),
    "cdist": (MATRIX, SQUARE),
    "cholesky_inverse": (torch.linalg.cholesky(SQUARE),),
    "cholesky_solve": (SQUARE, torch.linalg.cholesky(SQUARE)),
    "conv1d": (numbers(1, 2, 6), numbers(3, 2, 2)),
    "conv1d.padding": (numbers(1, 2, 6), numbers(3, 2, 3), None, [1], "same"),
    "conv2d": (IMAGE, numbers(3, 2, 2, 2), numbers(3)),
    "conv2d.padding": (IMAGE, numbers(3, 2, 3, 3), None, [1, 1], "same"),
    "conv3d": (VOLUME, numbers(3, 2, 2, 2, 2)),
    "conv3d.padding": (VOLUME, numbers(3, 2, 3, 3, 3), None, [1, 1, 1], "same"),
    "conv_tbc": (numbers(6, 1, 2), numbers(3, 2, 4), numbers(4)),
    "conv_transpose1d": (numbers(1, 2, 6), numbers(2, 3, 2)),
    "conv_transpose2d.input": (IMAGE, numbers(2, 3, 2, 2)),
    "conv_transpose3d.input": (VOLUME, numbers(2, 3, 2, 2, 2)),
    "cosine_embedding_loss": (MATRIX, MATRIX + 1, SIGNS),
    "cross_entropy_loss": (MATRIX, labels(4, below=3)),
    "ctc_loss.IntList": (numbers(4, 2, 3).log_softmax(2), labels(2, 2, below=2) + 1, LENGTHS, [2, 2]),
    "ctc_loss.Tensor": (
        numbers(4, 2, 3).log_softmax(2),
        labels(2, 2, below=2) + 1,
        torch.tensor(LENGTHS),
        torch.tensor([2, 2]),
    ),
    "fake_quantize_per_tensor_affine": (MATRIX, 0.1, 0, 0, 255),
    "fft_fft": (ROW,),
    "fft_fft2": (ROW.view(2, 4),),
    "fft_fftn": (ROW.view(2, 4),),
    "fft_hfft": (ROW,),
    "fft_ifft": (ROW,),
    "fft_ifft2": (ROW.view(2, 4),),
    "fft_ifftn": (ROW.view(2, 4),),
    "fft_ihfft": (ROW,),
    "fft_irfft": (ROW,),
    "fft_irfft2": (ROW.view(2, 4),),
    "fft_irfftn": (ROW.view(2, 4),),
    "fft_rfft": (ROW,),
    "fft_rfft2": (ROW.view(2, 4),),
    "fft_rfftn": (ROW.view(2, 4),),
    "fractional_max_pool2d": (IMAGE, [2, 2], [3, 3], numbers(1, 2, 2, low=0.0)),
    "fractional_max_pool3d": (VOLUME, [2, 2, 2], [2, 2, 2], numbers(1, 2, 3, low=0.0)),
    "geqrf": (MATRIX,),
    "grid_sampler": (IMAGE, GRID, 0, 0, False),
    "grid_sampler_2d": (IMAGE, GRID, 0, 0, False),
    "grid_sampler_3d": (VOLUME, numbers(1, 2, 2, 2, 3), 0, 0, False),
    "hinge_embedding_loss": (SIGNS, SIGNS),
    "huber_loss": (MATRIX, MATRIX + 1),
    "index_copy": (MATRIX, 0, torch.tensor([1, 0]), numbers(2, 3)),
    "inverse": (SQUARE,),
    "kl_div": (PROBABILITIES.log(), PROBABILITIES),
    "l1_loss": (MATRIX, MATRIX + 1),
    "linalg_cholesky": (SQUARE,),
    "linalg_cholesky_ex": (SQUARE,),
    "linalg_cond": (SQUARE,),
    "linalg_cond.p_str": (SQUARE, "fro"),
    "linalg_eig": (SQUARE,),
    "linalg_eigh": (SQUARE,),
    "linalg_eigvals": (SQUARE,),
    "linalg_eigvalsh": (SQUARE,),
    "linalg_householder_product": (REFLECTIONS, SCALES),
    "linalg_inv": (SQUARE,),
    "linalg_inv_ex": (SQUARE,),
    "linalg_lstsq": (MATRIX, MATRIX),
    "linalg_matrix_rank": (SQUARE, 0.5),
    "linalg_matrix_rank.atol_rtol_float": (SQUARE,),
    "linalg_matrix_rank.atol_rtol_tensor": (SQUARE,),
    "linalg_matrix_rank.tol_tensor": (SQUARE, torch.tensor(0.5)),
    "linalg_matrix_sqrth": (SQUARE,),
    "linalg_qr": (MATRIX,),
    "linalg_solve": (SQUARE, SQUARE),
    "linalg_svd": (MATRIX,),
    "linalg_svdvals": (MATRIX,),
    "linalg_tensorinv": (SQUARE, 1),
    "linalg_tensorsolve": (SQUARE, numbers(3)),
    "linalg_vecdot": (MATRIX, MATRIX),
    "linear": (MATRIX, SQUARE, numbers(3)),
    "lu_solve": (SQUARE, LU, PIVOTS),
    "margin_ranking_loss": (SIGNS, SIGNS + 1, SIGNS),
    "matmul": (MATRIX, SQUARE),
    "max_pool3d": (VOLUME, [2, 2, 2]),
    "max_unpool2d": (*POOLED, [6, 6]),
    "max_unpool3d": (*POOLED_3D, [4, 4, 4], [2, 2, 2], [0, 0, 0]),
    "mm": (MATRIX, SQUARE),
    "mse_loss": (MATRIX, MATRIX + 1),
    "multi_margin_loss": (MATRIX, labels(4, below=3)),
    "multilabel_margin_loss": (MATRIX, labels(4, 3, below=3)),
    "multilabel_margin_loss_forward": (MATRIX, labels(4, 3, below=3), 1),
    "nanquantile": (ROW, torch.tensor([0.2, 0.5])),
    "nanquantile.scalar": (ROW, 0.5),
    "nll_loss": (MATRIX, labels(4, below=3)),
    "nll_loss2d": (IMAGE, labels(1, 6, 6, below=2)),
    "orgqr": (REFLECTIONS, SCALES),
    "ormqr": (REFLECTIONS, SCALES, MATRIX),
    "pinverse": (SQUARE,),
    "poisson_nll_loss": (MATRIX, PROBABILITIES, True, False, 1e-8, 1),
    "polar": (ROW.abs(), ROW),
    "prelu": (MATRIX, numbers(1)),
    "prod": (MATRIX,),
    "prod.dim_int": (MATRIX, 0),
    "quantile": (ROW, torch.tensor([0.2, 0.5])),
    "quantile.scalar": (ROW, 0.5),
    "reflection_pad1d": (MATRIX, [1, 1]),
    "reflection_pad2d": (IMAGE, [1, 1, 1, 1]),
    "replication_pad1d": (MATRIX, [1, 1]),
    "replication_pad2d": (IMAGE, [1, 1, 1, 1]),
    "replication_pad3d": (VOLUME, [1] * 6),
    "scaled_dot_product_attention": HEADS,
    "smooth_l1_loss": (MATRIX, MATRIX + 1),
    "soft_margin_loss": (SIGNS, SIGNS),
    "stack": ([MATRIX, MATRIX],),
    "stft": (ROW, 4, None, None, torch.ones(4)),
    "stft.center": (ROW, 4, None, None, torch.ones(4)),
    "svd": (MATRIX,),
    "trace": (SQUARE,),
    "triangular_solve": (SQUARE, SQUARE),
    "triplet_margin_loss": TRIPLE,
    "view_as_complex": (ROW.view(4, 2),),
}
#: Names of the CPU's own kernels: nobody else's tensors reach them.
OF_THE_CPU = {"_grid_sampler_2d_cpu_fallback", "mkldnn_rnn_layer"}
#: Ops that take any mix of precisions, each in its own way.
MIXED = ("cat", "stack", "index_copy")
#: What recurrent layers call on devices, in place of `mkldnn_rnn_layer` and of plain ops.
OF_DEVICES = {"lstm.input", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell"}


def registered(key: str) -> set[str]:
    """PyTorch's own ops; torchvision registers some of its own for the CPU when it is imported."""
    names = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::") for name in names if not name.startswith("torchvision::")}


def test_the_lists_are_the_cpus():
    assert registered("AutocastPrivateUse1") == registered("AutocastCPU") | OF_DEVICES
    assert set(SAMPLES) == registered("AutocastCPU") - OF_THE_CPU


def outcome(name: str, arguments: tuple, device: str, dtype: torch.dtype) -> list:
    packet, _, overload = name.partition(".")
    op = getattr(getattr(torch.ops.aten, packet), overload or "default")
    there = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), arguments)
    with torch.autocast(device, dtype=dtype):
        try:
            results = tree_flatten(op(*there))[0]
        except (RuntimeError, NotImplementedError, ValueError) as error:
            return [type(error)]
    assert all(result.device.type == device for result in results)
    return [(result.dtype, result.shape) for result in results]


@pytest.mark.allow_fallback  # linear algebra and Fourier transforms run on the CPU
@pytest.mark.parametrize("dtype", LOWER, ids=str)
@pytest.mark.parametrize("name", SAMPLES)
def test_results_have_the_cpus_dtypes(name, dtype):
    def lowered(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(dtype) if tensor.dtype == torch.float32 else tensor

    arguments = SAMPLES[name]
    variants = [arguments, tree_map_only(torch.Tensor, lowered, arguments)]
    if name in MIXED:
        variants.append((tree_map_only(torch.Tensor, lowered, arguments[0]), *arguments[1:]))
        variants.append(([arguments[0][0].to(dtype), arguments[0][1]],) if name != "index_copy" else arguments)
    for variant in variants:
        assert outcome(name, variant, DEVICE, dtype) == outcome(name, variant, "cpu", dtype)


# Ops that neither list names run in the types that they are given.
OTHERS = {
    "softmax": lambda low, full: low.softmax(1),
    "log_softmax": lambda low, full: low.log_softmax(1),
    "exp": lambda low, full: low.exp(),
    "pow": lambda low, full: low**2,
    "sum": lambda low, full: low.sum(),
    "cumsum": lambda low, full: low.cumsum(0),
    "norm": lambda low, full: low.norm(),
    "gelu": lambda low, full: torch.nn.functional.gelu(low),
    "addcmul": lambda low, full: torch.addcmul(full, low, low),
    "add": lambda low, full: low + full,
    "where": lambda low, full: torch.where(low > 0, low, full),
    "layer_norm": lambda low, full: torch.nn.functional.layer_norm(low, (3,), full[0], full[1]),
    "rms_norm": lambda low, full: torch.nn.functional.rms_norm(low, (3,), low[0]),
    "group_norm": lambda low, full: torch.nn.functional.group_norm(low, 3, full[0], full[1]),
    "batch_norm": lambda low, full: torch.nn.functional.batch_norm(
        low, full[0].clone(), full[1].abs(), full[0], full[1], training=True
    ),
    "upsample": lambda low, full: torch.nn.functional.interpolate(low[None], scale_factor=2.0, mode="linear"),
    "embedding": lambda low, full: torch.nn.functional.embedding(low.abs().long(), full),
    "dot": lambda low, full: torch.dot(low[0], low[1]),
    "mv": lambda low, full: torch.mv(low, low[0]),
    "einsum": lambda low, full: torch.einsum("ij,kj->ik", low, full),
    "tensordot": lambda low, full: torch.tensordot(low, low, 2),
    "scatter_add": lambda low, full: low.scatter_add(0, low.long().abs(), low),
}


@pytest.mark.parametrize("dtype", LOWER, ids=str)
@pytest.mark.parametrize("name", OTHERS)
def test_ops_outside_of_the_lists(name, dtype):
    results = []
    for device in ("cpu", DEVICE):
        with torch.autocast(device, dtype=dtype):
            results.append(OTHERS[name](MATRIX.to(device, dtype), MATRIX.to(device)))
    expected, result = results
    assert result.dtype == expected.dtype
    torch.testing.assert_close(result.cpu().float(), expected.float(), rtol=0.02, atol=0.02)


MODULES = {
    "linear": (torch.nn.Linear(3, 5), MATRIX),
    "mlp": (torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5), torch.nn.Softmax(1)), MATRIX),
    "convolution": (torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()), IMAGE),
    "attention": (torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), numbers(2, 3, 4)),
    "embedding bag": (torch.nn.EmbeddingBag(5, 3), labels(2, 4, below=5)),
    "rnn cell": (torch.nn.RNNCell(3, 5), MATRIX),
    "gru cell": (torch.nn.GRUCell(3, 5), MATRIX),
    "lstm cell": (torch.nn.LSTMCell(3, 5), MATRIX),
    "rnn": (torch.nn.RNN(3, 5, batch_first=True), numbers(2, 4, 3)),
    "gru": (torch.nn.GRU(3, 5, batch_first=True), numbers(2, 4, 3)),
    "lstm": (torch.nn.LSTM(3, 5, batch_first=True, num_layers=2, bidirectional=True), numbers(2, 4, 3)),
}


@pytest.mark.parametrize("dtype", LOWER, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_modules_and_their_gradients(name, dtype):
    module, inputs = MODULES[name]
    if name == "lstm" and dtype == torch.float16:
        try:
            with torch.autocast("cpu", dtype=dtype):
                module(inputs)
        except RuntimeError as error:
            assert "could not create a primitive" in str(error)
            pytest.skip("the CPU's own kernel refuses float16 on this machine")
    results = []
    for device in ("cpu", DEVICE):
        module = copy.deepcopy(module).to(device)
        with torch.autocast(device, dtype=dtype):
            outputs = tree_flatten(module(inputs.to(device)))[0]
        sum(each.float().square().sum() for each in outputs).backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        results.append((outputs, gradients))
    for expected, result in zip(*results, strict=True):
        for ours, theirs in zip(result, expected, strict=True):
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(ours.detach().cpu().float(), theirs.detach().float(), rtol=0.05, atol=0.05)


def test_the_default_is_bfloat16_as_on_the_cpu():
    with torch.autocast(DEVICE):
        assert (MATRIX.to(DEVICE) @ SQUARE.to(DEVICE)).dtype == torch.bfloat16
    assert torch.get_autocast_dtype(DEVICE) == torch.get_autocast_dtype("cpu") == torch.bfloat16
