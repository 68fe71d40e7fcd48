"""Ways to call a network beside tensors by position, and where the batch of each input lies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from deploykit.errors import InputError
from deploykit.network import batch_axes, input_specs
from deploykit.network.calling import Leaf, bind, call_of


class Keyword(nn.Module):
    def forward(self, *, features, scale=None):
        return features if scale is None else features * scale


class Levels(nn.Module):
    def forward(self, levels):
        return [level * 2 for level in levels]


class Skips(nn.Module):
    def forward(self, x, mask=None, scale=None):
        return x if scale is None else x * scale


class Batched(nn.Module):
    def forward(self, batch):
        return batch["left"] + batch["right"]


class Point(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Named(nn.Module):
    def forward(self, point, factor=1):
        return point.x + point.y * factor


ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("module", "examples", "names", "expected"),
    [
        (Keyword(), {"features": ONES}, ("input",), 1.0),
        (Keyword(), {"features": ONES, "scale": ONES * 3}, ("features", "scale"), 3.0),
        (Levels(), [[ONES, ONES * 2]], ("levels_0", "levels_1"), 2.0),
        (Skips(), {"x": ONES, "scale": ONES * 4}, ("x", "scale"), 4.0),
        (Skips(), [ONES, None, ONES * 5], ("x", "scale"), 5.0),
        (Skips(), [ONES, None, None], ("input",), 1.0),
        (Batched(), {"left": ONES, "right": ONES}, ("batch_left", "batch_right"), 2.0),
        (Batched(), [{"left": ONES, "right": ONES}], ("batch_left", "batch_right"), 2.0),
        (Named(), [Point(ONES, ONES), 2], ("point_0", "point_1"), 3.0),
        (Skips(), ONES, ("input",), 1.0),
    ],
)
def test_tensors_are_given_one_after_another(module, examples, names, expected):
    call, tensors = call_of(module, examples, "net")
    assert call.names == names
    bind(module, call)
    answer = module(*tensors)
    first = answer[0] if isinstance(answer, list) else answer
    assert float(first[0, 0]) == expected


def test_a_network_that_takes_tensors_by_position_is_left_alone():
    module = Skips()
    call, _ = call_of(module, [ONES, ONES], "net")
    bind(module, call)
    assert "forward" not in vars(module)
    assert call.args == (Leaf(0), Leaf(1))


@pytest.mark.parametrize(
    ("module", "examples", "message"),
    [
        (Skips(), {"x": ONES, "other": ONES}, "'other', which forward\\(\\) does not take; it takes x, mask, scale"),
        (Skips(), "text", "is a str"),
        (Skips(), [object()], "'x'.* is an object"),
        (Skips(), [torch.zeros(2, dtype=torch.complex64)], "no dense tensor of real numbers"),
        (Skips(), [None], "holds no tensor"),
    ],
)
def test_what_cannot_be_an_input_is_refused_by_name(module, examples, message):
    with pytest.raises(InputError, match=message):
        call_of(module, examples, "net")


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 8, num_layers=2, batch_first=True)

    def forward(self, x, h, c):
        return self.rnn(x, (h, c))[0]


class Graph(nn.Module):
    def forward(self, x, edges):
        return torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])


class Affine(nn.Module):
    def forward(self, x, matrix):
        return x @ matrix


class Rate(nn.Module):
    def forward(self, x, rate):
        return x * rate


class Pooled(nn.Module):
    def forward(self, x, edges):
        return x[edges[0]].mean(0, keepdim=True)


EDGES = torch.tensor([[0, 1, 2, 3, 0, 1, 2], [1, 2, 3, 4, 2, 3, 4]])


@pytest.mark.parametrize(
    ("module", "examples", "axes"),
    [
        (Stateful(), [torch.zeros(1, 6, 5), torch.zeros(2, 1, 8), torch.zeros(2, 1, 8)], (0, 1, 1)),
        (Stateful(), [torch.zeros(2, 6, 5), torch.zeros(2, 2, 8), torch.zeros(2, 2, 8)], (0, 1, 1)),
        (Graph(), [torch.rand(5, 4), EDGES], (0, None)),
        (Affine(), [torch.rand(2, 3), torch.rand(3, 3)], (0, None)),
        (Affine(), [torch.rand(3, 3), torch.rand(3, 3)], (0, None)),
        (Rate(), [torch.rand(2, 3), torch.tensor(16000)], (0, None)),
        (Pooled(), [torch.rand(5, 4), EDGES], (None, None)),
        (Skips(), [torch.rand(2, 3), None, torch.rand(2, 3)], (0, 0)),
    ],
)
def test_the_batch_lies_where_more_rows_fit(module, examples, axes):
    call, tensors = call_of(module, examples, "net")
    bind(module, call)
    assert batch_axes.of_examples(lambda inputs: module(*inputs), tensors) == axes


def test_shapes_without_a_batch_find_their_place():
    specs = input_specs.of_module(Stateful(), [(6, 5), (2, 8), (2, 8)], None, (), "net")
    assert [spec.full_shape(7) for spec in specs] == [(7, 6, 5), (2, 7, 8), (2, 7, 8)]


def test_an_example_is_continued_and_cut():
    spec = input_specs.InputSpec("x", (3,), example=torch.arange(6.0).reshape(2, 3))
    assert spec.given(5).tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert spec.given(1).tolist() == [[0, 1, 2]]
    assert spec.given().shape == (2, 3)
    assert spec.telling
    assert not input_specs.InputSpec("x", (3,), example=torch.zeros(2, 3)).telling


def test_a_mask_is_never_empty():
    spec = input_specs.InputSpec("mask", (4,), torch.int64, mask=True)
    assert (spec.filled(0, 3).sum(-1) == 1).all()
    assert all((spec.random(8, torch.Generator().manual_seed(seed)).sum(-1) >= 1).all() for seed in range(5))


@pytest.mark.parametrize(
    ("module", "examples", "dynamic", "names"),
    [
        (Stateful(), [torch.rand(1, 6, 5), torch.rand(2, 1, 8), torch.rand(2, 1, 8)], ("batch",), ["x", "h", "c"]),
        (Keyword(), {"features": torch.rand(2, 3), "scale": torch.rand(2, 3)}, ("batch",), ["features", "scale"]),
        (Levels(), [[torch.rand(2, 3), torch.rand(2, 4)]], ("batch",), ["levels_0", "levels_1"]),
        (Batched(), {"left": torch.rand(2, 3), "right": torch.rand(2, 3)}, ("batch",), ["batch_left", "batch_right"]),
    ],
)
def test_the_file_takes_them_by_name_at_any_batch(module, examples, dynamic, names):
    from deploykit.exporter.converting import convert
    from deploykit.network.target import Network
    from deploykit.runtime.contract import ArrayInput, Output

    module.eval().example_inputs = examples
    specs = input_specs.of_module(module, None, None, (), "net")
    network = Network("net", "net", module, specs, ArrayInput(specs[0].shape), Output("none"))
    model = convert(network, 20, dynamic).model
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == names
    for batch in (1, 3):
        tensors = [spec.random(batch) for spec in specs]
        with torch.no_grad():
            expected = module(*tensors)
        expected = expected[0] if isinstance(expected, list) else expected
        found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})[0]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shapes", [[(4,)], [(4,), (3,)]])
def test_a_forward_that_takes_its_tensors_by_keyword_alone_is_given_them_by_their_shapes(shapes):
    class Keyword(nn.Module):
        def forward(self, *, x, scale=2.0):
            return x * scale

    class Both(nn.Module):
        def forward(self, x, *, facts):
            return x.sum(1) + facts.sum(1)

    module = Keyword() if len(shapes) == 1 else Both()
    for given, fallback in ((shapes, ()), (None, [input_specs.InputSpec(f"input_{n}", shape) for n, shape in enumerate(shapes)])):
        specs = input_specs.of_module(module, given, None, fallback, "net")
        assert [spec.shape for spec in specs] == shapes
        assert module(*(torch.ones(2, *spec.shape) for spec in specs)).shape[0] == 2
