"""The exported file: legal, named by module path, clean of traces, honest about itself, and the same network at any batch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deploykit import onnx_file
from deploykit.errors import CheckpointError, ExportError, InputError, OutputError, UnknownName
from deploykit.exporter import export, to_onnx
from deploykit.network import target as targets
from deploykit.runtime.contract import ImageInput


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet18")
    return export("resnet18", untrained=True, out=folder / "model.onnx")


def test_the_file_gives_pytorchs_answers_at_batches_not_used_for_export(resnet):
    assert resnet.verdict.same
    session = onnxruntime.InferenceSession(resnet.file, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("input", ["batch", 1, 32, 32])]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    network = targets.resolve("resnet18", untrained=True)
    for batch in (1, 3, 17):
        inputs = torch.randn(batch, 1, 32, 32)
        with torch.no_grad():
            expected = network.module(inputs).numpy()
        found = session.run(None, {"input": inputs.numpy()})[0]
        assert found.shape == (batch, 10)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_nodes_and_values_are_called_by_module_path(resnet):
    model = onnx.load(resnet.file)
    modules = dict(targets.resolve("resnet18", untrained=True).module.named_modules())
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"conv1", "maxpool", "layer1.0.conv1", "layer4.1.conv2", "fc"} <= set(names)
    for name in names:
        assert name.split("/")[0].split("@")[0] in modules, name
    conv = next(node for node in model.graph.node if node.name == "layer1.0.conv1")
    assert list(conv.output) == ["layer1.0.bn1"], "a folded BatchNorm leaves its name on the value"


def test_no_trace_of_the_exporting_machine(resnet):
    data = resnet.file.read_bytes()
    for trace in (b"stack_trace", b"site-packages", b'.py", line', os.getcwd().encode(), os.path.expanduser("~").encode() + b"/"):
        assert trace not in data, trace
    model = onnx.load(resnet.file)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_the_file_says_where_it_came_from_and_what_verdict_it_got(exported, trained):
    contract = onnx_file.get_contract(onnx_file.read(exported))
    assert isinstance(contract.input, ImageInput)
    assert contract.output.labels == tuple("0123456789")
    assert contract.output.activation == "softmax"
    assert contract.provenance["network"] == "lenet5"
    assert len(contract.provenance["checkpoint_sha256"]) == 64
    assert contract.provenance["opset"] == 20
    assert contract.verdict["verdict"] == "same"
    assert exported == trained / "model.onnx"


@pytest.mark.parametrize("opset", [18, 19, 21, 22, 23])
def test_the_file_has_the_opset_that_was_asked_for(tmp_path, opset):
    result = export("lenet5", untrained=True, opset=opset, out=tmp_path / "m.onnx")
    assert onnx_file.opset(onnx.load(result.file)) == opset == result.opset
    assert result.verdict.same


@pytest.mark.parametrize("opset", [0, 17, 999])
def test_an_opset_that_cannot_be_had_is_refused(tmp_path, opset):
    with pytest.raises(InputError, match=f"opset {opset} cannot be had"):
        export("lenet5", untrained=True, opset=opset, out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_in_another_process_and_folder_is_equal_bytes(tmp_path):
    code = "import sys, pathlib, deploykit; deploykit.export('lenet5', untrained=True, out=pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, "m.onnx"], cwd=tmp_path, check=True, timeout=300)
    here = export("lenet5", untrained=True, out=tmp_path / "here" / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == here.file.read_bytes()


def test_a_missing_checkpoint_names_both_repairs(workdir):
    with pytest.raises(CheckpointError, match=r"resnet18 has no checkpoint.*`deploykit train resnet18`.*--untrained"):
        export("resnet18")
    assert not list(workdir.iterdir())


def test_names_that_do_not_exist_suggest_the_nearest(workdir):
    with pytest.raises(UnknownName, match="resnet18"):
        export("resnet81")
    with pytest.raises(UnknownName, match="mobilenet_v3_small"):
        export("torchvision:mobilenet_v3_smal", untrained=True)
    with pytest.raises(InputError, match="cannot import 'nowhere'"):
        export("nowhere:Net")


def test_a_checkpoint_of_another_network_is_refused(trained, workdir):
    with pytest.raises(CheckpointError, match="checkpoint of 'lenet5', not of 'resnet18'"):
        export("resnet18", checkpoint=trained / "model.safetensors")
    assert not list(workdir.iterdir())


def test_a_folder_that_cannot_be_written_is_said_before_the_work(trained, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        export("lenet5", untrained=True, out=tmp_path / "file" / "m.onnx")


USER_FILE = '''
import torch
from torch import nn


class Two(nn.Module):
    """Two inputs, a dict of outputs."""

    def __init__(self, width=4):
        super().__init__()
        self.left = nn.Conv2d(3, width, 3, padding=1)
        self.right = nn.Linear(5, width)
        self.example_inputs = {"image": torch.randn(2, 3, 8, 8), "facts": torch.randn(2, 5)}

    def forward(self, image, facts):
        x = self.left(image) + self.right(facts)[:, :, None, None]
        return {"mask": torch.sigmoid(x), "score": x.mean(dim=(1, 2, 3))}


class Broken(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


def raises():
    raise RuntimeError("no weights today")


def number():
    return 5
'''


@pytest.fixture
def user(workdir, monkeypatch):
    name = f"user_{workdir.name.replace('-', '_')}"
    (workdir / f"{name}.py").write_text(USER_FILE)
    monkeypatch.syspath_prepend(workdir)
    yield name
    sys.modules.pop(name, None)


def test_a_users_own_network_with_two_inputs_named_outputs_and_dynamic_sizes(user, workdir):
    result = export(f"{user}:Two", arguments={"width": 6}, dynamic=("batch", "height", "width"), out=workdir / "two.onnx")
    assert result.verdict.same, result.verdict
    session = onnxruntime.InferenceSession(result.file, providers=["CPUExecutionProvider"])
    assert [i.shape for i in session.get_inputs()] == [["batch", 3, "height", "width"], ["batch", 5]]
    assert [o.name for o in session.get_outputs()] == ["mask", "score"]
    mask, score = session.run(None, {"image": np.zeros((7, 3, 11, 13), np.float32), "facts": np.zeros((7, 5), np.float32)})
    assert (mask.shape, score.shape) == ((7, 6, 11, 13), (7,))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("Two", {"input_shapes": [(3, 8, 8)]}, InputError, "has 2 inputs, 1 shapes were given"),
        ("Broken", {"input_shapes": [(4,)]}, ExportError, r"torch\.cond or torch\.while_loop"),
        ("raises", {}, InputError, "raised RuntimeError: no weights today"),
        ("number", {}, InputError, r"returned an int, not a torch\.nn\.Module"),
        ("Tow", {}, InputError, "did you mean Two"),
        ("Broken", {}, InputError, "--input-shape"),
    ],
)
def test_a_users_network_that_cannot_be_used_is_one_line(user, workdir, name, options, error, message):
    before = sorted(workdir.iterdir())
    with pytest.raises(error, match=message):
        export(f"{user}:{name}", out=workdir / "x.onnx", **options)
    assert [p for p in sorted(workdir.iterdir()) if p.name != "__pycache__"] == before


def test_the_layer_that_cannot_take_the_shape_is_named(tmp_path):
    with pytest.raises(InputError, match="at layer 'linear6'"):
        export("lenet5", untrained=True, input_shapes=[(1, 64, 64)], out=tmp_path / "m.onnx")


class Tricky(nn.Module):
    """In-place ReLU after BatchNorm, a module called twice, functional calls, a module that passes its input through."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.same = nn.Identity()
        self.shared = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))

    def forward(self, x):
        x = self.same(self.act(self.bn(self.conv(x)))).mean(dim=(2, 3))
        return self.head(F.hardswish(self.shared(self.shared(x))))


def test_values_carry_the_name_of_the_module_whose_output_they_are():
    torch.manual_seed(0)
    network = replace(targets.resolve("lenet5", untrained=True), module=Tricky().eval())
    network = replace(network, inputs=(replace(network.inputs[0], shape=(1, 8, 8)),))
    model = to_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    recorded = {}

    def keep(path, output):
        count = sum(key.split("@")[0] == path for key in recorded)
        recorded[f"{path}@{count}" if count else path] = output.clone()

    for path, module in network.module.named_modules():
        module.register_forward_hook(lambda _m, _i, output, path=path: keep(path, output))
    inputs = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        network.module(inputs)
    values = [o for node in model.graph.node for o in node.output if o in recorded]
    assert {"bn", "act", "shared", "shared@1", "head.1"} <= set(values)
    for name in values:
        if name not in [o.name for o in model.graph.output]:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, found in zip(values, session.run(values, {"input": inputs.numpy()}), strict=True):
        np.testing.assert_allclose(found, recorded[name].numpy(), atol=2e-6, err_msg=name)


def test_initializers_that_are_no_parameters_are_called_by_their_role(resnet):
    names = {tensor.name for tensor in onnx.load(resnet.file).graph.initializer}
    assert {"layer1.0.conv1.weight", "conv1.bias", "flatten/shape", "fc.weight"} <= names
    assert not [name for name in names if re.fullmatch(r"val_\d+", name)]


def test_an_opset_that_onnx_knows_but_onnxruntime_does_not_run_is_refused(tmp_path):
    from deploykit.exporter import OPSETS
    from deploykit.onnx_file import sessions

    newest = sessions.newest_opset()
    assert export("lenet5", untrained=True, opset=newest, out=tmp_path / "m.onnx").opset == newest
    for opset in range(newest + 1, OPSETS.stop):
        with pytest.raises(InputError, match=f"opset {opset} cannot be had: the installed onnxruntime runs up to {newest}"):
            export("lenet5", untrained=True, opset=opset, out=tmp_path / "x.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_for_one_batch_size_is_proven_at_that_size(trained, tmp_path):
    result = export(str(trained / "model.safetensors"), dynamic=(), out=tmp_path / "m.onnx")
    assert result.verdict.same, result.verdict.checks
    assert result.verdict.decisions.samples == 300
    session = onnxruntime.InferenceSession(result.file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 1, 32, 32]


def test_an_open_height_and_width_are_tried_at_another_size(user, workdir):
    result = export(f"{user}:Two", dynamic=("batch", "height", "width"), out=workdir / "two.onnx")
    assert result.verdict.same
    assert set(result.verdict.sizes) == {"batch", "height", "width"}
    assert all(low < high for low, high in result.verdict.sizes.values())


class LoneNumber(torch.nn.Module):
    example_inputs = (torch.tensor(2.0),)

    def forward(self, time):
        return time * torch.arange(3.0)


class StepByStep(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.RNN(4, 3, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


def test_a_lone_number_and_a_recurrence_of_open_length_are_said_in_words_that_help(workdir):
    with pytest.raises(InputError, match=r"takes a lone number, .* let it take \(batch,\)"):
        export(LoneNumber(), out=workdir / "x.onnx")
    with pytest.raises(ExportError, match=r"torch writes an nn.RNN out step by step: .* or take an nn.GRU or nn.LSTM"):
        export(StepByStep(), input_shapes=[(5, 4)], dynamic=("batch", "time=1"), out=workdir / "x.onnx")
    assert not list(workdir.iterdir())
