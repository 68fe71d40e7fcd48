"""The layer report without latency: is it as quick as torchinfo's, what memory does it take, do layer times add up?

    pip install torchinfo
    python benchmarks/layer_report.py [--rounds 9]      # two minutes

Both reporters get the same built network, in turns. Exit status 1 if ours takes longer (median of the ratios), if `vgg11`
without weights takes 1 GB or more above torch itself, if the times of the layers are more than 15 % off the whole run's, or if
a file of 10,000 nodes takes more than 12 times as long as one of 1,000.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from _results import keep

from deploykit import exporter, onnx_file
from deploykit.network import target
from deploykit.profiler import profile
from deploykit.profiler.onnx import times as onnx_times
from deploykit.profiler.pytorch import times as torch_times
from deploykit.profiler.pytorch.layers import count_layers
from deploykit.reports import Column, Report, Table

NETWORKS = ("resnet18", "vgg11", "torchvision:vit_b_16")
TIMED = (("resnet18", (1, 224, 224)), ("googlenet", (1, 96, 96)))
COLUMNS = (
    Column("what", "what"),
    Column("network", "network"),
    Column("ours", "deploykit", "number"),
    Column("theirs", "beside", "number"),
    Column("ratio", "ratio", "ratio"),
    Column("good", "good"),
)


def speed(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of our report and of torchinfo's on one network, in turns after one of each."""
    try:
        import torchinfo
    except ImportError:
        return {"what": "seconds, torchinfo beside", "network": name, "good": "torchinfo is not installed"}
    network = target.resolve(name, untrained=True)
    inputs = [spec.random(1) for spec in network.inputs]
    size = tuple(inputs[0].shape)
    ours, theirs = [], []
    for number in range(rounds + 1):
        began = time.perf_counter()
        count_layers(network.module, inputs)
        middle = time.perf_counter()
        torchinfo.summary(network.module, size, verbose=0)
        if number:
            ours.append(middle - began)
            theirs.append(time.perf_counter() - middle)
    ratio = float(np.median(np.array(ours) / np.array(theirs)))
    return {"what": "seconds, torchinfo beside", "network": name, "ours": float(np.median(ours)), "theirs": float(np.median(theirs)),
            "ratio": ratio, "good": "yes" if ratio <= 1 else "no"}  # fmt: skip


def memory() -> dict[str, Any]:
    """Peak memory of a process that reports on vgg11 without weights, beside one that only imports torch; in GB."""
    found = []
    for work in ("import torch", "from deploykit.profiler import profile; profile('vgg11', untrained=True, latency=False)"):
        code = f"{work}\nimport pathlib, re\nprint(re.search('VmHWM:\\\\s*(\\\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(int(done.stdout) * 1024 / 1e9)
    torch_alone, ours = found
    return {"what": "GB at most, torch alone beside", "network": "vgg11", "ours": ours, "theirs": torch_alone,
            "ratio": ours / torch_alone, "good": "yes" if ours - torch_alone < 1 else "no"}  # fmt: skip


def adding_up(name: str, shape: tuple[int, ...], folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The sum of the layers' times beside the whole run's, on both engines, in turns; in ms."""
    network = target.resolve(name, untrained=True, input_shapes=[shape])
    inputs = [spec.random(1) for spec in network.inputs]
    file = folder / f"{name}.onnx"
    onnx_file.write(exporter.to_onnx(network), file)
    threads = torch.get_num_threads()
    pairs: dict[str, list[tuple[float, float]]] = {"PyTorch": [], "ONNX Runtime": []}
    for _ in range(rounds):
        pairs["PyTorch"].append(
            (sum(torch_times.call_times(network.module, inputs, 0.5).values()), whole_run(network.module, inputs))
        )
        times = onnx_times.node_times(file, [tensor.numpy() for tensor in inputs], threads, 0.5)
        pairs["ONNX Runtime"].append((sum(times.charged.values()) + sum(times.uncharged.values()), times.total_ms))
    rows = []
    for engine, found in pairs.items():
        ours, theirs = (float(np.median(side)) for side in zip(*found, strict=True))
        ratio = float(np.median([a / b for a, b in found]))
        rows.append({"what": f"ms of all layers in {engine}, whole run beside", "network": name, "ours": ours, "theirs": theirs,
                     "ratio": ratio, "good": "yes" if abs(ratio - 1) <= 0.15 else "no"})  # fmt: skip
    return rows


def growth(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of the report on a chain of 10,000 nodes, beside one of 1,000, in turns."""
    files = {length: folder / f"{length}.onnx" for length in (10_000, 1_000)}
    for length, file in files.items():
        onnx.save(chain(length), file)
    spent: dict[int, list[float]] = {length: [] for length in files}
    for _ in range(rounds):
        for length, file in files.items():
            began = time.perf_counter()
            profile(str(file), latency=False)
            spent[length].append(time.perf_counter() - began)
    ours, theirs = (float(np.median(times)) for times in spent.values())
    ratio = float(np.median(np.array(spent[10_000]) / np.array(spent[1_000])))
    return {"what": "seconds for 10,000 nodes, 1,000 beside", "network": "a chain", "ours": ours, "theirs": theirs, "ratio": ratio,
            "good": "yes" if ratio <= 12 else "no"}  # fmt: skip


def chain(length: int) -> onnx.ModelProto:
    """Convolutions and activations in a row, `length` nodes together."""
    names = ["x", *(f"v{index}" for index in range(length))]
    weights = [onnx.numpy_helper.from_array(np.zeros((8, 8, 1, 1), np.float32), f"w{index}") for index in range(length // 2)]
    nodes = [
        onnx.helper.make_node("Relu", [names[index]], [names[index + 1]], name=names[index + 1])
        if index % 2
        else onnx.helper.make_node("Conv", [names[index], f"w{index // 2}"], [names[index + 1]], name=names[index + 1])
        for index in range(length)
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("n", 8, 4, 4)) for name in (names[0], names[-1])]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


def whole_run(module: torch.nn.Module, inputs: list[torch.Tensor]) -> float:
    """The median of whole runs, in ms."""
    spent = []
    with torch.inference_mode():
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until or len(spent) < 5:
            began = time.perf_counter()
            module(*inputs)
            spent.append(1000 * (time.perf_counter() - began))
    return float(np.median(spent))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    rows = [speed(name, rounds) for name in NETWORKS]
    rows.append(memory())
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in TIMED:
            rows += adding_up(name, shape, Path(folder), rounds)
        rows.append(growth(Path(folder), rounds))
    good = all(row["good"] != "no" for row in rows)
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f} GB"
    report = Report("the layer report", rows, "as promised" if good else "not as promised", good, [("memory of this benchmark", peak)],
                    [Table("", COLUMNS, rows)])  # fmt: skip
    keep("layer_report", report)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
