"""What the allocator says, against what programs did."""

import pytest
import torch


def test_statistics_follow_tensors():
    torch.rustorch.empty_cache()
    torch.rustorch.reset_peak_memory_stats()
    before = torch.rustorch.memory_allocated()
    tensor = torch.empty(1000, device="rustorch")
    assert torch.rustorch.memory_allocated() == before + 4000
    assert torch.accelerator.memory_allocated() == before + 4000
    large = torch.empty(3 << 20, device="rustorch")
    assert torch.rustorch.memory_reserved() >= before + 4000 + (12 << 20)
    del tensor, large
    assert torch.rustorch.memory_allocated() == before
    assert torch.rustorch.max_memory_allocated() == before + 4000 + (12 << 20)
    reserved = torch.rustorch.memory_reserved()
    torch.rustorch.empty_cache()
    assert torch.rustorch.memory_reserved() <= reserved - (12 << 20)
    torch.accelerator.reset_peak_memory_stats()
    assert torch.accelerator.max_memory_allocated() == before


def test_statistics_have_pytorchs_names():
    torch.rustorch.reset_accumulated_memory_stats()
    tensor = torch.empty(1 << 20, device="rustorch")
    stats = torch.rustorch.memory_stats()
    assert stats == torch.accelerator.memory_stats()
    assert stats["allocation.all.allocated"] == stats["allocation.large_pool.allocated"] == 1
    assert stats["allocated_bytes.all.allocated"] == tensor.nbytes
    assert stats["allocated_bytes.small_pool.allocated"] == 0
    free, total = torch.rustorch.mem_get_info()
    assert 0 < free <= total == torch.accelerator.get_memory_info()[1]


@pytest.mark.allow_fallback
def test_results_of_cpu_kernels_count_too():
    source = torch.zeros(1000, device="rustorch")
    before = torch.rustorch.memory_allocated()
    result = torch.special.bessel_j0(source)
    assert torch.rustorch.memory_allocated() == before + 4000
    del result
    assert torch.rustorch.memory_allocated() == before


def test_out_of_memory():
    before = torch.rustorch.memory_stats()["num_ooms"]
    with pytest.raises(torch.OutOfMemoryError, match=r" out of memory\. Tried to allocate 4611686018427387904 bytes"):
        torch.empty(1 << 60, device="rustorch")
    assert torch.rustorch.memory_stats()["num_ooms"] == before + 1
    assert torch.ones(3, device="rustorch").tolist() == [1, 1, 1]


def test_memory_is_aligned():
    tensors = [torch.empty(size, dtype=torch.uint8, device="rustorch") for size in (1, 65, 5000, 100_000, 3 << 20)]
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)
    assert torch.empty(0, device="rustorch").data_ptr() == 0


def test_the_profiler_sees_allocations():
    with torch.profiler.profile(profile_memory=True) as profile:
        torch.empty(1000, device="rustorch")
    events = [event for event in profile.events() if event.name == "[memory]" or "empty" in event.name]
    assert events
