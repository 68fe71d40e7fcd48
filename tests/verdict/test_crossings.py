"""Thresholds on computed numbers: a file that switches elsewhere than its network is found, one that rounds otherwise is not."""

import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import deploykit
from deploykit.errors import InputError
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import crossings, margins
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Parting

NUMBERS = InputSpec("x", (4,))


class Switches(nn.Module):
    """Another answer where a computed number is beyond a limit."""

    def __init__(self, limit, kind):
        super().__init__()
        torch.manual_seed(0)
        self.tell = nn.Linear(6, 4)
        self.limit, self.kind = limit, kind

    def forward(self, x):
        y = self.tell(x)
        if self.kind == "flag":
            return y, y > self.limit
        if self.kind == "mean":
            return torch.where(x.mean(1, keepdim=True) > self.limit, y * 2, y)
        if self.kind == "norm":
            size = x.norm(dim=1, keepdim=True)
            return torch.where(size > self.limit, y * 2, y)
        return torch.cond(y.max() > self.limit, lambda a: a * 2, lambda a: a + 1, (y,))


def written(network, path):
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(
        network.eval(), (torch.randn(2, 6),), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
    )
    return path


@pytest.mark.parametrize(
    ("kind", "limit", "other"),
    [("flag", 3.0, 3.2), ("mean", 20.0, 21.0), ("mean", 20.0, 1e9), ("norm", 50.0, 50.7), ("cond", 7.0, 7.1)],
)
def test_a_file_with_another_threshold_is_different(tmp_path, kind, limit, other):
    network = Switches(limit, kind)
    right = deploykit.validate(written(network, tmp_path / "right.onnx"), network)
    assert right.verdict == "same", right
    assert "beside a change of sides" in next(check.detail for check in right.checks if check.name == crossings.NAME)
    file = written(Switches(other, kind), tmp_path / "wrong.onnx")
    assert deploykit.validate(file, network).verdict == "different"
    assert deploykit.validate(file, tmp_path / "right.onnx").verdict == "different"


def asked(sides, compared, specs=(NUMBERS,), **options):
    usual = Batch("noise", tuple(spec.random(1, torch.Generator().manual_seed(0)) for spec in specs))
    return crossings.check(specs, usual, [sides], compared, **options)


def above(limit):
    return lambda batch: [(batch.tensors[0] > limit).numpy()]


def test_both_sides_of_the_place_are_asked():
    seen = []
    check, batch = asked(above(2.5), lambda batch: seen.append(batch.tensors[0]))
    assert check.passed
    assert batch is None
    assert len(seen) == 4, "both sides, on either ray"
    for lower, higher in (seen[:2], seen[2:]):
        assert ((lower > 2.5) != (higher > 2.5)).any()
        torch.testing.assert_close(lower, higher, rtol=0.01, atol=0)


def test_what_the_network_refuses_is_no_evidence_and_what_never_switches_nothing_to_ask():
    def refuses(batch):
        raise InputError("no")

    assert asked(above(2.5), refuses) == (None, None)
    assert asked(refuses, lambda _: Parting("far")) == (None, None)
    assert asked(above(1e9), lambda _: Parting("far")) == (None, None)
    assert asked(above(20), lambda _: Parting("far"), far=False) == (None, None), "larger than may be asked"
    assert asked(above(2.5), lambda _: Parting("far"), [InputSpec("ids", (4,), torch.int64, below=9)]) == (None, None)


def test_a_network_that_compares_less_on_some_inputs_is_asked_on_the_others():
    check, _ = asked(lambda batch: above(2.5)(batch) if batch.tensors[0].abs().max() < 3 else [], lambda _: None)
    assert check is None or check.passed


def test_a_file_that_compares_nothing_or_whole_numbers_has_no_sides():
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    nodes = [helper.make_node("Abs", ["x"], ["y"])]
    assert margins.of_file(Deployed(helper.make_model(helper.make_graph(nodes, "g", [x], [y])))) is None
    with margins.Comparing() as seen:
        assert torch.ones(3, dtype=torch.int64).gt(0).all()
        assert torch.zeros(margins.MOST_NUMBERS + 1).ge(0).all()
    assert seen.sides == []
    assert list(seen.constants) == [0.0]


def test_the_lone_numbers_of_a_networks_comparisons_are_known():
    ids = torch.tensor([[5, 50256]])
    with margins.Comparing() as seen:
        ids.ne(50256), ids.clamp(max=40000), ids == torch.tensor(7), ids > torch.tensor([1, 2]), ids.eq(1 << 40), ids % 3
    assert list(seen.constants) == [50256.0, 40000.0, 7.0, 3.0]
