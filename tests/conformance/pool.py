"""Cases in worker processes: one that dies or hangs costs its own case only."""

import multiprocessing
import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

from conformance.cases import Case, Result


def _serve(connection: Connection, limit: int) -> None:
    import torch

    from conformance.cases import SAMPLES, expected_failures, run_case
    from conformance.golden import not_native

    torch.set_num_threads(1)
    torch.rustorch.set_fallback_policy("silent")
    while (case := connection.recv()) is not None:
        # What is known to fail, or to need the fallback, does so on one of all its samples.
        is_known = str(case) in expected_failures() or str(case) in not_native()
        connection.send(run_case(case, SAMPLES if is_known else limit))


class Worker:
    """A process that runs cases; started when needed, and again after a crash."""

    def __init__(self, limit: int, timeout: float) -> None:
        self.limit = limit
        self.timeout = timeout
        self.process: multiprocessing.process.BaseProcess | None = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.limit), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, case: Case) -> Result:
        if self.process is None:
            self._start()
        assert self.process is not None
        try:
            self.connection.send(case)
            if self.connection.poll(self.timeout):
                return self.connection.recv()
            message = f"no answer in {self.timeout:.0f} s"
        except (EOFError, OSError):
            self.process.join(10)
            message = f"the process died (exit code {self.process.exitcode})"
        self.process.kill()
        self.process.join()
        self.process = None
        return Result("crash", message)

    def stop(self) -> None:
        if self.process is not None:
            self.connection.send(None)
            self.process.join(10)
            self.process.kill()


def run_all(
    work: Iterable[tuple[str, list[Case]]],
    done: Callable[[str, dict[str, Result]], None],
    processes: int,
    limit: int,
    timeout: float = 300,
) -> None:
    """Runs each op's cases in one of `processes` workers; calls `done` with the results of an op."""
    waiting = iter(work)
    lock = threading.Lock()

    def drive() -> None:
        worker = Worker(limit, timeout)
        while True:
            with lock:
                op, cases = next(waiting, (None, []))
            if op is None:
                break
            results = {f"{case.check} {case.dtype}": worker.run(case) for case in cases}
            with lock:
                done(op, results)
        worker.stop()

    threads = [threading.Thread(target=drive) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
