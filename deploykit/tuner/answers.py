"""The answers of an engine to samples, a row for each of them, so that those of two files can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from deploykit.backends import Engine
from deploykit.errors import InputError
from deploykit.tuner.samples import Part

CHUNK = 32  # samples at once
ROUNDING = 1e-3  # of an output, within which answers are the same
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Outputs: TypeAlias = "tuple[Numbers, ...]"


def answers_of(engine: Engine, samples: Part, rows: int | None = None) -> Outputs:
    """The outputs of an engine for all samples, each (samples, ...); those of a file that takes whole batches only are filled up.

    A file of which an output does not have a row per sample is asked for one sample at a time: then all of it is that sample's.
    `rows`: samples at once for which the engine has compiled the file, so that these are the answers that it will give.
    Raises `InputError` for outputs that are no numbers, and for those that have another size for every sample.
    """
    fixed = next((spec.shape[0] for spec in engine.inputs if spec.shape), None)
    size = fixed or rows or CHUNK
    if size > 1:
        found = _in_rows(engine, samples, size, bool(fixed or rows))
        if found is not None:
            return found
        if fixed is not None:
            raise InputError(
                f"an output does not have a row for each of the {fixed} samples that the file takes at once",
                "tune a file that takes one sample, or any number of them",
            )
    return _one_by_one(engine, samples)


def are_apart(engine: Engine, samples: Part) -> bool:
    """Whether each of a few samples, two at least, has a row of its own in every output, whoever shares its run, up to rounding."""
    alone = _one_by_one(engine, samples)
    for count in (len(samples), len(samples) - 1):
        together = _in_rows(engine, samples.only(np.arange(count)), count, False)
        if together is None or not all(_are_close(a[:count], b) for a, b in zip(alone, together, strict=True)):
            return False
    return True


def _are_close(a: Numbers, b: Numbers) -> bool:
    if a.shape != b.shape:
        return False
    scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return bool(np.allclose(a, b, rtol=ROUNDING, atol=ROUNDING * scale, equal_nan=True))


def _in_rows(engine: Engine, samples: Part, size: int, filled: bool) -> Outputs | None:
    """`None` as soon as an output does not have a row per sample."""
    found: list[list[Numbers]] = []
    for begin in range(0, len(samples), size):
        rows = samples.rows(begin, begin + size)
        count = len(next(iter(rows.values())))
        arrays = [
            np.concatenate([array, np.repeat(array[-1:], size - count, axis=0)]) if filled else array for array in rows.values()
        ]
        outputs = _numbers(engine.run(arrays))
        if any(output.shape[:1] != (size if filled else count,) for output in outputs):
            return None
        found.append([output[:count] for output in outputs])
    return _joined(found)


def _one_by_one(engine: Engine, samples: Part) -> Outputs:
    """An output that has no axis of one sample gets it."""
    found = []
    for row in range(len(samples)):
        outputs = _numbers(engine.run(list(samples.rows(row, row + 1).values())))
        found.append([output if output.shape[:1] == (1,) else output[None] for output in outputs])
    return _joined(found)


def _joined(found: list[list[Numbers]]) -> Outputs:
    columns = list(zip(*found, strict=True))
    if any(len({part.shape[1:] for part in column}) > 1 for column in columns):
        raise InputError(
            "an output has another size for every sample, so answers cannot be compared", "tune the file without that output"
        )
    return tuple(np.concatenate(column) for column in columns)


def _numbers(outputs: Sequence[Any]) -> list[Numbers]:
    """As float64. Raises `InputError` for texts, sequences and maps."""
    arrays = [output if isinstance(output, np.ndarray) else np.asarray(output, object) for output in outputs]
    if any(array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16" for array in arrays):
        raise InputError("an output holds no numbers, so answers cannot be compared", "tune the file without that output")
    return [array.astype(np.float64) for array in arrays]
