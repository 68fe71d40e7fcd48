"""The three counting conventions, `macs`, `flops` and `paddle`; the name is printed with every number.

- `macs`: multiply-accumulates of convolutions, linear layers, matrix products and attention; a bias, an activation, a
  normalisation, a pooling, an addition cost nothing.
- `flops`: 2 per multiply-accumulate, of the same operators.
- `paddle`: what `paddle.flops` prints for a network of these layers. It goes by layer, not by operator, and mixes its units
  (the formulas are below); parameters include the running statistics of BatchNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from deploykit.errors import UnknownName


@dataclass(frozen=True)
class Convention:
    """`per_mac`: operations that one multiply-accumulate counts for; `None` where layers are counted by type instead."""

    name: str
    unit: str
    meaning: str
    per_mac: int | None


_PRODUCTS = "convolutions, linear layers, matrix products and attention; all else is free"
_PADDLE = (
    "as paddle.flops counts: convolution with its bias, linear without, BatchNorm2d 2 and average pooling 1 per element, "
    "adaptive average pooling window + 1; parameters include running statistics"
)
CONVENTIONS = {
    "macs": Convention("macs", "MACs", f"multiply-accumulates of {_PRODUCTS}", 1),
    "flops": Convention("flops", "FLOPs", f"2 x the multiply-accumulates of {_PRODUCTS}", 2),
    "paddle": Convention("paddle", "paddle FLOPs", _PADDLE, None),
}


def get(name: str) -> Convention:
    """The convention of that name. Raises `UnknownName`."""
    if name not in CONVENTIONS:
        raise UnknownName.among("convention", name, CONVENTIONS)
    return CONVENTIONS[name]


def paddle_convolution(outputs: int, window: int, bias: bool) -> int:
    """`outputs` elements, each of `window` = in_channels / groups x kernel multiply-accumulates; transposed ones alike."""
    return outputs * (window + bool(bias))


def paddle_linear(outputs: int, in_features: int) -> int:
    """Without the bias."""
    return outputs * in_features


def paddle_batch_norm(elements: int) -> int:
    """In eval mode: one multiplication and one addition per element."""
    return 2 * elements


def paddle_average_pool(outputs: int) -> int:
    """One division per output, and the additions not at all."""
    return outputs


def paddle_adaptive_average_pool(input_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    """Per output one window, rounded down per axis, and one division."""
    window = prod(i // o for i, o in zip(input_shape[2:], output_shape[2:], strict=True))
    return prod(output_shape) * (window + 1)


def paddle_leaky_relu(elements: int) -> int:
    """One multiplication per element; a plain ReLU is free."""
    return elements
