"""Measurements against PyTorch's own CPU kernels: `python -m benches.run --help`."""
