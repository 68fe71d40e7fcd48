"""A network that keeps something in Python when it is called: it is traced as it was before, and what it wrote is known."""

import pytest
import torch
from torch import nn

import deploykit
from deploykit.network import first_calls
from deploykit.network.running import run


class Positions(nn.Module):
    """A table of positions that is made on the first call, and anew for a longer input."""

    def __init__(self, home="table"):
        super().__init__()
        torch.manual_seed(0)
        self.tell = nn.Linear(8, 8)
        self.table = None
        self.tables = {}
        self.home = home

    def forward(self, x):
        length = x.shape[1]
        if self.home == "tables":
            if "cos" not in self.tables or len(self.tables["cos"]) < length:
                self.tables["cos"] = _table(length)
            return self.tell(x) * self.tables["cos"][:length].to(x.dtype)
        if self.table is None or len(self.table) < length:
            self.table = _table(length)
        return self.tell(x) * self.table[:length].to(x.dtype)


def _table(length):
    return (torch.arange(length)[:, None] / 10 ** torch.arange(0, 1, 1 / 8)).cos()


class SetsItselfUp(nn.Module):
    """As ActNorm does: by the mean of the first batch that it sees."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.is_ready = False
        self.shift = nn.Parameter(torch.zeros(6))
        self.tell = nn.Linear(6, 4)

    def forward(self, x):
        if not self.is_ready:
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
            self.is_ready = True
        return self.tell(x + self.shift)


@pytest.mark.parametrize("home", ["table", "tables"])
def test_a_table_that_grows_is_traced_as_long_as_the_input(tmp_path, home):
    result = deploykit.export(Positions(home), input_shapes=(10, 8), dynamic=["batch", "length=1"], out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict
    assert result.verdict.sizes["length"][-1] > 10, "it was proven for more than the export's length"


def test_weights_that_the_first_call_writes_are_not_the_users(tmp_path):
    net = SetsItselfUp()
    verdict = deploykit.export(net, input_shapes=(6,), out=tmp_path / "m.onnx").verdict
    assert not verdict.same
    assert "changes shift" in next(check.detail for check in verdict.checks if check.name == "evidence")
    net.eval()(torch.randn(9, 6) + 3)
    verdict = deploykit.export(net, input_shapes=(6,), out=tmp_path / "m.onnx").verdict
    assert verdict.same, "its owner's data has set it up"


def test_attributes_come_back_and_an_attribute_that_was_not_there_is_gone():
    net = Positions().eval()
    run(net, [torch.ones(1, 3, 8)])
    net.other = net.table
    first_calls._LEFT[net].before["", "other"] = first_calls._ABSENT
    with first_calls.uncalled(net) as is_another:
        assert is_another
        assert net.table is None
        assert not hasattr(net, "other")
    assert len(net.table) == 3
    assert net.other is net.table
    with first_calls.uncalled(nn.Linear(2, 2)) as is_another:
        assert not is_another


def test_a_network_in_training_and_weights_without_a_shape_are_left_alone():
    net = nn.Sequential(nn.BatchNorm1d(3))
    run(net, [torch.ones(2, 3)])
    lazy = nn.LazyLinear(2).eval()
    run(lazy, [torch.ones(2, 3)])
    assert first_calls.written(net) == first_calls.written(lazy) == set()


def test_a_list_that_grows_is_seen():
    class Grows(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append(x)
            return x * len(self.seen)

    net = Grows().eval()
    run(net, [torch.ones(1, 2)])
    run(net, [torch.ones(1, 2)])
    with first_calls.uncalled(net):
        assert net.seen == []
    assert len(net.seen) == 2
