"""No warning is ours; what ran on PyTorch's CPU kernels is counted, and said at the end."""

import pytest
import torch


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = torch.rustorch.fallback_counts()
    terminalreporter.section("ops without a Rust kernel, in this process")
    for op, calls in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        terminalreporter.write_line(f"{calls:6} {op}")
    terminalreporter.write_line(f"{sum(counts.values())} calls of {len(counts)} ops")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The libraries' own warnings are left alone, and those that name the device are errors."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore"))
        item.add_marker(pytest.mark.filterwarnings(r"error:[\s\S]*rustorch"))
