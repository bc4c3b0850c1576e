"""What people deploy a model with, as arms beside PyTorch's own: ONNX Runtime and OpenVINO.

They are installed by `make bench-env`, into an environment of their own. Each has its threads set and is else as it
comes.
"""

import contextlib
import io
from pathlib import Path

import torch
from torch import nn

from .harness import Arm, Result

#: The arms that are others', beside the one that a case is compared with: every other arm is ours.
PEERS = ("cpu", "cpu, channels_last", "inductor", "inductor, frozen", "onnxruntime", "openvino")


def is_ours(result: Result) -> bool:
    return result.arm not in PEERS and result.arm != result.peer


class Exported:
    """A model as an ONNX file, exported where first asked for."""

    def __init__(self, model: nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> None:
        self.model, self.folder = model, folder
        self.inputs = [tensor.numpy() for tensor in inputs]
        self.failure: Exception | None = None

    def path(self) -> Path:
        path = self.folder / "model.onnx"
        if self.failure is not None:
            raise self.failure
        if not path.exists():
            try:
                # It tells on the way how far it is.
                with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
                    given = tuple(map(torch.from_numpy, self.inputs))
                    torch.onnx.export(self.model, given, dynamo=True, verbose=False).save(path)
            except Exception as error:
                self.failure = error
                raise
        return path


def onnxruntime(exported: Exported, threads: int) -> Arm:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported.path(), options, providers=["CPUExecutionProvider"])
    feed = {given.name: array for given, array in zip(session.get_inputs(), exported.inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def openvino(exported: Exported, threads: int) -> Arm:
    import openvino

    wanted = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(exported.path(), "CPU", wanted).create_infer_request()
    arrays = exported.inputs
    return lambda: torch.from_numpy(request.infer(arrays, share_inputs=True, share_outputs=True)[0])
