"""`POST /v2/models/M/infer`: the protocol's request -> arrays, outputs -> the protocol's response. No web server in it.

A body is a JSON document, or one that is followed by raw tensors (the binary tensor extension): then the header
`Inference-Header-Content-Length` says where the document ends. A length of 0 says that all of it is one input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError
from deploykit.runtime.checks import check_value
from deploykit.serving import documents
from deploykit.serving.tensors import TYPES, Tensor, checked_shape, from_bytes, from_json, to_bytes, to_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ID = 1024
_RESERVED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for; `binary`: as raw bytes; `classes`: the best so many, as texts, 0 for the output itself."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Inference:
    """A request: arrays by input name. `outputs` in the order asked for; `timeout`: seconds, `None` for the server's own."""

    inputs: dict[str, Any]
    outputs: tuple[Wanted, ...]
    id: str = ""
    timeout: float | None = None


@dataclass(frozen=True)
class Signature:
    """What a served network takes and gives. `batched`: with a contract, so that an open first axis holds samples."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool
    labels: tuple[str, ...] | None = None
    by_name: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {tensor.name: tensor for tensor in self.inputs})


def read_request(body: bytes, header_length: str | None, network: Signature) -> Inference:
    """A body whose compression is undone -> the request. Raises `InputError` for whatever the protocol does not allow."""
    if header_length is None:
        return _from_document(documents.parse(body), memoryview(b""), network)
    if not (header_length.isascii() and header_length.isdecimal() and len(header_length) <= 12):
        raise InputError(f"Inference-Header-Content-Length must be a whole number, not {header_length!r:.40}")
    length = int(header_length)
    if length > len(body):
        raise InputError(f"Inference-Header-Content-Length says {length} bytes, the body has {len(body)}")
    if length == 0:
        return _raw(body, network)
    view = memoryview(body)
    return _from_document(documents.parse(view[:length]), view[length:], network)


def write_response(
    request: Inference, outputs: Mapping[str, NDArray[Any]], network: Signature, model: str, version: str
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where raw tensors follow it. Raises `InputError` for values that JSON cannot say."""
    said: list[dict[str, Any]] = []
    raw: list[bytes] = []
    tensors = {tensor.name: tensor for tensor in network.outputs}
    for wanted in request.outputs:
        array, datatype = outputs[wanted.name], tensors[wanted.name].datatype
        if wanted.classes:
            array, datatype = best(array, wanted, network.labels), TYPES["BYTES"]
        entry: dict[str, Any] = {"name": wanted.name, "datatype": datatype.name, "shape": list(array.shape)}
        if wanted.binary:
            raw.append(to_bytes(array, datatype))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = to_json(array, datatype, wanted.name)
        said.append(entry)
    if len(raw) == len(said) and not request.id:
        told = tuple(
            (entry["name"], entry["datatype"], tuple(entry["shape"]), len(part)) for entry, part in zip(said, raw, strict=True)
        )
        head = _head(model, version, told)
    else:
        many = sum(len(entry.get("data", ())) for entry in said) > documents.PIECE
        write = documents.write_long if many else documents.write
        head = write(_document(model, version, request.id, said))
    return (b"".join([head, *raw]), len(head)) if raw else (head, None)


@lru_cache(1024)
def _head(model: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...], int], ...]) -> bytes:
    """The JSON before raw outputs: the same for all requests of a size."""
    said = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in outputs
    ]
    return documents.write(_document(model, version, "", said))


def _document(model: str, version: str, request_id: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"model_name": model, "model_version": version, **({"id": request_id} if request_id else {}), "outputs": outputs}


def best(array: NDArray[Any], wanted: Wanted, labels: tuple[str, ...] | None) -> NDArray[Any]:
    """The classification extension: rows of scores -> texts such as "0.98:3:three", the best first. Raises `InputError`."""
    if array.ndim < 1 or array.dtype.kind not in "fiu" or not array.size:
        raise InputError(f"the output {wanted.name!r:.80} has no scores to be put in order")
    rows = array.reshape(-1, array.shape[-1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : wanted.classes]
    named = labels if labels is not None and len(labels) == rows.shape[1] else None
    found = np.empty(order.shape, object)
    for row, places in enumerate(order.tolist()):
        for at, place in enumerate(places):
            found[row, at] = f"{float(rows[row, place]):f}:{place}" + (f":{named[place]}" if named else "")
    return found.reshape(*array.shape[:-1], order.shape[1])


def check_inputs(inputs: Mapping[str, Any], network: Signature) -> None:
    """Raise `InputError` unless every input is there and is what the graph takes."""
    for tensor in network.inputs:
        if tensor.name not in inputs:
            raise InputError(f"the input {tensor.spec} is missing")
        check_value(inputs[tensor.name], tensor.spec, finite=False, batched=network.batched)


def input_named(name: object, datatype: object, network: Signature) -> Tensor:
    """The input of that name. Raises `InputError` where there is none or where it has another datatype."""
    if not isinstance(name, str):
        raise InputError(f"the name of an input must be a text, not {name!r:.40}")
    tensor = network.by_name.get(name)
    if tensor is None:
        known = ", ".join(repr(other) for other in list(network.by_name)[:12])
        raise InputError(f"there is no input {name!r:.80}", f"the network takes {known}")
    if datatype != tensor.datatype.name:
        raise InputError(f"the input {name!r:.80} is {tensor.datatype.name}, not {datatype!r:.40}")
    return tensor


def outputs_named(asked: Sequence[tuple[object, bool, int]], network: Signature) -> tuple[Wanted, ...]:
    """(name, binary, classes) of the outputs that are asked for. Raises `InputError` for unknown ones and for repeated ones."""
    known = {tensor.name for tensor in network.outputs}
    found: list[Wanted] = []
    for name, binary, classes in asked:
        if not isinstance(name, str) or name not in known:
            raise InputError(f"there is no output {name!r:.80}", f"the network gives {', '.join(map(repr, sorted(known)[:12]))}")
        if any(other.name == name for other in found):
            raise InputError(f"the output {name!r:.80} is asked for twice")
        found.append(Wanted(name, binary, classes))
    return tuple(found)


def check_parameters(parameters: object, what: str) -> dict[str, Any]:
    """Texts, numbers and booleans by name. Raises `InputError` for anything else, for reserved names and for shared memory."""
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InputError(f"the parameters of {what} must be an object")
    for name, value in parameters.items():
        if not isinstance(value, (str, int, float, bool)):
            raise InputError(f"the parameter {name!r:.80} of {what} must be a text, a number or a boolean")
        if name.startswith("triton_"):
            raise InputError(f"the parameter {name!r:.80} of {what} has a reserved name")
        if name in _RESERVED:
            raise InputError(f"{what} lies in shared memory, which is not offered here", "send it in the body")
    return parameters


def timeout_of(value: object) -> float | None:
    """Microseconds of the protocol -> seconds; 0 and nothing are `None`. Raises `InputError`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise InputError(f"timeout must be a whole number of microseconds, not {value!r:.40}")
    return value / 1e6 or None


def check_sequence(parameters: Mapping[str, Any]) -> None:
    """Raise `InputError` for a request that is part of a sequence: no network here remembers one."""
    if parameters.get("sequence_id") not in (None, 0, ""):
        raise InputError("sequences are not offered here: the network keeps no state between requests")


def _from_document(document: dict[str, Any], raw: memoryview, network: Signature) -> Inference:
    request_id = document.get("id", "")
    if not isinstance(request_id, str) or len(request_id) > MAX_ID:
        raise InputError(f"id must be a text of at most {MAX_ID} characters")
    parameters = check_parameters(document.get("parameters"), "the request")
    check_sequence(parameters)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InputError("the request has no list of inputs")
    arrays: dict[str, Any] = {}
    for entry in inputs:
        name, array, raw = _input(entry, raw, network)
        if name in arrays:
            raise InputError(f"the input {name!r:.80} is given twice")
        arrays[name] = array
    if len(raw):
        raise InputError(f"{len(raw)} bytes follow the last input")
    check_inputs(arrays, network)
    return Inference(arrays, _outputs(document, parameters, network), request_id, timeout_of(parameters.get("timeout")))


def _input(entry: object, raw: memoryview, network: Signature) -> tuple[str, NDArray[Any], memoryview]:
    """One input, and the raw bytes that are left for those after it."""
    if not isinstance(entry, dict):
        raise InputError("an input must be a JSON object")
    tensor = input_named(entry.get("name"), entry.get("datatype"), network)
    name = tensor.name
    shape = checked_shape(entry.get("shape"), name)
    parameters = check_parameters(entry.get("parameters"), f"the input {name!r:.80}")
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise InputError(f"the input {name!r:.80} has no data")
        return name, from_json(entry["data"], tensor.datatype, shape, name), raw
    if "data" in entry:
        raise InputError(f"the input {name!r:.80} has both data and binary_data_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InputError(f"binary_data_size of {name!r:.80} must be a whole number, not {size!r:.40}")
    if size > len(raw):
        raise InputError(f"the input {name!r:.80} says {size} bytes, the body has {len(raw)} left")
    return name, from_bytes(raw[:size], tensor.datatype, shape, name), raw[size:]


def _outputs(document: dict[str, Any], parameters: dict[str, Any], network: Signature) -> tuple[Wanted, ...]:
    otherwise = _flag(parameters, "binary_data_output", False)
    listed = document.get("outputs")
    if listed is None or listed == []:
        return tuple(Wanted(tensor.name, otherwise) for tensor in network.outputs)
    if not isinstance(listed, list):
        raise InputError("outputs must be a list")
    asked = []
    for entry in listed:
        if not isinstance(entry, dict):
            raise InputError("an output must be a JSON object")
        own = check_parameters(entry.get("parameters"), f"the output {entry.get('name')!r:.80}")
        classes = own.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= 100_000:
            raise InputError(f"classification must be a whole number, not {classes!r:.40}")
        asked.append((entry.get("name"), _flag(own, "binary_data", otherwise), classes))
    return outputs_named(asked, network)


def _flag(parameters: dict[str, Any], name: str, otherwise: bool) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {value!r:.40}")
    return value


def _raw(body: bytes, network: Signature) -> Inference:
    """A body that is the bytes of the only input; one open axis is as long as they make it, a further one before it is 1."""
    if len(network.inputs) != 1:
        raise InputError(f"a raw body is for networks with one input, this one has {len(network.inputs)}")
    tensor = network.inputs[0]
    sizes = list(tensor.shape)
    open_axes = [axis for axis, size in enumerate(sizes) if size < 0]
    if len(open_axes) > 1 and open_axes[0] == 0:
        sizes[open_axes.pop(0)] = 1
    if len(open_axes) > 1:
        raise InputError(f"a raw body does not say the shape of the input {tensor.spec}", "send a JSON header with it")
    outputs = tuple(Wanted(output.name, True) for output in network.outputs)
    if tensor.datatype.name == "BYTES":
        shape = tuple(1 if size < 0 else size for size in sizes)
        array = from_bytes(memoryview(len(body).to_bytes(4, "little") + body), tensor.datatype, shape, tensor.name)
    else:
        if open_axes:
            known = math.prod(size for size in sizes if size >= 0) * tensor.datatype.numpy.itemsize
            if not known or not body or len(body) % known:
                raise InputError(f"a raw body of {len(body)} bytes does not fit the input {tensor.spec}")
            sizes[open_axes[0]] = len(body) // known
        array = from_bytes(memoryview(body), tensor.datatype, tuple(sizes), tensor.name)
    inputs = {tensor.name: array}
    check_inputs(inputs, network)
    return Inference(inputs, outputs)
