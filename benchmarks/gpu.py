"""Device-to-device latency of one exported network: onnxruntime beside PyTorch eager, torch.compile and CUDA graphs.

    python benchmarks/gpu.py [--network torchvision:resnet18] [--batches 1,32] [--rounds 30] [--out benchmarks/results]

Inputs and outputs stay on the device; each call is synchronized before the clock is read; the engines take turns, so that
the clocks of the device drift for all of them; TF32 is set to the same on both sides. Writes <out>/<device>.md.
``--device cpu`` runs the same code without the engines that need CUDA, to see that it works.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploykit.exporter import export
from deploykit.network.target import Network, resolve
from deploykit.runtime.session import SessionSettings, open_session

Call = Callable[[], torch.Tensor]
CALLS = 20  # per turn


def main() -> None:
    """Measure every precision and batch; print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="torchvision:resnet18")
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    network = resolve(arguments.network, untrained=True)
    with tempfile.TemporaryDirectory() as folder:
        model = export(arguments.network, untrained=True, out=Path(folder) / "model.onnx").file.read_bytes()
    lines = []
    for tf32 in (False, True) if arguments.device == "cuda" else (False,):
        for batch in (int(size) for size in arguments.batches.split(",")):
            lines += section(network, model, batch, tf32, arguments.device, arguments.rounds)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    text = "\n".join([*head(arguments.network, name, arguments.rounds), *lines]) + "\n"
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.md").write_text(text)


def section(network: Network, model: bytes, batch: int, tf32: bool, device: str, rounds: int) -> list[str]:
    """One table: every engine on the same input."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    module = network.module.to(device)
    x = torch.randn(batch, *network.inputs[0].shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        calls = {**torch_engines(module, x), **onnxruntime_engines(model, x, module(x), tf32)}
        wanted = module(x)
        errors = {name: float((call() - wanted).abs().max() / wanted.abs().max()) for name, call in calls.items()}
        times = in_turns(calls, x.device, rounds)
    eager = statistics.median(times["PyTorch eager"])
    lines = [
        "",
        f"## batch {batch}, TF32 {'on' if tf32 else 'off'}",
        "",
        "| engine | median ms | p95 ms | vs eager | difference |",
        "|---|---|---|---|---|",
    ]
    for name, taken in times.items():
        median, p95 = statistics.median(taken), float(np.quantile(taken, 0.95))
        lines.append(f"| {name} | {median:.3f} | {p95:.3f} | {eager / median:.2f}x | {errors[name]:.1e} |")
    return lines


def torch_engines(module: torch.nn.Module, x: torch.Tensor) -> dict[str, Call]:
    """Eager everywhere; compiled and recorded on CUDA."""
    calls: dict[str, Call] = {"PyTorch eager": lambda: module(x)}
    if x.device.type == "cuda":
        compiled = torch.compile(module)
        calls["torch.compile"] = lambda: compiled(x)
        calls["PyTorch CUDA graph"] = recorded(module, x)
    return calls


def recorded(module: torch.nn.Module, x: torch.Tensor) -> Call:
    """A CUDA graph of one forward pass, recorded after a warm-up on a stream of its own, as PyTorch's notes ask."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = module(x)

    def call() -> torch.Tensor:
        graph.replay()
        return y

    return call


def onnxruntime_engines(model: bytes, x: torch.Tensor, like: torch.Tensor, tf32: bool) -> dict[str, Call]:
    """With bound buffers; on CUDA also with a recorded graph."""
    calls = {"onnxruntime": bound(model, x, like, tf32, graph=False)}
    if x.device.type == "cuda":
        calls["onnxruntime CUDA graph"] = bound(model, x, like, tf32, graph=True)
    return calls


def bound(model: bytes, x: torch.Tensor, like: torch.Tensor, tf32: bool, graph: bool) -> Call:
    """A session that reads and writes PyTorch's own memory."""
    device = x.device.type
    session = open_session(model, "the network", None, SessionSettings(device, tf32=tf32, cuda_graph=graph)).session
    y = torch.empty_like(like)
    binding = session.io_binding()
    shape = lambda tensor: tuple(tensor.shape)  # noqa: E731
    binding.bind_input(session.get_inputs()[0].name, device, 0, np.float32, shape(x), x.data_ptr())
    binding.bind_output(session.get_outputs()[0].name, device, 0, np.float32, shape(y), y.data_ptr())

    def call() -> torch.Tensor:
        session.run_with_iobinding(binding)
        return y

    return call


def in_turns(calls: dict[str, Call], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per call, engine by engine in turns; the first turns do not count."""
    wait: Callable[[], Any] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-3, rounds):
        for name, call in calls.items():
            for _ in range(CALLS):
                wait()
                start = time.perf_counter()
                call()
                wait()
                if turn >= 0:
                    taken[name].append((time.perf_counter() - start) * 1000)
    return taken


def head(network: str, device: str, rounds: int) -> list[str]:
    """What was measured, on what, with what."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "numpy"))
    import onnxruntime

    return [
        f"# {network} on {device}",
        "",
        f"Device to device, float32, {rounds} rounds of {CALLS} calls in turns, each call synchronized. {versions}, "
        f"onnxruntime {onnxruntime.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}. "
        "Difference: the largest, relative to the largest output of PyTorch eager.",
    ]


if __name__ == "__main__":
    main()
