"""Ops of a user's own, each of which does what a compiler cannot look through. Printed programs contain this file."""

import numpy
import torch

import rustorch_device

#: A state that an op reads: whoever calls a program sets it before each call.
RUN = {"number": 1}


@torch.library.custom_op("fuzz::through_numpy", mutates_args=())
def through_numpy(x: torch.Tensor) -> torch.Tensor:
    """Twice its argument, whose memory it reads itself."""
    here = x.detach() if x.device.type == "cpu" else rustorch_device.alias(x.detach())
    return torch.from_numpy(numpy.array(here.numpy() * 2, order="C")).to(x.device)


@torch.library.custom_op("fuzz::of_run", mutates_args=())
def of_run(x: torch.Tensor) -> torch.Tensor:
    """Its argument times the number of the run: wrong where it is computed once for all runs."""
    return (x * RUN["number"]).contiguous()


@torch.library.custom_op("fuzz::double_", mutates_args={"x"})
def double_(x: torch.Tensor) -> None:
    """Writes to its argument."""
    x.mul_(2)


through_numpy.register_fake(lambda x: x.new_empty(x.shape))
of_run.register_fake(lambda x: x.new_empty(x.shape))
double_.register_fake(lambda x: None)
# Both are linear: their gradients are they themselves.
through_numpy.register_autograd(lambda ctx, grad: through_numpy(grad))
of_run.register_autograd(lambda ctx, grad: of_run(grad))
