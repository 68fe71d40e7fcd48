"""An `nn.Module` wherever a network is named: it is copied, and comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import deploykit
from deploykit import onnx_file
from deploykit.errors import InputError
from deploykit.network import ready_made
from deploykit.network import target as targets
from deploykit.network.request import Request


class Net(nn.Module):
    """3x8x8 -> two logits."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))


class Pair(nn.Module):
    """Keyword-only arguments: to be exported its `forward` is bound anew."""

    def forward(self, *, left, right):
        return left @ right.transpose(-1, -2)


def told(module):
    """All that a user could notice of a module."""
    return (
        [(name, part.training, len(part._forward_hooks), sorted(vars(part))) for name, part in module.named_modules()],
        {name: (id(t), t.dtype, t.device, t._version, t.requires_grad) for name, t in module.state_dict(keep_vars=True).items()},
        [None if p.grad is None else p.grad.clone() for p in module.parameters()],
    )


@pytest.fixture(scope="module")
def used():
    """A module in training mode, with gradients, a hook and statistics of its own."""
    torch.manual_seed(3)
    net = Net()
    net.conv.register_forward_hook(lambda *_: None)
    net(torch.randn(5, 3, 8, 8)).sum().backward()
    return net


@pytest.fixture(scope="module")
def exported(used, tmp_path_factory):
    before = told(used)
    result = deploykit.export(used, input_shapes=(3, 8, 8), out=str(tmp_path_factory.mktemp("net") / "net.onnx"))
    after = told(used)
    assert before[:2] == after[:2]
    assert all(torch.equal(a, b) for a, b in zip(before[2], after[2], strict=True))
    return result


def test_a_module_is_exported_with_its_own_weights(used, exported):
    assert exported.verdict.same
    assert exported.target == exported.verdict.against == "Net"
    assert ready_made.OWN_WEIGHTS in exported.verdict.notes
    x = torch.randn(2, 3, 8, 8)
    with deploykit.Predictor(exported.file) as model, torch.no_grad():
        expected = ready_made.apart(used, "Net")[0](x).numpy()
        np.testing.assert_allclose(model.run(x.numpy()), expected, atol=1e-6)


def test_the_file_says_honestly_where_it_is_from(exported):
    provenance = onnx_file.get_contract(onnx_file.read(exported.file)).provenance
    assert provenance["network"] == "Net"
    assert provenance["seed"] is None, "nobody made these weights from a seed"
    assert provenance["checkpoint_sha256"] is None


def test_a_file_is_compared_with_a_module(used, exported):
    same = deploykit.validate(Path(exported.file), used, input_shapes="3x8x8", batches=2)
    assert same.same
    assert same.against == "Net"
    assert deploykit.validate(str(exported.file), against=used).same, "inputs that nobody names are those of the file"
    torch.manual_seed(4)
    other = deploykit.validate(exported.file, Net())
    assert other.verdict == "different"


def test_a_module_is_profiled_beside_its_file(used, exported):
    before = told(used)
    found = deploykit.profile(used, input_shapes=(3, 8, 8), batch=np.int64(2), latency=False, against=exported.file)
    assert before[:2] == told(used)[:2]
    assert found.target == "Net"
    assert found.table.batch == 2
    assert found.against is not None
    assert found.table.totals.ops == found.against.table.totals.ops


def test_a_module_is_timed_in_this_process(used):
    threads = torch.get_num_threads()
    found = deploykit.profile(used, input_shapes=(3, 8, 8), seconds=0.1, threads=1)
    assert [entry.backend for entry in found.latencies] == ["torch", "onnxruntime"]
    assert found.latencies[0].peak_memory_bytes is None
    assert found.latencies[1].peak_memory_bytes > 0
    assert torch.get_num_threads() == threads
    json.dumps(found.document(), allow_nan=False)


def test_two_modules_of_one_class_are_told_apart(used):
    found = deploykit.profile(used, input_shapes=(3, 8, 8), against=Net(), latency=False)
    assert (found.target, found.against.target) == ("Net", "the other Net")


def test_inputs_may_be_tensors_arrays_and_lists_of_them():
    left, right = torch.randn(2, 3, 4), torch.randn(2, 5, 4, requires_grad=True)
    network = targets.resolve(Request.of(Pair(), inputs={"left": left, "right": right}))
    assert [(spec.name, spec.shape) for spec in network.inputs] == [("left", (3, 4)), ("right", (5, 4))]
    alone = targets.resolve(Request.of(nn.Linear(4, 2), inputs=torch.ones(3, 4)))
    assert [(spec.name, spec.shape) for spec in alone.inputs] == [("input", (4,))]
    assert alone.name == "Linear"
    several = targets.resolve(Request.of(nn.Bilinear(4, 5, 2), inputs=[np.ones((3, 4), np.float32), torch.ones(3, 5)]))
    assert [(spec.name, spec.shape) for spec in several.inputs] == [("input1", (4,)), ("input2", (5,))]
    with pytest.raises(InputError, match="give a dict of arrays by the inputs' names"):
        Request.of("lenet5", inputs=[left, right])


def test_types_of_inputs_may_be_torchs_and_numpys_own():
    given = ["int64", torch.int64, np.int64, np.dtype("int64")]
    assert Request.of("a:b", input_dtypes=given).input_dtypes == ("int64",) * 4
    assert Request.of("a:b", input_dtypes=torch.int64).input_dtypes == ("int64",)


def test_a_forward_that_is_bound_anew_is_the_copys():
    module = Pair()
    targets.resolve(Request.of(module, inputs={"left": torch.randn(2, 3, 4), "right": torch.randn(2, 5, 4)}))
    assert "forward" not in vars(module)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")], ids=["DataParallel", "compile"]
)
def test_what_training_put_around_a_network_is_taken_off(wrap):
    network = targets.resolve(Request.of(wrap(Net()), input_shapes=(3, 8, 8)))
    assert network.name == "Net"
    assert type(network.module) is Net


def test_weights_in_half_are_taken_in_float32():
    module = Net().bfloat16()
    network = targets.resolve(Request.of(module, input_shapes=(3, 8, 8)))
    assert module.conv.weight.dtype == torch.bfloat16
    assert network.module.conv.weight.dtype == torch.float32
    assert any("bfloat16" in note for note in network.notes)


def test_a_weight_norm_of_the_old_kind_can_be_copied():
    with pytest.warns(FutureWarning, match="weight_norm"):
        module = torch.nn.utils.weight_norm(nn.Linear(4, 2))
    module(torch.ones(1, 4))  # its weight is now the result of a computation, which torch refuses to copy
    network = targets.resolve(Request.of(module, input_shapes=(4,)))
    with torch.no_grad():
        torch.testing.assert_close(network.module(torch.ones(1, 4)), module(torch.ones(1, 4)))


def test_a_module_without_values_is_refused():
    with torch.device("meta"):
        module = nn.Linear(4, 2)
    with pytest.raises(InputError, match="the weights of Linear have no values"):
        targets.resolve(Request.of(module, input_shapes=(4,)))


def test_a_module_that_cannot_be_copied_is_refused_in_one_line():
    import threading

    module = nn.Linear(4, 2)
    module.lock = threading.Lock()
    with pytest.raises(InputError, match=r"^Linear cannot be copied \(TypeError: .*\), and a copy .*; name the class or function"):
        targets.resolve(Request.of(module, input_shapes=(4,)))


def test_a_class_called_like_a_shipped_network_does_not_pass_for_it():
    pretender = type("lenet5", (Net,), {})()
    network = targets.resolve(Request.of(pretender, input_shapes=(3, 8, 8)))
    assert network.name == f"{__name__}.lenet5"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Net, r"a network cannot be the class Net; give a network: Net\(\)"),
        (3, "a network cannot be an int; give its name, such as"),
        (None, "a network cannot be a NoneType"),
        (Path("trained/lenet5"), "trained/lenet5 is the path of no network; a file ends in"),
        (torch.ones(3), "a network cannot be a Tensor"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(given, message):
    for function in (deploykit.export, deploykit.profile):
        with pytest.raises(InputError, match=message):
            function(given)


WRONG = {
    "checkpoint": [3, ""],
    "untrained": ["yes", 1],
    "seed": [-1, True, 1.5, 2**32],
    "arguments": ["width=3"],
    "input_shapes": [7, (3, -1)],
    "input_dtypes": [3],
    "inputs": [3.5j, {"x": object()}],
}
EXPORT = {
    "out": [3, b"x"], "opset": [True, 20.5, "20"], "dynamic": [None, 3], "input_names": [3], "precision": [16, "int3"],
    "simplify": ["no"], "with_preprocessing": [None], "progress": [True], "image": [3, "224"], "output": [3, "cat,dog"],
    "meanings": [3, ["boxes"]],
}  # fmt: skip
PROFILE = {
    "batch": [0, True, "2"], "convention": [3, "x"], "depth": ["deep", -1, True], "backends": [3, ["x"], []], "latency": [None],
    "against": [3], "device": [3], "threads": [0, True], "seconds": [-1, "6"], "tree": ["yes"], "progress": [print],
}  # fmt: skip
VALIDATE = {
    "batches": ["1,2", [], [0]], "rtol": [-1, True], "atol": ["x"], "device": [None], "data": [3], "witness": [3, True], "against": [3],
    "image": [3, "224"], "output": [3, "cat,dog"],
}  # fmt: skip
TRAIN = {
    "data": [3], "epochs": [-1, 1.5, True], "batch_size": [0], "lr": [0, True, "x"], "limit": [0], "seed": [-1, True],
    "device": [3], "precision": ["int3", 16], "init": [3], "resume": [1], "patience": [0], "out": [3], "arguments": ["x"], "progress": [1],
    "image": ["x", 0],
}  # fmt: skip


def _cases():
    yield from (("export", n, v) for n, several in {**WRONG, **EXPORT}.items() for v in several)
    yield from (("profile", n, v) for n, several in {**WRONG, **PROFILE}.items() for v in several)
    yield from (("validate", n, v) for n, several in {**WRONG, **VALIDATE}.items() for v in several)
    yield from (("train", n, v) for n, several in TRAIN.items() for v in several)


def test_every_argument_of_every_function_is_asked_for():
    import inspect

    for verb in ("export", "profile", "validate", "train"):
        names = {name for function, name, _ in _cases() if function == verb}
        assert names == {p.name for p in inspect.signature(getattr(deploykit, verb)).parameters.values()} - {
            "target",
            "file",
            "name",
        }


@pytest.mark.parametrize(("verb", "name", "value"), list(_cases()))
def test_a_wrong_value_is_one_line(verb, name, value, workdir):
    first = {"export": "rgnet", "profile": "rgnet", "validate": "nothing.onnx", "train": "rgnet"}[verb]
    with pytest.raises(InputError) as caught:
        getattr(deploykit, verb)(first, **{name: value})
    assert "\n" not in str(caught.value)
    assert not list(workdir.iterdir())


def test_a_network_without_values_is_refused_as_a_target_too(workdir):
    Path("metanet.py").write_text("from torch import nn\nmake = lambda: nn.Linear(4, 4, device='meta')\n")
    with pytest.raises(InputError, match="the weights of metanet:make have no values: they are on the meta device"):
        targets.resolve("metanet:make", input_shapes=[(4,)])


def test_code_that_ends_the_process_is_refused(workdir):
    Path("exitnet.py").write_text("def make(): raise SystemExit(7)\n")
    with pytest.raises(InputError, match="calling exitnet:make raised SystemExit: 7"):
        targets.resolve("exitnet:make", input_shapes=[(4,)])
