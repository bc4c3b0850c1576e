"""Shows or checks a checkpoint: `python -m rustorch_device.checkpoint inspect FILE`, or `verify FILE`.

Exits with 1, and says why, where the file is not sound or cannot be read.
"""

import argparse
import sys

from rustorch_device.checkpoint import CheckpointError, inspect, verify


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rustorch_device.checkpoint", description=__doc__)
    parser.add_argument("command", choices=("inspect", "verify"), help="show what is in it, or check its bytes")
    parser.add_argument("file", help="a safetensors file, an index of several, or a folder with either")
    options = parser.parse_args(given)
    try:
        if options.command == "inspect":
            print(inspect(options.file))
        else:
            print(f"{verify(options.file)} tensors are as they were written")
    except (CheckpointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
