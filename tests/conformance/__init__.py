"""PyTorch's own databases of ops, modules and optimizers, run on rustorch and on the CPU.

`inputs` moves a call to the device; `compare` runs it on both and says where they differ; `checks`
are what is asked of an op; `cases` names them and knows which are expected to fail; `pool` runs
many at once and survives a crash; `run` is `make conformance`, and `report` writes docs/ops.md.
"""
