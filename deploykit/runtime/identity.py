"""The smallest ONNX model, written out byte by byte, so that a session can be made where the package onnx is not installed.

It says ``y = Identity(x)`` for a float32 vector of any length. A protobuf field is its number and kind in one byte (number * 8
+ kind; kind 0 a number, kind 2 bytes), then the number, or the length and the bytes. The field numbers are those of
onnx.proto (https://github.com/onnx/onnx).
"""

from __future__ import annotations

_FLOAT = 1


def _number(field: int, value: int) -> bytes:
    """A number below 128."""
    return bytes((field << 3, value))


def _message(field: int, *parts: bytes | str) -> bytes:
    """Text or nested fields, fewer than 128 bytes in all."""
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return bytes((field << 3 | 2, len(body))) + body


def _vector(field: int, name: str) -> bytes:
    """ValueInfoProto: name 1, type 2 > tensor type 1 > (element type 1, shape 2 > dimension 1 > symbolic size 2)."""
    return _message(
        field, _message(1, name), _message(2, _message(1, _number(1, _FLOAT), _message(2, _message(1, _message(2, "n")))))
    )


# NodeProto: input 1, output 2, operator 4. GraphProto: node 1, name 2, input 11, output 12.
_NODE = _message(1, _message(1, "x"), _message(2, "y"), _message(4, "Identity"))
_GRAPH = _message(7, _NODE, _message(2, "identity"), _vector(11, "x"), _vector(12, "y"))

# ModelProto: IR version 1, graph 7, opset 8 > (domain 1: the standard one is "", version 2).
IDENTITY_MODEL = _number(1, 8) + _GRAPH + _message(8, _message(1, ""), _number(2, 13))
