"""Whether rows of several callers may share a run of a network: what its graph says, and what a trial shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import DeploykitError
from deploykit.runtime import open_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploykit.runtime.predictor import Predictor


def in_rows(model: Predictor) -> bool:
    """Whether every input and output has an open first axis that is the batch, as far as the graph and the contract tell."""
    places = open_axes.batch_axes(model.axes, model.contract)
    inputs = all(spec.shape is not None and spec.shape[:1] == (None,) and places[spec.name] == 0 for spec in model.inputs)
    outputs = all(spec.type.startswith("tensor") and (spec.shape is None or spec.shape[:1] == (None,)) for spec in model.outputs)
    return bool(model.inputs) and inputs and outputs


def together(model: Predictor) -> tuple[bool, str]:
    """Whether rows of several callers may share a run, and why not; a trial of two rows is part of it."""
    if not in_rows(model):
        return False, "its graph does not have one open first axis for the samples of every input and output"
    if not are_independent(model):
        return False, "on trial, rows did not get the same answers together as alone"
    return True, ""


def are_independent(model: Predictor) -> bool:
    """Whether two rows of numbers get the same answers together as alone, within rounding; also `False` where they get none.

    A first axis that is time, or a mean over the batch, shows here: the graph does not tell it from samples.
    """
    if any(spec.dtype is None for spec in model.inputs):
        return True  # texts: nothing that could be tried
    both = {name: _numbers(shape, dtype) for name, shape, dtype in _shapes(model)}
    try:
        together = model.run_all(both)
        alone = [model.run_all({name: array[row : row + 1] for name, array in both.items()}) for row in (0, 1)]
    except DeploykitError:
        return False
    return all(_agrees(whole, [one[name] for one in alone]) for name, whole in together.items())


def _shapes(model: Predictor) -> list[tuple[str, tuple[int, ...], np.dtype[Any]]]:
    shapes = open_axes.sizes(model.axes, 2, contract=model.contract)
    return [(spec.name, shapes[spec.name], spec.dtype) for spec in model.inputs if spec.dtype is not None]


def _numbers(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Normal ones for floats; 0 and 1 for whole numbers, which may be the numbers of entries in a table."""
    random = np.random.default_rng(0)
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, 2, size=shape).astype(dtype)


def _agrees(whole: NDArray[Any], parts: list[NDArray[Any]]) -> bool:
    if (
        any(part.shape[:1] != (1,) for part in parts)
        or whole.shape[:1] != (2,)
        or any(p.shape[1:] != whole.shape[1:] for p in parts)
    ):
        return False
    joined = np.concatenate(parts)
    if whole.dtype.kind != "f":
        return bool(np.array_equal(whole, joined)) if whole.dtype.kind in "iub" else True
    digits = 1e-2 if whole.dtype == np.float16 else 1e-3
    with np.errstate(all="ignore"):
        scale = float(np.abs(joined[np.isfinite(joined)]).max(initial=0.0))
        return bool(np.allclose(whole, joined, rtol=digits, atol=digits * scale, equal_nan=True))
