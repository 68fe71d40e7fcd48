"""Inputs and outputs that stay where the network runs: IO binding, and on CUDA the replay of a recorded graph.

Each input shape gets its own input buffers on the device. Outputs are made there by onnxruntime in each run, since their shapes
may depend on the values of the inputs. A recorded CUDA graph reads and writes the addresses it was recorded with: it has
buffers for its outputs too, which live as long as the graph, and cannot have outputs of changing shapes. onnxruntime keeps one
graph per `gpu_graph_id`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

MAX_SHAPES = 16
_NO_GRAPH = "-1"  # onnxruntime's way to say: neither record nor replay in this run
_GRAPH_ID = "gpu_graph_id"


@dataclass(frozen=True)
class _Buffers:
    """`outputs`: those of a recorded graph, `None` where onnxruntime makes them in each run."""

    binding: Any
    inputs: dict[str, Any]
    outputs: list[Any] | None
    graph_id: str


class BoundRunner:
    """Runs a session with bound buffers; `run` is what `session.run` is. Shapes beyond `MAX_SHAPES` run without binding.

    `device`: "cpu" or "cuda"; `number`: which one; `graph`: record and replay CUDA graphs (numeric inputs and outputs only).
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str, number: int, graph: bool) -> None:
        self._session = session
        self._device = device
        self._number = number
        self._graph = graph
        self._lock = threading.Lock()  # buffers are shared state
        self._buffers: dict[object, _Buffers | None] = {}

    def run(self, names: list[str], feeds: dict[str, Any], options: Any = None) -> list[Any]:
        """The outputs called `names`, as arrays of their own; `options`: of onnxruntime, for this run alone."""
        if not all(isinstance(value, np.ndarray) for value in feeds.values()):
            return self._plain(names, feeds, options)  # a sequence of tensors has no one buffer
        key = (tuple(names), *((name, array.shape, array.dtype.str) for name, array in sorted(feeds.items())))
        with self._lock:
            if key not in self._buffers:
                if len(self._buffers) >= MAX_SHAPES:
                    return self._plain(names, feeds, options)
                return self._first(key, names, feeds, options)
            buffers = self._buffers[key]
            if buffers is None:
                return self._plain(names, feeds, options)
            for name, value in buffers.inputs.items():
                value.update_inplace(np.ascontiguousarray(feeds[name]))
            if buffers.outputs is None:
                # onnxruntime would write into what it made in the last run, whatever its shape.
                buffers.binding.clear_binding_outputs()
                for name in names:
                    buffers.binding.bind_output(name, self._device, self._number)
            self._session.run_with_iobinding(buffers.binding, self._options(buffers.graph_id, options))
            return [np.array(value.numpy()) for value in buffers.outputs or buffers.binding.get_outputs()]

    def _first(self, key: object, names: list[str], feeds: dict[str, Any], options: Any) -> list[Any]:
        """The first run of a shape goes without binding: it tells what kind of outputs there are, and a graph their shapes."""
        found = self._plain(names, feeds, options)
        values = [*feeds.values(), *found]
        numbers = all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in values)
        bindable = numbers and all(value.size for value in (values if self._graph else feeds.values()))
        self._buffers[key] = self._bind(names, feeds, found) if bindable else None
        return found

    def _bind(self, names: list[str], feeds: dict[str, Any], found: list[Any]) -> _Buffers:
        inputs = {name: self._buffer(array) for name, array in feeds.items()}
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        outputs = [self._buffer(array) for array in found] if self._graph else None
        if outputs is not None:
            for name, value in zip(names, outputs, strict=True):
                binding.bind_ortvalue_output(name, value)
        return _Buffers(binding, inputs, outputs, str(len(self._buffers)))

    def _buffer(self, array: np.ndarray[Any, Any]) -> Any:
        """Device memory of this shape. On the CPU onnxruntime would use the array's own memory, which is the caller's: copy it."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), self._device, self._number)

    def _plain(self, names: list[str], feeds: dict[str, Any], options: Any) -> list[Any]:
        return list(self._session.run(names, feeds, self._options(_NO_GRAPH, options)))

    def _options(self, graph_id: str, given: Any) -> Any:
        """What was `given` for a run, and which graph is its own."""
        if not self._graph:
            return given
        options = onnxruntime.RunOptions() if given is None else given
        options.add_run_config_entry(_GRAPH_ID, graph_id)
        return options
