"""A call in a child process with little memory left. For a process that has run no kernel of the CPU: OpenMP's
threads, if it had any, would hang a child that asks for them."""

import os
import resource
import signal
import sys
from collections.abc import Callable

import torch

REFUSED, DONE, OTHER, HARMED = 3, 4, 5, 6
UNLIMITED = resource.RLIM_INFINITY


def address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def under(
    limit: int, call: Callable[[], object], unharmed: Callable[[], bool] = lambda: True, seconds: int = 60
) -> int:
    """Runs `call` in a child with `limit` more bytes of address space than it has: what became of it, or minus the
    signal that ended it. `unharmed` is asked after a refusal, when memory can be had again."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = OTHER
        try:
            signal.alarm(seconds)
            # The pool's threads first: what a thread's start takes, the system takes, or ends the process.
            torch.ones(1 << 21, device="rustorch").exp()
            torch.rustorch.empty_cache()
            resource.setrlimit(resource.RLIMIT_AS, (address_space() + limit, UNLIMITED))
            try:
                call()
                code = DONE
            except (torch.OutOfMemoryError, MemoryError):
                resource.setrlimit(resource.RLIMIT_AS, (UNLIMITED, UNLIMITED))
                code = REFUSED if unharmed() else HARMED
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
