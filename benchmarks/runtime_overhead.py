"""What deploykit.runtime costs on top of bare onnxruntime: importing it, running it, starting the command, streaming.

    python benchmarks/runtime_overhead.py [--rounds 20] [--format json]

Every pair is measured in turns, so that a busy machine slows both sides; only the ratio of the medians means something.
The networks are random and made here: one as small as LeNet-5 (where overhead shows), one with the convolutions of ResNet-18
at 224x224 (where it must vanish). Needs the package onnx.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deploykit.runtime import Predictor
from deploykit.runtime.contract import KEY, Contract, ImageInput, Output

LIMITS = {
    "import deploykit.runtime": 1.2,
    "import Predictor": 1.2,
    "run resnet18 224": 1.05,
    "command, first answer": 1.5,
}
MOST_MICROSECONDS = 20.0  # over bare onnxruntime, for LeNet-5
LEAST_STREAM = 1.5  # predict_many beside a loop of predict

# What an application would write without deploykit: the same decoding, the same numbers, no checks.
BARE = """
import sys, numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = Image.open(sys.argv[2]).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
x = ((np.asarray(image, np.float32) / 255 - 0.5) / 0.5)[None, None]
logits = session.run(None, {"input": x})[0][0].astype(np.float64)
p = np.exp(logits - logits.max())
print(p.argmax(), p.max() / p.sum())
"""


def main() -> None:
    """Measure, print, and exit with 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20, help="turns per pair")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.rounds)
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            limit = f"{row['relation']} {row['limit']}" if row["limit"] else ""
            print(f"{row['what']:34} {row['value']:10.3f} {row['unit']:6} {limit:10} {'ok' if row['holds'] else 'BROKEN'}")
    sys.exit(0 if all(row["holds"] for row in rows) else 1)


def measure(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One row per statement of the issue."""
    small, large = lenet5(folder / "small.onnx"), resnet18(folder / "large.onnx")
    image = folder / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).save(image)
    script = folder / "bare.py"
    script.write_text(BARE)
    cache = folder / "bytecode"
    base = process(cache, "-c", "import onnxruntime, numpy")
    command = process(cache, "-m", "deploykit", "predict", str(small), str(image))
    bare = process(cache, str(script), str(small), str(image))
    rows = [
        ratio("import deploykit.runtime", process(cache, "-c", "import deploykit.runtime, onnxruntime, numpy"), base, rounds),
        ratio("import Predictor", process(cache, "-c", "from deploykit.runtime import Predictor"), base, rounds),
        ratio("command, first answer", command, bare, rounds),
    ]
    rows += [*run_overhead(small, (1, 1, 32, 32), 40 * rounds, 10), *run_overhead(large, (1, 3, 224, 224), 8 * rounds, 1)]
    return rows + streaming(large, folder, max(2, rounds // 6))


def run_overhead(file: Path, shape: tuple[int, ...], rounds: int, calls: int) -> list[dict[str, Any]]:
    """`Predictor.run` beside a bare `session.run` on the same array and with the same number of threads."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    # The very same session on both sides: two of them would differ by where their memory lies and whose threads spin.
    model = Predictor(file, device="cpu")
    model._session_run = session.run
    bare = lambda: session.run(None, {"input": x})  # noqa: E731
    ours, theirs = interleaved(lambda: model.run(x), bare, rounds, calls)
    if shape[1] == 1:
        return [row("run lenet5, more than bare", (ours - theirs) * 1e6, "us", MOST_MICROSECONDS)]
    return [row("run resnet18 224", ours / theirs, "x", LIMITS["run resnet18 224"])]


def streaming(file: Path, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """`predict_many` beside a loop of `predict` over photographs, and over small pictures."""
    rows = []
    small = folder / "small.onnx"
    cases: tuple[tuple[str, Path, tuple[int, ...], str, int, float | None], ...] = (
        ("digits, lenet5", small, (28, 28), ".png", 512, LEAST_STREAM),
        ("photographs, lenet5", small, (480, 640, 3), ".jpg", 64, LEAST_STREAM),
        # No limit: a network this heavy keeps every core busy in a loop too; what remains to win is the decoding.
        ("photographs, resnet18", file, (480, 640, 3), ".jpg", 32, None),
    )
    for what, network, size, suffix, count, limit in cases:
        paths = []
        for index in range(count):
            path = folder / f"{len(rows)}-{index}{suffix}"
            rough = np.random.default_rng(index).integers(0, 256, (*[s // 8 for s in size[:2]], *size[2:]), dtype=np.uint8)
            Image.fromarray(rough).resize((size[1], size[0])).save(path)
            paths.append(path)
        with Predictor(network, device="cpu") as model:
            loop = lambda: [model.predict(p) for p in paths]  # noqa: B023, E731
            many = lambda: list(model.predict_many(paths, batch_size=16 if suffix == ".jpg" else 64))  # noqa: B023, E731
            slow, fast = interleaved(loop, many, rounds, 1)
        rows.append(row(f"predict_many over {what}", slow / fast, "x", limit, at_least=True))
    return rows


def ratio(what: str, ours: Callable[[], None], theirs: Callable[[], None], rounds: int) -> dict[str, Any]:
    """A row with how many times as long `ours` takes."""
    mine, other = interleaved(ours, theirs, rounds, 1)
    return row(what, mine / other, "x", LIMITS[what])


def row(what: str, value: float, unit: str, limit: float | None, at_least: bool = False) -> dict[str, Any]:
    """One statement and whether it holds."""
    holds = limit is None or (value >= limit if at_least else value <= limit)
    return {"what": what, "value": value, "unit": unit, "limit": limit, "relation": ">=" if at_least else "<=", "holds": holds}


def interleaved(a: Callable[[], Any], b: Callable[[], Any], rounds: int, calls: int) -> tuple[float, float]:
    """Median seconds per call of each, in turns, after one turn that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for function, taken in zip((a, b), times, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            if turn:
                taken.append((time.perf_counter() - start) / calls)
    return statistics.median(times[0]), statistics.median(times[1])


def process(cache: Path, *arguments: str) -> Callable[[], None]:
    """A call that runs Python with these arguments to its end; bytecode is kept in `cache`, as after an installation."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def call() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

    return call


def lenet5(path: Path) -> Path:
    """The layers of LeNet-5 with random weights."""
    rng = np.random.default_rng(0)
    weights = {
        "c1": rng.normal(size=(6, 1, 5, 5)), "c3": rng.normal(size=(16, 6, 5, 5)), "c5": rng.normal(size=(120, 16, 5, 5)),
        "f6": rng.normal(size=(120, 84)), "f7": rng.normal(size=(84, 10)),
    }  # fmt: skip
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        ("Conv", ["input", "c1"], "a1", {}), ("Relu", ["a1"], "a2", {}), ("MaxPool", ["a2"], "a3", pool),
        ("Conv", ["a3", "c3"], "a4", {}), ("Relu", ["a4"], "a5", {}), ("AveragePool", ["a5"], "a6", pool),
        ("Conv", ["a6", "c5"], "a7", {}), ("Relu", ["a7"], "a8", {}), ("Flatten", ["a8"], "a9", {}),
        ("MatMul", ["a9", "f6"], "a10", {}), ("Relu", ["a10"], "a11", {}), ("MatMul", ["a11", "f7"], "logits", {}),
    ]  # fmt: skip
    rules = ImageInput(1, 32, 32, mean=(0.5,), std=(0.5,))
    return save(path, nodes, weights, rules, 10)


def resnet18(path: Path) -> Path:
    """The convolutions and additions of ResNet-18 with random weights, BatchNorm folded away as an export leaves it."""
    rng = np.random.default_rng(0)
    weights = {"stem": rng.normal(size=(64, 3, 7, 7)) * 0.05}
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Conv", ["input", "stem"], "s0", {"strides": [2, 2], "pads": [3] * 4}),
        ("Relu", ["s0"], "s1", {}),
        ("MaxPool", ["s1"], "x0", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    ]
    channels, last = 64, "x0"
    for unit, width in enumerate((64, 64, 128, 128, 256, 256, 512, 512)):
        stride = 2 if width != channels else 1
        weights[f"a{unit}"] = rng.normal(size=(width, channels, 3, 3)) * (0.5 / channels) ** 0.5 / 3
        weights[f"b{unit}"] = rng.normal(size=(width, width, 3, 3)) * (0.5 / width) ** 0.5 / 3
        nodes += [
            ("Conv", [last, f"a{unit}"], f"u{unit}", {"strides": [stride] * 2, "pads": [1] * 4}),
            ("Relu", [f"u{unit}"], f"v{unit}", {}),
            ("Conv", [f"v{unit}", f"b{unit}"], f"w{unit}", {"pads": [1] * 4}),
        ]
        shortcut = last
        if stride == 2:
            weights[f"d{unit}"] = rng.normal(size=(width, channels, 1, 1)) * (1 / channels) ** 0.5
            nodes.append(("Conv", [last, f"d{unit}"], f"p{unit}", {"strides": [2, 2]}))
            shortcut = f"p{unit}"
        nodes += [("Add", [f"w{unit}", shortcut], f"y{unit}", {}), ("Relu", [f"y{unit}"], f"x{unit + 1}", {})]
        channels, last = width, f"x{unit + 1}"
    weights["fc"] = rng.normal(size=(512, 1000)) * 0.04
    nodes += [
        ("GlobalAveragePool", [last], "g", {}),
        ("Flatten", ["g"], "f", {}),
        ("MatMul", ["f", "fc"], "logits", {}),
    ]
    rules = ImageInput(3, 224, 224, fit="center-crop", resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return save(path, nodes, weights, rules, 1000)


def save(path: Path, nodes: list[Any], weights: dict[str, Any], rules: ImageInput, classes: int) -> Path:
    """Write the graph with a contract."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "benchmark",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", rules.channels, rules.height, rules.width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    contract = Contract(rules, Output("softmax", tuple(str(index) for index in range(classes))))
    helper.set_model_props(model, {KEY: contract.dumps()})
    path.write_bytes(model.SerializeToString())
    return path


if __name__ == "__main__":
    main()
