"""Networks and files in which a fault could hide, or that could be called faulty without being so."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.errors import InputError
from deploykit.exporter import export
from deploykit.runtime import Predictor
from deploykit.verdict import validate

USER_FILE = '''
import torch
import torch.nn.functional as F
from torch import nn


class Mask(nn.Module):
    def forward(self, x):
        return x.masked_fill(x > 0, -1e9)


class DroppingBehindAMask(nn.Module):
    """The mask's values are so large that all else vanishes beside them."""

    def __init__(self):
        super().__init__()
        self.body, self.mask, self.head = nn.Linear(6, 8), Mask(), nn.Linear(8, 4)

    def forward(self, x):
        return F.dropout(self.head(torch.softmax(self.mask(self.body(x)), 1)), 0.3) * 0.05


class HalfChaotic(nn.Module):
    """One output that can be compared, and one that multiplies its own rounding."""

    def __init__(self, rate=3.99):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.rate = nn.Linear(6, 4), rate

    def forward(self, x):
        y = self.body(x)
        z = torch.sigmoid(y)
        for _ in range(60):
            z = self.rate * z * (1 - z)
        return {"plain": y, "chaos": z}


class Bytes(nn.Module):
    def __init__(self, most=255):
        super().__init__()
        torch.manual_seed(0)
        self.head, self.most = nn.Linear(12, 3), most

    def forward(self, x):
        return self.head(x.clamp(max=self.most).float() / 255)


class Positions(nn.Module):
    """Up to 16 tokens; `frozen` divides by the length that it was exported with."""

    def __init__(self, frozen=False):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places, self.frozen = nn.Embedding(50, 8), nn.Embedding(16, 8), frozen

    def forward(self, tokens, mask):
        count = tokens.shape[1]
        x = self.words(tokens) + self.places(torch.arange(count, device=tokens.device))
        x = x + ((1 - mask.float()) * torch.finfo(torch.float32).min)[:, :, None].clamp(min=-1e4) * 1e-4
        return x.sum(1) / (16 if self.frozen else count)

    example_inputs = {"tokens": torch.randint(0, 50, (1, 16)), "mask": torch.ones(1, 16, dtype=torch.long)}


class Masked(nn.Module):
    """A mask of 0 and 1, beside words: a larger number in it would make all infinite."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(1000, 8)

    def forward(self, tokens, mask):
        shares = torch.softmax(self.words(tokens).sum(2) + (1 - mask.float()) * torch.finfo(torch.float32).min, 1)
        return (self.words(tokens) * shares[:, :, None]).sum(1)

    example_inputs = {"tokens": torch.zeros(1, 5, dtype=torch.long), "mask": torch.ones(1, 5, dtype=torch.long)}


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(10, 4)

    def forward(self, x, state):
        state = torch.tanh(self.cell(torch.cat([x, state], 1)))
        return {"y": state.sum(1), "state": state}


class Each(nn.Module):
    """As many outputs as samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return [self.head(row) for row in x]


class Many(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2)

    def forward(self, first, *others):
        return self.head(first + sum(others))


class Brain(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2, dtype=torch.bfloat16)

    def forward(self, x):
        return self.head(x)

    example_inputs = [torch.zeros(1, 6, dtype=torch.bfloat16)]


class Large(nn.Module):
    """Its hidden values reach `size`; float16 ends at 65,504."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
        with torch.no_grad():
            self.body.weight.mul_(size)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))


class Raising(nn.Module):
    def example_inputs(self):
        raise KeyError("no examples today")

    def forward(self, x):
        return x


def halved():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4)).half()
'''


@pytest.fixture(scope="module", autouse=True)
def user(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traps")
    (folder / "traps.py").write_text(USER_FILE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("traps", None)


def detail(verdict, name):
    return next(check.detail for check in verdict.checks if check.name == name)


def test_dropout_is_seen_behind_values_that_are_very_large(tmp_path):
    verdict = export("traps:DroppingBehindAMask", input_shapes=[(6,)], out=tmp_path / "m.onnx").verdict
    assert verdict.verdict == "not proven"
    assert "another answer each time" in detail(verdict, "evidence")


def test_an_output_that_tells_nothing_is_not_hidden_by_one_that_does(tmp_path):
    verdict = export("traps:HalfChaotic", input_shapes=[(6,)], out=tmp_path / "m.onnx").verdict
    assert verdict.verdict == "not proven"
    assert "nothing can be told" in detail(verdict, "evidence")


def test_bytes_are_tried_up_to_255(tmp_path):
    file = tmp_path / "bytes.onnx"
    verdict = export("traps:Bytes", input_shapes=[(12,)], input_dtypes=["uint8"], out=file).verdict
    assert verdict.same
    assert not any("float64" in note for note in verdict.notes), "there is a float64 reference"
    assert not validate(file, against="traps:Bytes", arguments={"most": 1}).same


def test_an_open_length_is_tried_where_the_network_takes_no_larger_one(tmp_path):
    file, axes = tmp_path / "m.onnx", ("batch", "length=1")
    assert export("traps:Positions", dynamic=axes, out=file).verdict.same
    assert validate(file, against="traps:Positions").same
    frozen = export("traps:Positions", arguments={"frozen": True}, dynamic=axes, out=tmp_path / "frozen.onnx")
    assert frozen.verdict.same, "of its own network"
    assert not validate(frozen.file, against="traps:Positions").same


def test_a_mask_is_no_index(tmp_path):
    result = export("traps:Masked", out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict


def test_a_state_that_goes_in_and_comes_out(tmp_path):
    result = export("traps:Stateful", input_shapes=[(6,), (4,)], out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict
    with Predictor(result.file) as model:
        assert [spec.name for spec in model.outputs] == ["y", "state_out"]


def test_a_file_of_one_batch_is_asked_for_that_one(tmp_path):
    file = tmp_path / "m.onnx"
    assert export("traps:Each", input_shapes=[(6,)], dynamic=(), out=file).verdict.same
    assert validate(file, against="traps:Each", batches=(1,)).same
    assert validate(file, against="traps:Each").same


def test_any_number_of_inputs(tmp_path):
    assert export("traps:Many", input_shapes=[(6,)] * 3, out=tmp_path / "m.onnx").verdict.same


def test_a_network_in_half_precision(tmp_path):
    result = export("traps:halved", input_shapes=[(6,)], input_dtypes=["float16"], out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict


@pytest.mark.parametrize("dynamic", [("batch",), ()])
def test_float16_may_overflow_on_large_values_and_not_on_usual_ones(tmp_path, dynamic):
    options = {"input_shapes": [(8,)], "precision": "fp16", "dynamic": dynamic}
    verdict = export("traps:Large", arguments={"size": 1500}, out=tmp_path / "m.onnx", **options).verdict
    assert verdict.same, verdict
    assert "not finite in fp16 on" in detail(verdict, "outputs")
    result = export("traps:Large", arguments={"size": 60_000}, out=tmp_path / "n.onnx", **options)
    assert result.verdict.verdict == "different"
    assert result.file.name == "n.rejected.onnx"
    json.dumps(result.document(), allow_nan=False)


@pytest.mark.parametrize(
    ("name", "message"), [("Brain", "bfloat16, which numpy does not have"), ("Raising", "raised KeyError: 'no examples today'")]
)
def test_inputs_that_cannot_be_had_are_one_line(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        export(f"traps:{name}", out=tmp_path / "m.onnx")


def picking(path, table, name="table"):
    """Rows of a table, from a file that was not made here."""
    value = helper.make_tensor_value_info
    tensor = helper.make_tensor(name, TensorProto.FLOAT, table.shape, table.flatten())
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Gather", [name, "wide"], ["rows"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("ids", TensorProto.INT32, ["n", 4])], [value("rows", 1, ["n", 4, 3])], [tensor])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_every_row_of_a_foreign_files_table_is_tried(tmp_path):
    table = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    other = table.copy()
    other[17:] += 1
    first = picking(tmp_path / "a.onnx", table)
    assert validate(picking(tmp_path / "b.onnx", table, "renamed"), against=str(first)).same
    assert not validate(picking(tmp_path / "c.onnx", other, "renamed"), against=str(first)).same


def test_sizes_that_a_strangers_file_asks_for_are_bounded(tmp_path):
    from deploykit import onnx_file
    from deploykit.runtime.contract import ArrayInput, Contract, Output

    recorded = [{"name": "ids", "shape": [1 << 26, 1 << 26], "dtype": "int32"}, {"name": "ids", "shape": ["4"]}, 5, {"shape": [4]}]
    assert Contract(ArrayInput((4,), "int32"), Output(), provenance={"inputs": recorded}).example_shapes() == {}
    assert Contract(ArrayInput((4,), "int32"), Output(), provenance={"inputs": "all"}).example_shapes() == {}
    file = picking(tmp_path / "a.onnx", np.zeros((3, 3), np.float32))
    model = onnx_file.read(file)
    onnx_file.set_contract(model, Contract(ArrayInput((4,), "int32"), Output(), provenance={"inputs": recorded}))
    onnx_file.write(model, file)
    with Predictor(file, warm_up=1) as opened:
        assert opened.run(np.zeros((1, 4), np.int32)).shape == (1, 4, 3)


def test_an_input_without_a_type_is_one_line(tmp_path):
    file = picking(tmp_path / "a.onnx", np.zeros((3, 3), np.float32))
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.elem_type = 99
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError):
        validate(tmp_path / "b.onnx", against="traps:Each")
