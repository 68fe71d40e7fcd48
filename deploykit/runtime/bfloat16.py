"""Files with bfloat16 inputs or outputs: numpy has no such type, so its bits travel as uint16."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

TYPE = "tensor(bfloat16)"
_ELEMENT = 16  # TensorProto.BFLOAT16


def bits_of(floats: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of bfloat16, rounded toward 0."""
    return (np.ascontiguousarray(floats).view(np.uint32) >> 16).astype(np.uint16)


def floats_of(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The numbers that bits of bfloat16 say."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class BitsRunner:
    """Runs a session on arrays, uint16 where the graph has bfloat16, and gives such arrays."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._bits = {node.name for node in session.get_inputs() if node.type == TYPE}

    def run(self, names: list[str], feeds: Mapping[str, NDArray[Any]], options: Any = None) -> list[NDArray[Any]]:
        """Outputs by `names` for arrays by input name; `options`: of onnxruntime, for this run. Raises what onnxruntime raises."""
        values = {name: self._value(name, array) for name, array in feeds.items()}
        return [_array(value) for value in self._session.run_with_ort_values(names, values, options)]

    def _value(self, name: str, array: NDArray[Any]) -> Any:
        if name not in self._bits:
            return onnxruntime.OrtValue.ortvalue_from_numpy(array)
        if array.dtype != np.uint16:
            raise TypeError(f"the input {name!r} takes the bits of bfloat16 as uint16, not {array.dtype}")
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _ELEMENT)


def _array(value: Any) -> NDArray[Any]:
    if value.data_type() != TYPE:
        return value.numpy()
    shape = tuple(value.shape())
    found = np.empty(shape, np.uint16)
    if found.size:
        ctypes.memmove(found.ctypes.data, value.data_ptr(), found.nbytes)
    return found
