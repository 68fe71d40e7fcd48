"""What a search begins with: the file as it is, and the numbers of threads and samples per run to choose from."""

from __future__ import annotations

import onnx

from deploykit.errors import InputError
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.runtime.cores import cores
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.options import Options
from deploykit.tuner.result import Candidate

BATCH_OF_THROUGHPUT = 16
BATCHES = (1, 4, 64)  # for throughput, besides that one
MOST_THREADS = 4  # numbers of threads to choose from


def baseline(model: onnx.ModelProto, options: Options) -> Candidate:
    """The file as it is, as `Predictor` runs it."""
    graph_inputs.of_graph(model.graph)
    fixed = fixed_batch(model)
    batch = options.batch or fixed or (BATCH_OF_THROUGHPUT if options.goal == "throughput" else 1)
    if fixed is not None and batch != fixed:
        raise InputError(f"the file takes batches of {fixed} alone, not {batch}", f"give --batch {fixed}")
    return Candidate("fp32 onnxruntime", "onnxruntime", "fp32", options.threads or cores().usable, batch)


def threads(options: Options, first: Candidate) -> tuple[int, ...]:
    """The baseline's number, its half, the half of that, and so on."""
    found = [first.threads]
    while options.threads is None and found[-1] > 1 and len(found) < MOST_THREADS:
        found.append(found[-1] // 2)
    return tuple(found)


def batches(model: onnx.ModelProto, options: Options, first: Candidate) -> tuple[int, ...]:
    """The baseline's number of samples per run, and others where throughput is wanted and nobody chose one."""
    free = options.goal == "throughput" and options.batch is None and fixed_batch(model) is None
    return (first.batch, *BATCHES) if free else (first.batch,)
