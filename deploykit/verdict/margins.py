"""What a network, or a file, compares while it runs: on which side of each other floating-point numbers lie, and with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.errors import InputError, ModelFileError
from deploykit.network import control_flow
from deploykit.onnx_file import sessions
from deploykit.verdict import file_constants
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed

Sides = list[NDArray[np.bool_]]  # of each comparison in the order of execution: whether the left number is the larger one
MOST = 16  # comparisons that are looked at
# Numbers in one of them: of very many, some lie so near to a threshold that rounding alone decides on their side.
MOST_NUMBERS = 1024

LARGEST = 1 << 31  # what numbers of 32 bits hold

_WITH_NUMBERS = frozenset({"gt", "ge", "lt", "le", "eq", "ne", "clamp", "clamp_min", "clamp_max", "remainder", "fmod"})
_IN_TORCH = frozenset({"gt", "ge", "lt", "le"})
_IN_ONNX = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


class Comparing(TorchDispatchMode):
    """`sides`: of the comparisons that PyTorch makes within the block. `constants`: lone numbers in them and in limits."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.sides: Sides = []
        self.constants: dict[float, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, HigherOrderOperator):
            return control_flow.follow(self, func, args, kwargs)
        name = func.overloadpacket.__name__
        if name in _WITH_NUMBERS:
            self.constants |= dict.fromkeys(number for value in (*args, *kwargs.values()) for number in _lone(value))
        if name in _IN_TORCH and len(self.sides) < MOST and any(map(_is_float, args[:2])):
            side = torch.gt(*args[:2])
            self.sides += [np.atleast_1d(side.numpy()).copy()] if side.numel() <= MOST_NUMBERS else []
        return func(*args, **kwargs)


def _lone(value: Any) -> list[float]:
    """A number of Python's, or that of a tensor that holds no other, where it is finite."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    return [float(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST else []


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point


def of_file(deployed: Deployed) -> Callable[[Batch], Sides] | None:
    """What gives the sides of the comparisons in the main graph of a file; `None` where it compares nothing."""
    known = file_constants.small(deployed)
    given = {value.name for value in deployed.inputs}
    inner = {*deployed.values(), *(value.name for value in deployed.model.graph.output)}
    nodes = [node for node in deployed.model.graph.node if node.op_type in _IN_ONNX]
    pairs = [(left, right) for left, right in ([*node.input] for node in nodes) if {left, right} <= known.keys() | given | inner][
        :MOST
    ]
    wanted = [name for name in dict.fromkeys(name for pair in pairs for name in pair) if name in inner and name not in known]
    if not wanted:
        return None
    outputs = {value.name for value in deployed.model.graph.output}
    session = deployed.session(also=[name for name in wanted if name not in outputs])

    def ask(batch: Batch) -> Sides:
        feeds = batch.feeds([entry.name for entry in session.get_inputs()])
        try:
            values = {**known, **feeds, **dict(zip(wanted, sessions.answers(session, feeds, wanted), strict=True))}
        except ModelFileError as error:
            raise InputError(error.problem) from error
        return _sides([(values[left], values[right]) for left, right in pairs])

    return ask


def _sides(pairs: Sequence[tuple[Any, Any]]) -> Sides:
    floats = [pair for pair in pairs if any(isinstance(each, np.ndarray) and each.dtype.kind == "f" for each in pair)]
    found = [np.atleast_1d(np.greater(left, right)) for left, right in floats]
    return [side for side in found if side.size <= MOST_NUMBERS]
