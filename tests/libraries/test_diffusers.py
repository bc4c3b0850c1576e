"""diffusers on the device: its networks, eager and compiled, its schedulers, and a pipeline."""

import copy
import inspect

import pytest
import torch

from libraries.comparing import check_trains_as_on_the_cpu

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: `make libraries` installs it")

DEVICE = "rustorch"


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 8}
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    return diffusers.UNet2DModel(in_channels=1, out_channels=1, attention_head_dim=4, **sizes, **blocks)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_network_trains_as_on_the_cpu(compiled):
    images, times = torch.randn(2, 1, 8, 8), torch.tensor([3, 5])

    def step(run, device):
        output = run(images.to(device), times.to(device)).sample
        return output, output.square().mean()

    check_trains_as_on_the_cpu(network, step, compiled)


SCHEDULERS = [
    "CMStochasticIterativeScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "IPNDMScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.allow_fallback  # one of them solves a system of equations
def test_a_scheduler_steps_as_on_the_cpu(name):
    results = []
    for device in ("cpu", DEVICE):
        scheduler = getattr(diffusers, name)()
        scheduler.set_timesteps(4, device=device)
        generator = torch.Generator().manual_seed(0)
        takes = "generator" in inspect.signature(scheduler.step).parameters
        sample = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(device)
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(sample, time) if hasattr(scheduler, "scale_model_input") else sample
            given = {"generator": generator} if takes else {}
            sample = scheduler.step(scaled * 0.1, time, sample, **given).prev_sample
        assert sample.device.type == device
        results.append(sample.cpu())
    assert results[0].isfinite().all()
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)


def test_a_pipeline():
    images = []
    for device in ("cpu", DEVICE):
        pipe = diffusers.DDIMPipeline(copy.deepcopy(network()), diffusers.DDIMScheduler()).to(device)
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(1)
        images.append(pipe(num_inference_steps=3, generator=generator, output_type="np").images)
        assert pipe.device.type == device
    assert abs(images[0] - images[1]).max() < 1e-3
