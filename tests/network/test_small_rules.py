"""Small rules of networks, their inputs, outputs and checkpoints, each on a table of plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from deploykit.errors import CheckpointError, InputError
from deploykit.network import batch_axes, checkpoint, checkpoint_fit, checkpoint_guard, input_specs, outputs
from deploykit.network.input_specs import InputSpec
from deploykit.network.request import Request
from deploykit.runtime.contract import ArrayInput


def test_a_request_says_nothing_that_was_not_said():
    asked = Request("lenet5")
    assert asked.untrained is False
    assert all(getattr(asked, name) is None for name in ("module", "checkpoint", "seed", "arguments", "input_shapes", "inputs"))


# Outputs


@pytest.mark.parametrize(
    ("returned", "inputs", "found"),
    [
        (1, {"x"}, ["logits"]),
        (1, {"logits"}, ["logits_out"]),
        ({"state": 1, "y": 1}, {"state"}, ["state_out", "y"]),
        ({"state": 1, "state_out": 1}, {"state"}, ["state_out_out", "state_out"]),
        ({"state": 1}, {"state", "state_out"}, ["state_out_out"]),
        ([1, [1, None, 1]], {"x"}, ["output_0", "output_1.0", "output_1.2"]),
    ],
)
def test_outputs_and_inputs_share_one_name_space(returned, inputs, found):
    def tensors(value):
        if isinstance(value, dict):
            return {key: tensors(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [tensors(inner) for inner in value]
        return None if value is None else torch.zeros(1)

    assert outputs.names(tensors(returned), inputs) == found


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


def test_what_is_no_tensor_cannot_be_an_output():
    for value, said in ((3, "returns an int"), ({"a": ["b"]}, "returns a str in a.0"), ([], "no tensor"), ({}, "no tensor")):
        with pytest.raises(InputError, match=said):
            outputs.named(value)
    with pytest.raises(InputError, match=r"returns a dataclass, Answer in 0; return a dict .* of its fields \(logits, hidden\)"):
        outputs.named({"0": Answer(torch.zeros(1), torch.zeros(1))})
    with pytest.raises(InputError, match=r"returns complex numbers \(output 1, 'b'\), ONNX has none; return torch.view_as_real"):
        outputs.names({"a": torch.zeros(1), "b": torch.zeros(1, dtype=torch.complex64)}, ())
    with pytest.raises(InputError, match="two outputs called 'a.b'"):
        outputs.named({"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(1)})
    assert outputs.to_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32


# Batch axes


def test_of_a_single_input_the_network_is_not_asked():
    def run(_tensors):
        raise AssertionError("the network was run")

    assert batch_axes.of_examples(run, [torch.zeros(3, 4)]) == (0,)
    assert batch_axes.of_examples(run, [torch.zeros(())]) == (None,)
    assert batch_axes.of_shapes(run, None, [3]) == (0,)


def test_of_several_inputs_the_network_is_asked():
    def recurrent(tensors):
        x, state = tensors
        assert x.shape[0] == state.shape[1]
        return x.sum(1) + state.sum((0, 2))[:, None]

    assert batch_axes.of_examples(recurrent, [torch.zeros(3, 4, 5), torch.zeros(2, 3, 6)]) == (0, 1)
    assert batch_axes.of_examples(lambda tensors: tensors[0] @ tensors[1], [torch.zeros(3, 4), torch.zeros(4, 5)]) == (0, None)
    assert batch_axes.of_examples(lambda _tensors: torch.zeros(1), [torch.zeros(3), torch.zeros(3)]) == (None, None)


@pytest.mark.parametrize(
    ("axis", "rows", "found"), [(0, 3, [[0, 1], [2, 3], [0, 1]]), (1, 3, [[0, 1, 0], [2, 3, 2]]), (None, 3, None)]
)
def test_rows_over_and_over(axis, rows, found):
    tensor = torch.arange(4).view(2, 2)
    again = batch_axes.with_rows(tensor, axis, rows)
    assert again is tensor if found is None else again.tolist() == found
    assert batch_axes.with_rows(tensor, 0, 2) is tensor


# Inputs


def test_as_many_shapes_and_types_as_inputs():
    specs = (InputSpec("x", (3,)), InputSpec("y", (4,)))
    assert [spec.shape for spec in input_specs.changed(specs, [(5,), (6, 7)], None, "net")] == [(5,), (6, 7)]
    found = input_specs.changed(specs, None, ["float16", "int64"], "net")
    assert [spec.dtype for spec in found] == [torch.float16, torch.int64]
    assert input_specs.changed(specs, None, None, "net") == specs
    for given in ([(1,)], [(1,)] * 3):
        with pytest.raises(InputError, match=f"net has 2 inputs, {len(given)} shapes were given; give one per input"):
            input_specs.changed(specs, given, None, "net")
    with pytest.raises(InputError, match="net has 2 inputs, 1 types were given"):
        input_specs.changed(specs, None, ["float32"], "net")


def test_an_input_that_does_not_fit_into_memory_is_told_with_its_sizes():
    with pytest.raises(InputError, match="an input 'x' of 7x4611686018427387904x9 does not fit into memory"):
        InputSpec("x", (1 << 62, 9)).random(7)


# Checkpoints


def test_a_header_of_numbers_that_json_does_not_have_is_not_written(tmp_path):
    made = checkpoint.Checkpoint("x", {}, ArrayInput((1,)), {"w": torch.zeros(1)}, metrics={"test": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.save_checkpoint(made, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.zeros(2), True),
        (torch.zeros((), dtype=torch.int64), True),
        (torch.zeros(2, dtype=torch.complex64), False),
        (torch.zeros(2).to_sparse(), False),
        (torch.zeros(2, device="meta"), False),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_weights_are_dense_real_numbers(tensor, dense):
    assert checkpoint_guard.is_dense(tensor) is dense
    if dense:
        checkpoint_guard.require_dense("w", tensor, "m.pt")
        return
    with pytest.raises(CheckpointError, match="m.pt holds 'w', which is no dense tensor of real numbers"):
        checkpoint_guard.require_dense("w", tensor, "m.pt")


def test_dicts_within_dicts_become_dotted_names_in_the_order_of_the_file():
    tensor = torch.zeros(1)
    content = {"a": {"b": {"c": tensor}, "d": tensor}, "e": tensor, "n": 3, "f": {}, "g": {"h": tensor}}
    content["a"]["again"] = content
    assert list(checkpoint_fit.flattened(content, "m.pt")) == ["a.b.c", "a.d", "e", "g.h"]
    for odd in ({}, [], 3, {"a": {"b": 1}}):
        with pytest.raises(CheckpointError, match="m.pt holds no "):
            checkpoint_fit.flattened(odd, "m.pt")
    with pytest.raises(CheckpointError, match=r"m.pt holds 'a\.b' twice"):
        checkpoint_fit.flattened({"a": {"b": tensor}, "a.b": tensor}, "m.pt")


def test_names_of_places_are_cut_in_notes():
    place, rival = "p" * 100 + ".", "r" * 100 + "."
    wanted = {"fc.weight": torch.zeros(1)}
    found = checkpoint_fit.Fit({"fc.weight": torch.zeros(1)}, place, {}, (rival,))
    tensors, notes = checkpoint_fit.settled(found, found.tensors, wanted)
    assert list(tensors) == ["fc.weight"]
    assert notes == (f"weights: those under {'p' * 80!r} were taken; those under {'r' * 80!r} would fit, too",)


def test_what_a_network_may_do_without_is_left_over():
    wanted = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).state_dict()
    extra = {"0.total_ops": torch.zeros(1), "head.weight": torch.zeros(1), "0.extra": torch.zeros(1), "2.weight": torch.zeros(1)}
    counts = {"0.places": torch.zeros(1, dtype=torch.int64)}
    found = checkpoint_fit.Fit({**wanted, **extra, **counts}, "", {}, ())
    tensors, notes = checkpoint_fit.settled(found, found.tensors, wanted)
    assert set(tensors) == {*wanted, "0.extra", "2.weight"}, "one more layer, or a tensor of a known one, stays to be refused"
    assert len(notes) == 1
    assert "the checkpoint also holds" in notes[0]


def test_a_network_of_more_modules_than_its_tensors_account_for_is_not_built():
    tensors = {"weight": torch.zeros(2)}
    layers = 4 + checkpoint_guard.SPARE_MODULES
    with checkpoint_guard.building_within(tensors, "f.safetensors"):
        nn.Sequential(*(nn.Identity() for _ in range(layers)))
    with (
        pytest.raises(CheckpointError, match=r"f\.safetensors describes a network with more modules than its 1 tensors have"),
        checkpoint_guard.building_within(tensors, "f.safetensors"),
    ):
        nn.Sequential(*(nn.Identity() for _ in range(layers + 1)))
    nn.Sequential(*(nn.Identity() for _ in range(layers + 1)))
