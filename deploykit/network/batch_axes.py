"""Where the batch lies in each input: on its first axis, on another one as in the state of a recurrent layer, or nowhere.

Found by asking the network: an input whose batch lies elsewhere makes it raise as soon as there are more rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BATCH = "batch"  # what an axis on which the batch lies is called
MOST_TRIES = 96  # runs of the network

Axis = int | None
Run = Callable[[Sequence[Tensor]], Any]


def of_examples(run: Run, examples: Sequence[Tensor]) -> tuple[Axis, ...]:
    """The batch axis of each of `examples`, whole tensors that the network takes; `None` for an input without a batch.

    `run` calls the network, and raises where it does not take its inputs. The first axis is preferred; `None` for all where no
    choice of axes can be made larger.
    """
    if len(examples) == 1:
        return (0 if examples[0].ndim else None,)
    for axes in itertools.islice(_guesses(examples), MOST_TRIES):
        if _grows(run, examples, axes):
            return axes
    return (None,) * len(examples)


def of_shapes(run: Run, make: Callable[[Sequence[Axis], int], Sequence[Tensor]], ranks: Sequence[int]) -> tuple[Axis, ...]:
    """The batch axis of each input of which only the shape without a batch is known, of `ranks` axes.

    `make(axes, batch)` gives inputs with the batch put in at `axes`. The first axis for all where no choice of axes works.
    """
    first: tuple[Axis, ...] = (0,) * len(ranks)
    if len(ranks) == 1:
        return first
    choices = [(0, *range(1, rank + 1), None) if rank else (0, None) for rank in ranks]
    for axes in itertools.islice(_nearest_first(choices), MOST_TRIES):
        if any(axis is not None for axis in axes) and all(_takes(run, make(axes, batch)) for batch in (3, 2)):
            return axes
    return first


def with_rows(tensor: Tensor, axis: Axis, rows: int) -> Tensor:
    """A tensor with `rows` rows along `axis`: its own, over and over. Without an axis, the tensor itself."""
    if axis is None or tensor.shape[axis] == rows or not tensor.shape[axis]:
        return tensor
    return tensor.index_select(axis, torch.arange(rows) % tensor.shape[axis])


def _guesses(examples: Sequence[Tensor]) -> Iterator[tuple[Axis, ...]]:
    """Axes of one size, of which at least one is the first of its input."""
    for size in dict.fromkeys(size for tensor in examples for size in tensor.shape if size):
        choices = [(*(axis for axis in range(tensor.ndim) if tensor.shape[axis] == size), None) for tensor in examples]
        yield from (axes for axes in _nearest_first(choices) if 0 in axes)


def _nearest_first(choices: Sequence[Sequence[Axis]]) -> Iterator[tuple[Axis, ...]]:
    """Every choice of one from each, those with fewer changes from the first ones before others."""
    places = sorted(itertools.product(*(range(len(each)) for each in choices)), key=lambda p: (sum(map(bool, p)), sum(p)))
    return (tuple(each[place] for each, place in zip(choices, chosen, strict=True)) for chosen in places)


def _grows(run: Run, examples: Sequence[Tensor], axes: Sequence[Axis]) -> bool:
    """Whether the network takes more rows on these axes, and gives more of them back along one axis of an output.

    Other outputs may have a row for each pair, as two towers score all images against all texts.
    """
    rows = max(t.shape[axis] for t, axis in zip(examples, axes, strict=True) if axis is not None)
    shapes: list[list[torch.Size]] = []
    for count in (rows + 1, rows + 3):
        larger = [with_rows(tensor, axis, count) for tensor, axis in zip(examples, axes, strict=True)]
        if not _takes(run, larger, shapes):
            return False
    changed = [sum(a != b for a, b in zip(*pair, strict=False)) for pair in zip(*shapes, strict=False)]
    return 1 in changed and max(changed) <= 2


def _takes(run: Run, tensors: Sequence[Tensor], shapes: list[list[torch.Size]] | None = None) -> bool:
    try:
        with torch.no_grad():
            answer = run(tensors)
    except Exception:  # whatever the network says of inputs that do not fit together
        return False
    if shapes is not None:
        shapes.append([leaf.shape for leaf in torch.utils._pytree.tree_leaves(answer) if isinstance(leaf, Tensor)])
    return True
