"""Is what `tune` writes as fast as every peer's default, and does its guarantee hold?

    python benchmarks/tune.py rows --out FOLDER [--only lenet5,resnet18]     against torch, onnxruntime, OpenVINO, NNCF
    python benchmarks/tune.py spoiled --count 40 --out FOLDER                quantization spoiled on purpose: no file may lose more than allowed
    python benchmarks/tune.py honest --count 40 --out FOLDER                 nothing spoiled: how many get a faster file
    python benchmarks/tune.py coverage --out FOLDER [--data FOLDER]          does the interval of the drop cover the truth?

Each part keeps one JSON file per row in the folder and skips those that are there: stopped, it goes on. The last line is the result.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _tune_peers import peers

import deploykit
from deploykit import onnx_file
from deploykit.network import target as targets
from deploykit.network.request import Request
from deploykit.onnx_file import sessions
from deploykit.profiler.benchmark.latency import measure_latency
from deploykit.profiler.subjects import Subject
from deploykit.tuner import quantizing, samples
from deploykit.verdict.guarantee import Pairs
from deploykit.verdict.same_decisions import Answers, Budget, judge

SMALL = ("lenet5", "cnn4", "resnet18", "googlenet", "vgg11-small")
LARGE = ("resnet18", "vgg11", "googlenet", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16")
BUDGET = 0.005
SPOILS = ("outlier channels", "dead calibration", "saturating activations")


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("rows", "spoiled", "honest", "coverage"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--data", default="digits")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    return {"rows": rows, "spoiled": spoiled, "honest": honest, "coverage": coverage}[asked.part](asked)


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row in `file`, made where it is not there; a failure is a row too."""
    if file.is_file():
        return json.loads(file.read_text())
    try:
        row = make()
    except Exception as error:
        row = {"failed": f"{type(error).__name__}: {error}"[:300]}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(row, indent=1))
    temporary.replace(file)
    return row


def rows(asked: argparse.Namespace) -> int:
    """Every network beside every peer, in one interleaved measurement each."""
    names = [*SMALL, *(f"torchvision:{name}" for name in LARGE)]
    names = [name for name in names if not asked.only or name in asked.only.split(",")]
    found = {}
    for name in names:
        found[name] = kept(asked.out / f"row-{name.replace(':', '-')}.json", lambda name=name: row(name, asked))
        print(name, json.dumps(found[name])[:400], flush=True)
    good = [r for r in found.values() if not r.get("failed") and all(p["low"] <= 1 or not p["keeps"] for p in r["peers"])]
    print(f"{len(good)} of {len(found)} rows at least as fast as every peer that keeps the decisions, within the noise")
    return 0 if len(good) == len(found) else 1


def row(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The tuned file beside the peers: ratio = time of the tuned file / time of the peer, above 1 where the peer is faster."""
    folder = asked.out / f"files-{name.replace(':', '-')}"
    folder.mkdir(exist_ok=True)
    file, data, untrained = folder / "model.onnx", asked.data, name.startswith("torchvision:")
    subject = name
    if untrained:
        data = "noise"
        file.is_file() or calibrated(name, file)
    else:
        subject = str(folder / "trained" / "model.safetensors")
        if not file.is_file():
            deploykit.train(name, data=asked.data, epochs=3, out=folder / "trained", device="cpu")
            deploykit.export(subject, out=file)
    result = deploykit.tune(file, data=data, seconds=asked.seconds)
    parts = samples.read(file, onnx_file.read_whole(file)[0], data)
    others, missing = peers(subject, untrained, file, parts, folder)
    chosen = result.chosen.candidate
    tuned = Subject(str(result.file), chosen.engine, label="tuned", threads=chosen.threads, options=chosen.options)
    report = measure_latency([tuned, *others], parts.calibration.cycled(1), seconds=30)
    outputs = [np.asarray(answer[0], np.float64) for answer in report.outputs]
    compared = [
        {"peer": c.candidate, "ratio": c.ratio, "low": c.low, "high": c.high, "keeps": keeps(other, file, parts)}
        for c, other in zip(report.comparisons, others, strict=True)
    ]
    return {"chosen": result.document()["chosen"], "missing": missing, "peers": compared, "outputs": len(outputs)}


def keeps(peer: Subject, file: Path, parts: samples.Part | Any) -> bool:
    """Whether a peer's file makes the same decisions as the network, on the samples of the proof."""
    if not peer.is_file or Path(peer.target) == file:
        return True
    answers = [Answers((answered(Path(path), parts.proof),), parts.proof.labels) for path in (file, peer.target)]
    return judge(*answers, Budget(BUDGET)).kept


def answered(file: Path, part: samples.Part) -> np.ndarray[Any, Any]:
    """The first output of a file for all samples, on onnxruntime."""
    session = sessions.open_session(onnx_file.to_bytes(onnx_file.read_whole(file)[0]))
    return np.concatenate([sessions.run(session, part.rows(i, i + 16))[0] for i in range(0, len(part), 16)]).astype(np.float64)


def calibrated(name: str, file: Path) -> None:
    """Fresh weights whose BatchNorms have seen noise, so that values inside have the sizes that trained networks have."""
    network = targets.resolve(Request.of(name, untrained=True))
    module = network.module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, *network.inputs[0].shape))
    result = deploykit.export(module.eval(), input_shapes=[network.inputs[0].shape], out=file)
    assert result.verdict.same, result.verdict


def networks(count: int, data: str) -> Iterator[tuple[str, int]]:
    """Names and seeds of trainings."""
    for number in range(count):
        yield ("lenet5", "cnn4")[number % 2], number


def small_file(name: str, seed: int, folder: Path, data: str) -> Path:
    """A network trained for a moment, exported."""
    deploykit.train(name, data=data, epochs=2, seed=seed, out=folder / "trained", device="cpu")
    return deploykit.export(folder / "trained" / "model.safetensors", out=folder / "model.onnx").file


def spoiled(asked: argparse.Namespace) -> int:
    """No file may lose more than the budget on fresh data."""
    lost = []
    for name, number in networks(asked.count, asked.data):
        how = SPOILS[number % len(SPOILS)]
        row = kept(asked.out / f"spoiled-{number}.json", lambda name=name, number=number, how=how: one(name, number, asked, how))
        print(number, how, json.dumps(row)[:300], flush=True)
        if row.get("failed") or row["drop_low"] > BUDGET:
            lost.append(number)
    print(
        f"{asked.count - len(lost)} of {asked.count} spoiled networks without a loss above {100 * BUDGET:g} points; others: {lost}"
    )
    return 1 if lost else 0


def honest(asked: argparse.Namespace) -> int:
    """Most must get a faster file."""
    faster = []
    for name, number in networks(asked.count, asked.data):
        row = kept(asked.out / f"honest-{number}.json", lambda name=name, number=number: one(name, number, asked, ""))
        print(number, json.dumps(row)[:300], flush=True)
        faster += [number] if row.get("verdict") == "faster" else []
    print(f"{len(faster)} of {asked.count} honest networks got a faster file")
    return 0 if len(faster) >= 0.95 * asked.count else 1


def one(name: str, seed: int, asked: argparse.Namespace, how: str) -> dict[str, Any]:
    """Train, spoil, tune; the drop of what was written, on samples that the tuner never saw."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = small_file(name, seed, folder, asked.data)
        model = onnx_file.read_whole(file)[0]
        parts = samples.read(file, model, asked.data)
        fresh = parts.proof.only(np.arange(len(parts.proof)) % 2 == 1)
        given = parts.proof.only(np.arange(len(parts.proof)) % 2 == 0)
        data = folder / "data.npz"
        arrays = {
            key: np.concatenate([parts.calibration.inputs[key], parts.selection.inputs[key], given.inputs[key]])
            for key in given.inputs
        }
        labels = np.concatenate([p.labels for p in (parts.calibration, parts.selection, given) if p.labels is not None])
        if how == "dead calibration":
            count = len(parts.calibration)
            for array in arrays.values():
                array[:count] *= np.linspace(0, 1e-3, count, dtype=np.float32).reshape(-1, *[1] * (array.ndim - 1))
        if how == "outlier channels":
            spoil(file, 200.0)
        if how == "saturating activations":
            for array in arrays.values():
                array[: len(parts.calibration) : 7] *= 50
        np.savez(data, labels=labels, **arrays)
        result = deploykit.tune(file, data=data, seconds=asked.seconds, max_drop=100 * BUDGET)
        expected, found = (Answers((answered(path, fresh),), fresh.labels) for path in (file, result.file))
        judged = judge(expected, found, Budget(BUDGET))
        return {
            "how": how,
            "verdict": result.verdict,
            "chosen": result.chosen.candidate.name,
            "drop": judged.drop,
            "drop_low": judged.drop_low,
        }


def spoil(file: Path, factor: float) -> None:
    """Scale one channel of the first layer up, and the weights that read it down: the same network, hard to quantize per tensor."""
    model = onnx_file.read_whole(file)[0]
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    import onnx

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    first, second = convs[0], convs[1] if len(convs) > 1 else None
    if second is None:
        return
    for node, axis, by in ((first, 0, factor), (second, 1, 1 / factor)):
        tensor = stored[node.input[1]]
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[(slice(None),) * axis + (0,)] *= by
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    if len(first.input) > 2:
        bias = onnx.numpy_helper.to_array(stored[first.input[2]]).copy()
        bias[0] *= factor
        stored[first.input[2]].CopyFrom(onnx.numpy_helper.from_array(bias, first.input[2]))
    onnx_file.write(model, file)


def coverage(asked: argparse.Namespace) -> int:
    """300 resamplings of real answers: how often the interval holds the drop of the whole population."""
    row = kept(asked.out / "coverage.json", lambda: covered(asked))
    print(json.dumps(row, indent=1))
    worst = min(entry["covered"] for entry in row["sizes"])
    print(f"the interval covers the truth in {100 * worst:.1f} % of 300 resamplings, or more")
    return 0 if worst >= 0.93 else 1


def covered(asked: argparse.Namespace) -> dict[str, Any]:
    """The answers of the network that ships and of its int8 file, of bad ranges so that there is a drop, on all samples there are."""
    file = Path(__file__).parents[1] / "trained" / "lenet5" / "model.onnx"
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(shutil.copy(file, Path(temporary) / "model.onnx"))
        model = onnx_file.read_whole(copy)[0]
        parts = samples.read(copy, model, asked.data)
        name = next(iter(parts.proof.inputs))
        ranges = quantizing.calibrate(copy, [{name: 0.35 * parts.calibration.inputs[name]}], "minmax")
        whole = quantizing.quantized(copy, ranges, quantizing.Scheme(reduced=True))
        quantized = Path(temporary) / "int8.onnx"
        onnx_file.write(quantizing.taken_back(whole, model, set()), quantized)
        right = []
        for path in (copy, quantized):
            answers = np.concatenate([answered(path, part) for part in (parts.selection, parts.proof)])
            labels = np.concatenate([part.labels for part in (parts.selection, parts.proof) if part.labels is not None])
            right.append(answers.argmax(axis=1) == labels)
    truth = float(np.mean(right[0]) - np.mean(right[1]))
    found = []
    for size in (50, 100, 200, 400):
        draw = np.random.default_rng(size)
        hits = 0
        for _ in range(300):
            rows = draw.integers(0, len(right[0]), size)
            a, b = right[0][rows], right[1][rows]
            low, high = Pairs(int(np.sum(a & ~b)), int(np.sum(~a & b)), size).interval()
            hits += low <= truth <= high
        found.append({"samples": size, "covered": hits / 300})
    return {"population": len(right[0]), "drop": truth, "discordant": float(np.mean(right[0] != right[1])), "sizes": found}


if __name__ == "__main__":
    raise SystemExit(main())
