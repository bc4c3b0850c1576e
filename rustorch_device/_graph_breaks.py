"""Where Dynamo stopped, for `explain`: the user's line, the sentence why, and what is not compiled."""

from __future__ import annotations

import linecache
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import FrameSummary

import torch
from torch._dynamo import utils

TORCH = str(Path(torch.__file__).parent)
#: Reasons of Dynamo's that are names of its own, in words.
NAMES = {
    "generic_jump": "a branch depends on a tensor's values",
    "store_attr": "an attribute is set that Dynamo cannot set in a graph",
    "step_unsupported": "Dynamo does not know an instruction here",
    "comprehension_graph_break": "a comprehension holds what Dynamo cannot trace",
}


@dataclass(frozen=True)
class GraphBreak:
    """A line at which a graph ends, or for which a function is left to eager.

    Attributes:
        file, line, function: where it is, in the user's code.
        code: the line itself.
        reason: Dynamo's sentence why.
        hint: what Dynamo says can be done about it; empty where it has nothing to say.
        is_skipped: whether nothing of the function is compiled, rather than all but this line.
    """

    file: str
    line: int
    function: str
    code: str
    reason: str
    hint: str = ""
    is_skipped: bool = False

    def __str__(self) -> str:
        place = f'File "{self.file}", line {self.line}, in {self.function}: {self.code}'
        consequence = f" ({self.function} runs in eager mode from here on)" if self.is_skipped else ""
        return f"{self.reason}{consequence}\n  {place}" + (f"\n  {self.hint}" if self.hint else "")


def _sentence(message: str) -> str:
    """Dynamo's explanation, or its heading where it has none."""
    explanation = re.search(r"^  Explanation: (.*?)(?=^  Hint:|^\s*$)", message, re.MULTILINE | re.DOTALL)
    if explanation is not None:
        return " ".join(explanation[1].split())
    heading = message.splitlines()[0] if message else "Dynamo gives no reason"
    return NAMES.get(heading.split()[0], heading)


def _hint(message: str) -> str:
    hint = re.search(r"^  Hint: (.*)", message, re.MULTILINE)
    return "" if hint is None else hint[1]


def _function(name: str) -> str:
    """A function's own name: what Dynamo makes of the rest of one after a break has a name of Dynamo's."""
    resumed = re.fullmatch(r"torch_dynamo_resume_in_(.*)_at_\d+", name)
    return name if resumed is None else resumed[1]


def _of_stack(message: str, stack: list[FrameSummary]) -> GraphBreak:
    """A break at the innermost frame that is not PyTorch's own."""
    own = [frame for frame in stack if not frame.filename.startswith(TORCH)] or stack
    if not own:
        return GraphBreak("?", 0, "?", "", _sentence(message), _hint(message))
    frame = own[-1]
    name = _function(frame.name)
    return GraphBreak(frame.filename, frame.lineno or 0, name, frame.line or "", _sentence(message), _hint(message))


def _of_skipped(metrics: utils.CompilationMetrics) -> GraphBreak:
    """A function that Dynamo gave up, as its record of the attempt has it."""
    file = metrics.fail_user_frame_filename or metrics.co_filename or "?"
    line = metrics.fail_user_frame_lineno or metrics.co_firstlineno or 0
    message = metrics.fail_reason or ""
    code = linecache.getline(file, line).strip()
    return GraphBreak(file, line, _function(metrics.co_name or "?"), code, _sentence(message), _hint(message), True)


@contextmanager
def watching() -> Iterator[Counter[GraphBreak]]:
    """Collects the breaks of what is compiled in its body, each with how often it was met; filled at its end."""
    found: Counter[GraphBreak] = Counter()
    breaks_before = len(utils.graph_break_reasons)
    # Held, so that no new record has the identity of an old one.
    attempts_before = list(utils.get_compilation_metrics())
    known = {id(attempt) for attempt in attempts_before}
    try:
        yield found
    finally:
        for met in utils.graph_break_reasons[breaks_before:]:
            found[_of_stack(met.reason, met.user_stack)] += 1
        for attempt in utils.get_compilation_metrics():
            if id(attempt) not in known and attempt.fail_type == "Unsupported":
                found[_of_skipped(attempt)] += 1
