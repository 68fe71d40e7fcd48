"""A model as Triton's repository has it: `config.pbtxt`, the labels, and for the Python backend the code that runs the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploykit.runtime import open_axes
from deploykit.runtime.predictor import Predictor
from deploykit.serving.description import config_type
from deploykit.serving.inference import Signature
from deploykit.serving.tensors import Tensor

LABELS = "labels.txt"


@dataclass(frozen=True)
class Wish:
    """How Triton is to run a model. `delay_us`: microseconds for which a request waits for others; `instances`: runs at a time."""

    max_batch_size: int = 32
    delay_us: int = 0
    instances: int = 1
    kind: str = "KIND_AUTO"


def config(name: str, predictor: Predictor, network: Signature, together: bool, wish: Wish, backend: str = "onnxruntime") -> str:
    """The text of `config.pbtxt`. `together`: whether rows of several callers may share a run.

    With a `max_batch_size` above 0 every shape is without the batch, with 0 it is whole; an empty one is said by a reshape.
    """
    batch = wish.max_batch_size if together else 0
    labels = predictor.labels
    fields: list[tuple[str, Any]] = [("name", name), ("backend", backend)]
    if backend == "onnxruntime":
        fields += [("platform", "onnxruntime_onnx"), ("default_model_filename", "model.onnx")]
    fields += [("max_batch_size", batch), ("version_policy", {"latest": {"num_versions": 1}})]
    fields += [("input", _tensor(tensor, batch)) for tensor in network.inputs]
    for place, tensor in enumerate(network.outputs):
        more = {"label_filename": LABELS} if labels is not None and place == 0 else {}
        fields.append(("output", {**_tensor(tensor, batch), **more}))
    # Without a count Triton starts two on the CPU, each with a thread for every core.
    fields.append(("instance_group", {"count": wish.instances, "kind": Name(wish.kind)}))
    if batch:
        fields.append(("dynamic_batching", {"max_queue_delay_microseconds": wish.delay_us}))
    for rows in [1, batch] if batch else [0]:
        warm = _warm_up(predictor, network, rows)
        if warm is not None:
            fields.append(("model_warmup", warm))
    return "".join(f"{line}\n" for key, value in fields for line in _lines(key, value))


def labels_text(labels: Sequence[str]) -> str:
    """One label a line, in the order of the output."""
    return "".join(" ".join(label.split()) + "\n" for label in labels)


PYTHON_MODEL = '''"""Runs model.onnx with onnxruntime in Triton's Python backend. Written by `deploykit package`."""

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One session; the rows of requests that fit together go into one run."""

    def initialize(self, args):
        """Open the file beside this one."""
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        wanted = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            wanted.insert(0, ("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}))
        self.session = onnxruntime.InferenceSession(path, providers=wanted)
        self.inputs = [node.name for node in self.session.get_inputs()]
        self.texts = {node.name for node in self.session.get_inputs() if node.type == "tensor(string)"}
        self.outputs = [node.name for node in self.session.get_outputs()]
        self.together = TOGETHER

    def execute(self, requests):
        """One response for each request, in order."""
        feeds = [{name: self._array(request, name) for name in self.inputs} for request in requests]
        answers = [None] * len(requests)
        for places in self._groups(feeds):
            try:
                self._answer(places, feeds, answers)
            except Exception:
                for place in places:  # one that the network refuses spoils no other
                    try:
                        self._answer([place], feeds, answers)
                    except Exception as error:
                        answers[place] = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error).splitlines()[0][:300]))
        return answers

    def _array(self, request, name):
        array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        if name not in self.texts:
            return array
        decoded = [element.decode() if isinstance(element, bytes) else element for element in array.ravel()]
        return np.array(decoded, dtype=object).reshape(array.shape)

    def _groups(self, feeds):
        groups = {}
        for place, feed in enumerate(feeds):
            shapes = tuple(feed[name].shape[1:] for name in self.inputs)
            groups.setdefault(shapes if self.together else place, []).append(place)
        return list(groups.values())

    def _answer(self, places, feeds, answers):
        if len(places) == 1:
            outputs = self.session.run(self.outputs, feeds[places[0]])
            answers[places[0]] = self._response(outputs)
            return
        joined = {name: np.concatenate([feeds[place][name] for place in places]) for name in self.inputs}
        outputs = self.session.run(self.outputs, joined)
        start = 0
        for place in places:
            stop = start + len(feeds[place][self.inputs[0]])
            answers[place] = self._response([output[start:stop] for output in outputs])
            start = stop

    def _response(self, outputs):
        made = []
        for name, output in zip(self.outputs, outputs):
            if output.dtype == object:
                output = np.array([text.encode() for text in output.ravel()], dtype=object).reshape(output.shape)
            made.append(pb_utils.Tensor(name, np.ascontiguousarray(output)))
        return pb_utils.InferenceResponse(output_tensors=made)
'''


def python_model(together: bool) -> str:
    """The text of `model.py`."""
    return PYTHON_MODEL.replace("= TOGETHER", f"= {together}")


class Name(str):
    """A value that stands without quotes, such as TYPE_FP32."""

    __slots__ = ()


def _tensor(tensor: Tensor, batch: int) -> dict[str, Any]:
    dims = list(tensor.shape[1:] if batch else tensor.shape)
    found: dict[str, Any] = {"name": tensor.name, "data_type": Name(config_type(tensor.datatype.name)), "dims": dims or [1]}
    return found if dims else {**found, "reshape": {"shape": []}}


def _warm_up(predictor: Predictor, network: Signature, batch: int) -> dict[str, Any] | None:
    """A run on zeros before the first caller; `None` where an input has no zeros. `batch`: 0 where shapes are whole."""
    if any(tensor.datatype.name == "BYTES" for tensor in network.inputs):
        return None
    shapes = open_axes.sizes(predictor.axes, 1, contract=predictor.contract)
    inputs = []
    for tensor in network.inputs:
        dims = list(shapes[tensor.name][1:] if batch else shapes[tensor.name]) or [1]
        value = {"data_type": Name(config_type(tensor.datatype.name)), "dims": dims, "zero_data": True}
        inputs.append({"key": tensor.name, "value": value})
    return {"name": f"zeros_{max(batch, 1)}", "batch_size": max(batch, 1), "inputs": inputs}


def _lines(key: str, value: Any, indent: str = "") -> list[str]:
    """A field of protobuf's text format."""
    if isinstance(value, Mapping):
        inner = [line for name, each in value.items() for line in _lines(name, each, indent + "  ")]
        return [f"{indent}{key} {{", *inner, f"{indent}}}"] if inner else [f"{indent}{key} {{ }}"]
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [line for each in value for line in _lines(key, each, indent)]
    if isinstance(value, list):
        return [f"{indent}{key}: [{', '.join(map(_scalar, value))}]"] if value else []
    return [f"{indent}{key}: {_scalar(value)}"]


def _scalar(value: Any) -> str:
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """A text in quotes, with every byte that is no plain character as three octal digits."""
    plain = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{plain}"'
