"""Of equal numbers any may be among the largest: PyTorch is asked for them in the order that ONNX promises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deploykit.exporter import export
from deploykit.verdict import validate
from deploykit.verdict.ties import InOrder


class Best(nn.Module):
    """The three largest numbers and their places."""

    def __init__(self, largest=True):
        super().__init__()
        self.largest = largest

    def forward(self, x):
        return (x - 0.5).relu().topk(3, 1, self.largest)


class Centres(nn.Module):
    """As a detector does: the boxes at the places with the highest scores."""

    def __init__(self):
        super().__init__()
        self.score, self.box = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        places = self.score(x).flatten(1).topk(5, 1).indices
        return self.box(x).flatten(2).gather(2, places[:, None].expand(-1, 4, -1))


def centres():
    torch.manual_seed(0)
    return Centres().eval()


@pytest.mark.parametrize(("make", "shape"), [(Best, (12,)), (centres, (3, 16, 16))])
def test_a_right_file_is_the_same(tmp_path, make, shape):
    verdict = export(make(), input_shapes=[shape], out=tmp_path / "m.onnx").verdict
    assert verdict.same, [check for check in verdict.checks if not check.passed]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_equal_numbers_come_by_their_index(largest, axis):
    x = torch.randint(0, 3, (7, 9)).float()
    with InOrder():
        values, places = x.topk(5, axis, largest)
    assert torch.equal(values, x.topk(5, axis, largest).values)
    assert torch.equal(values, x.gather(axis, places))
    values, places = values.movedim(axis, 0), places.movedim(axis, 0)
    assert ((values[1:] != values[:-1]) | (places[1:] > places[:-1])).all()
    with InOrder():
        assert torch.tensor(3.0).topk(1) == (torch.tensor(3.0), torch.tensor(0))


def test_a_wrong_one_is_not(tmp_path):
    assert validate(export(Best(), input_shapes=[(12,)], out=tmp_path / "m.onnx").file, Best(False)).verdict == "different"
    file = export(centres(), input_shapes=[(3, 16, 16)], out=tmp_path / "c.onnx").file
    other = centres()
    other.box.bias.data[0] += 1e-3
    assert validate(file, other).verdict == "different"
