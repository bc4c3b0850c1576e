"""A program as a script of its own, to paste into an issue: it runs CPU eager and the arm that differs."""

import inspect

from fuzz import calling, custom_ops
from fuzz.arms import Arm
from fuzz.comparing import SHARES
from fuzz.inputs import numbers
from fuzz.programs import Program


def body(module: object) -> str:
    """A module's source after its docstring and imports."""
    lines = inspect.getsource(module).splitlines()  # type: ignore[arg-type]
    last = max(number for number, line in enumerate(lines) if line.startswith(("import ", "from ")))
    return "\n".join(lines[last + 1 :]).strip()


def as_script(program: Program, arm: Arm, found: str = "") -> str:
    """Its exit status is 1 where the arm differs from CPU eager.

    Args:
        found: what differs, for the first line.
    """
    own = body(custom_ops) if program.uses_own_ops() else 'RUN = {"number": 1}'
    compiled = f'torch.compile(program, backend="{arm.backend}", dynamic={program.dynamic or None})'
    on = program.captures_values
    exact = sorted(name for name in program.exact if name in (*program.results, *program.names))
    title = f"{arm}: {found}" if found else str(arm)
    title = " ".join(title.split()).replace("\\", "/").replace('"', "'")
    return f'''"""{title}"""

from collections.abc import Callable, Sequence
from math import inf, nan
from typing import Any

{"import numpy" if program.uses_own_ops() else ""}
import torch
import torch.nn.functional as F

import rustorch_device

{own}


{inspect.getsource(numbers)}

{body(calling)}


{program.inputs_source()}


{program.source()}


torch.rustorch.set_fallback_policy("silent")
results, seeds, late, exact = {program.results}, {program.seeds}, {program.late_backward}, {exact}
expected = calls(program, inputs, results, "cpu", seeds, late)
other = {compiled if arm.backend else "program"}
with torch._dynamo.config.patch(capture_dynamic_output_shape_ops={on}, capture_scalar_outputs={on}):
    actual = calls(other, inputs, results, "{arm.device}", seeds, late)
failed = False
for number, (mine, theirs) in enumerate(zip(actual, expected)):
    raised = "raised" in mine or "raised" in theirs
    for key in ["raised"] if raised else theirs:
        left, right = mine.get(key), theirs.get(key)
        if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
            left, right = left.detach().cpu(), right.detach()
            share = 0 if key.split()[-1] in exact and "gradient" not in key else {SHARES[program.coarsest]}
            sizes = right.to(torch.complex128).abs().nan_to_num(0, 0, 0).flatten()
            atol = share * max(1, {program.largest}, *sizes.tolist())
            try:
                torch.testing.assert_close(left, right, rtol=share, atol=atol, equal_nan=True)
                continue
            except AssertionError:
                pass
        elif type(left) is type(right) and (left is None or left[0] is right[0]):
            continue
        failed = True
        print(f"call {{number + 1}}, {{key}}\\n  {arm}: {{left}}\\n  CPU eager: {{right}}")
print("they differ" if failed else "they agree")
raise SystemExit(failed)
'''
