"""Ops without a Rust kernel: on PyTorch's CPU kernel, over the same memory, and never unseen.

The ops here are ones that are unlikely to be written in Rust; a test that fails because its op has
become native needs another op.
"""

import pytest
import torch

from rustorch_device import _C

pytestmark = pytest.mark.allow_fallback


def both(function, *tensors):
    """The function of CPU tensors, and of their copies on the device."""
    expected = function(*[tensor.clone() for tensor in tensors])
    result = function(*[tensor.to("rustorch") for tensor in tensors])
    pairs = zip(result, expected, strict=True) if isinstance(expected, tuple | list) else [(result, expected)]
    for there, here in pairs:
        assert there.device == torch.device("rustorch:0")
        assert there.dtype == here.dtype and there.stride() == here.stride()
        torch.testing.assert_close(there.cpu(), here, equal_nan=True)
    return result


def test_results_are_right_and_on_the_device():
    square = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    both(torch.linalg.cholesky, square)
    both(torch.linalg.eigh, square)
    both(torch.special.bessel_j0, square.t())
    both(lambda x: torch.unique(x, return_counts=True), torch.tensor([3, 1, 3]))
    both(lambda x: torch.histc(x, 4), square)
    both(torch.block_diag, square, square)


def test_calls_are_counted():
    torch.rustorch.reset_fallback_counts()
    tensor = torch.ones(3, device="rustorch")
    torch.special.bessel_j0(tensor)
    torch.special.bessel_j0(tensor)
    assert torch.rustorch.fallback_counts() == {"aten::special_bessel_j0": 2}
    torch.rustorch.reset_fallback_counts()
    assert torch.rustorch.fallback_counts() == {}


def test_error_names_the_op_and_what_to_do():
    tensor = torch.ones(3, device="rustorch")
    torch.rustorch.set_fallback_policy("error")
    with pytest.raises(
        NotImplementedError, match=r"no Rust kernel for aten::special_bessel_j0 .*RUSTORCH_FALLBACK=warn"
    ):
        torch.special.bessel_j0(tensor)
    torch.rustorch.set_fallback_policy("silent")
    torch.special.bessel_j0(tensor)


def test_a_warning_comes_once_an_op(python):
    done = python(
        "import torch\nx = torch.zeros(2).to('rustorch')\n"
        "for _ in range(3): torch.special.bessel_j0(x); torch.special.bessel_j1(x)",
        RUSTORCH_FALLBACK="",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no Rust kernel for aten::special_bessel_j0") == 1
    assert done.stderr.count("no Rust kernel for aten::special_bessel_j1:") == 1


def test_a_warning_names_the_dtype_where_the_op_has_a_kernel_for_others(python):
    done = python(
        "import torch\nx = torch.zeros(2, dtype=torch.complex64).to('rustorch')\n"
        "torch.exp(x)\nx.real * x\ntorch.special.bessel_j0(x.real)",
        RUSTORCH_FALLBACK="warn",
    )
    assert done.returncode == 0, done.stderr
    for op in ("exp", "mul.Tensor"):
        assert f"rustorch has no Rust kernel for aten::{op} of complex64: it runs on PyTorch's CPU" in done.stderr
    assert "rustorch has no Rust kernel for aten::special_bessel_j0: it runs on PyTorch's CPU" in done.stderr


@pytest.mark.parametrize(("policy", "fails"), [("error", True), ("silent", False)])
def test_the_environment_sets_the_policy(python, policy, fails):
    done = python("import torch; torch.special.bessel_j0(torch.zeros(2).to('rustorch'))", RUSTORCH_FALLBACK=policy)
    assert (done.returncode != 0) == fails
    assert ("no Rust kernel" in done.stderr) == fails


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="warn, error or silent, not 'loud'"):
        torch.rustorch.set_fallback_policy("loud")
    assert _C.fallback_policy() == "silent"


def test_outputs_are_written_in_place_and_resized():
    tensor = torch.tensor([0.5, 1.5], device="rustorch")
    out = torch.empty(2, device="rustorch")
    address = out.data_ptr()
    assert torch.special.bessel_j0(tensor, out=out) is out
    assert out.data_ptr() == address
    torch.testing.assert_close(out.cpu(), torch.special.bessel_j0(tensor.cpu()))
    grown = torch.empty(0, device="rustorch")
    torch.special.bessel_j0(torch.ones(1000, device="rustorch"), out=grown)
    torch.testing.assert_close(grown.cpu(), torch.special.bessel_j0(torch.ones(1000)))
    assert grown.untyped_storage().device == grown.device and grown.untyped_storage().nbytes() == 4000
    values, indices = torch.empty(0, device="rustorch"), torch.empty(0, dtype=torch.int64, device="rustorch")
    torch.kthvalue(torch.tensor([3.0, 1.0, 2.0], device="rustorch"), 2, out=(values, indices))
    assert values.item() == 2 and indices.item() == 2


def test_in_place_ops_write_through_views_and_count_versions():
    base = torch.ones(3, 4, device="rustorch")
    torch.special.bessel_j0(base[1], out=base[1])
    view = base.t()[2]
    torch.special.bessel_j1(view, out=view)
    expected = torch.ones(3, 4)
    expected[1] = torch.special.bessel_j0(expected[1])
    expected[:, 2] = torch.special.bessel_j1(expected[:, 2])
    torch.testing.assert_close(base.cpu(), expected)
    assert base._version >= 2


def test_views_that_the_fallback_makes_are_views():
    library = torch.library.Library("rustorch_tests", "FRAGMENT")
    library.define("tail(Tensor(a) x) -> Tensor(a)")
    library.impl("tail", lambda x: x[1:], "CPU")
    tensor = torch.arange(4.0).to("rustorch")
    tail = torch.ops.rustorch_tests.tail(tensor)
    assert tail.storage_offset() == 1
    assert tail.untyped_storage()._cdata == tensor.untyped_storage()._cdata
    tail.zero_()
    assert tensor.tolist() == [0, 0, 0, 0]


def test_lists_and_optional_tensors():
    tensors = [torch.randn(2, 2) for _ in range(3)]
    both(lambda *xs: torch.cartesian_prod(*[x[0] for x in xs]), *tensors)
    library = torch.library.Library("rustorch_tests", "FRAGMENT")
    library.define("doubled(Tensor[] xs) -> Tensor[]")
    library.impl("doubled", lambda xs: [x + x for x in xs], "CPU")
    both(lambda *xs: torch.ops.rustorch_tests.doubled(list(xs)), *tensors)
    both(lambda x, w: torch.bincount(x, w), torch.tensor([0, 1, 1]), torch.tensor([0.5, 1.0, 2.0]))


def test_gradients_go_through_the_fallback():
    tensor = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    here = tensor.clone().requires_grad_()
    there = tensor.to("rustorch").requires_grad_()
    for leaf in (here, there):
        torch.linalg.slogdet(leaf)[1].backward()
    torch.testing.assert_close(there.grad.cpu(), here.grad)


def test_mixed_devices_are_refused_but_for_single_numbers_and_cpu_indices():
    there, here = torch.ones(3, device="rustorch"), torch.ones(3)
    message = "at least two devices, rustorch:0 and cpu!"
    with pytest.raises(RuntimeError, match=message):
        torch.special.hermite_polynomial_h(there, here)
    with pytest.raises(RuntimeError, match=message):
        torch.linalg.solve_triangular(torch.ones(2, 2, device="rustorch"), torch.ones(2, 2), upper=True)
    assert torch.special.hermite_polynomial_h(there + 1, torch.tensor(2.0)).device.type == "rustorch"
    assert there[torch.tensor([0, 2])].tolist() == [1, 1]


def test_structured_ops_do_not_warn_of_resized_outputs(recwarn):
    tensor = torch.tensor([0.5, 1.5]).to("rustorch")
    both(torch.special.bessel_j0, tensor.cpu())
    both(lambda x, y: torch.special.hermite_polynomial_h(x, y), torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0]))
    assert not [warning for warning in recwarn if "resized" in str(warning.message)]


def test_a_cpu_kernels_error_arrives_and_changes_nothing():
    tensor = torch.zeros(2, 2, device="rustorch")
    with pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.cholesky(tensor - 1)
    assert tensor.tolist() == [[0, 0], [0, 0]]


def test_a_kernel_of_the_users_own():
    library = torch.library.Library("rustorch_tests", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x + x, "CPU")
    assert torch.ops.rustorch_tests.twice(torch.ones(2, device="rustorch")).tolist() == [2, 2]
    library.define("nowhere(Tensor x) -> Tensor")
    with pytest.raises(NotImplementedError, match="rustorch_tests::nowhere"):
        torch.ops.rustorch_tests.nowhere(torch.ones(2, device="rustorch"))


def test_empty_tensors():
    both(torch.special.bessel_j0, torch.empty(0, 3))


def test_results_that_are_not_dense_are_refused():
    with pytest.raises(NotImplementedError):
        torch.eye(2, device="rustorch").to_sparse()
