"""Samples of any sizes through a network that takes them in batches: how they are put together, what becomes of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploykit.errors import InputError
from deploykit.runtime.answering import RunWithContract, answer_all, answer_batch
from deploykit.runtime.contract import ArrayInput, Contract, Output
from deploykit.runtime.session import TensorSpec

F32 = np.dtype(np.float32)


class Doubling:
    """Twice its input; `sizes` are those of the batches that it was given."""

    def __init__(self, refuses: float | None = None) -> None:
        self.sizes: list[int] = []
        self.refuses = refuses

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.sizes.append(len(batch))
        if self.refuses is not None and (batch == self.refuses).any():
            raise InputError(f"{self.refuses} is refused")
        return batch * 2


def network(
    run: Callable[[Any], Any], takes: tuple[int | None, ...] | None = (None, 2), gives: tuple[int | None, ...] | None = (None, 2)
) -> RunWithContract:
    specs = (TensorSpec(name, shape, F32, "tensor(float)") for name, shape in (("x", takes), ("y", gives)))
    return RunWithContract(run, *specs, Contract(ArrayInput((None,)), Output()))


@pytest.mark.parametrize(
    ("takes", "gives", "fixed", "in_rows"),
    [
        ((None, 2), (None, 2), None, True),
        ((4, 2), (4, 2), 4, True),
        ((4, 2), (None, 2), 4, False),
        ((None, 2), (2,), None, False),
        ((None, 2), (), None, False),
        ((None, 2), (None,), None, True),
        ((None, 2), None, None, False),
        (None, (None, 2), None, True),
        ((), (None, 2), None, True),
    ],
)
def test_what_the_shapes_say(takes: Any, gives: Any, fixed: int | None, in_rows: bool) -> None:
    asked = network(Doubling(), takes, gives)
    assert asked.fixed_batch == fixed
    assert asked.in_rows is in_rows


def rows(count: int, width: int = 2) -> list[np.ndarray]:
    return [np.full(width, number, np.float32) for number in range(1, count + 1)]


def first_values(found: list[Any]) -> list[float]:
    return [float(np.ravel(prediction.values)[0]) for prediction in found]


@pytest.mark.parametrize(
    ("takes", "gives", "sizes"),
    [
        ((None, 2), (None, 2), [3, 3, 1]),
        ((4, 2), (4, 2), [4, 4]),  # the last batch is filled up
        ((None, 2), (), [1] * 7),
    ],
)
def test_batches_are_as_large_as_the_network_takes_them(takes: Any, gives: Any, sizes: list[int]) -> None:
    run = Doubling()
    found = answer_all(rows(7), network(run, takes, gives), 5, 3)
    assert run.sizes == sizes
    assert first_values(found) == [2.0 * number for number in range(1, 8)]


def test_samples_of_one_shape_share_a_batch_and_the_order_stays() -> None:
    run = Doubling()
    wide, narrow = rows(2, 3), rows(2)
    found = answer_all([narrow[0], wide[0], narrow[1], wide[1]], network(run), 5, 8)
    assert run.sizes == [2, 2]
    assert [prediction.values.shape for prediction in found] == [(2,), (3,), (2,), (3,)]


def test_a_sample_that_is_refused_spoils_no_other() -> None:
    run = Doubling(refuses=2.0)
    found = answer_all(rows(3), network(run), 5, 3)
    assert [prediction.error for prediction in found] == [None, "2.0 is refused", None]
    assert run.sizes == [3, 1, 1, 1]


def test_an_answer_that_has_no_rows_is_that_of_its_sample() -> None:
    """The specs promise rows, and the run gives a sum."""
    run = Doubling()
    asked = network(lambda batch: run(batch).sum(axis=0))
    found = answer_batch([np.full(3, number, np.float32) for number in (1, 5)], asked, 5)
    assert first_values(found) == [2.0, 10.0]
    assert run.sizes == [2, 1, 1]


@pytest.mark.parametrize(("dtype", "wanted"), [(np.dtype(np.int64), np.int64), (None, np.float32)])
def test_a_batch_is_filled_up_with_its_last_sample_and_has_the_dtype_of_the_input(dtype: Any, wanted: Any) -> None:
    seen = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return batch.astype(np.float32)

    input_, output = TensorSpec("x", (4, 1), dtype, ""), TensorSpec("y", (4, 1), F32, "")
    asked = RunWithContract(run, input_, output, Contract(ArrayInput((1,)), Output()))
    assert len(answer_batch([np.full(1, number, np.float32) for number in (1, 2)], asked, 5)) == 2
    assert seen[0].tolist() == [[1], [2], [2], [2]]
    assert seen[0].dtype == wanted


def test_one_sample_may_have_an_answer_without_axes() -> None:
    asked = network(lambda batch: batch.sum(), gives=())
    assert first_values(answer_all(rows(2), asked, 5, 8)) == [2.0, 4.0]


def test_a_sample_that_is_asked_again_alone_still_gives_the_top_that_was_asked_for() -> None:
    run = Doubling(refuses=1.0)
    asked = RunWithContract(run, *(TensorSpec(n, (None, 3), F32, "") for n in "xy"), Contract(ArrayInput((3,)), Output("softmax")))
    found = answer_all(rows(3, 3), asked, 2, 3)
    assert [len(prediction.top) for prediction in found] == [0, 2, 2]
    assert run.sizes == [3, 1, 1, 1]
