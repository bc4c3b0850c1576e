"""Seeds, generators and their state."""

import pytest
import torch


def draw(generator=None):
    return torch.rand(8, device="rustorch", generator=generator).cpu()


def test_manual_seed_governs():
    torch.manual_seed(3)
    first = draw()
    second = draw()
    torch.manual_seed(3)
    assert torch.equal(draw(), first) and torch.equal(draw(), second)
    assert not torch.equal(first, second)
    assert torch.rustorch.initial_seed() == 3
    torch.manual_seed(4)
    assert not torch.equal(draw(), first)


def test_state_can_be_kept_and_restored():
    state = torch.rustorch.get_rng_state()
    assert state.device.type == "cpu" and state.dtype == torch.uint8
    first = draw()
    torch.rustorch.set_rng_state(state)
    assert torch.equal(draw(), first)
    with torch.random.fork_rng(devices=[0], device_type="rustorch"):
        draw()
    torch.rustorch.set_rng_state_all(torch.rustorch.get_rng_state_all())
    with pytest.raises(RuntimeError, match="wrong size"):
        torch.rustorch.set_rng_state(torch.zeros(3, dtype=torch.uint8))


def test_generators_of_ones_own():
    generator = torch.Generator("rustorch")
    assert generator.device == torch.device("rustorch:0")
    generator.manual_seed(5)
    own = draw(generator)
    before = torch.rustorch.get_rng_state()
    assert not torch.equal(draw(generator), own)
    assert torch.equal(torch.rustorch.get_rng_state(), before)
    clone = torch.Generator("rustorch")
    clone.set_state(generator.get_state())
    assert torch.equal(draw(clone), draw(generator))
    generator.set_offset(0)
    assert generator.get_offset() == 0
    assert torch.equal(draw(generator), own)
    assert torch.equal(draw(generator.clone_state()), draw(generator))
    assert generator.seed() == generator.initial_seed()


def test_another_devices_generator_is_refused():
    with pytest.raises(RuntimeError, match="generator"):
        draw(torch.Generator("cpu"))


def test_cpu_kernels_draw_from_the_devices_seed():
    weights = torch.ones(1000, device="rustorch")
    torch.manual_seed(9)
    first = torch.poisson(weights).cpu()
    torch.manual_seed(9)
    assert torch.equal(torch.poisson(weights).cpu(), first)
    assert not torch.equal(torch.poisson(weights).cpu(), first)
