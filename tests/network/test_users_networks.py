"""Networks from a user's own file, of the kinds that people really have: tokens, sequences, wrappers, nested outputs, random numbers."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest

from deploykit import onnx_file
from deploykit.errors import ExportError, InputError
from deploykit.exporter import export
from deploykit.profiler import profile
from deploykit.runtime import Predictor
from deploykit.verdict import validate

USER_FILE = '''
import collections
import warnings

import torch
import torch.nn.functional as F
from torch import nn


class Tokens(nn.Module):
    """Whole numbers in, from a sequence of any length."""

    def __init__(self, rows=30):
        super().__init__()
        self.embed = nn.Embedding(rows, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, rows)

    def forward(self, tokens):
        return self.head(self.norm(self.embed(tokens)))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x, padding):
        mixed, shares = self.attention(x, x, x, key_padding_mask=padding > 1.0)
        return self.head(mixed), shares


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x):
        return self.head(torch.cat([x, self.up(self.down(x))], 1))


class Exampled(UNet):
    example_inputs = [torch.zeros(1, 3, 8, 8)]


class Long(nn.Module):
    """A kernel that is longer than any size that one would guess."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 21)

    def forward(self, x):
        return self.conv(x).mean(2)


Answer = collections.namedtuple("Answer", "scores best")


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        y = self.body(x)
        return {"answer": Answer(y, y.argmax(1)), "none": None, "states": [y + 1, (y * 2,)]}


class AlwaysDropping(nn.Module):
    """The well-known slip: F.dropout drops in eval mode too, unless it is told."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        return F.dropout(self.body(x), 0.5)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.body(x) * self.calls


class Centred(nn.Module):
    """What was centred has the mean zero."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8, affine=False, track_running_stats=False)

    def forward(self, x):
        return self.norm(self.conv(x)).mean((0, 2, 3), keepdim=True)


class CentredAlone(Centred):
    """Zero for a sample that is alone in its batch, and only for that."""

    def forward(self, x):
        return self.norm(self.conv(x)).mean((2, 3))


class Chaotic(nn.Module):
    """The logistic map: every step doubles an error."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.sigmoid(self.body(x))
        for _ in range(60):
            x = 3.99 * x * (1 - x)
        return x


class Speechless(nn.Module):
    def forward(self, x):
        assert x.shape[1] == 4
        return x


class Text(nn.Module):
    def forward(self, x):
        return {"x": x, "name": "text"}


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


def parallel():
    return nn.DataParallel(small())


def compiled():
    return torch.compile(small())


def both():
    return torch.compile(nn.DataParallel(small()))


def scripted():
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(small())
'''


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    (folder / "users_networks.py").write_text(USER_FILE)
    sys.path.insert(0, str(folder))
    yield "users_networks"
    sys.path.remove(str(folder))
    sys.modules.pop("users_networks", None)


def test_tokens_of_any_length_and_every_row_of_the_embedding(user, tmp_path):
    file = tmp_path / "tokens.onnx"
    result = export(
        f"{user}:Tokens", input_shapes=[(7,)], input_dtypes=["int64"], dynamic=("batch", "length=1"), untrained=True, out=file
    )
    assert result.verdict.same, result.verdict
    assert result.contract.input.shape == (None,)
    answer = Predictor(file).run(np.full((2, 19), 29, np.int64))
    assert answer.shape == (2, 19, 30)
    assert validate(file, against=f"{user}:Tokens").same, "the file itself says what its inputs are"

    model = onnx_file.read(file)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "embed.weight")
    values = np.frombuffer(table.raw_data, np.float32).reshape(30, 8).copy()
    values[29, 0] += 0.5
    table.raw_data = values.tobytes()
    onnx_file.write(model, tmp_path / "faulty.onnx")
    faulty = validate(tmp_path / "faulty.onnx", against=f"{user}:Tokens")
    assert (faulty.verdict, faulty.first_divergent_layer) == ("different", "embed")
    assert not next(check for check in faulty.checks if check.name == "outputs").passed, "no sample held the last token"


def test_a_constructors_argument_is_given_again_when_validating(user, tmp_path):
    file = tmp_path / "tokens.onnx"
    shape = {"input_shapes": [(7,)], "input_dtypes": ["int64"]}
    assert export(f"{user}:Tokens", arguments={"rows": 11}, out=file, **shape).verdict.same
    assert validate(file, against=f"{user}:Tokens", arguments={"rows": 11}).same
    assert not validate(file, against=f"{user}:Tokens").same


def test_two_inputs_are_run_and_asked_by_name(user, tmp_path):
    file = tmp_path / "attending.onnx"
    shapes = [(6, 16), (6,)]
    assert export(f"{user}:Attending", input_shapes=shapes, dynamic=("batch", "length=1"), out=file).verdict.same
    assert validate(file, against=f"{user}:Attending").same
    with Predictor(file, warm_up=1) as model:
        answers = model.run_all({"x": np.zeros((2, 9, 16), np.float32), "padding": np.zeros((2, 9), np.float32)})
        assert answers["output_0"].shape == (2, 9, 3)
        with pytest.raises(InputError, match=r"the inputs x, padding cannot be a ndarray; give a dict of arrays"):
            model.predict(np.zeros((9, 16), np.float32))
        found = model.predict({"x": np.zeros((9, 16), np.float32), "padding": np.zeros(9, np.float32)})
        np.testing.assert_allclose(found.values, answers["output_0"][0], rtol=1e-5)


def test_open_sizes_are_open_in_the_contract_too(user, tmp_path):
    file = tmp_path / "unet.onnx"
    result = export(f"{user}:UNet", input_shapes=[(3, 32, 32)], dynamic=("batch", "height", "width"), out=file)
    assert result.verdict.same, result.verdict
    assert result.contract.input.shape == (3, None, None)
    assert validate(file, against=f"{user}:UNet").same
    with Predictor(file, warm_up=1) as model:
        assert model.predict(np.zeros((3, 48, 20), np.float32)).values.shape == (2, 48, 20)
    layers = profile(str(file), latency=False).table.layers
    assert layers[0].input_shape == (1, 3, 32, 32), "counted at the size that it was exported with"


def test_the_size_it_was_exported_with_is_known_when_validating(user, tmp_path):
    file = tmp_path / "long.onnx"
    assert export(f"{user}:Long", input_shapes=[(2, 40)], dynamic=("batch", "length=2"), out=file).verdict.same
    assert validate(file, against=f"{user}:Long").same
    model = onnx_file.read(file)
    del model.metadata_props[:]
    onnx_file.write(model, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=r"cannot take an input of \dx2x8.*--input-shape"):
        validate(tmp_path / "foreign.onnx", against=f"{user}:Long")
    assert validate(tmp_path / "foreign.onnx", against=f"{user}:Long", input_shapes=[(2, 40)]).same


def test_a_file_of_another_size_than_the_examples_is_compared_at_its_own(user, tmp_path):
    file = tmp_path / "exampled.onnx"
    assert export(f"{user}:Exampled", input_shapes=[(3, 16, 12)], out=file).verdict.same
    assert validate(file, against=f"{user}:Exampled").same


def test_an_axis_that_the_exporter_took_for_a_constant_is_said(user, tmp_path):
    with pytest.raises(ExportError, match=r"with a dynamic length: it takes 6 alone .*; leave it out of --dynamic"):
        export(f"{user}:Nested", input_shapes=[(6,)], dynamic=("batch", "length=1"), out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_nested_outputs_are_called_by_their_path(user, tmp_path):
    file = tmp_path / "nested.onnx"
    assert export(f"{user}:Nested", input_shapes=[(6,)], out=file).verdict.same
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["answer.scores", "answer.best", "states.0", "states.1.0"]


@pytest.mark.parametrize("name", ["parallel", "compiled", "both"])
def test_what_training_wrapped_around_a_network_is_taken_off(user, tmp_path, name):
    result = export(f"{user}:{name}", input_shapes=[(3, 8, 8)], out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict
    assert [tensor.name for tensor in onnx_file.read(result.file).graph.initializer] == ["0.weight", "0.bias"]


@pytest.mark.parametrize("name", ["AlwaysDropping", "Counting"])
def test_a_network_that_answers_differently_each_time_is_not_proven(user, tmp_path, name):
    result = export(f"{user}:{name}", input_shapes=[(6,)], out=tmp_path / "m.onnx")
    assert result.verdict.verdict == "not proven"
    word = "changes" if name == "Counting" else "another answer each time"
    assert word in next(check.detail for check in result.verdict.checks if not check.passed)
    assert result.file.name == "m.rejected.onnx"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scripted", {"input_shapes": [(3, 8, 8)]}, "is a TorchScript module, which cannot be exported"),
        ("Text", {"input_shapes": [(3,)]}, "returns a str in name"),
        ("UNet", {"input_shapes": [(3, 1 << 31, 1 << 31, 1 << 31)]}, "does not fit into memory; choose a smaller --input-shape"),
        ("Speechless", {"input_shapes": [(3,)]}, r"cannot take an input of 2x3.*--input-shape"),
        ("Tokens", {"input_shapes": [(3,)]}, r"at layer 'embed'.*--input-dtype"),
        ("Tokens", {"input_shapes": [(3,)], "input_dtypes": ["int65"]}, r"unknown type 'int65' of an input; choose one of"),
        ("Tokens", {"input_shapes": [(3,)], "input_dtypes": ["int64"] * 2}, r"has 1 inputs, 2 types were given"),
        ("UNet", {"input_shapes": [(3, 8, 8)], "dynamic": ("length",)}, r"unknown dynamic axis 'length'; choose from"),
        ("UNet", {"input_shapes": [(3, 8, 8)], "dynamic": ("batch", "depth=4")}, "is axis 4, and every input has fewer axes"),
        ("UNet", {"input_shapes": [(3, 8, 8)], "dynamic": ("rows=mask:1",)}, "has no input 'mask'"),
        ("UNet", {"input_shapes": [(3, 8, 8)], "dynamic": ("height", "rows=2")}, "has two names"),
        ("Attending", {"input_shapes": [(6, 16), (6,)], "dynamic": ("length=padding:2",)}, "and padding has fewer axes"),
    ],
)
def test_what_cannot_be_exported_is_one_line(user, tmp_path, name, options, message):
    with pytest.raises(InputError, match=message) as caught:
        export(f"{user}:{name}", out=tmp_path / "m.onnx", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_outputs_that_are_zero_but_for_rounding_prove_nothing_and_the_layers_do(user, tmp_path):
    result = export(f"{user}:Centred", input_shapes=[(3, 12, 12)], out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict
    assert "prove nothing" in next(check.detail for check in result.verdict.checks if check.name == "evidence")


def test_one_batch_of_mere_rounding_is_judged_on_the_scale_of_the_others(user, tmp_path):
    result = export(f"{user}:CentredAlone", input_shapes=[(3, 12, 12)], out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict
    assert result.verdict.errors.tolerance < 1e-4


def test_a_network_that_multiplies_its_own_rounding_is_not_proven(user, tmp_path):
    result = export(f"{user}:Chaotic", input_shapes=[(6,)], out=tmp_path / "m.onnx")
    assert not result.verdict.same
    assert "nothing can be told" in next(check.detail for check in result.verdict.checks if check.name == "evidence")
