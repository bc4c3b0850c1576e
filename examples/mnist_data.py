"""Handwritten digits for the demo: scikit-learn's by default, MNIST where it is or may be fetched.

MNIST is used when its files are in the data folder already, or when one of `CLOUD_MNIST_OK`,
`CODEX_CLOUD`, `MNIST_ALLOW_DOWNLOAD` is 1, which allows the download. The data folder is
`RUSTORCH_DATA_DIR`, or `rustorch` in the user's cache directory.
"""

import gzip
import os
import socket
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F

SIDE = 28
DOWNLOAD_FLAGS = ("CLOUD_MNIST_OK", "CODEX_CLOUD", "MNIST_ALLOW_DOWNLOAD")
MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
UNSIGNED_BYTE = 0x08


class DataError(Exception):
    """The data cannot be had, or is not what it should be; the text says what to do."""


@dataclass
class Digits:
    """Images are float32 of shape (count, 1, 28, 28) from 0 to 1; labels are int64."""

    source: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def data_folder(environment: Mapping[str, str] = os.environ) -> Path:
    if chosen := environment.get("RUSTORCH_DATA_DIR"):
        return Path(chosen).expanduser()
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rustorch"


def may_download(environment: Mapping[str, str] = os.environ) -> bool:
    return any(environment.get(flag) == "1" for flag in DOWNLOAD_FLAGS)


def load(environment: Mapping[str, str] = os.environ) -> Digits:
    """MNIST if it is there or may be downloaded, else scikit-learn's digits."""
    folder = data_folder(environment)
    files = find_mnist(folder)
    if files is None and may_download(environment):
        download_mnist(folder)
        files = find_mnist(folder)
        if files is None:
            raise DataError(f"MNIST was downloaded to {folder}, but its four files are not there.")
    return load_digits() if files is None else load_mnist(files)


def load_digits() -> Digits:
    """1,797 scans of 8x8 pixels, scaled up; a fixed random fifth is held out for the test."""
    from sklearn.datasets import load_digits as bundled

    data = bundled()
    small = torch.from_numpy(data.images).float().div_(16).unsqueeze(1)
    images = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order.split([len(images) // 5, len(images) - len(images) // 5])
    return Digits("scikit-learn's handwritten digits", images[train], labels[train], images[test], labels[test])


def find_mnist(folder: Path) -> dict[str, Path] | None:
    """The four files, raw or gzipped, in the folder or where torchvision puts them below it."""
    for place in (folder, folder / "MNIST" / "raw"):
        found = {}
        for part, name in MNIST_FILES.items():
            candidates = [place / name, place / f"{name}.gz"]
            if path := next((path for path in candidates if path.is_file()), None):
                found[part] = path
        if len(found) == len(MNIST_FILES):
            return found
    return None


def load_mnist(files: dict[str, Path]) -> Digits:
    parts = {}
    for half in ("train", "test"):
        images_path, labels_path = files[f"{half}_images"], files[f"{half}_labels"]
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
            raise DataError(f"{images_path} holds an array of shape {images.shape}, not images of {SIDE}x{SIDE}.")
        if labels.shape != images.shape[:1]:
            raise DataError(f"{images_path} has {len(images)} images, but {labels_path} has {labels.shape} labels.")
        if labels.size and labels.max() > 9:
            raise DataError(f"{labels_path} has the label {labels.max()}; labels go from 0 to 9.")
        parts[f"{half}_images"] = torch.from_numpy(images).float().div_(255).unsqueeze(1)
        parts[f"{half}_labels"] = torch.from_numpy(labels).long()
    return Digits("MNIST", **parts)


def read_idx(path: Path) -> numpy.ndarray:
    """An IDX file of bytes, raw or gzipped: two zeros, the type, the rank, big-endian sizes, data."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Delete it and download it again.") from error

    def broken(reason: str) -> DataError:
        return DataError(f"{path} is not a sound IDX file: {reason}. Delete it and download it again.")

    if len(data) < 4 or data[:2] != b"\0\0":
        raise broken("it does not start with an IDX header")
    kind, rank = data[2], data[3]
    if kind != UNSIGNED_BYTE:
        raise broken(f"its elements have the type 0x{kind:02x}, not unsigned byte (0x08)")
    start = 4 + 4 * rank
    if rank == 0 or len(data) < start:
        raise broken("its header is cut short")
    shape = struct.unpack(f">{rank}I", data[4:start])
    expected = 1
    for size in shape:
        expected *= size
    if len(data) - start != expected:
        raise broken(f"its header promises {expected} bytes of data, and it has {len(data) - start}")
    return numpy.frombuffer(data, numpy.uint8, offset=start).reshape(shape).copy()


def download_mnist(folder: Path) -> None:
    from torchvision.datasets import MNIST

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        MNIST(str(folder), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"MNIST could not be downloaded to {folder}: {error}\n"
            "Is there a network? Without one, put MNIST's four files into that folder, or unset "
            f"{', '.join(DOWNLOAD_FLAGS)} to train on the digits that come with scikit-learn."
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
