"""What every engine promises."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import InputError
from deploykit.runtime.session import TensorSpec

__all__ = ["Arrays", "Engine", "Source", "TensorSpec"]

Source = Literal["network", "onnx"]
Arrays = list[NDArray[Any]]


class Engine:
    """A network, ready to run on arrays of the host; a subclass fills `_run` and `_close`.

    `inputs`: name, shape with the batch (`None`: any size) and dtype of each. `device`: what it really runs on. `settings`:
    what else decides its speed, such as {"threads": "2", "tf32": "off"}, for the report.
    """

    def __init__(self, inputs: Sequence[TensorSpec], device: str, threads: int, settings: dict[str, str]) -> None:
        self.inputs = tuple(inputs)
        self.device = device
        self.threads = threads
        self.settings = settings
        self._open = True

    def run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        """One forward pass: an array per input, with the batch -> the outputs, each an array of its own.

        Host memory to host memory: where the device is another one, both copies and the wait are part of it.
        Raises `InputError` for arrays that the network cannot take and for a closed engine.
        """
        if not self._open:
            raise InputError(f"the {type(self).__module__.rpartition('.')[2]} engine is closed", "start another one")
        if len(arrays) != len(self.inputs):
            raise InputError(f"the network has {len(self.inputs)} inputs, {len(arrays)} arrays were given")
        return self._run(arrays)

    def close(self) -> None:
        """Give back threads and memory; a second call does nothing."""
        if self._open:
            self._open = False
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


def own(array: NDArray[Any], others: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """`array`, copied if it shares memory with one of `others`: an output must survive the next run and the caller's edits."""
    return array.copy() if any(np.may_share_memory(array, other) for other in others) else array
