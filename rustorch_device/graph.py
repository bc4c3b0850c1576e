"""From an FX graph to Rust programs.

A graph is imported on its first call. Its nodes run on stand-ins for its arguments, and the
launches that they would make are recorded (`_C.capture_*`); a run of nodes that are recorded so
becomes one Rust program. A node that cannot be recorded runs as it was traced, on the device that it was traced
on, between two programs. The result is a `Plan`: steps over a list with one slot for each node.
"""

from __future__ import annotations

import logging
import operator
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from rustorch_device import _C, _replay
from rustorch_device._strides import Strides, count_from_first
from rustorch_device.weights import Kept

DEVICE = torch.device("rustorch", 0)

#: `TORCH_LOGS="rustorch"` shows imports, `TORCH_LOGS="+rustorch"` programs before and after the passes.
log = logging.getLogger("rustorch_device")


@dataclass
class NodeReport:
    """What became of one node of a graph: `native`, `view` (no arithmetic) or `eager`."""

    name: str
    target: str
    kind: str
    reason: str = ""
    #: The user's line that made it, where it is known.
    place: str = ""


@dataclass
class GraphReport:
    """What became of one graph: its nodes, in order, and its programs."""

    name: str
    nodes: list[NodeReport] = field(default_factory=list)
    programs: list[_C.Program] = field(default_factory=list)
    #: Seconds of each phase of the import: "capture", "passes" (machine code included) and "first run".
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("capture", "passes", "first run"), 0.0))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time of its body to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


@dataclass(frozen=True)
class Slot:
    """A value's place: the position of the node that makes it."""

    index: int


def _call_on_device(target: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Calls an op; one that was traced to make its result on the CPU makes it on the device."""
    device = kwargs.get("device")
    if device is not None and torch.device(device).type == "cpu":
        kwargs = {**kwargs, "device": DEVICE}
    return target(*args, **kwargs)


def _geometry(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.untyped_storage()._cdata, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()


def _record(target: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Calls an op on stand-ins. One that writes gets them under other names, so that what it does to the tensors
    themselves (`p.data = q`, a resize) is seen, and refused: it would be lost with the stand-ins."""
    if not (isinstance(target, OpOverload) and target._schema.is_mutable):
        return _call_on_device(target, args, kwargs)
    names: dict[int, torch.Tensor] = {}
    args, kwargs = tree_map_only(
        torch.Tensor, lambda tensor: names.setdefault(id(tensor), tensor.detach()), (args, kwargs)
    )
    before = [_geometry(name) for name in names.values()]
    value = _call_on_device(target, args, kwargs)
    if before != [_geometry(name) for name in names.values()]:
        raise NotImplementedError("it changes what a tensor is, not only what it holds")
    return value


@contextmanager
def _as_traced(default_dtype: torch.dtype) -> Iterator[None]:
    """The state in which a graph's nodes run, whatever the caller's is: autograd and autocast have been traced, and
    are nodes themselves, and dtypes were chosen with the default one of then."""
    before = torch.get_default_dtype()
    if before != default_dtype:
        torch.set_default_dtype(default_dtype)
    try:
        with torch.no_grad(), torch._C._DisableAutocast():
            yield
    finally:
        if before != default_dtype:
            torch.set_default_dtype(before)


@dataclass
class EagerStep:
    """One node, run by the dispatcher as it was traced, on the device that it was traced on."""

    target: Callable[..., Any]
    args: Any
    kwargs: dict[str, Any]
    result: int
    #: PyTorch's when the graph was traced.
    default_dtype: torch.dtype
    #: What an error says of the node.
    label: str = ""
    #: Slots that nothing reads afterwards.
    given_up: list[int] = field(default_factory=list)

    def run(self, slots: list[Any]) -> bool:
        args, kwargs = tree_map_only(Slot, lambda slot: slots[slot.index], (self.args, self.kwargs))
        try:
            with _as_traced(self.default_dtype):
                slots[self.result] = self.target(*args, **kwargs)
        except Exception as error:
            error.add_note(f"compiled from {self.label}")
            raise
        for slot in self.given_up:
            slots[slot] = None
        return True


@dataclass
class ProgramStep:
    """A run of nodes in one Rust program."""

    program: _C.Program
    results: list[int]
    #: The same nodes one by one, for arguments that only an eager node's data decides the shape of.
    #: Absent in the first step, which is captured anew for arguments of another shape.
    nodes: list[EagerStep] | None

    def run(self, slots: list[Any]) -> bool:
        values = self.program.run(slots)
        if values is None:
            return self.nodes is not None and all(node.run(slots) for node in self.nodes)
        for slot, value in zip(self.results, values, strict=True):
            slots[slot] = value
        return True


@dataclass
class Plan:
    """An imported graph."""

    steps: list[ProgramStep | EagerStep | Kept]
    #: How many arguments there are; they are the first slots.
    arguments: int
    #: The slots after the arguments: constants of the graph, and None for what steps make.
    tail: list[Any]
    #: Arguments that are numbers (sizes); the plan holds for these values.
    numbers: list[tuple[int, Any]]
    #: Each result: a slot or a constant.
    results: list[Any]
    #: The state of PyTorch's that the plan was made in, and holds for (`_C.ambient`). Autograd, autocast and the
    #: default dtype were fixed when the graph was traced.
    ambient: int

    def __post_init__(self) -> None:
        #: The program that gives the graph's results all by itself.
        self.single: _C.Program | None = None
        if len(self.steps) == 1 and isinstance(self.steps[0], ProgramStep) and not self.numbers:
            step = self.steps[0]
            places = {slot: number for number, slot in enumerate(step.results)}
            places |= {slot: ~slot for slot in range(self.arguments)}
            if all(result is None or (isinstance(result, Slot) and result.index in places) for result in self.results):
                step.program.arrange([None if result is None else places[result.index] for result in self.results])
                self.single = step.program

    def run(self, arguments: list[Any]) -> list[Any] | None:
        """The graph's results, or None where the arguments are not those it was imported for. What the list
        alone holds is freed as soon as nothing reads it any more."""
        if self.single is not None:
            return self.single.run(arguments)
        if any(arguments[index] != value for index, value in self.numbers):
            return None
        arguments += self.tail
        if not all(step.run(arguments) for step in self.steps):
            del arguments[self.arguments :]
            return None
        return self.collect(arguments)

    def collect(self, slots: list[Any]) -> list[Any]:
        return [slots[result.index] if isinstance(result, Slot) else result for result in self.results]


def _place(node: Node) -> str:
    """The line of the user's code that made a node, as `File "model.py", line 12, in forward: return x @ w`."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    frames = [index for index, line in enumerate(lines) if line.startswith('File "')]
    return ": ".join(lines[frames[-1] : frames[-1] + 2]) if frames else ""


def _label(node: Node) -> str:
    """The node's name and target, with the line of the user's code that made it."""
    return ", ".join(filter(None, [f"{node.name} ({node.target})", _place(node)]))


def _traced_on_cpu(node: Any) -> bool:
    values = tree_leaves(node.meta.get("val")) if isinstance(node, Node) else []
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return bool(tensors) and tensors[0].device.type == "cpu"


#: Namespaces of ops whose kernels are known to record, or to refuse.
NAMESPACES = ("aten", "prims")


def _refusal(node: Node) -> str | None:
    """Why a node is not to be run on stand-ins; None where it may. What is not known to record may read memory that
    is not there, write to it, or keep state that a program would not have."""
    target = node.target
    if isinstance(target, OpOverload):
        if target.namespace not in NAMESPACES:
            return "an op of another library runs as it was traced"
        if torch.Tag.inplace_view in target.tags:
            return "it changes what a tensor views"
        if not _C.capturable(target._schema.name, target._schema.overload_name):
            return "another library has replaced its kernel for the device"
        return None
    if node.target in _replay.OPERATORS:
        return "it saves or restores a generator's state"
    if isinstance(target, HigherOrderOperator):
        return "an operator over functions runs as it was traced"
    # Arithmetic of sizes, which a plan holds for.
    values = [argument.meta.get("val") for argument in node.all_input_nodes]
    is_of_numbers = bool(values) and not any(isinstance(value, torch.Tensor) for value in tree_leaves(values))
    return None if is_of_numbers else "it is no op of PyTorch's"


class Importer:
    """Imports one graph, running it once on the way: the first call's results come of it. The list of
    arguments is emptied."""

    def __init__(
        self,
        module: GraphModule,
        arguments: list[Any],
        report: GraphReport,
        default_dtype: torch.dtype,
        kept: Kept | None = None,
    ) -> None:
        self.module = module
        self.default_dtype = default_dtype
        self.kept = kept
        self.report = report
        self.nodes = list(module.graph.nodes)
        self.position = {node: index for index, node in enumerate(self.nodes)}
        #: The nodes whose values the graph gives.
        self.returned = {value for value in self.nodes[-1].args[0] if isinstance(value, Node)}  # type: ignore[union-attr]
        self.arguments = len(arguments)
        self.slots = arguments + [None] * (len(self.nodes) - len(arguments))
        # So that the slots alone hold them.
        arguments.clear()
        self.constants: dict[int, Any] = {}
        self.numbers: dict[int, Any] = {}
        self.steps: list[ProgramStep | EagerStep | Kept] = []
        #: The nodes that are being captured, with their stand-in values; None between segments.
        self.segment: dict[Node, Any] | None = None
        self.stand_ins: dict[Node, Any] = {}
        self.done: set[Node] = set()

    def run(self) -> tuple[Plan, list[Any]]:
        started = time.perf_counter()
        for node in self.nodes:
            if node.op == "get_attr":
                position = self.position[node]
                self.slots[position] = operator.attrgetter(str(node.target))(self.module)
                self.constants[position] = self.slots[position]
        self.strides = Strides(self.nodes, self.slots)
        state = _C.ambient()
        try:
            if self.kept is not None and self.kept.nodes:
                self._import_kept(self.kept)
            for node in self.nodes:
                if node.op == "call_function" and node not in self.done:
                    self._import(node)
            self._end_segment()
        finally:
            # Whatever failed, and where: the thread captures no longer.
            _C.capture_abandon()
        outputs = self.nodes[-1].args[0]
        results = [
            Slot(self.position[value]) if isinstance(value, Node) else value
            for value in outputs  # type: ignore[union-attr]
        ]
        tail = [self.constants.get(index) for index in range(self.arguments, len(self.nodes))]
        plan = Plan(self.steps, self.arguments, tail, list(self.numbers.items()), results, state)
        seconds = self.report.seconds
        seconds["capture"] = time.perf_counter() - started - seconds["passes"] - seconds["first run"]
        self._log()
        return plan, plan.collect(self.slots)

    def _log(self) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        for number, program in enumerate(self.report.programs):
            launches, moved = program.captured
            log.info(
                "%s, program %d: %d launches became %d kernels, %d bytes moved became %d, at most %d bytes held",
                *(self.report.name, number, launches, program.instructions, moved, program.moved_bytes),
                program.peak_bytes,
            )
        for node in self.report.nodes:
            if node.kind == "eager":
                log.info("%s: %s runs outside of Rust: %s", self.report.name, node.target, node.reason)
        phases = ", ".join(f"{phase} {1e3 * spent:.1f} ms" for phase, spent in self.report.seconds.items())
        log.info("%s imported: %s", self.report.name, phases)

    def _import_kept(self, kept: Kept) -> None:
        """What weights alone decide, as the first step."""
        if kept.steps:
            self.done.update(kept.nodes)
            kept.run(self.slots)
        else:
            for node in kept.nodes:
                if node not in self.done:
                    self._import(node)
            self._end_segment()
            kept.steps = self.steps
            kept.save(self.slots)
        self.steps = [kept]

    def _import(self, node: Node) -> None:
        refusal = self._capture(node)
        if refusal is None:
            return
        self._end_segment()
        self.report.nodes.append(NodeReport(node.name, str(node.target), "eager", refusal, _place(node)))
        self._run_eagerly(node)

    def _run_eagerly(self, node: Node) -> None:
        self.done.add(node)
        step = self._eager_step(node)
        step.given_up = [
            self.position[argument] for argument in node.all_input_nodes if self.done.issuperset(argument.users)
        ]
        with self.report.phase("first run"):
            step.run(self.slots)
        self.steps.append(step)
        # A tuple's parts are taken now, so that only tensors and numbers pass between steps.
        for user in node.users:
            if user.target is operator.getitem:
                self._run_eagerly(user)

    def _eager_step(self, node: Node) -> EagerStep:
        args, kwargs = tree_map_only(Node, lambda node: Slot(self.position[node]), (node.args, node.kwargs))
        target: Any = node.target
        return EagerStep(target, args, kwargs, self.position[node], self.default_dtype, _label(node))

    def _capture(self, node: Node) -> str | None:
        """Runs the node on stand-ins; gives the reason where that is impossible."""
        if (refusal := _refusal(node)) is not None:
            return refusal
        if self.segment is None:
            _C.capture_begin()
            self.segment = {}
            self.stand_ins = {}
        mark = _C.capture_mark()
        _C.capture_origin(_label(node), _traced_on_cpu(node))
        try:
            args, kwargs = tree_map_only(Node, self._stand_in, (node.args, node.kwargs))
            with _as_traced(self.default_dtype), _disable_current_modes():
                value = _record(node.target, args, kwargs)  # type: ignore[arg-type]
                value = self.strides.restore(node, value, (args, kwargs))
                values = self._values_of(node, value)
            for leaf in tree_leaves(value):
                if isinstance(leaf, torch.Tensor) and not _C.capture_accepts(leaf):
                    raise NotImplementedError(f"its result is a {leaf.type()}, which a program does not give")
        except Exception as error:
            # Whatever it is: the eager door does the work, or raises it with the real values.
            _C.capture_rollback(mark)
            return str(error).strip().partition("\n")[0] or type(error).__name__
        self.segment.update(values)
        self.done.update(values)
        if tree_leaves(value, is_leaf=lambda leaf: isinstance(leaf, torch.Tensor)):
            kind = "native" if _C.capture_mark() > mark else "view"
            self.report.nodes.append(NodeReport(node.name, str(node.target), kind, place=_place(node)))
        return None

    def _values_of(self, node: Node, value: Any) -> dict[Node, Any]:
        """The node's value, and those of the nodes that take its parts; the graph's results in their places."""
        values = {node: value}
        for user in node.users:
            if user.target is operator.getitem and user.args[0] is node:
                values[user] = value[user.args[1]]
        known = ChainMap(values, self.segment or {}, self.stand_ins)
        for made in self.returned.intersection(values):
            values[made] = self._in_its_place(made, known)
        return values

    def _in_its_place(self, node: Node, known: Mapping[Node, Any]) -> Any:
        """A result of the graph, as AOTAutograd takes results (`count_from_first`)."""
        value = known[node]
        if not isinstance(value, torch.Tensor) or value.storage_offset() == 0:
            return value
        storage, first = value.untyped_storage()._cdata, value
        way = [node]
        for made in way:
            for argument in made.all_input_nodes:
                sharing = [
                    leaf
                    for leaf in tree_leaves(known.get(argument))
                    if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata == storage
                ]
                if sharing and argument in self.stand_ins:
                    # It views an argument of the program, where its place is what it is.
                    return value
                if sharing:
                    first = sharing[0]
                    way.append(argument)
        return count_from_first(value, first)

    def _stand_in(self, node: Node) -> Any:
        assert self.segment is not None
        if node in self.segment:
            return self.segment[node]
        if node not in self.stand_ins:
            position = self.position[node]
            value = self.slots[position]
            if isinstance(value, torch.Tensor):
                where = None if position in self.constants else position
                value = _C.capture_input(value, where)
            elif position < self.arguments:
                self.numbers[position] = value
            else:
                raise NotImplementedError(f"{node.name} is a number that an eager node computes")
            self.stand_ins[node] = value
        return self.stand_ins[node]

    def _end_segment(self) -> None:
        """Ends the capture; runs the program for its results."""
        if self.segment is None:
            return
        tensors: list[torch.Tensor] = []
        on_cpu: list[bool] = []
        results: list[int] = []

        def later(node: Node) -> list[Node]:
            return [user for user in node.users if user not in self.done]

        for node, value in self.segment.items():
            if not later(node):
                continue
            if isinstance(value, torch.Tensor):
                tensors.append(value)
                results.append(self.position[node])
                on_cpu.append(_traced_on_cpu(node))
            else:
                self.slots[self.position[node]] = value
                self.constants[self.position[node]] = value
        nodes = [self._eager_step(node) for node in self.segment] if self.steps else None
        given_up = {self.position[node] for node in self.stand_ins if not later(node)}
        keep_text = log.isEnabledFor(logging.DEBUG)
        with self.report.phase("passes"):
            program = _C.capture_finish(tensors, on_cpu, given_up, keep_text)
        if keep_text:
            log.debug("%s as captured:\n%s", self.report.name, program.captured_text())
            log.debug("%s after the passes:\n%s", self.report.name, program.text())
        self.segment = None
        self.stand_ins = {}
        self.report.programs.append(program)
        step = ProgramStep(program, results, nodes)
        with self.report.phase("first run"):
            fits = step.run(self.slots)
        if not fits:
            raise RuntimeError("rust_backend: a program refuses the arguments it was captured for; please report this")
        self.steps.append(step)
