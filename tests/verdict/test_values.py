from __future__ import annotations

import numpy as np
import pytest

from deploykit.verdict.values import Values


@pytest.mark.parametrize("budget", [0, 100, 1 << 20])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
def test_arrays_come_back_whatever_the_budget(budget: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = [(3, 4), (), (0, 5), (2, 1, 7)]
    arrays = {str(number): (rng.normal(size=shape) * 9).astype(dtype) for number, shape in enumerate(shapes)}
    values = Values(budget)
    for name, array in arrays.items():
        values[name] = array
    assert list(values) == list(arrays)
    for name, array in reversed(arrays.items()):
        assert values[name].dtype == array.dtype
        assert values[name].shape == array.shape
        assert np.array_equal(values[name], array)
        assert values.nbytes(name) == array.nbytes


def test_an_array_is_kept_as_it_was_whatever_becomes_of_it() -> None:
    for budget in (0, 1 << 20):
        values, array = Values(budget), np.ones(10)
        values["a"] = array[::2]
        array[:] = 7
        assert np.array_equal(values["a"], np.ones(5))
