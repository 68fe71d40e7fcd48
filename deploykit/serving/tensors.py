"""Tensors of the Open Inference Protocol: bytes and JSON -> numpy arrays that onnxruntime takes, and back.

BF16 is an array of uint16 (its bits), BYTES an array of texts. Everything that comes in is checked against datatype and shape;
what does not fit raises `InputError`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError
from deploykit.runtime.session import TensorSpec
from deploykit.serving import numbers
from deploykit.serving.numbers import MAX_AXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SIZE = 1 << 31
MAX_EMPTY = 1 << 24  # elements that a shape with a 0 may say without it: as many as 64 MiB hold of FP32
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Datatype:
    """`name` in the protocol, `numpy` the type of arrays (little-endian), `ort` onnxruntime's name, `field` of gRPC's contents."""

    name: str
    numpy: np.dtype[Any]
    ort: str
    field: str | None

    @property
    def in_json(self) -> bool:
        """Whether JSON can say its values; half precision has no form there."""
        return self.name not in ("FP16", "BF16")


def _types() -> dict[str, Datatype]:
    rows = (
        ("BOOL", "?", "bool", "bool_contents"),
        ("UINT8", "u1", "uint8", "uint_contents"),
        ("UINT16", "<u2", "uint16", "uint_contents"),
        ("UINT32", "<u4", "uint32", "uint_contents"),
        ("UINT64", "<u8", "uint64", "uint64_contents"),
        ("INT8", "i1", "int8", "int_contents"),
        ("INT16", "<i2", "int16", "int_contents"),
        ("INT32", "<i4", "int32", "int_contents"),
        ("INT64", "<i8", "int64", "int64_contents"),
        ("FP16", "<f2", "float16", None),
        ("BF16", "<u2", "bfloat16", None),
        ("FP32", "<f4", "float", "fp32_contents"),
        ("FP64", "<f8", "double", "fp64_contents"),
        ("BYTES", "O", "string", "bytes_contents"),
    )
    return {name: Datatype(name, np.dtype(numpy), f"tensor({ort})", field) for name, numpy, ort, field in rows}


TYPES = _types()
BY_ORT = {datatype.ort: datatype for datatype in TYPES.values()}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a served network: `shape` has -1 where any size goes."""

    spec: TensorSpec
    datatype: Datatype
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name in the graph."""
        return self.spec.name


def tensor_of(spec: TensorSpec) -> Tensor:
    """Raises `InputError` for what the protocol cannot carry (sequences, maps, types without a name there)."""
    datatype = BY_ORT.get(spec.type)
    if datatype is None:
        raise InputError(f"{spec} cannot be served: the protocol has no datatype for {spec.type}")
    return Tensor(spec, datatype, tuple(-1 if size is None else size for size in spec.shape or ()))


def checked_shape(shape: object, name: str) -> tuple[int, ...]:
    """Sizes as a tuple. Raises `InputError` for anything but a list of whole numbers from 0 to 2^31.

    A shape with a 0 needs no bytes, but a network may make an output of the sizes beside it: those are bounded together.
    """
    if not isinstance(shape, (list, tuple)):
        raise InputError(f"the shape of {name!r:.80} must be a list of whole numbers, not {shape!r:.40}")
    if len(shape) > MAX_AXES:
        raise InputError(f"the shape of {name!r:.80} has {len(shape)} axes, at most {MAX_AXES} are taken")
    for size in shape:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_SIZE:
            raise InputError(f"the shape of {name!r:.80} holds {size!r:.40}, sizes are whole numbers from 0 to {MAX_SIZE}")
    if 0 in shape and math.prod(size for size in shape if size) > MAX_EMPTY:
        raise InputError(
            f"the shape of {name!r:.80} is empty, but large: {shape!r:.80}", f"without its 0 it may have {MAX_EMPTY:,} elements"
        )
    return tuple(shape)


def from_bytes(data: memoryview, datatype: Datatype, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Raw little-endian bytes -> an array of its own or a view of them. Raises `InputError` unless they are exactly enough."""
    count = math.prod(shape)
    if datatype.name == "BYTES":
        return _shaped(_texts(data, count, name), shape, name)
    needed = count * datatype.numpy.itemsize
    if len(data) != needed:
        raise InputError(f"the input {name!r:.80} has {len(data)} bytes, its shape {list(shape)} of {datatype.name} needs {needed}")
    array = np.frombuffer(data, datatype.numpy)
    if not array.flags.aligned:  # behind a JSON document of odd length
        array = array.copy()
    if datatype.name == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise InputError(f"the input {name!r:.80} of BOOL holds bytes other than 0 and 1")
    return _shaped(array, shape, name)


def from_json(data: object, datatype: Datatype, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Values of a JSON document, nested or flat in row-major order. Raises `InputError` for wrong types, counts and ranges."""
    if not datatype.in_json:
        raise InputError(f"JSON has no form for {datatype.name}", f"send {name!r:.80} as binary data")
    if not isinstance(data, list):
        raise InputError(f"the data of {name!r:.80} must be a list")
    if datatype.name == "BYTES":
        return _shaped(_array_of_texts(data, name), shape, name)
    return _shaped(numbers.array_of(data, datatype.numpy, f"the data of {name!r:.80}", datatype.name), shape, name)


def from_values(values: Sequence[Any], datatype: Datatype, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """The typed contents of gRPC, flat. Floats may be any, as in raw bytes; whole numbers are those of the datatype."""
    if datatype.name == "BYTES":
        array = np.empty(len(values), object)
        array[:] = [_decoded(value, name) for value in values]
        return _shaped(array, shape, name)
    if datatype.numpy.kind == "f":
        return _shaped(np.array(values, datatype.numpy), shape, name)
    return _shaped(numbers.array_of(list(values), datatype.numpy, f"the data of {name!r:.80}", datatype.name), shape, name)


def to_bytes(array: NDArray[Any], datatype: Datatype) -> bytes:
    """An output as the protocol's raw bytes."""
    if datatype.name != "BYTES":
        return (array if array.dtype == datatype.numpy else array.astype(datatype.numpy)).tobytes()  # always in rows
    parts = []
    for text in array.ravel().tolist():
        encoded = str(text).encode("utf-8", "surrogateescape")
        parts += [_LENGTH.pack(len(encoded)), encoded]
    return b"".join(parts)


def to_json(array: NDArray[Any], datatype: Datatype, name: str) -> list[Any]:
    """An output as a flat list. Raises `InputError` for half precision and for NaN and infinities, which JSON cannot say."""
    if not datatype.in_json:
        raise InputError(f"JSON has no form for the {datatype.name} of the output {name!r:.80}", "ask for binary_data")
    if datatype.name == "BYTES":
        return [str(text) for text in array.ravel().tolist()]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"the output {name!r:.80} holds NaN or infinities, which JSON cannot say", "ask for binary_data")
    values: list[Any] = array.ravel().tolist()
    return values


def _shaped(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    count = math.prod(shape)
    if array.size != count:
        raise InputError(f"the data of {name!r:.80} has {array.size} elements, its shape {list(shape)} needs {count}")
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise InputError(f"the shape {list(shape)!r:.80} of {name!r:.80} cannot be used") from error


def _texts(data: memoryview, count: int, name: str) -> NDArray[Any]:
    if count * _LENGTH.size > len(data):
        raise InputError(f"the input {name!r:.80} has {len(data)} bytes, too few for {count} elements of BYTES")
    found, at = [], 0
    for _ in range(count):
        if at + _LENGTH.size > len(data):
            raise InputError(f"the input {name!r:.80} ends within the length of an element")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise InputError(f"the input {name!r:.80} ends within an element")
        found.append(_decoded(bytes(data[at : at + length]), name))
        at += length
    if at != len(data):
        raise InputError(f"the input {name!r:.80} has {len(data) - at} bytes too many")
    array = np.empty(count, object)
    array[:] = found
    return array


def _decoded(element: object, name: str) -> str:
    try:
        return bytes(element).decode()  # type: ignore[call-overload]
    except UnicodeDecodeError as error:
        raise InputError(f"the input {name!r:.80} holds BYTES that are no UTF-8") from error


def _array_of_texts(data: list[Any], name: str) -> NDArray[Any]:
    found: list[str] = []
    todo: list[Any] = [data]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo.extend(reversed(value))
        elif isinstance(value, str) and (value.isascii() or _is_unicode(value)):
            found.append(value)
        else:
            raise InputError(f"the data of {name!r:.80} of BYTES must be texts")
    array = np.empty(len(found), object)
    array[:] = found
    return array


def _is_unicode(text: str) -> bool:
    try:
        return text.encode() is not None
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
