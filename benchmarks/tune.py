"""Is what `tune` writes as fast as every peer's default, and does its guarantee hold?

    python benchmarks/tune.py rows --out FOLDER [--only lenet5,torchvision:resnet18]   against torch, onnxruntime, OpenVINO, NNCF
    python benchmarks/tune.py spoiled --count 40 --out FOLDER      quantization spoiled on purpose: no file may lose more than allowed
    python benchmarks/tune.py honest --count 40 --out FOLDER       nothing spoiled: how many get a faster file
    python benchmarks/tune.py coverage --out FOLDER                does the interval of the drop cover the truth?
    python benchmarks/tune.py tables --out FOLDER                  benchmarks/results/tune_*, of what lies in the folder

Each part keeps one JSON file per row in the folder and skips those that are there, but for those that failed: stopped, it goes on. A
row that is deleted is measured again beside the files that were tuned. The last lines are the result; `tables` keeps it, and the rows of
other machines that were kept before. `rows` and `honest` want a machine that does nothing else; `spoiled` is on a clock that says that
int8 is always the faster one, so that nothing but the guarantee stands between a spoiled file and the user. `--data` must have a test
split of a thousand samples or more: fewer cannot prove half a point.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _tune_tables
import numpy as np
import onnx
import torch
from _results import RESULTS, keep
from _tune_peers import peers

import deploykit
from deploykit import backends, datasets, onnx_file
from deploykit.network import target as targets
from deploykit.network.request import Request
from deploykit.profiler.benchmark.latency import measure_latency
from deploykit.profiler.subjects import Subject
from deploykit.tuner import bench, layer_measures, mixing, quantizing, samples
from deploykit.tuner.answers import answers_of
from deploykit.verdict.guarantee import Pairs
from deploykit.verdict.same_decisions import Answers, Budget, judge

SMALL = ("lenet5", "cnn4", "resnet18", "googlenet", "vgg11-small")
LARGE = ("resnet18", "vgg11", "googlenet", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16")
NETWORKS = (*SMALL, *(f"torchvision:{name}" for name in LARGE))
BUDGET = 0.005
GROWN_SCALE = 0.1  # of a block's answer, in the order of what trained networks have (Liu et al. 2022 begin at 1e-6)
LIMIT = 2000  # samples to train on: the rest of the training split is fresh
MOST_FRESH = 5000
MOST_ROUNDS = 2000  # of the last measurement of a row: as many as --timed holds, whose few percents a quick look cannot tell
SPOILS = ("outlier channels", "dead calibration", "saturating activations")


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("rows", "spoiled", "honest", "coverage", "tables"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=150, help="of a tuning; twice as many at 224x224")
    parser.add_argument("--timed", type=float, default=30, help="seconds of the last measurement of a row")
    parser.add_argument("--data", default="digits")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    parts = {"rows": rows, "spoiled": spoiled, "honest": honest, "coverage": coverage, "tables": tables}
    return parts[asked.part](asked)


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row in `file`, made where it is not there or has failed; a failure is a row too. `minutes`: how long it took."""
    if file.is_file() and not (found := json.loads(file.read_text())).get("failed"):
        return dict(found)
    began = time.monotonic()
    try:
        made = make()
    except Exception as error:
        made = {"failed": f"{type(error).__name__}: {error}"[:300]}
    made |= {"minutes": round((time.monotonic() - began) / 60, 1), "date": datetime.now(UTC).date().isoformat()}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(made, indent=1))
    temporary.replace(file)
    return made


def rows(asked: argparse.Namespace) -> int:
    """Every network beside every peer, in one interleaved measurement each."""
    names = [name for name in NETWORKS if not asked.only or name in asked.only.split(",")]
    found = {}
    for name in names:
        found[name] = kept(row_file(asked.out, name), lambda name=name: row(name, asked))
        print(name, told(found[name]), flush=True)
    made = [r for r in found.values() if not r.get("failed")]
    good, strictly, alone = (
        sum(map(is_so, made)) for is_so in (_tune_tables.holds, _tune_tables.is_strict, _tune_tables.alone_holds)
    )
    print(
        f"{good} of {len(found)} rows at least as fast as every peer that keeps the decisions, within the noise; {strictly} strictly faster"
    )
    print(f"{alone} of {len(found)} rows with onnxruntime alone: faster, or left as it was")
    return 0 if good == alone == len(found) else 1


def row_file(folder: Path, name: str) -> Path:
    """Where a row is kept."""
    return folder / f"row-{name.replace(':', '-')}.json"


def tables(asked: argparse.Namespace) -> int:
    """Keep what the parts have left in the folder."""
    known = RESULTS / "tune_rows.json"
    found = json.loads(known.read_text())["rows"] if known.is_file() else {}
    made = {name: json.loads(file.read_text()) for name in NETWORKS if (file := row_file(asked.out, name)).is_file()}
    made = {name: row for name, row in made.items() if not row.get("failed")}
    if made:
        keep("tune_rows", _tune_tables.of_rows({**found, **made}, NETWORKS))
    for part in ("honest", "spoiled"):
        files = [asked.out / f"{part}-{number}.json" for number in range(asked.count)]
        counted = [json.loads(file.read_text()) for file in files if file.is_file()]
        if counted:
            keep(f"tune_{part}", _tune_tables.of_counts(part, counted, asked.count, BUDGET))
    return 0


def told(found: dict[str, Any]) -> str:
    """A row in a few words: peers by how long they take, of the time of the tuned file."""
    if found.get("failed"):
        return f"FAILED {found['failed']}"
    peers = ", ".join(f"{p['peer']} {1 / p['ratio']:.2f}{'' if p['keeps'] else ' (other decisions)'}" for p in found["peers"])
    alone = found["alone"]
    return f"{found['verdict']}: {found['chosen']['name']}; {peers}; alone {alone['name']} {alone['ratio']:.2f}; {found['minutes']} min"


def row(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The tuned file beside the peers: ratio = time of the tuned file / time of the peer, above 1 where the peer is faster."""
    folder = asked.out / f"files-{name.replace(':', '-')}"
    folder.mkdir(exist_ok=True)
    file, untrained = folder / "model.onnx", name.startswith("torchvision:")
    data = "noise" if untrained else asked.data
    subject = name if untrained else str(folder / "trained" / "model.safetensors")
    if not file.is_file() and untrained:
        calibrated(name, file)
    elif not file.is_file():
        deploykit.train(name, data=asked.data, epochs=3, limit=LIMIT, out=folder / "trained", device="cpu")
        deploykit.export(subject, out=file)
    parts = samples.read(file, onnx_file.read_whole(file)[0], data)
    others, missing = peers(subject, untrained, file, parts, folder)
    known = folder / "tuned.json"
    found = kept(known, lambda: tunings(file, data, asked.seconds * (2 if untrained else 1), parts, asked.timed / 2))
    if found.get("failed"):
        raise RuntimeError(found["failed"])
    subjects = [chosen_of(found["chosen"], folder), *others]
    report = measure_latency(subjects, parts.calibration.cycled(1), seconds=asked.timed, most_rounds=MOST_ROUNDS)
    expected = answered(file, parts.proof)
    compared = [
        {"peer": c.candidate, "ratio": c.ratio, "low": c.low, "high": c.high, "keeps": keeps(other, expected, parts.proof)}
        for c, other in zip(report.comparisons, others, strict=True)
    ]
    return {**found, "missing": missing, "peers": compared}


def tunings(file: Path, data: str, seconds: float, parts: samples.Parts, timed: float) -> dict[str, Any]:
    """The file tuned with all engines, and with onnxruntime alone beside float32. Kept: peers can be measured again without it."""
    result = deploykit.tune(file, data=data, seconds=seconds)
    alone = deploykit.tune(file, data=data, seconds=seconds, engines="onnxruntime", out=file.with_name("alone.onnx"))
    own = measure_latency(
        [Subject(str(file), "onnxruntime", label="fp32"), tuned(alone, "alone")], parts.calibration.cycled(1), seconds=timed
    )
    return {
        "verdict": result.verdict, "chosen": result.document()["chosen"], "seconds": result.seconds,
        "layers": [layer.document() for layer in result.layers], "notes": list(result.notes),
        "alone": {
            "name": alone.chosen.candidate.name, "verdict": alone.verdict, "notes": list(alone.notes),
            **{key: getattr(own.comparisons[0], key) for key in ("ratio", "low", "high")},
        },
        "conditions": dict(result.conditions),
    }  # fmt: skip


def chosen_of(chosen: Mapping[str, Any], folder: Path) -> Subject:
    """What was written, as it is to be run."""
    file = folder / "model.tuned.onnx"
    return Subject(str(file), chosen["engine"], label="tuned", threads=chosen["threads"], options=chosen["options"])


def tuned(result: deploykit.TuneResult, label: str) -> Subject:
    """What was written, as it is to be run."""
    chosen = result.chosen.candidate
    return Subject(str(result.file), chosen.engine, label=label, threads=chosen.threads, options=chosen.options)


def keeps(peer: Subject, expected: Any, part: samples.Part) -> bool:
    """Whether a peer makes the same decisions as the network, whose answers to the samples are `expected`."""
    if not peer.is_file:
        return True
    found = answered(Path(peer.target), part, peer.engine, peer.options)
    return judge(Answers((expected,), part.labels), Answers((found,), part.labels), Budget(BUDGET)).kept


def answered(file: Path, part: samples.Part, engine: str = "onnxruntime", options: Mapping[str, str] | None = None) -> Any:
    """The first output of a file for all samples."""
    with backends.start(engine, file, options=options) as started:
        return answers_of(started, part)[0]


def calibrated(name: str, file: Path) -> None:
    """Fresh weights whose BatchNorms have seen noise, so that values inside have the sizes that trained networks have.

    What begins at nothing and has grown when a network is trained is given a size too: with the head of a vit_b_16 at 0 all answers are
    0, and with the scales of convnext_tiny's blocks at 1e-6 no block changes any, whatever is done to it.
    """
    network = targets.resolve(Request.of(name, untrained=True))
    module = network.module.train()
    with torch.no_grad():
        for label, parameter in module.named_parameters():
            if label.endswith("layer_scale"):
                parameter.fill_(GROWN_SCALE)
            elif parameter.ndim > 1 and not parameter.any():
                torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        for _ in range(3):
            module(torch.randn(8, *network.inputs[0].shape))
    result = deploykit.export(module.eval(), input_shapes=[network.inputs[0].shape], out=file)
    assert result.verdict.same, result.verdict


def small_file(name: str, seed: int, folder: Path, data: str) -> Path:
    """A network trained for a moment, exported."""
    deploykit.train(name, data=data, epochs=2, limit=LIMIT, seed=seed, out=folder / "trained", device="cpu")
    return deploykit.export(folder / "trained" / "model.safetensors", out=folder / "model.onnx").file


def spoiled(asked: argparse.Namespace) -> int:
    """No file may lose more than the budget on fresh data."""
    lost, quantized = [], 0
    for number in range(asked.count):
        name, how = ("lenet5", "cnn4")[number % 2], SPOILS[number % len(SPOILS)]
        row = kept(asked.out / f"spoiled-{number}.json", lambda name=name, number=number, how=how: one(name, number, asked, how))
        print(number, name, json.dumps(row)[:300], flush=True)
        quantized += row.get("precision") == "int8"
        if row.get("failed") or row["drop_low"] > BUDGET:
            lost.append(number)
    print(
        f"{asked.count - len(lost)} of {asked.count} spoiled networks without a loss above {100 * BUDGET:g} points; others: {lost}"
    )
    print(f"{quantized} of them got a file in int8 all the same, with layers in float or another calibration")
    return 1 if lost else 0


def honest(asked: argparse.Namespace) -> int:
    """Most must get a faster file, and none may lose more than allowed."""
    faster, lost = [], []
    for number in range(asked.count):
        name = ("cnn4", "resnet18")[number % 2]
        row = kept(asked.out / f"honest-{number}.json", lambda name=name, number=number: one(name, number, asked, ""))
        print(number, name, json.dumps(row)[:300], flush=True)
        faster += [number] if row.get("verdict") == "faster" else []
        lost += [number] if row.get("failed") or row["drop_low"] > BUDGET else []
    print(f"{len(faster)} of {asked.count} honest networks got a faster file; with a loss above {100 * BUDGET:g} points: {lost}")
    return 0 if len(faster) >= 0.95 * asked.count and not lost else 1


def one(name: str, seed: int, asked: argparse.Namespace, how: str) -> dict[str, Any]:
    """Train, spoil, tune; the drop of what was written, on samples that neither the network nor the tuner has seen."""
    with tempfile.TemporaryDirectory() as temporary:
        file = small_file(name, seed, Path(temporary), asked.data)
        if how == "outlier channels":
            spoil(file, 200.0)
        with ExitStack() as stack:
            if how:
                stack.enter_context(calibration_times({"dead calibration": 1e-3, "saturating activations": 0.2}.get(how, 1.0)))
                stack.enter_context(clock_of_int8())
            result = deploykit.tune(file, data=asked.data, seconds=asked.seconds, max_drop=100 * BUDGET)
        fresh, chosen = unseen(file, asked.data), result.chosen.candidate
        found = answered(result.file, fresh, chosen.engine, chosen.options)
        judged = judge(Answers((answered(file, fresh),), fresh.labels), Answers((found,), fresh.labels), Budget(BUDGET))
        return {
            "how": how, "verdict": result.verdict, "chosen": chosen.name, "precision": chosen.precision,
            "speedup": None if result.speedup is None or how else result.speedup.ratio, "seconds": result.seconds,
            "fresh": judged.samples, "drop": judged.drop, "drop_low": judged.drop_low, "drop_high": judged.drop_high,
            "refused": sum(entry.judged is not None and not entry.judged.kept for entry in result.candidates),
        }  # fmt: skip


def unseen(file: Path, data: str) -> samples.Part:
    """Samples of the training split that were not trained on. The tuner calibrates with the first ones, which were."""
    contract = onnx_file.get_contract(onnx_file.read(file))
    assert contract is not None
    train = datasets.load(data).train
    split = train.only(*range(LIMIT, min(len(train), LIMIT + MOST_FRESH)))
    return samples.Part({"input": split.arrays(contract.input)}, split.targets.astype(np.int64))


@contextmanager
def calibration_times(factor: float) -> Iterator[None]:
    """Every quantizer is calibrated with samples that are so many times as large as those that occur."""
    real = samples.read

    def read(*args: Any, **options: Any) -> samples.Parts:
        parts = real(*args, **options)
        return replace(parts, calibration=samples.Part({name: factor * array for name, array in parts.calibration.inputs.items()}))

    samples.read = read  # type: ignore[assignment]
    try:
        yield
    finally:
        samples.read = real


@contextmanager
def clock_of_int8() -> Iterator[None]:
    """Everything in int8 is three times as fast, what has layers in float32 twice, and all else slower."""
    measure, times = bench.measure_latency, layer_measures.times.node_times

    def played(subjects: list[Subject], _arrays: Any, **_: Any) -> Any:
        ratios = [
            0.9 if "int8" not in s.label else 2.0 if "layers" in s.label or "inexact" in s.label else 3.0 for s in subjects[1:]
        ]
        return SimpleNamespace(
            latencies=[SimpleNamespace(median_ms=1 / ratio) for ratio in (1.0, *ratios)],
            comparisons=[SimpleNamespace(ratio=ratio, low=0.99 * ratio, high=1.01 * ratio) for ratio in ratios],
        )

    def of_nodes(file: Path, *_: Any) -> Any:
        nodes = onnx_file.read(file).graph.node
        return SimpleNamespace(
            charged={
                node.name: 1.0 if file.stem.startswith("int8") else 3.0 for node in nodes if node.op_type in quantizing.WEIGHTED
            }
        )

    bench.measure_latency, layer_measures.times.node_times = played, of_nodes  # type: ignore[assignment]
    try:
        yield
    finally:
        bench.measure_latency, layer_measures.times.node_times = measure, times


def spoil(file: Path, factor: float) -> None:
    """Scale one channel of the first layer up, and the weights that read it down: the same network, hard to quantize per tensor."""
    model = onnx_file.read_whole(file)[0]
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
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
        whole = quantizing.quantized(onnx.load(copy), ranges, quantizing.Scheme(reduced=True))
        quantized = Path(temporary) / "int8.onnx"
        onnx_file.write(mixing.taken_back(whole, model, set()), quantized)
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
