"""An ONNX file run by OpenVINO on the CPU. The library is loaded when the first file is opened, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deploykit.errors import DependencyMissing, ModelFileError, first_line
from deploykit.runtime.cores import cores

PACKAGE = "openvino"
Precision = Literal["f32", "bf16", "f16"]  # in which OpenVINO may compute what the file has in float32
CAPABILITIES: dict[Precision, str] = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}  # what it calls them where a CPU has them


def installed() -> bool:
    """Whether OpenVINO is there; it is not loaded."""
    return find_spec(PACKAGE) is not None


class OpenVinoModel:
    """A compiled file. Any number of threads may run it: each run takes a request of its own.

    `model`: a path, or the bytes of a file whose weights are inside. `threads`: within one run, `None` for as many as the process
    may use. `precision`: "f32" computes in float32; "bf16" and "f16" where the machine does (elsewhere they mean "f32").
    `fixed_batch`: it is compiled for so many rows alone, by which OpenVINO plans better than for any number (mobilenet_v3_small in
    int8: 1.2 times as fast); the first run of another number compiles it once more, for any. Raises `DependencyMissing`,
    `ModelFileError`.
    """

    def __init__(
        self,
        model: Path | bytes,
        name: str,
        threads: int | None = None,
        precision: Precision = "f32",
        fixed_batch: int | None = None,
    ) -> None:
        if not installed():
            raise DependencyMissing.of(PACKAGE, PACKAGE)
        import openvino

        self.version: str = openvino.get_version().split("-")[0]
        self.threads = threads or cores().usable
        self._name, self._compiling = name, threading.Lock()
        self._any: _Compiled | None = None
        try:
            self._core = openvino.Core()
            self._config = {
                "INFERENCE_NUM_THREADS": self.threads,
                "INFERENCE_PRECISION_HINT": precision if _computes_in(self._core, precision) else "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
            }
            self._read: Any = self._core.read_model(str(model)) if isinstance(model, Path) else self._core.read_model(model, b"")
            self.inputs = tuple((port.get_any_name(), _sizes(port), _dtype(port)) for port in self._read.inputs)
            self._rows = {name: fixed_batch for name, sizes, _ in self.inputs if fixed_batch and sizes and sizes[0] is None}
            self._fixed = self._compiled_for_rows() if self._rows else None
        except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many lines
            raise self._refused(error) from error
        self.precision = (self._fixed or self._for_any()).precision

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any], _options: Any = None) -> list[Any]:
        """The outputs called `names` (all for `None`), arrays of their own, as `onnxruntime.InferenceSession.run` gives them.

        Options of onnxruntime's runs say nothing here.
        """
        if self._fixed is not None and all(
            name in feeds and np.shape(feeds[name])[:1] == (rows,) for name, rows in self._rows.items()
        ):
            return self._fixed.run(names, feeds)
        return self._for_any().run(names, feeds)

    def _compiled_for_rows(self) -> _Compiled | None:
        """`None` where the network cannot have so many rows: its first axis is something else."""
        model = self._read.clone()
        shapes = {port: port.get_partial_shape() for port in model.inputs if port.get_any_name() in self._rows}
        for port, shape in shapes.items():
            shape[0] = self._rows[port.get_any_name()]
        try:
            model.reshape(shapes)
            return _Compiled(self._core.compile_model(model, "CPU", self._config))
        except RuntimeError:
            return None

    def _compiled_for_any(self) -> _Compiled:
        try:
            found = _Compiled(self._core.compile_model(self._read, "CPU", self._config))
        except Exception as error:
            raise self._refused(error) from error
        self._read = None  # its weights are needed no more
        return found

    def _for_any(self) -> _Compiled:
        with self._compiling:
            if self._any is None:
                self._any = self._compiled_for_any()
            return self._any

    def _refused(self, error: Exception) -> ModelFileError:
        return ModelFileError(f"OpenVINO cannot load {self._name}: {reason(error)}", "choose another engine")


class _Compiled:
    """One compiled model with the requests that are free."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        self._outputs = {name: place for place, port in enumerate(compiled.outputs) for name in port.get_names()}
        self._free: list[Any] = []

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """See `OpenVinoModel.run`."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        found = request.infer(dict(feeds), share_inputs=True, share_outputs=False)
        places = range(len(self._compiled.outputs)) if names is None else [self._outputs[name] for name in names]
        arrays = [np.asarray(found[place]) for place in places]
        self._free.append(request)
        return arrays


def _computes_in(core: Any, precision: Precision) -> bool:
    """Whether the CPU has instructions for it. Without them OpenVINO imitates bf16 where it is asked to, several times slower."""
    return CAPABILITIES[precision] in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def reason(error: BaseException) -> str:
    """What OpenVINO says: the last line of its message that is no place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.lstrip().startswith("Exception from ")]
    return " ".join(lines[-1].split())[:300] if lines else first_line(error)


def _sizes(port: Any) -> tuple[int | None, ...] | None:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return tuple(None if size.is_dynamic else int(size.get_length()) for size in shape)


def _dtype(port: Any) -> np.dtype[Any] | None:
    try:
        found = np.dtype(port.get_element_type().to_dtype())
    except (RuntimeError, TypeError):
        return None
    return found if found.kind in "fiub" else None
