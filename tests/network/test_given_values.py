"""Values given for a network without examples: what is missing or belongs nowhere is named by input, not by option."""

import numpy as np
import pytest
import torch
from torch import nn

from deploykit.errors import InputError
from deploykit.network import input_specs


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, a, b, scale=None):
        return self.linear(a) + self.linear(b)


class ByKeyword(Sum):
    def forward(self, a, *, b):
        return self.linear(a) + self.linear(b)


def specs(module, **arrays):
    given = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    return input_specs.of_module(module, None, None, (), "nets:Net", given)


@pytest.mark.parametrize("module", [Sum(), ByKeyword()], ids=["by position", "by keyword"])
@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"a": (2, 4)}, "there are no values for the input 'b' of nets:Net; it takes a, b$"),
        ({"b": (2, 4)}, "there are no values for the input 'a' of nets:Net; it takes a, b$"),
        (
            {"a": (2, 4), "b": (2, 4), "c": (2, 4)},
            "the given values of nets:Net name 'c', which forward.. does not take; it takes a, b",
        ),
    ],
)
def test_values_that_do_not_fit_are_named(module, arrays, problem):
    with pytest.raises(InputError, match=problem):
        specs(module, **arrays)


def test_optional_arguments_may_be_left_out_and_names_may_be_foreign():
    assert [spec.name for spec in specs(Sum(), a=(2, 4), b=(2, 4))] == ["a", "b"]
    assert [spec.shape for spec in specs(Sum(), x=(2, 4), y=(2, 4))] == [(4,), (4,)]
    assert torch.equal(specs(ByKeyword(), b=(2, 4), a=(3, 4))[1].example, torch.ones(2, 4))


class OfDict(nn.Module):
    def forward(self, batch):
        return batch["left"] + batch["right"]


class OfDictOfOne(nn.Module):
    def forward(self, batch):
        return batch["left"] + 1


def test_the_only_input_takes_a_lone_array_under_any_name():
    linear = nn.Linear(4, 3)
    assert [(spec.name, spec.shape) for spec in specs(linear, foo=(2, 4))] == [("input", (4,))]
    changed = input_specs.with_values([input_specs.InputSpec("input", (5,))], {"foo": np.ones((2, 4), np.float32)}, "mlp")
    assert changed[0].shape == (4,)


def test_a_dict_still_reaches_a_network_that_takes_one():
    assert len(specs(OfDict(), left=(2, 4), right=(2, 4))) == 2
    assert len(specs(OfDictOfOne(), left=(2, 4))) == 1


def test_several_arrays_for_one_input_are_named():
    with pytest.raises(
        InputError, match=r"nets:Net has one input, 'input': the given values name 'foo', 'b'; give one array alone"
    ):
        specs(nn.Linear(4, 3), foo=(2, 4), b=(3,))
