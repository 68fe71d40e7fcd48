"""A client with types: every public function with `str`, with `Path`, and with a module wherever a network is named.

python tests/clients/typed_client.py FOLDER [demo]      # mypy --strict and pyright in strict mode find nothing to say about it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import deploykit
from deploykit import ExportResult, LatencyReport, Prediction, Predictions, Profile, Simplified, TrainingResult, TuneResult, Verdict


class Net(nn.Module):
    """4 numbers -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 4) -> (batch, 2)."""
        return torch.relu(self.head(x))


def train(folder: Path) -> TrainingResult:
    """Twice, and its checkpoint read and written."""
    deploykit.train("rgnet", out=str(folder / "str"), epochs=0, seed=1)
    result = deploykit.train("rgnet", out=folder / "path", init=folder / "str" / "model.safetensors", epochs=0)
    checkpoint: deploykit.Checkpoint = deploykit.load_checkpoint(str(result.checkpoint))
    deploykit.save_checkpoint(checkpoint, str(folder / "copy.safetensors"))
    deploykit.save_checkpoint(deploykit.load_checkpoint(folder / "copy.safetensors"), folder / "copy.safetensors")
    return result


def deploy(checkpoint: Path, net: Net, folder: Path) -> list[ExportResult | Simplified | Verdict]:
    """Export, simplify, validate."""
    ours = deploykit.export(str(checkpoint), out=str(folder / "str.onnx"), dynamic="batch", seed=0)
    same = deploykit.export(checkpoint, out=folder / "path.onnx", dynamic=["batch"], progress=None)
    own = deploykit.export(net, out=folder / "net.onnx", inputs=torch.randn(2, 4), arguments=None)
    small = [deploykit.simplify(str(ours.file), str(folder / "small.onnx")), deploykit.simplify(own.file, folder / "small.onnx")]
    file: str = str(own.file)
    verdicts = [
        deploykit.validate(file, net),
        deploykit.validate(own.file, against=net, input_shapes=[(4,)], witness=folder / "w.npz"),
    ]
    verdicts += [
        deploykit.validate(ours.file, same.file, batches=[1, 2]),
        deploykit.validate(str(ours.file), str(checkpoint), data=None),
    ]
    return [ours, same, own, *small, *verdicts]


def measure(checkpoint: Path, net: Net, folder: Path) -> list[Profile | LatencyReport]:
    """Count, and time."""
    profiles = [deploykit.profile(target, latency=False) for target in (str(checkpoint), checkpoint)]
    profiles.append(
        deploykit.profile(net, against=folder / "net.onnx", input_shapes="4", backends="torch,onnxruntime", latency=False)
    )
    timed = deploykit.compare_latency(str(folder / "str.onnx"), folder / "path.onnx", seconds=0.05, threads=1)
    return [*profiles, timed]


def ask(file: Path) -> list[Prediction]:
    """Arrays, from memory and from files."""
    array = np.ones(4, dtype=np.float32)
    np.save(file.with_suffix(".npy"), array)
    answers: Predictions = deploykit.predict(str(file), str(file.with_suffix(".npy")))
    answers += deploykit.predict(file, [file.with_suffix(".npy")], device="cpu")
    with deploykit.Predictor(file) as model, deploykit.Predictor(str(file)) as twin:
        labels: tuple[str, ...] | None = model.labels
        assert labels is None
        return [*answers, model.predict(array), *twin.predict_many([array]), *model.predict_many(file.with_suffix(".npy"))]


def hand_on(net: Net, folder: Path) -> list[TuneResult]:
    """Tune, and make a repository for Triton; a server runs until it is stopped, so it is started on request only."""
    tuned = [
        deploykit.tune(str(folder / "net.onnx"), data="noise", precisions="fp32", seconds=5, threads=1, out=folder / "tuned.onnx"),
        deploykit.tune(
            net,
            input_shapes="4",
            data="noise",
            engines=["onnxruntime"],
            precisions=["fp32"],
            seconds=5,
            out=str(folder / "own.onnx"),
        ),
    ]
    deploykit.package(folder / "net.onnx", out=folder / "triton")
    deploykit.package([str(folder / "net.onnx")], kind="kserve", out=str(folder / "kserve"))
    if "serve" in sys.argv:
        deploykit.serve(folder / "net.onnx", port=0)
        deploykit.serve([str(folder / "net.onnx")], port=8000, threads=1)
    return tuned


def main(folder: Path) -> None:
    """All of it, into `folder`."""
    net = Net()
    checkpoint = train(folder).checkpoint
    results = [*deploy(checkpoint, net, folder), *measure(checkpoint, net, folder), *ask(folder / "net.onnx")]
    machine: deploykit.Diagnosis = deploykit.doctor()
    for result in (*results, *hand_on(net, folder), machine):
        print(repr(result), str(result), sep="\n")
    names = {entry["name"] for entry in (*deploykit.list_architectures(), *deploykit.list_datasets())}
    assert {"lenet5", "digits"} <= names
    try:
        deploykit.profile("lenet6", untrained=True)
    except deploykit.InputError as error:
        problem: str = error.problem
        print(problem, deploykit.__version__)
    if "demo" in sys.argv:
        demonstration: deploykit.Demonstration = deploykit.demo(str(folder / "demo"))
        print(repr(demonstration), repr(deploykit.demo(folder / "demo")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
