"""int8 by NNCF's own defaults, for OpenVINO; where the package `nncf` is installed."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec

import onnx

from deploykit.errors import InputError, first_line
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.candidates._types import Proposal, Steps, Task
from deploykit.tuner.candidates.int8 import mixed_options

PRECISION = "int8"
BUILD = "int8-nncf"
MOST_SAMPLES = 300  # what NNCF itself takes by default


def propose(task: Task) -> Steps:
    """One candidate; none where NNCF or OpenVINO is not there, or where the file takes several samples at once alone."""
    if (
        task.device == "cpu"
        and "openvino" in task.engines
        and find_spec("nncf") is not None
        and fixed_batch(task.model) in (None, 1)
    ):
        options = mixed_options(task, "openvino")
        candidate = task.like_baseline("int8 nncf openvino", engine="openvino", precision="int8", build=BUILD, options=options)
        yield [Proposal(candidate, lambda: quantized(task))]


def quantized(task: Task) -> onnx.ModelProto:
    """The whole graph in QDQ as NNCF puts it. Raises `InputError` for a graph that it cannot read."""
    part = task.parts.calibration
    rows = [part.rows(row, row + 1) for row in range(min(MOST_SAMPLES, len(part)))]
    try:
        with _quiet():
            import nncf

            model = onnx.ModelProto()
            model.CopyFrom(task.model)
            found: onnx.ModelProto = nncf.quantize(model, nncf.Dataset(rows), subset_size=len(rows))
    except MemoryError:
        raise
    except Exception as error:  # NNCF's errors have no base of their own
        raise InputError(f"NNCF cannot quantize {task.name or task.file.name}: {first_line(error)}") from error
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its remarks and its bars, and without a word to anybody outside of this machine."""
    before = logging.getLogger("nncf").level
    os.environ.setdefault("NNCF_CI", "1")  # its telemetry is off where this is set
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.getLogger("nncf").setLevel(before)
