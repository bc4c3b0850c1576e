"""What `conformance` does not ask of PyTorch's databases, in PyTorch's own way of writing tests.

Of ops: second derivatives, derivatives in forward mode, what fake tensors say of results, which results are views.
Of modules: `state_dict`, copies and second derivatives. Of optimizers: `state_dict`, from here and from the CPU.
"""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd import gradcheck, gradgradcheck

import rustorch_device.backend  # noqa: F401  what tracing knows of the device; before PyTorch's own test modules

# isort: split
from conformance.inputs import Mover, NotDense, evenly, where_asked
from conformance.seeds import differentiable
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.common_device_type import instantiate_device_type_tests, ops
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db, modules
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import TestCase, run_tests
from torch.utils._pytree import tree_leaves, tree_map_only

#: Samples of an entry, spread over those that the database has.
SAMPLES = 3
#: Finite differences of larger inputs take too long, and those of infinities and NaN say nothing.
LARGEST = 200
#: What fake tensors say of ops whose results depend on values.
WITHOUT_SHAPE = (
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.DataDependentOutputException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
)


def tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def samples(op: Any, dtype: torch.dtype, requires_grad: bool = False) -> Iterator[tuple[Any, Any]]:
    """A sample's arguments on the CPU, and how its result becomes one that can be differentiated."""
    found = list(op.sample_inputs("cpu", dtype, requires_grad=requires_grad))
    for sample in evenly(found, SAMPLES):
        yield (sample.input, sample.args, sample.kwargs), sample.output_process_fn_grad


def moved(arguments: Any, device: str) -> Any | None:
    """The arguments on the device; None where a tensor of theirs is sparse, which the device has not."""
    try:
        return Mover(device)(arguments)
    except NotDense:
        return None


def problem(check: Callable[..., bool], op: Any, arguments: Any, process: Any, device: str, **how: Any) -> str | None:
    """What a check by finite differences has to say, of one device."""
    given = moved(arguments, device)
    leaves = [] if given is None else differentiable(given)
    if not leaves or not all(leaf.numel() <= LARGEST and leaf.isfinite().all() for leaf in leaves):
        return None

    def function(*changed: torch.Tensor) -> Any:
        of = {id(leaf): new for leaf, new in zip(leaves, changed, strict=True)}
        first, args, kwargs = tree_map_only(torch.Tensor, lambda tensor: of.get(id(tensor), tensor), given)
        args, kwargs = where_asked(op, args, kwargs)
        torch.manual_seed(0)
        results = differentiable(process(op.gradcheck_wrapper(op.get_op(), first, *args, **kwargs)))
        return tuple(results)

    try:
        if any(torch.finfo(result.dtype).bits < 64 for result in function(*leaves)):
            return None  # Nor do those of a result that f32 rounds.
        torch.manual_seed(0)
        check(function, leaves, fast_mode=True, nondet_tol=op.gradcheck_nondet_tol, **how)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


class TestOps(TestCase):
    def _check(self, check: Callable[..., bool], op: Any, dtype: torch.dtype, **how: Any) -> None:
        """Fails where a derivative is wrong on the device, and right on the CPU."""
        for arguments, process in samples(op, dtype, requires_grad=True):
            mine = problem(check, op, arguments, process, "rustorch", **how)
            if mine is not None and problem(check, op, arguments, process, "cpu", **how) is None:
                self.fail(mine)

    @ops([op for op in op_db if op.supports_gradgrad], allowed_dtypes=(torch.float64,))
    def test_second_derivatives(self, device, dtype, op):
        self._check(gradgradcheck, op, dtype)

    @ops([op for op in op_db if op.supports_forward_ad], allowed_dtypes=(torch.float64,))
    def test_forward_mode(self, device, dtype, op):
        how = {"check_forward_ad": True, "check_backward_ad": False, "check_undefined_grad": False}
        self._check(gradcheck, op, dtype, check_batched_grad=False, **how)

    @ops(op_db, allowed_dtypes=(torch.float32, torch.int64))
    def test_fake_tensors(self, device, dtype, op):
        """A graph is traced by fake tensors: they say what results are before there are any."""
        for arguments, _ in samples(op, dtype):
            given = moved(arguments, "rustorch")
            if given is None:
                continue
            try:
                results = tensors(op(given[0], *given[1], **given[2]))
            except (NotImplementedError, RuntimeError):
                continue  # What the device refuses has no result: `conformance` asks whether it may.
            # Moved anew, as the call may have written to its arguments; outside of the mode, which takes no real ones.
            afresh = moved(arguments, "rustorch")
            with FakeTensorMode() as mode:
                fakes = tree_map_only(torch.Tensor, mode.from_tensor, afresh)
                try:
                    said = tensors(op(fakes[0], *fakes[1], **fakes[2]))
                except WITHOUT_SHAPE:
                    continue
            self.assertEqual(len(said), len(results))
            for fake, real in zip(said, results, strict=True):
                self.assertEqual((fake.dtype, fake.device, fake.shape), (real.dtype, real.device, real.shape))

    @ops(op_db, allowed_dtypes=(torch.float32,))
    def test_views(self, device, dtype, op):
        """What shares memory with an argument on the CPU does so here, and nothing else does."""

        def shared(arguments: Any) -> list[list[bool]]:
            args, kwargs = where_asked(op, *arguments[1:])
            results = tensors(op(arguments[0], *args, **kwargs))
            storages = [tensor.untyped_storage()._cdata for tensor in tensors(arguments)]
            return [[result.untyped_storage()._cdata == storage for storage in storages] for result in results]

        for arguments, _ in samples(op, dtype):
            here, there = moved(arguments, "cpu"), moved(arguments, "rustorch")
            if here is not None:
                self.assertEqual(shared(there), shared(here))


class TestModules(TestCase):
    def _made(self, info: Any, dtype: torch.dtype, training: bool) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Modules on the device, how one is made, and what it takes, there and on the CPU."""
        found = info.module_inputs_func(info, "cpu", dtype, requires_grad=True, training=training)
        for sample in evenly(list(found), SAMPLES):
            construct, forward = sample.constructor_input, sample.forward_input
            make = lambda given=construct: info.module_cls(*given.args, **given.kwargs).to("rustorch", dtype)  # noqa: E731
            arguments = moved((forward.args, forward.kwargs), "rustorch")
            if arguments is not None:
                torch.manual_seed(0)
                module = make().train(training)
                # A lazy module has its parameters from its first call on.
                module(*arguments[0], **arguments[1])
                yield module, make, arguments, moved((forward.args, forward.kwargs), "cpu")

    @modules(module_db, allowed_dtypes=(torch.float32,))
    def test_state_dict(self, device, dtype, module_info, training):
        for module, make, (args, kwargs), _ in self._made(module_info, dtype, training):
            file = io.BytesIO()
            torch.save(module.state_dict(), file)
            for state in (
                module.state_dict(),
                torch.load(io.BytesIO(file.getvalue()), weights_only=True),
                torch.load(io.BytesIO(file.getvalue()), weights_only=True, map_location="cpu"),
            ):
                other = make().train(training)
                other.load_state_dict(state)
                self.assertTrue(all(tensor.device.type == "rustorch" for tensor in tensors(other.state_dict())))
                self.assertEqual(other.state_dict(), module.state_dict(), rtol=0, atol=0)
            other = copy.deepcopy(module)
            torch.manual_seed(0)
            expected = module(*args, **kwargs)
            torch.manual_seed(0)
            self.assertEqual(other(*args, **kwargs), expected, rtol=0, atol=0)

    @modules(module_db, allowed_dtypes=(torch.float32,))
    def test_copies(self, device, dtype, module_info, training):
        for module, _, (args, kwargs), _ in self._made(module_info, dtype, training):
            copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), copy.deepcopy(module).cpu()]
            copies[-1] = copies[-1].to("rustorch")
            torch.manual_seed(0)
            expected = module(*args, **kwargs)
            for other in copies:
                torch.manual_seed(0)
                self.assertEqual(other(*args, **kwargs), expected, rtol=0, atol=0)

    @modules([info for info in module_db if info.supports_gradgrad], allowed_dtypes=(torch.float64,))
    def test_second_derivatives(self, device, dtype, module_info, training):
        def problem(module: Any, arguments: Any) -> str | None:
            leaves = [*differentiable(arguments), *module.parameters()]
            if not leaves or not all(leaf.numel() <= LARGEST and leaf.isfinite().all() for leaf in leaves):
                return None

            def function(*_: torch.Tensor) -> Any:
                torch.manual_seed(0)
                return tuple(differentiable(module(*arguments[0], **arguments[1])))

            try:
                gradgradcheck(function, leaves, fast_mode=True, nondet_tol=module_info.gradcheck_nondet_tol)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return None

        for module, _, arguments, here in self._made(module_info, dtype, training):
            mine = problem(module, arguments)
            if mine is not None and problem(copy.deepcopy(module).cpu(), here) is None:
                self.fail(mine)


class TestOptimizers(TestCase):
    def _parameters(self, info: Any, device: str) -> list[torch.nn.Parameter]:
        torch.manual_seed(0)
        shapes = [(3, 4), (4, 1)] if info.optim_cls is torch.optim.Muon else [(3, 4), (4,), (1,)]
        return [torch.nn.Parameter(torch.randn(sizes).to(device)) for sizes in shapes]

    def _steps(self, optimizer: Any, parameters: list[torch.nn.Parameter], count: int) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = sum(((parameter - 1) ** 2).sum() for parameter in parameters)
            loss.backward()
            return loss

        for _ in range(count):
            optimizer.step(closure)

    def _configurations(self, info: Any) -> Iterator[Callable[[list[torch.nn.Parameter]], Any]]:
        for given in info.optim_inputs_func(device="rustorch"):
            yield lambda parameters, given=given: info.optim_cls(parameters, **copy.deepcopy(given.kwargs))

    @optims([info for info in optim_db if not info.only_supports_sparse_grads], dtypes=(torch.float32,))
    def test_state_dict(self, device, dtype, optim_info):
        """A run that goes on from a saved state gives the bits of one that was not stopped."""
        for make in self._configurations(optim_info):
            parameters = self._parameters(optim_info, "rustorch")
            optimizer = make(parameters)
            self._steps(optimizer, parameters, 2)
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            others = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
            resumed = make(others)
            resumed.load_state_dict(torch.load(file, weights_only=True))
            self._steps(optimizer, parameters, 2)
            self._steps(resumed, others, 2)
            self.assertEqual(others, parameters, rtol=0, atol=0)
            self.assertEqual(resumed.state_dict(), optimizer.state_dict(), rtol=0, atol=0)

    @optims([info for info in optim_db if not info.only_supports_sparse_grads], dtypes=(torch.float32,))
    def test_state_of_the_cpu(self, device, dtype, optim_info):
        """State that was saved on the CPU goes to its parameter, and its numbers go on as they would there."""
        for make in self._configurations(optim_info):
            here = self._parameters(optim_info, "cpu")
            optimizer = make(here)
            self._steps(optimizer, here, 2)
            there = [torch.nn.Parameter(parameter.detach().to("rustorch")) for parameter in here]
            moved_on = make(there)
            # The two would share the tensors that count steps.
            moved_on.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            for state in moved_on.state.values():
                wide = [value for value in tensors(state) if value.dim() > 0]
                self.assertTrue(all(value.device.type == "rustorch" for value in wide))
            self._steps(optimizer, here, 2)
            self._steps(moved_on, there, 2)
            self.assertEqual([parameter.detach().cpu() for parameter in there], [p.detach() for p in here])


for tests in (TestOps, TestModules, TestOptimizers):
    instantiate_device_type_tests(tests, globals(), only_for="privateuse1")

if __name__ == "__main__":
    run_tests()
