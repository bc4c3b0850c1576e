"""Looks for a program that an arm runs otherwise than CPU eager, and makes it small."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import hypothesis
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis.errors import Flaky

from fuzz import arms as ways
from fuzz.arms import ARMS, Arm
from fuzz.comparing import difference
from fuzz.programs import Program, programs


class Difference(AssertionError):
    """An arm did not do what CPU eager did."""

    def __init__(self, program: Program, arm: Arm, found: str) -> None:
        super().__init__(f"{arm}: {found}")
        self.program, self.arm, self.found = program, arm, found


@dataclass
class Summary:
    programs: int = 0
    #: Differences that PyTorch's own tracing makes alike.
    excused: int = 0
    failure: Difference | None = None


class Checker:
    """Runs programs in all arms; from the first difference on in that arm alone, as a smaller program is looked for.

    Args:
        before: is told each program before an arm runs it.
    """

    def __init__(self, arms: Sequence[Arm], before: Callable[[Program, Arm], None], strides: bool) -> None:
        self.arms = list(arms)
        self.before = before
        self.strides = strides
        self.summary = Summary()
        self.searching = True
        self._latest: deque[frozenset[str]] = deque(maxlen=8)

    def is_variation(self, program: Program) -> bool:
        """Whether most of it was tried just now: Hypothesis tries variations of each program that it draws."""
        lines = frozenset((*program.inputs, *program.lines))
        if any(2 * len(lines & latest) > len(lines) for latest in self._latest):
            return True
        self._latest.append(lines)
        return False

    def __call__(self, program: Program) -> None:
        if not program.lines or (self.searching and self.is_variation(program)):
            reject()
        try:
            self.check(program)
        except BaseException:
            # Now a smaller program is looked for, and Hypothesis runs some of them again.
            self.searching = False
            raise

    def check(self, program: Program) -> None:
        expected = ways.run(program, Arm("cpu"))
        self.summary.programs += self.searching
        for arm in self.arms:
            self.before(program, arm)
            outcome = ways.run(program, arm)
            if difference(outcome, expected, None, program, self.strides) is None:
                continue
            # It may be no further from the truth than CPU eager, or as PyTorch's own tracing makes it.
            precise = ways.in_f64(program)
            found = difference(outcome, expected, precise, program, self.strides)
            if found is None:
                continue
            if arm.backend is not None:
                traced = ways.run(program, ways.TRACED)
                if difference(outcome, traced, precise, program, self.strides) is None:
                    self.summary.excused += self.searching
                    continue
            self.arms = [arm]
            self.summary.failure = Difference(program, arm, found)
            raise self.summary.failure


def search(
    examples: int,
    seed: int,
    arms: Sequence[Arm] = ARMS,
    before: Callable[[Program, Arm], None] = lambda program, arm: None,
    strides: bool = False,
    most_steps: int = 24,
) -> Summary:
    """Runs up to `examples` programs, which follow from the seed, or until one fails, which it makes small."""
    checker = Checker(arms, before, strides)

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(programs(most_steps))
    def check(program: Program) -> None:
        checker(program)

    try:
        check()
    except Difference as failure:
        checker.summary.failure = failure
    except Flaky:
        # It does not fail each time: the latest that did is told.
        if checker.summary.failure is None:
            raise
        checker.summary.failure.found += " (not each time)"
    return checker.summary
