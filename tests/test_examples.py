"""The examples run to their end, and the demo's data code reads MNIST's files and refuses broken ones."""

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import mnist_data
import numpy
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    cleared = {name: value for name, value in os.environ.items() if name not in mnist_data.DOWNLOAD_FLAGS}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=cleared | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def idx(array: numpy.ndarray, kind: int = 0x08) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, train: int = 20, test: int = 8, zipped: bool = False) -> dict[str, numpy.ndarray]:
    """Four small files of random digits, as MNIST's are."""
    random = numpy.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, name in mnist_data.MNIST_FILES.items():
        count = train if part.startswith("train") else test
        shape = (count, 28, 28) if part.endswith("images") else (count,)
        arrays[part] = random.integers(0, 256 if part.endswith("images") else 10, shape, numpy.uint8)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[part])))
        else:
            (folder / name).write_bytes(idx(arrays[part]))
    return arrays


@pytest.mark.parametrize("place", ["", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_that_is_there_is_used_without_asking(tmp_path, place, zipped):
    arrays = write_mnist(tmp_path / place, zipped=zipped)
    digits = mnist_data.load({"RUSTORCH_DATA_DIR": str(tmp_path)})
    assert digits.source == "MNIST"
    assert digits.train_images.shape == (20, 1, 28, 28)
    assert digits.test_images.shape == (8, 1, 28, 28)
    assert digits.train_labels.tolist() == arrays["train_labels"].tolist()
    torch.testing.assert_close(digits.test_images[:, 0] * 255, torch.from_numpy(arrays["test_images"]).float())


def test_without_mnist_the_bundled_digits_are_used(tmp_path):
    digits = mnist_data.load({"RUSTORCH_DATA_DIR": str(tmp_path)})
    assert "scikit-learn" in digits.source
    assert digits.train_images.shape == (1438, 1, 28, 28)
    assert digits.test_images.shape == (359, 1, 28, 28)
    assert digits.train_images.min() >= 0
    assert digits.train_images.max() == 1
    again = mnist_data.load({"RUSTORCH_DATA_DIR": str(tmp_path)})
    assert torch.equal(digits.test_images, again.test_images)


def damaged(sound: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "a web page": b"<html>not found</html>",
        "cut short": sound[:-1],
        "too long": sound + b"\0",
        "header cut short": sound[:6],
        "another type": sound[:2] + b"\x0d" + sound[3:],
        "no dimensions": b"\0\0\x08\0\x07",
    }


@pytest.mark.parametrize("damage", damaged(b""))
def test_a_broken_file_is_refused(tmp_path, damage):
    write_mnist(tmp_path)
    path = tmp_path / mnist_data.MNIST_FILES["train_images"]
    path.write_bytes(damaged(path.read_bytes())[damage])
    with pytest.raises(mnist_data.DataError, match="not a sound IDX file") as caught:
        mnist_data.load({"RUSTORCH_DATA_DIR": str(tmp_path)})
    assert str(path) in str(caught.value)
    assert "Delete it" in str(caught.value)


def corrupted_middle(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(byte ^ 0xFF for byte in data[len(data) // 2 :])


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], corrupted_middle, lambda data: b"no gzip"])
def test_a_broken_gzip_is_refused(tmp_path, damage):
    write_mnist(tmp_path, zipped=True)
    path = tmp_path / f"{mnist_data.MNIST_FILES['test_images']}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(mnist_data.DataError, match="cannot be read"):
        mnist_data.load({"RUSTORCH_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("part", "array", "reason"),
    [
        ("train_images", numpy.zeros((20, 27, 28), numpy.uint8), "not images of 28x28"),
        ("train_images", numpy.zeros(20, numpy.uint8), "not images of 28x28"),
        ("test_labels", numpy.zeros(7, numpy.uint8), "8 images"),
        ("test_labels", numpy.full(8, 10, numpy.uint8), "labels go from 0 to 9"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, part, array, reason):
    write_mnist(tmp_path)
    (tmp_path / mnist_data.MNIST_FILES[part]).write_bytes(idx(array))
    with pytest.raises(mnist_data.DataError, match=reason):
        mnist_data.load({"RUSTORCH_DATA_DIR": str(tmp_path)})


def test_the_data_folder(tmp_path, monkeypatch):
    assert mnist_data.data_folder({"RUSTORCH_DATA_DIR": str(tmp_path)}) == tmp_path
    assert mnist_data.data_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "rustorch"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mnist_data.data_folder({}) == tmp_path / ".cache" / "rustorch"


@pytest.mark.parametrize("flag", mnist_data.DOWNLOAD_FLAGS)
def test_a_flag_allows_the_download(flag, tmp_path, monkeypatch):
    assert not mnist_data.may_download({})
    assert not mnist_data.may_download({flag: "0"})
    monkeypatch.setattr(mnist_data, "download_mnist", lambda folder: write_mnist(folder / "MNIST" / "raw"))
    digits = mnist_data.load({flag: "1", "RUSTORCH_DATA_DIR": str(tmp_path)})
    assert digits.source == "MNIST"


def test_without_a_network_the_demo_says_so(tmp_path):
    nowhere = "http://127.0.0.1:9"
    demo = run(
        ROOT / "examples" / "mnist_rustorch_demo.py",
        "--device=cpu",
        "--backend=eager",
        MNIST_ALLOW_DOWNLOAD="1",
        RUSTORCH_DATA_DIR=str(tmp_path),
        https_proxy=nowhere,
        http_proxy=nowhere,
        no_proxy="",
    )
    assert demo.returncode == 1
    assert "could not be downloaded" in demo.stderr
    assert "Is there a network?" in demo.stderr
    assert "Traceback" not in demo.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--device=cpu", "--backend=eager"],
        ["--device=cpu"],
        # A net on rustorch, fed by forked processes.
        ["--workers=2"],
    ],
    ids=["eager on the CPU", "compiled on the CPU", "compiled on rustorch"],
)
def test_the_demo_trains_and_saves_a_picture(tmp_path, arguments):
    picture = tmp_path / "pictures" / "digits.png"
    demo = run(
        ROOT / "examples" / "mnist_rustorch_demo.py",
        *arguments,
        "--epochs=1",
        f"--output={picture}",
        RUSTORCH_DATA_DIR=str(tmp_path),
        RUSTORCH_FALLBACK="error",
    )
    assert "accuracy on the held-out digits" in demo.stdout, demo.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    # One epoch may fall short of the goal, and the exit code says so.
    below = "below 97%" in demo.stderr
    assert demo.returncode == int(below)


def test_a_demo_below_its_goal_fails(tmp_path):
    """Random images teach nothing."""
    write_mnist(tmp_path, train=64, test=32)
    demo = run(
        ROOT / "examples" / "mnist_rustorch_demo.py",
        "--device=cpu",
        "--backend=eager",
        f"--output={tmp_path / 'digits.png'}",
        RUSTORCH_DATA_DIR=str(tmp_path),
    )
    assert "below 97%" in demo.stderr
    assert demo.returncode == 1


def test_the_demo_without_the_device():
    demo = run(ROOT / "examples" / "mnist_rustorch_demo.py", RUSTORCH_AUTOLOAD="0")
    assert demo.returncode == 1
    assert "device is not loaded" in demo.stderr
    assert "Traceback" not in demo.stderr


def test_the_compile_demo_compares():
    demo = run(ROOT / "examples" / "compile_backend_demo.py", RUSTORCH_FALLBACK="error")
    assert demo.returncode == 0, demo.stderr
    assert "compiled and eager agree" in demo.stdout


def test_the_compile_demo_fails_where_results_differ():
    demo = run(ROOT / "examples" / "compile_backend_demo.py", "--backend=eager", "--tolerance=-1")
    assert demo.returncode == 1
    assert "differ" in demo.stderr


@pytest.mark.parametrize("more", [[], ["--compiled"], ["--device=cpu"]])
def test_a_resumed_run_gives_the_same_numbers(tmp_path, more):
    demo = run(ROOT / "examples" / "checkpoint_resume.py", "--steps=12", f"--output={tmp_path}", *more)
    assert demo.returncode == 0, demo.stderr
    assert "all 12 losses are the same to the last bit" in demo.stdout
    assert "stopped after 6 steps" in demo.stdout


def test_the_gpt_trains_samples_and_draws(tmp_path):
    picture = tmp_path / "loss.png"
    small = ["--steps=30", "--batch=8", "--width=32", "--layers=1", "--heads=2", "--sample=20", "--goal=4.2"]
    demo = run(ROOT / "examples" / "char_gpt.py", *small, f"--output={picture}")
    assert demo.returncode == 0, demo.stderr
    assert "30/30" in demo.stdout and "The for statement" in demo.stdout.partition("the model writes:")[2]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_gpt_fails_where_it_does_not_learn(tmp_path):
    small = ["--steps=2", "--batch=2", "--width=16", "--layers=1", "--heads=2", "--sample=1"]
    demo = run(ROOT / "examples" / "char_gpt.py", *small, f"--output={tmp_path / 'loss.png'}")
    assert demo.returncode == 1
    assert "the loss stays above 2.5" in demo.stderr


@pytest.mark.parametrize("more", [[], ["--compiled"], ["--compiled", "--device=cpu"]])
def test_the_profile_shows_kernels(tmp_path, more):
    demo = run(ROOT / "examples" / "profile_training.py", "--steps=2", "--batch=2", f"--output={tmp_path}", *more)
    assert demo.returncode == 0, demo.stderr
    assert "conv_forward" in demo.stdout and "GFLOP/s" in demo.stdout and "roof" in demo.stdout
    assert "fused_adam" in demo.stdout or "--device=cpu" in more
    trace = json.loads((tmp_path / "profile_training.json").read_text())
    kernels = {event["name"] for event in trace["traceEvents"] if event.get("cat") == "kernel"}
    assert {"rustorch::conv_forward", "rustorch::conv_weight_grad"} <= kernels
    assert (tmp_path / "profile_training.png").read_bytes().startswith(b"\x89PNG")
