"""PyTorch's own databases of ops, modules and optimizers, run on rustorch and on the CPU.

`inputs` moves a call to the device; `compare` runs it on both and says where they differ, by more than `precision`
allows; `checks` are what is asked of an op, `places` what is asked of ops that tell where elements are; `cases` names
them and knows which are expected to fail, `golden` which are native; `pool` runs many at once and survives a crash;
`run` is `make conformance`, and `report` writes docs/ops.md.

Every check runs in every dtype that the CPU has of an op, save these: errors in f32, as the database's
wrong arguments are wrong in any dtype (dtypes that the CPU refuses have a check of their own); finite
differences in f64; modules and optimizers in f32 and f64. Of an op's samples a case takes five, spread
over all that the database has, and two for layouts, out and finite differences.
"""
