"""The layer table of PyTorch networks."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deploykit import architectures, reports
from deploykit.errors import InputError, UnknownName
from deploykit.network import target
from deploykit.profiler import Profile, profile
from deploykit.profiler.pytorch import tracing
from deploykit.profiler.pytorch.layers import count_layers
from deploykit.views.profile import report

DATA = Path(__file__).parent.parent / "data"
CONVENTIONS = ("macs", "flops", "paddle")


def table_of(module, *shape, convention="macs", depth="leaves"):
    return count_layers(module.eval(), [torch.zeros(shape)], convention, depth).without_empty()


def rows_of(module, *shape, **options):
    return {row.path: row for row in table_of(module, *shape, **options).layers}


@pytest.mark.parametrize(("name", "params", "ops"), [("lenet5", 61_706, 423_344), ("resnet18", 11_185_034, 35_529_728)])
def test_paddle_convention_gives_the_rows_that_paddle_printed(name, params, ops):
    found = profile(name, untrained=True, latency=False, convention="paddle").table

    def paddle_name(kind):  # Conv2d -> conv2d, ReLU -> re_lu, AdaptiveAvgPool2d -> adaptive_avg_pool2d
        kind = {"ReLU": "ReLu"}.get(kind, kind)
        return re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()

    def shape(sizes):
        return "x".join(map(str, sizes))

    ours = Counter(
        (paddle_name(r.type), shape(r.input_shape), shape(r.output_shape), str(r.params), str(r.ops)) for r in found.layers
    )
    with (DATA / f"paddle_{name}.csv").open() as stream:
        theirs = Counter(tuple(row.values()) for row in csv.DictReader(stream))
    assert ours == theirs
    assert (found.totals.params, found.totals.ops) == (params, ops)


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "googlenet", "shared-mlp"])
def test_golden_table(name):
    """Refresh with: DEPLOYKIT_REFRESH=1 python -m pytest tests/profiler/test_layers.py -k golden"""
    found = reports.render(report(profile(name, untrained=True, latency=False)), "csv") + "\n"
    golden = DATA / f"profile_{name}.csv"
    if os.environ.get("DEPLOYKIT_REFRESH"):
        golden.write_text(found)
    assert found == golden.read_text()


@pytest.mark.parametrize("name", architectures.names())
def test_columns_add_up_to_the_totals(name):
    module = architectures.get(name).create().eval()
    inputs = [torch.randn(2, *architectures.get(name).input_shape)]
    whole = {convention: count_layers(module, inputs, convention) for convention in CONVENTIONS}
    for convention in CONVENTIONS:
        for depth in ("leaves", 0, 1, 2):
            found = count_layers(module, inputs, convention, depth).without_empty()
            assert sum(row.params for row in found.layers) == found.totals.params == whole[convention].totals.params
            assert sum(row.ops for row in found.layers) == found.totals.ops == whole[convention].totals.ops
            assert found.batch == 2
    distinct = {id(p): p.numel() for p in module.parameters()}
    assert whole["macs"].totals.params == whole["flops"].totals.params == sum(distinct.values())
    assert whole["flops"].totals.ops == 2 * whole["macs"].totals.ops


# The figures of the project's list of networks, which were worked out independently.
@pytest.mark.parametrize(
    ("name", "macs", "paddle"),
    [
        ("lenet", 416_520, 424_400),
        ("cnn2", 2_838_080, 2_869_440),
        ("cnn4", 7_175_680, 7_219_904),
        ("lenet5-handwritten", 416_520, None),
        ("alexnet", 921_368_960, None),
        ("vgg11", 7_547_232_256, None),
        ("nin", 762_297_352, None),
        ("googlenet", 276_066_304, None),
        ("resnet18-cifar", 323_552_960, None),
    ],
)
def test_published_totals(name, macs, paddle):
    assert profile(name, untrained=True, latency=False).table.totals.ops == macs
    if paddle is not None:
        assert profile(name, untrained=True, latency=False, convention="paddle").table.totals.ops == paddle


def test_shared_weights_count_once_and_every_call_has_a_row():
    shared = nn.Linear(8, 8)
    found = table_of(nn.Sequential(shared, nn.ReLU(), shared), 1, 8)
    assert [(row.path, row.params, row.ops) for row in found.layers] == [("0", 72, 64), ("1", 0, 0), ("0@1", 0, 64)]
    assert found.totals.params == 72


def test_weights_tied_between_two_modules_count_once():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    found = table_of(nn.Sequential(a, b), 1, 4)
    assert [row.params for row in found.layers] == [20, 4]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 3, 3, 3))
        self.inner = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(F.conv2d(x, self.weight))
        x = self.inner(x.mean((2, 3)))
        return x @ x.T


def test_functional_calls_are_counted_in_the_row_of_their_container():
    found = table_of(Functional(), 2, 3, 6, 6)
    own = next(row for row in found.layers if row.own)
    assert (own.path, own.ops, own.params) == ("", 2 * 6 * 16 * 27 + 2 * 2 * 5, 162)
    assert found.excluded == {"mean": 1, "relu": 1}
    assert not found.uncounted


def test_attention_is_counted_in_full():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    steps, width = 5, 16
    projections = steps * width * 3 * width + steps * width * width
    scores = 2 * steps * steps * width
    found = rows_of(layer, 1, steps, width)
    assert found["self_attn"].ops == projections + scores
    assert found["self_attn"].params == 4 * width * width + 4 * width
    assert sum(row.ops for row in found.values()) == projections + scores + 2 * steps * width * 32


def test_attention_of_torch_itself_is_counted():
    class Attention(nn.Module):
        def forward(self, q):
            return F.scaled_dot_product_attention(q, q, q)

    assert table_of(Attention(), 2, 3, 7, 4).totals.ops == 2 * (2 * 3 * 7 * 7 * 4)


def test_recurrent_layers_are_counted():
    assert table_of(nn.LSTM(3, 5, batch_first=True), 2, 7, 3).totals.ops == 7 * 2 * 4 * 5 * (3 + 5)
    assert table_of(nn.GRU(3, 5, batch_first=True), 2, 7, 3).totals.ops == 7 * 2 * 3 * 5 * (3 + 5)


def test_transposed_and_grouped_convolutions():
    assert table_of(nn.ConvTranspose2d(4, 6, 3, stride=2), 1, 4, 5, 5).totals.ops == 5 * 5 * 4 * 6 * 9
    assert table_of(nn.Conv2d(8, 8, 3, groups=8), 1, 8, 5, 5).totals.ops == 8 * 3 * 3 * 9


def test_kernel_stride_and_padding_are_told():
    row = rows_of(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, (3, 1), padding="same")), 1, 1, 8, 8)
    assert (row["0"].kernel, row["0"].stride, row["0"].padding) == ((2, 2), (2, 2), (0, 0))
    assert (row["1"].kernel, row["1"].stride, row["1"].padding) == ((3, 1), (1, 1), "same")


@torch.library.custom_op("deploykit_test::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@mystery.register_fake
def _(x):
    return torch.empty_like(x)


def test_an_operator_without_a_formula_is_listed_by_name():
    class Custom(nn.Module):
        def forward(self, x):
            return mystery(mystery(x))

    found = table_of(Custom(), 1, 3)
    assert found.uncounted == {"deploykit_test::mystery": 2}
    assert profile_document(found)["uncounted"] == ["deploykit_test::mystery"]


def profile_document(table):
    return Profile("x", table).document()


def test_linear_algebra_that_multiplies_is_not_taken_for_free():
    class Inverse(nn.Module):
        def forward(self, x):
            return torch.linalg.inv(x)

    assert "linalg_inv_ex" in table_of(Inverse(), 1, 3, 3).uncounted


def test_modules_that_are_never_called_are_listed_with_their_parameters():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    found = table_of(Idle(), 1, 2)
    assert [(row.path, row.params, row.called) for row in found.layers] == [("used", 6, True), ("unused", 12, False)]
    assert any("never called: unused" in note for note in found.notes)


class Held(nn.Module):
    """Holds a parameter that its parent uses, and is never called itself."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 3))


@pytest.mark.parametrize("join", [torch.cat, torch.vstack])
def test_a_parameter_that_an_operator_takes_in_a_list_has_a_user(join):
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.held = Held()

        def forward(self, x):
            return join([x, self.held.token])

    found = table_of(Joined(), 2, 3)
    assert not any("never called" in note for note in found.notes)
    assert [(row.path, row.params, row.called) for row in found.layers] == [("", 3, True)]


@dataclass
class Answer:
    """An output as some libraries give it."""

    label: str
    scores: torch.Tensor


def test_the_first_shape_in_nested_values():
    x, y = torch.zeros(2, 3), torch.zeros(5)
    assert tracing.first_shape([None, {"a": (x, y)}]) == (2, 3)
    assert tracing.first_shape(Answer("cat", y)) == (5,)
    assert tracing.first_shape((Answer, "text", 3)) is None
    assert [t.shape for t in tracing.tensors_in({"a": [x, Answer("", y)], "b": 1})] == [(2, 3), (5,)]


def test_a_path_that_depends_on_values_is_counted_on_a_real_run():
    found = profile("fixed-hidden-mlp", untrained=True, latency=False).table
    assert found.totals.ops == 1200
    assert any("depends on its values" in note for note in found.notes)


class ControlFlow(nn.Module):
    """torch.cond and torch.while_loop: which way, and how often, is decided by values."""

    def __init__(self):
        super().__init__()
        self.yes, self.no, self.again = nn.Linear(4, 4), nn.Linear(4, 9), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.cond(x.sum() < 1e9, lambda v: self.yes(v), lambda v: self.no(v)[:, :4], (x,))
        count = torch.tensor(0)
        return torch.while_loop(lambda n, v: n < 3, lambda n, v: (n + 1, self.again(v)), (count, x))[1]


@pytest.mark.slow
def test_control_flow_is_followed_and_what_runs_inside_counts():
    found = table_of(ControlFlow(), 2, 4)
    assert {row.path: row.ops for row in found.layers} == {"yes": 32, "again": 32, "again@1": 32, "again@2": 32, "no": 0}
    assert not found.uncounted
    assert any("depends on its values" in note for note in found.notes)


@pytest.mark.parametrize("whole", [True, False])
def test_compiled_code_is_a_part_of_the_module_that_calls_it(whole):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and people have files of it
        scripted = torch.jit.script(nn.Linear(4, 5))
    found = table_of(scripted if whole else nn.Sequential(scripted, nn.ReLU()), 2, 4)
    assert (found.totals.ops, found.totals.params) == (40, 25)
    assert found.layers[0].params == 25 or not whole


def test_a_layer_that_has_no_shape_yet_is_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules announce that they may change
        lazy = nn.Sequential(nn.ReLU(), nn.LazyLinear(3))
    with pytest.raises(InputError, match=r"'1.weight' has no shape yet"):
        table_of(lazy, 1, 4)


def test_inputs_that_numpy_does_not_have_are_counted_and_not_timed(tmp_path, monkeypatch):
    (tmp_path / "brain.py").write_text(
        "import torch\n"
        "def net():\n"
        "    module = torch.nn.Linear(4, 2).bfloat16()\n"
        "    module.example_inputs = [torch.zeros(1, 4, dtype=torch.bfloat16)]\n"
        "    return module\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert profile("brain:net", latency=False, batch=3).table.totals.ops == 24
    with pytest.raises(InputError, match="bfloat16.*--no-latency"):
        profile("brain:net")


def test_the_network_is_left_as_it_was():
    module = architectures.get("resnet18").create().train()
    before = {name: (id(p), p._version, p.clone()) for name, p in (*module.named_parameters(), *module.named_buffers())}
    fast = torch.backends.mha.get_fastpath_enabled()
    count_layers(module, [torch.zeros(2, 1, 32, 32)])
    with pytest.raises(InputError):
        count_layers(module, [torch.zeros(1, 3, 32, 32)])
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert module.training
    for name, p in (*module.named_parameters(), *module.named_buffers()):
        assert id(p) == before[name][0]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_shape_that_does_not_fit_names_the_layer():
    with pytest.raises(InputError, match=r"1x1x16x16 at layer 'conv5'"):
        profile("lenet5", untrained=True, latency=False, input_shapes=[(1, 16, 16)])


def test_unknown_convention_names_the_nearest():
    with pytest.raises(UnknownName, match="paddle"):
        profile("lenet5", untrained=True, latency=False, convention="padle")


def test_counting_a_large_network_takes_no_memory_for_weights():
    """vgg11 has 515 MB of weights; built for its counts alone it has none."""
    from deploykit.profiler.opening import _weightless
    from deploykit.profiler.subjects import Subject

    network = _weightless(Subject("vgg11", untrained=True))
    assert all(p.is_meta for p in network.module.parameters())
    assert profile("vgg11", untrained=True, latency=False).table.totals.params == 128_806_154


def test_batch_and_input_shape_scale_the_count():
    once = profile("resnet18", untrained=True, latency=False).table.totals.ops
    assert profile("resnet18", untrained=True, latency=False, batch=3).table.totals.ops == 3 * once
    assert profile("resnet18", untrained=True, latency=False, input_shapes=[(1, 64, 64)]).table.batch == 1


def test_every_torchvision_style_block_is_attributed():
    network = target.resolve("torchvision:mobilenet_v3_small", untrained=True)
    found = count_layers(network.module, [torch.zeros(1, 3, 224, 224)]).without_empty()
    assert found.totals.ops == 56_510_400
    assert found.totals.params == 2_542_856
    assert not found.uncounted
