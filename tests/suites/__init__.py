"""Other people's suites on the device, and checks over the databases that torch ships: `make suites`.

`databases` asks of PyTorch's databases what `conformance` does not; `manifest` tells TorchCTS what the device has;
`upstream` are the files of PyTorch's own `test/` folder, where a checkout is given. All are run by pytest: `record`
writes down how each case went, so that a run survives a crash and goes on where it was; `outcomes` reads that, and
holds it against `expected_failures.toml`; `run` is the command.
"""
