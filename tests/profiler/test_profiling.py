"""What `profile` is asked for reaches the subjects; what it says of times that do not add up, and of inputs that differ."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deploykit.errors import InputError
from deploykit.exporter import export
from deploykit.profiler import profiling
from deploykit.profiler.profiling import profile
from deploykit.verdict import validate


class Read(Exception):
    """Raised in place of reading; holds the subject that was to be read."""


ASKED = {
    "untrained": True,
    "seed": 3,
    "arguments": {"classes": 7},
    "input_shapes": ((1, 32, 32),),
    "input_dtypes": ("float32",),
    "inputs": "x.npz",
}


@pytest.mark.parametrize("name", [None, *ASKED])
def test_all_that_is_asked_reaches_the_subject(monkeypatch, name):
    def read(subject, _options, _folder):
        raise Read(subject)

    monkeypatch.setattr(profiling.opening, "read", read)
    with pytest.raises(Read) as caught:
        profile("lenet5", latency=False, **({} if name is None else {name: ASKED[name]}))
    subject = caught.value.args[0]
    assert subject.target == "lenet5"
    for key, value in ASKED.items():
        default = {"untrained": False, "seed": 0}.get(key)
        found = getattr(subject, key)
        assert found == (value if key == name else default) or str(found) == str(value), key


@pytest.mark.parametrize("function", [profile, export, validate])
def test_the_seed_is_the_same_everywhere_where_none_is_given(function):
    assert inspect.signature(function).parameters["seed"].default in (0, None)
    assert inspect.signature(function).parameters["untrained"].default is False


def timed(whole, layers):
    """A profile whose run takes `whole` ms and whose layers take `layers` ms in PyTorch."""
    latencies = [SimpleNamespace(backend="torch", median_ms=whole)] if whole is not None else []
    return SimpleNamespace(latencies=latencies, table=layers)


@pytest.mark.parametrize(
    ("whole", "layers", "told"),
    [
        (10.0, 10.0, False),
        (10.0, 11.4, False),
        (10.0, 11.6, True),
        (10.0, 8.6, False),
        (10.0, 8.4, True),
        (None, 5.0, False),
        (10.0, None, False),
    ],
)
def test_layers_whose_times_do_not_add_up_are_told_of(monkeypatch, whole, layers, told):
    monkeypatch.setattr(profiling, "total_ms", lambda table, column: table if column == "torch_ms" else None)
    notes = list(profiling._not_adding_up(timed(whole, layers)))
    assert len(notes) == told
    if told:
        assert f"in PyTorch add up to {layers:.3g} ms" in notes[0]
        assert f"takes {whole:.3g} ms" in notes[0]


def opened(name, *shapes):
    return SimpleNamespace(arrays=[np.zeros(shape) for shape in shapes], subject=SimpleNamespace(target=name))


def test_networks_with_other_inputs_cannot_be_compared():
    profiling._require_same_inputs(opened("a", (1, 2), (3,)), opened("b", (1, 2), (3,)))
    for other in (opened("b", (1, 3)), opened("b", (1, 2), (1,)), opened("b")):
        with pytest.raises(InputError, match="a takes 1x2 and b takes "):
            profiling._require_same_inputs(opened("a", (1, 2)), other)


def test_a_target_runs_on_the_first_backend_that_it_can():
    options = SimpleNamespace(backends=("torch", "onnxruntime"))
    asked = SimpleNamespace(
        on=lambda name, alone: name if name == "onnxruntime" and not alone else None, subject=opened("a").subject
    )
    assert profiling._first(asked, options) == "onnxruntime"
    with pytest.raises(InputError, match="a cannot run on torch, onnxruntime"):
        profiling._first(SimpleNamespace(on=lambda *_, **__: None, subject=asked.subject), options)


def test_what_is_to_be_said_of_a_network_stands_in_its_report():
    """Such as heads that it was built without, because of which another count of its parameters is larger."""
    found = profile(torch.nn.Linear(4, 2), input_shapes=[(4,)], latency=False)
    assert "weights: the module's own, as it was given" in found.table.notes
