"""`python -m rustorch_device`: lists the commands that the package has.

`python -m rustorch_device COMMAND` runs one, as `python -m rustorch_device.COMMAND` does.
"""

import argparse
import runpy
import sys

#: Each command is a module that runs, `rustorch_device.NAME`.
COMMANDS = {
    "backend_check": "the smoke test: what is installed, and whether it works",
    "parity": "compares models on rustorch, eager and compiled, with eager PyTorch on the CPU",
    "collect_env": "what a report of a fault should say: versions, the device, libraries and their switches",
    "checkpoint": "shows what is in a checkpoint file, or checks its bytes",
}


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rustorch_device",
        description="A PyTorch device and torch.compile backend whose kernels are written in Rust.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, meaning in COMMANDS.items():
        # The command's own parser reads what follows its name, `--help` included.
        commands.add_parser(name, help=meaning, add_help=False)
    options, rest = parser.parse_known_args(given)
    if options.command is None:
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        parser.print_help()
        print("\n`python -m rustorch_device COMMAND --help` tells what a command takes.")
        return 0
    sys.argv = [f"python -m rustorch_device.{options.command}", *rest]
    runpy.run_module(f"rustorch_device.{options.command}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
