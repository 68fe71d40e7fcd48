"""Whether an axis that is to be open is open in the trace: it takes a second size, and one that follows no other axis."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deploykit.errors import ExportError
from deploykit.network import capturing, running
from deploykit.network.batch_axes import with_rows
from deploykit.network.capturing import Captured

SIZES_LOOKED_AT = 64  # and four times the example's: for a second size that the guards allow


def require(
    captured: Captured, module: nn.Module, examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]], target: str
) -> None:
    """Raise `ExportError` for an open axis that has one size only, by the guards of the trace."""
    for name, size in (sizes := _sizes(examples, axes)).items():
        own = [guard for guard in captured.guards if guard.axes == (name,)]
        others = (other for other in range(1, 4 * size + SIZES_LOOKED_AT) if other != size)
        if own and not any(all(guard.holds({**sizes, name: other}) for guard in own) for other in others):
            guard = next((guard for guard in own if not guard.holds({**sizes, name: size + 1})), own[0])
            why = ", ".join(filter(None, (guard.text, capturing.line_of(guard, module, examples, axes))))
            another = taken_size(module, examples, axes, name, size)
            if another is None:
                raise ExportError(
                    f"{target} cannot be exported with a dynamic {name}: it takes {size} alone ({why})",
                    "leave it out of --dynamic, or write the forward pass without int() and comparisons of sizes",
                )
            raise ExportError(
                f"{target} cannot be exported with a dynamic {name}: the network takes {another} too, but torch traces its Python "
                f"for one {name}, and the file would take {size} alone ({why})",
                _another_way(module),
            )


def _another_way(module: nn.Module) -> str:
    """What to do where the trace holds one size of several."""
    if any(isinstance(child, nn.RNN) for child in module.modules()):
        return "torch writes an nn.RNN out step by step: leave the length out of --dynamic, or take an nn.GRU or nn.LSTM"
    return (
        "leave it out of --dynamic, one file for each size; or write the forward pass without loops over a size, int() and "
        "comparisons of sizes, and with x.shape[0] in place of len(x)"
    )


def untied(
    captured: Captured, module: nn.Module, examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]], target: str
) -> Captured:
    """The trace, in which every open axis has a size of its own where the network lets it; traced anew where it has not.

    On a square image ``x.shape[2] == x.shape[3]`` ties both sides, without a word: the file would be that of squares alone. Where
    the network refuses sizes apart, they are one, and the trace stays. Raises `ExportError` where it takes them and branches on it.
    """
    sizes = _sizes(examples, axes)
    for name in capturing.tied(captured, axes):
        other = taken_size(module, examples, axes, name, sizes[name])
        if other is None:
            continue
        apart = _resized(examples, axes, name, other)
        again = capturing.capture(module, apart, axes)
        broken = next((guard for guard in again.guards if not guard.holds(sizes)), None)
        if broken is None and name not in capturing.tied(again, axes):
            captured, examples = again, apart
            continue
        why = "" if broken is None else ", ".join(filter(None, (broken.text, capturing.line_of(broken, module, apart, axes))))
        raise ExportError(
            f"{target} cannot be exported with {name} open on its own: the network takes {other} beside {_told(sizes, name)} too, "
            f"but does something else there{f' ({why})' if why else ''}, and the file holds one branch",
            "leave it out of --dynamic, one file for each; or write the forward pass without comparing sizes",
        )
    return captured


def _told(sizes: Mapping[str, int], name: str) -> str:
    """The sizes of the other axes but the batch, such as "height 16"."""
    return ", ".join(f"{other} {size}" for other, size in sizes.items() if other != name) or str(sizes[name])


def _sizes(examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]]) -> dict[str, int]:
    return {name: tensor.shape[axis] for tensor, each in zip(examples, axes, strict=True) for axis, name in each.items()}


def _resized(examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]], name: str, size: int) -> list[Tensor]:
    """The examples with every axis called `name` cut or continued to a size."""
    tensors = list(examples)
    for place, each in enumerate(axes):
        for axis in (axis for axis, called in each.items() if called == name):
            tensors[place] = with_rows(tensors[place], axis, size)
    return tensors


def taken_size(
    module: nn.Module, examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]], name: str, size: int
) -> int | None:
    """A second size of the axis `name`, beside `size`, that the network itself answers; `None` where it refused all it was asked.

    Neighbours, doubles and squares: a network that makes a grid of a sequence takes squares alone. Not 1, which is broadcast.
    """
    root = math.isqrt(size)
    for other in (size + 1, size - 1, 2 * size, (root + 1) ** 2, max(root - 1, 0) ** 2, 4 * size):
        tensors = _resized(examples, axes, name, other)
        if other > 1 and other != size:
            with contextlib.suppress(Exception):  # whatever the network raises of a size that it refuses
                running.run(module, tensors, "the network")
                return other
    return None
