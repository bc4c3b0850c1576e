"""transformers' common model tests, on the device and on the CPU: what fails here and not there.

    python tests/libraries/common_models/run.py

The tests are those of the installed version's source distribution, which pip brings into build/. Of what they import,
two parts are not in it, and are left out: tests of exporters and of generation. `REFUSED` fail on the device alone, and
say why.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import transformers

HERE = Path(__file__).parent
KEPT = HERE.parents[2] / "build" / "transformers"
#: A device that it does not know is asked for 1e-7 in half precision too: ours for what CUDA and the CPU are.
BOUNDS = ('elif torch_device in ["hpu", "npu", "tpu"]:', 'elif torch_device in ["hpu", "npu", "tpu", "rustorch"]:')
#: Tests whose failure on the device is a refusal of PyTorch's or ours, and what it says.
REFUSED = {"test_flex_attention_with_grads": "Inductor generates no code for rustorch"}
#: It asks that the tests of generation be there.
ABSENT = "test_generation_tester_mixin_inheritance"
LEFT_OUT = {"exporters/test_export.py": "ExportTesterMixin", "generation/test_utils.py": "GenerationTesterMixin"}


def unpack() -> Path:
    """The folder that has the package `transformers_tests`."""
    folder = KEPT / transformers.__version__
    package = folder / "transformers_tests"
    if package.exists():
        return folder
    with tempfile.TemporaryDirectory() as brought:
        wanted = f"transformers=={transformers.__version__}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "transformers"]
        subprocess.run([*command, "--no-build-isolation", "-d", brought, wanted], check=True)
        with tarfile.open(next(Path(brought).glob("*.tar.gz"))) as archive:
            archive.extractall(brought, filter="data")
        tests = Path(brought) / f"transformers-{transformers.__version__}" / "tests"
        for path, mixin in LEFT_OUT.items():
            (tests / path).parent.mkdir(exist_ok=True)
            (tests / path).write_text(f"class {mixin}:\n    pass\n")
        common = tests / "test_modeling_common.py"
        text = common.read_text()
        if text.count(BOUNDS[0]) != 1:
            raise RuntimeError(f"transformers {transformers.__version__} chooses bounds of a device in another way.")
        common.write_text(text.replace(*BOUNDS))
        folder.mkdir(parents=True, exist_ok=True)
        tests.rename(package)
    return folder


def outcomes(device: str, chosen: str = "") -> dict[str, str]:
    """Each test's outcome ("passed", "skipped", "failed") and, if it failed, its message."""
    folder = unpack()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_TEST_DEVICE": device,
    }
    if device == "rustorch":
        environment["TRANSFORMERS_TEST_DEVICE_SPEC"] = "device_spec.py"
    report = folder / f"{device}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "-c", "/dev/null"]
    command += ["--rootdir", str(HERE), "-o", "python_files=models.py", f"--junitxml={report}", "models.py"]
    command += ["-k", f"not {ABSENT}" + (f" and ({chosen})" if chosen else "")]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}.{case.get('name')}"
        parts = {part.tag: part for part in case}
        failure = parts.get("failure", parts.get("error"))
        if failure is not None:
            found[name] = "failed: " + (failure.get("message") or "").strip().replace("\n", " ")[:300]
        else:
            found[name] = "skipped" if "skipped" in parts else "passed"
    return found


def is_refused(name: str, outcome: str) -> bool:
    said = REFUSED.get(name.partition(".")[2])
    return said is not None and said in outcome


def compare(chosen: str = "") -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """How many passed, were skipped, refused and failed on each device; and what failed on rustorch, and neither on the
    CPU nor by a refusal."""
    devices = ("cpu", "rustorch")
    unpack()
    with ThreadPoolExecutor() as pool:
        results = dict(zip(devices, pool.map(lambda device: outcomes(device, chosen), devices), strict=True))
    counts = {}
    for device, of in results.items():
        kinds = ["refused" if is_refused(*named) else named[1].partition(":")[0] for named in of.items()]
        counts[device] = {kind: kinds.count(kind) for kind in ("passed", "skipped", "refused", "failed")}
    theirs = results["cpu"]
    alone = {
        name: outcome
        for name, outcome in results["rustorch"].items()
        if outcome.startswith("failed") and not theirs[name].startswith("failed") and not is_refused(name, outcome)
    }
    return counts, alone


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of tests, as pytest's -k takes them")
    counts, alone = compare(parser.parse_args().only)
    for device, kinds in counts.items():
        print(device, kinds)
    for name, outcome in sorted(alone.items()):
        print(name, outcome)
    sys.exit(bool(alone))
