"""The bytes of an ONNX file -> the files that its weights lie in; a file that asks for too much is refused.

A file of a few megabytes can ask for terabytes: millions of empty nodes, a tensor whose dimensions claim more than it
stores, a sparse one that is dense, a constant that is only a shape, functions that call each other twice as often at every
level. Parsers and onnxruntime allocate first. So the file is walked once before, on plain offsets, and refused at the first
number that is out of bounds. The format is that of onnx.proto (https://github.com/onnx/onnx).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from deploykit.errors import ModelFileError

MAX_NODES = 250_000  # local functions expanded, bodies of loops and branches included
MAX_TENSORS = 250_000
MAX_FIELDS = 4_000_000
MAX_DEPTH = 16  # bodies within bodies
MAX_METADATA = 16 << 20  # bytes of the model's own keys and values
MAX_ELEMENTS = 1 << 27  # of a constant that the file does not store, but only describes

# Kinds of fields in a protobuf message.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Field numbers of onnx.proto, as (message)_(field).
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 14, 20, 25
_TRAINING_INITIALIZATION, _TRAINING_ALGORITHM = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE_INITIALIZER = 1, 5, 15
_GRAPH_VALUES = (11, 12, 13)  # input, output, value_info
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_ATTRIBUTE, _FUNCTION_OVERLOAD = 1, 7, 10, 11, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN, _NODE_OVERLOAD = 1, 2, 4, 5, 7, 8
_ATTRIBUTE_NAME, _ATTRIBUTE_INTS = 1, 8
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)  # one, several
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
_TENSOR_FLOATS, _TENSOR_INT32S, _TENSOR_STRINGS, _TENSOR_INT64S, _TENSOR_DOUBLES, _TENSOR_UINT64S = 4, 5, 6, 7, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES, _SPARSE_DIMS = 1, 2, 3
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_EXTERNAL = 1  # TensorProto.DataLocation
_KINDS = range(1, 29)  # TensorProto.DataType up to ONNX 1.23
_INT64, _STRING = 7, 8
# Bits per element by TensorProto.DataType; texts and types of tomorrow have none, and are bounded by what they take up.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
    16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip
_TYPED = frozenset((_TENSOR_FLOATS, _TENSOR_INT32S, _TENSOR_STRINGS, _TENSOR_INT64S, _TENSOR_DOUBLES, _TENSOR_UINT64S))
_COMPLEX = frozenset({14, 15})
_PACKED = frozenset({21, 22, 23, 25, 26})  # types of four and two bits, several to a number
_CONTINUED = bytes(range(0x80, 0x100))
# Operators that make a tensor from a stored shape, and the input that is the shape.
_SHAPED = {b"ConstantOfShape": 0, b"Expand": 1, b"Tile": 1}
_RANDOM = frozenset({b"RandomNormal", b"RandomUniform"})

_Function = tuple[bytes, bytes, bytes]  # domain, name, overload


@dataclass
class _Tensor:
    """One TensorProto: `raw` bytes (-1: none), `typed` values in fields of their own."""

    dims: list[int] = field(default_factory=list)
    kind: int = 0
    place: int = 0
    raw: int = -1
    typed: int = 0
    name: bytes = b""

    def holds(self, elements: int) -> bool:
        """Whether it stores as many values as a tensor of so many `elements` has."""
        bits = _BITS.get(self.kind)
        if self.raw >= 0:
            return self.kind != _STRING and (bits is None or (elements * bits + 7) // 8 == self.raw)
        packed = self.kind in _PACKED and 0 < 8 * self.typed >= elements
        return packed or self.typed == elements * (2 if self.kind in _COMPLEX else 1)


class Survey:
    """What was seen of a model: `locations` are the files in which weights lie, wherever in the file they are named."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.locations: set[str] = set()
        self._left = MAX_FIELDS
        self._nodes = self._tensors = self._metadata = 0
        self._small: dict[bytes, list[tuple[int, int]]] = {}  # small whole-number tensors by name, as offsets
        self._wanted: list[tuple[bytes, bytes]] = []  # (operator, name of the shape that it is given)
        self._calls: dict[_Function, int] = {}
        self._functions: dict[_Function, dict[_Function, int]] = {}

    def model(self) -> None:
        """Walk all of it. Raises `ModelFileError` for what is out of bounds, `ValueError` for what is no protobuf."""
        for number, begin, end in self._fields(0, len(self.data)):
            if number == _MODEL_GRAPH:
                self._graph(begin, end, 1)
            elif number == _MODEL_METADATA:
                self._metadata += end - begin
                _require(self._metadata <= MAX_METADATA, f"metadata of more than {MAX_METADATA >> 20} MB")
                for _, start, stop in self._fields(begin, end):
                    self.data[start:stop].decode()
            elif number == _MODEL_FUNCTION:
                self._function(begin, end)
            elif number == _MODEL_TRAINING:
                for inner, start, stop in self._fields(begin, end):
                    if inner in (_TRAINING_INITIALIZATION, _TRAINING_ALGORITHM):
                        self._graph(start, stop, 1)
        self._check_shapes()
        self._check_expansion()

    @property
    def operators(self) -> set[tuple[str, str]]:
        """(domain, name) of what the nodes are, of ONNX's own the domain is empty; those in bodies and local functions, too.

        A call of a local function is one of them: onnxruntime prefers an operator of its own that has the same name.
        """
        calls = set(self._calls).union(*self._functions.values())
        return {(domain.decode(), name.decode()) for domain, name, _overload in calls}

    def _graph(self, begin: int, end: int, depth: int) -> None:
        _require(depth <= MAX_DEPTH, f"more than {MAX_DEPTH} bodies within each other")
        for number, start, stop in self._fields(begin, end):
            if number == _GRAPH_NODE:
                self._node(start, stop, depth)
            elif number == _GRAPH_INITIALIZER:
                self._tensor(start, stop)
            elif number == _GRAPH_SPARSE_INITIALIZER:
                self._sparse(start, stop)
            elif number in _GRAPH_VALUES:  # one each, not looked into
                self._tensors += 1
                _require(self._tensors <= 4 * MAX_TENSORS, f"more than {4 * MAX_TENSORS:,} descriptions of values")

    def _function(self, begin: int, end: int) -> None:
        outer, self._calls = self._calls, {}
        name = domain = overload = b""
        for number, start, stop in self._fields(begin, end):
            if number == _FUNCTION_NODE:
                self._node(start, stop, 1)
            elif number == _FUNCTION_ATTRIBUTE:
                self._attribute(start, stop, 1, b"")
            elif number == _FUNCTION_NAME:
                name = self.data[start:stop]
            elif number == _FUNCTION_DOMAIN:
                domain = self.data[start:stop]
            elif number == _FUNCTION_OVERLOAD:
                overload = self.data[start:stop]
        self._functions[_domain(domain), name, overload], self._calls = self._calls, outer

    def _node(self, begin: int, end: int, depth: int) -> None:
        self._nodes += 1
        _require(self._nodes <= MAX_NODES, f"more than {MAX_NODES:,} nodes")
        operator = domain = overload = output = b""
        inputs: list[bytes] = []
        attributes: list[tuple[int, int]] = []
        for number, start, stop in self._fields(begin, end):
            if number == _NODE_INPUT:
                inputs.append(self.data[start:stop])
            elif number == _NODE_OUTPUT:
                output = output or self.data[start:stop]
            elif number == _NODE_OPERATOR:
                operator = self.data[start:stop]
            elif number == _NODE_ATTRIBUTE:
                attributes.append((start, stop))
            elif number == _NODE_DOMAIN:
                domain = self.data[start:stop]
            elif number == _NODE_OVERLOAD:
                overload = self.data[start:stop]
        for name in (operator, domain, *inputs):
            name.decode()  # protobuf would hand out bytes where everybody expects a text
        key = (_domain(domain), operator, overload)
        self._calls[key] = self._calls.get(key, 0) + 1
        position = _SHAPED.get(operator, len(inputs))
        if position < len(inputs):
            self._wanted.append((operator, inputs[position]))
        for start, stop in attributes:
            self._attribute(start, stop, depth, output if operator == b"Constant" else b"")
            if operator in _RANDOM:
                self._random(operator, start, stop)

    def _attribute(self, begin: int, end: int, depth: int, name: bytes) -> None:
        for number, start, stop in self._fields(begin, end):
            if number in _ATTRIBUTE_GRAPHS:
                self._graph(start, stop, depth + 1)
            elif number in _ATTRIBUTE_TENSORS:
                self._tensor(start, stop, name)
            elif number in _ATTRIBUTE_SPARSE_TENSORS:
                self._sparse(start, stop)

    def _tensor(self, begin: int, end: int, name: bytes = b"") -> None:
        """Note a TensorProto at these bytes. Refuses one that does not store as many values as its dimensions claim."""
        self._tensors += 1
        _require(self._tensors <= MAX_TENSORS, f"more than {MAX_TENSORS:,} tensors")
        seen = self._read_tensor(begin, end)
        name = name or seen.name
        shown = f"the tensor {name[:80].decode('utf-8', 'replace')!r}"
        elements = _elements(seen.dims, shown)
        if seen.kind not in _KINDS:
            raise ModelFileError(f"{shown} is of the unknown type {seen.kind}", "the file is damaged, or made by a newer ONNX")
        if seen.place != _EXTERNAL and (not seen.holds(elements) or elements > 8 * (end - begin) + 1):
            raise ModelFileError(
                f"{shown} claims {elements:,} elements, which is not what the file stores for it", "the file is damaged or forged"
            )
        if seen.kind == _INT64 and end - begin < 4096:
            self._small.setdefault(name, []).append((begin, end))

    def _read_tensor(self, begin: int, end: int) -> _Tensor:
        found = _Tensor()
        for number, start, stop in self._fields(begin, end):
            if number in (_TENSOR_DIMS, -_TENSOR_DIMS):
                found.dims += self._numbers(start, stop)
            elif number == -_TENSOR_TYPE:
                found.kind = start - (1 << 64) if start >> 63 else start
            elif number == _TENSOR_NAME:
                found.name = self.data[start:stop]
            elif number == _TENSOR_RAW:
                found.raw = stop - start
            elif number == _TENSOR_EXTERNAL:
                self._entry(start, stop)
            elif number == -_TENSOR_LOCATION:
                found.place = start
            elif abs(number) in _TYPED:
                found.typed += self._count(number, start, stop)
        return found

    def _count(self, number: int, begin: int, end: int) -> int:
        """The values in one of the typed fields: packed, or one of them."""
        if number < 0 or number == _TENSOR_STRINGS:
            return 1
        if number in (_TENSOR_FLOATS, _TENSOR_DOUBLES):
            return (end - begin) // (4 if number == _TENSOR_FLOATS else 8)
        return len(self.data[begin:end].translate(None, _CONTINUED))  # the last byte of a number has no eighth bit

    def _entry(self, begin: int, end: int) -> None:
        """One key and value of a tensor's external data."""
        key = value = b""
        for number, start, stop in self._fields(begin, end):
            if number == _ENTRY_KEY:
                key = self.data[start:stop]
            elif number == _ENTRY_VALUE:
                value = self.data[start:stop]
        if key == b"location":
            self.locations.add(value.decode("utf-8", "replace"))

    def _sparse(self, begin: int, end: int) -> None:
        dims: list[int] = []
        for number, start, stop in self._fields(begin, end):
            if number in (_SPARSE_DIMS, -_SPARSE_DIMS):
                dims += self._numbers(start, stop)
            elif number in (_SPARSE_VALUES, _SPARSE_INDICES):
                self._tensor(start, stop)
        elements = _elements(dims, "a sparse tensor")
        _require(elements <= MAX_ELEMENTS, f"a sparse tensor of {elements:,} elements")

    def _random(self, operator: bytes, begin: int, end: int) -> None:
        name, sizes = b"", list[int]()
        for number, start, stop in self._fields(begin, end):
            if number == _ATTRIBUTE_NAME:
                name = self.data[start:stop]
            elif number in (_ATTRIBUTE_INTS, -_ATTRIBUTE_INTS):
                sizes += self._numbers(start, stop)
        if name == b"shape":
            _require_constant(operator, sizes)

    def _check_shapes(self) -> None:
        """Refuse a stored shape from which a node would make too many elements: the file stores none of them."""
        for operator, name in self._wanted:
            for begin, end in self._small.get(name, ()):
                _require_constant(operator, self._integers(begin, end))

    def _integers(self, begin: int, end: int) -> list[int]:
        """The values of an int64 tensor."""
        found: list[int] = []
        for number, start, stop in self._fields(begin, end):
            if number == _TENSOR_RAW:
                found += [int.from_bytes(self.data[i : i + 8], "little", signed=True) for i in range(start, stop - 7, 8)]
            elif number in (_TENSOR_INT64S, -_TENSOR_INT64S):
                found += self._numbers(start, stop)
        return found

    def _check_expansion(self) -> None:
        """The nodes that are left when every call of a local function was replaced by its body; a circle never ends."""
        sizes: dict[_Function, int] = {}
        for function in self._functions:
            pending = [function]
            while pending:
                current = pending[-1]
                if current in sizes and sizes[current] >= 0:
                    pending.pop()
                    continue
                calls = self._functions[current]
                inner = [call for call in calls if call in self._functions]
                unknown = [call for call in inner if sizes.get(call, -1) < 0]
                if not unknown:
                    sizes[current] = _expanded(calls, sizes)
                    pending.pop()
                    continue
                if current in sizes and any(call in sizes for call in unknown):
                    raise ModelFileError("the model has a local function that calls itself", "do not trust this file")
                sizes[current] = -1  # begun
                pending += unknown
        _require(_expanded(self._calls, sizes) <= MAX_NODES, f"more than {MAX_NODES:,} nodes once its functions are expanded")

    def _numbers(self, begin: int, end: int) -> list[int]:
        """A number as it came (see `_fields`), or packed ones."""
        if end < 0:
            return [begin - (1 << 64) if begin >> 63 else begin]
        found = []
        while begin < end:
            value, begin = self._varint(begin, end)
            found.append(value - (1 << 64) if value >> 63 else value)
        return found

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(number, begin, end) of each field of bytes, (-number, value, -1) of each number. Raises `ValueError` if damaged."""
        data, varint = self.data, self._varint
        while position < end:
            self._left -= 1
            if self._left < 0:
                _require(False, f"more than {MAX_FIELDS:,} fields")
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = varint(position - 1, end)
            kind, number = tag & 7, tag >> 3
            if kind == _BYTES:
                size = data[position] if position < end else 0x80
                position += 1
                if size >= 0x80:
                    size, position = varint(position - 1, end)
                if position + size > end:
                    raise ValueError("a field is longer than its message")
                yield number, position, position + size
                position += size
            elif kind == _VARINT:
                value, position = varint(position, end)
                yield -number, value, -1
            elif kind in (_FIXED32, _FIXED64):
                position += 4 if kind == _FIXED32 else 8
                if position > end:
                    raise ValueError("a field is longer than its message")
                yield -number, 0, -1
            else:
                raise ValueError("an unknown kind of field")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while shift < 70:
            if position >= end:
                raise ValueError("the message ends within a number")
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & ((1 << 64) - 1), position
            shift += 7
        raise ValueError("a number has too many digits")


def survey(data: bytes, name: str) -> Survey:
    """Walk the bytes of an ONNX file. Raises `ModelFileError` in one line for what is out of bounds, or no protobuf at all."""
    found = Survey(data)
    try:
        found.model()
    except ModelFileError as error:
        raise ModelFileError(f"{name} cannot be loaded: {error.problem}", error.hint) from error
    except (ValueError, IndexError) as error:
        raise ModelFileError(f"{name} cannot be loaded: it is not a whole ONNX file ({error})", "export it again") from error
    return found


def _domain(name: bytes) -> bytes:
    """The domain of an operator, empty for ONNX's own, which files spell in two ways."""
    return b"" if name == b"ai.onnx" else name


def _elements(dims: list[int], shown: str) -> int:
    if len(dims) > 64 or min(dims, default=0) < 0:
        raise ModelFileError(f"{shown} has impossible dimensions", "the file is damaged or forged")
    return prod(dims)


def _expanded(calls: dict[_Function, int], sizes: dict[_Function, int]) -> int:
    return sum(count * max(1, sizes.get(call, 1)) for call, count in calls.items())


def _require_constant(operator: bytes, sizes: list[int]) -> None:
    elements = prod(size for size in sizes if size > 0)
    _require(elements <= MAX_ELEMENTS, f"a constant of {elements:,} elements ({operator.decode()})")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ModelFileError(f"it has {what}", "is it the right file? do not trust it")
