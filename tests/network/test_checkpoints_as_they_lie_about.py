"""Checkpoints as other people's training loops leave them: found under any key, read by content, refused by name."""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import io
import json
import pathlib
import pickle
import sys
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deploykit.errors import CheckpointError
from deploykit.network import checkpoint, checkpoint_fit, checkpoint_pickle, target
from deploykit.network.checkpoint import load_file, read_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.blocks(self.norm(self.conv(x)).relu().mean((2, 3))))


@pytest.fixture
def weights():
    torch.manual_seed(3)
    return Net().state_dict()


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


def zeros(weights):
    return {name: torch.zeros_like(tensor) for name, tensor in weights.items()}


def notes_of(content, weights, tmp_path, name="w.pth"):
    """Save, load, compare every value; the notes."""
    if content is not None:
        torch.save(content, tmp_path / name)
    network = Net()
    notes = load_file(network, tmp_path / name)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in network.state_dict().items())
    return notes


LOOPS = {
    "nothing around": lambda w: w,
    "DataParallel": lambda w: prefixed("module.", w),
    **{f"under {key}": lambda w, key=key: {key: w, "epoch": 3} for key in checkpoint_pickle.KEYS},
    "under a key of its own": lambda w: {"my_detector": w, "lr": 0.1},
    "nested": lambda w: {"state": {"net": w}},
    "nested deeper, with prefixes": lambda w: {"run": {"state": {"net": prefixed("module._orig_mod.", w)}}},
    "detection": lambda w: {"state_dict": prefixed("backbone.", w)},
    "numbers beside the tensors": lambda w: {**w, "epoch": 7, "best": 0.9, "name": "x"},
    "parameters, not tensors": lambda w: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in w.items()},
    "torch.compile and FSDP inside": lambda w: {
        k.replace("conv.", "conv._orig_mod.").replace("blocks.", "blocks._fsdp_wrapped_module."): v for k, v in w.items()
    },
    "DataParallel inside": lambda w: {k.replace("blocks.", "blocks.module."): v for k, v in w.items()},
    "one dict per module": lambda w: {
        head: {k.removeprefix(f"{head}."): v for k, v in w.items() if k.startswith(f"{head}.")}
        for head in ("conv", "norm", "blocks", "head")
    },
    "list of two": lambda w: [w, {"lr": 0.1}],
    "before counters of batches": lambda w: {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")},
}  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_weights_are_taken_wherever_they_lie(loop, weights, tmp_path):
    weights["norm.num_batches_tracked"] = torch.tensor(0)
    assert notes_of(LOOPS[loop](weights), weights, tmp_path) == ()


def test_lightning_with_a_weighted_loss_names_what_is_left_over(weights, tmp_path):
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**prefixed("model.", weights), "criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1, "model": "resnet"},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4)}}}],
    }
    (note,) = notes_of(content, weights, tmp_path, "extra.ckpt")
    assert "'state_dict.criterion.weight'" in note
    assert "left over" in note


def test_of_two_that_fit_the_plain_one_is_taken_and_the_other_named(weights, tmp_path):
    for keys in (("model", "model_ema"), ("model_ema", "model"), ("params_ema", "params"), ("ema", "my_net")):
        (note,) = notes_of({key: zeros(weights) if "ema" in key else weights for key in keys}, weights, tmp_path)
        assert next(repr(key) for key in keys if "ema" in key) in note


def test_of_two_that_have_the_names_the_one_of_the_right_shapes_is_taken(weights, tmp_path):
    larger = {name: torch.zeros(7, *tensor.shape) for name, tensor in weights.items()}
    (note,) = notes_of({"model": larger, "student": weights}, weights, tmp_path)
    assert "13 tensors under 'model': left over" in note


def test_what_an_optimizer_keeps_under_the_same_names_is_not_taken(weights, tmp_path):
    (note,) = notes_of({"optimizer": {"exp_avg": zeros(weights)}, "mine": weights}, weights, tmp_path)
    assert "those under 'mine' were taken" in note


def test_averages_counters_and_other_heads_are_left_over_in_one_note(weights, tmp_path):
    content = {
        "n_averaged": torch.tensor(5),
        **prefixed("module.", weights),
        "module.aux_head.0.weight": torch.ones(2),
        "module.conv.total_ops": torch.zeros(1, dtype=torch.float64),
        "module.blocks.0.position_ids": torch.arange(4),
    }
    (note,) = notes_of(content, weights, tmp_path)
    for name in ("n_averaged", "module.aux_head.0.weight", "module.conv.total_ops", "module.blocks.0.position_ids"):
        assert repr(name) in note


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv.bias"), "no tensor 'conv.bias'"),
        (lambda w: w.update({"head.weight": torch.ones(5, 4)}), r"'head.weight' of shape \[5, 4\], the network needs \[3, 4\]"),
        (lambda w: w.update({"blocks.2.weight": torch.ones(4, 4)}), "'blocks.2.weight' that the network does not know"),
        (lambda w: w.update({"conv.weight_mask": torch.ones(4)}), "'conv.weight_mask' that the network does not know"),
        (lambda w: w.update({"conv.weight": w["conv.weight"].to_sparse()}), "no dense tensor"),
    ],
)
def test_nothing_is_loaded_in_part(weights, tmp_path, prefix, change, message):
    change(weights)
    torch.save({"state_dict": prefixed(prefix, weights), "criterion.weight": torch.ones(3)}, tmp_path / "w.pth")
    network = Net()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_file(network, tmp_path / "w.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_deeper_network_of_the_same_family_is_refused(weights, tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.save(models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match=r"'layer1\.2\..*' that the network does not know"):
        load_file(models.resnet18(), tmp_path / "resnet34.pth")


def test_weights_that_are_tied_lie_in_the_file_once(tmp_path):
    def tied():
        network = nn.ModuleDict({"embed": nn.Embedding(5, 4), "out": nn.Linear(4, 5, bias=False)})
        network["out"].weight = network["embed"].weight
        return network

    torch.manual_seed(1)
    save_file({"embed.weight": tied().state_dict()["embed.weight"]}, tmp_path / "w.safetensors")
    network = tied()
    assert load_file(network, tmp_path / "w.safetensors") == ()
    with pytest.raises(CheckpointError, match="no tensor 'out.weight'"):
        load_file(nn.ModuleDict({"embed": nn.Embedding(5, 4), "out": nn.Linear(4, 5, bias=False)}), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "name", ["model.bin", "best.pth.tar", "w.tar", "last.ckpt", "w.pkl", "w.model", "checkpoint-1000", "w.safetensors"]
)
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_files_are_read_by_content_not_by_ending(weights, tmp_path, name, form):
    if form == "safetensors":
        save_file(weights, tmp_path / name)
    else:
        torch.save(weights, tmp_path / name, _use_new_zipfile_serialization=form == "zip")
    assert notes_of(None, weights, tmp_path, name) == ()


@pytest.mark.parametrize("name", ["model.bin", "best.pth.tar", "w.pkl", "last.ckpt"])
def test_as_a_target_they_are_known_as_weights_without_a_network(weights, tmp_path, name):
    torch.save(weights, tmp_path / name)
    with pytest.raises(CheckpointError, match="holds weights only"):
        target.resolve(str(tmp_path / name))


def test_a_checkpoint_of_deploykit_may_have_any_ending(tmp_path):
    from deploykit import architectures

    lenet = architectures.get("lenet5")
    made = checkpoint.Checkpoint("lenet5", dict(lenet.defaults), lenet.input, lenet.create().state_dict())
    checkpoint.save_checkpoint(made, tmp_path / "mine.bin")
    assert target.resolve(str(tmp_path / "mine.bin")).name == "lenet5"
    assert target.resolve("lenet5", checkpoint=tmp_path / "mine.bin").trained


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert str(path) in caught.value.problem
    return caught.value


class Settings:
    """Of a training script that is not at hand."""

    def __init__(self, lr):
        self.lr = lr


@pytest.mark.parametrize(
    ("beside", "names"),
    [
        (np.float64(0.9), ("numpy._core.multiarray.scalar", "numpy.dtype")),
        (np.arange(3), ("numpy._core.multiarray._reconstruct",)),
        (argparse.Namespace(lr=0.1), ("argparse.Namespace",)),
        (pathlib.PurePosixPath("runs/1"), ("pathlib.PurePosixPath",)),
        (collections.defaultdict(list), ("collections.defaultdict",)),
        (Settings(0.1), (f"{Settings.__module__}.Settings",)),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_foreign_objects_are_named_with_the_line_that_saves_the_weights_anew(weights, tmp_path, monkeypatch, beside, names, legacy):
    monkeypatch.setitem(sys.modules, Settings.__module__, sys.modules.get(Settings.__module__) or sys.modules[__name__])
    torch.save({"model": weights, "args": beside}, tmp_path / "args.pth", _use_new_zipfile_serialization=not legacy)
    error = refused(tmp_path / "args.pth")
    assert all(name in error.problem for name in names), error.problem
    assert "code" not in str(error)
    assert f"torch.load('{tmp_path / 'args.pth'}', map_location='cpu', weights_only=False)['model'], 'weights.pth'" in error.hint


def run_line(hint, tmp_path):
    """What the line gives to Python, run in the folder (a process of its own would load torch anew each time)."""
    with contextlib.chdir(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(hint.partition('python -c "')[2].removesuffix('"'), {})


@pytest.mark.parametrize(
    "content",
    [
        lambda w: {"model": w, "args": argparse.Namespace(model="x", lr=0.1)},
        lambda w: {**w, "best": np.float64(0.9)},
        lambda w: {"args": argparse.Namespace(net={"a": 1}, lr=1), "state_dict": collections.OrderedDict(w)},
    ],
)
def test_the_line_works(weights, tmp_path, content):
    torch.save(content(weights), tmp_path / "args.pth")
    run_line(refused(tmp_path / "args.pth").hint, tmp_path)
    assert notes_of(None, weights, tmp_path, "weights.pth") == ()


def test_a_whole_module_is_refused_with_the_line_for_modules(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "whole.pth")
    error = refused(tmp_path / "whole.pth")
    assert "torch.nn.modules.container.Sequential" in error.problem
    run_line(error.hint, tmp_path)
    load_file(nn.Sequential(nn.Linear(2, 2)), tmp_path / "weights.pth")
    torch.save({"epoch": 3, "model": nn.Linear(2, 2)}, tmp_path / "under.pth")
    run_line(refused(tmp_path / "under.pth").hint, tmp_path)
    load_file(nn.Linear(2, 2), tmp_path / "weights.pth")


def test_a_plain_pickle_and_a_newer_protocol_are_refused_with_a_line_that_works(weights, tmp_path):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in weights.items()}))
    error = refused(tmp_path / "plain.pkl")
    assert "numpy" in error.problem
    run_line(error.hint, tmp_path)
    notes_of(None, weights, tmp_path, "weights.pth")
    torch.save(weights, tmp_path / "new.pth", pickle_protocol=4)
    error = refused(tmp_path / "new.pth")
    assert "protocol 4" in error.problem
    run_line(error.hint, tmp_path)
    notes_of(None, weights, tmp_path, "weights.pth")


def test_torchscript_is_called_by_its_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    error = refused(tmp_path / "script.pt")
    assert "is TorchScript" in error.problem
    assert f"torch.save(torch.jit.load('{tmp_path / 'script.pt'}').state_dict(), 'weights.pth')" in error.hint
    run_line(error.hint, tmp_path)
    load_file(nn.Linear(2, 2), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="is TorchScript"):
        target.resolve(str(tmp_path / "script.pt"))


def test_an_exported_program_is_called_by_its_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "net.pt2")
    error = refused(tmp_path / "net.pt2")
    assert "torch.export" in error.problem
    run_line(error.hint, tmp_path)
    load_file(nn.Linear(2, 2), tmp_path / "weights.pth")


def in_archive(kind, weights):
    inner, outer = io.BytesIO(), io.BytesIO()
    torch.save(weights, inner)
    if kind == "tar":
        with tarfile.open(fileobj=outer, mode="w") as tar:
            entry = tarfile.TarInfo("model.pth")
            entry.size = len(inner.getvalue())
            tar.addfile(entry, io.BytesIO(inner.getvalue()))
    elif kind == "zip":
        with zipfile.ZipFile(outer, "w") as archive:
            archive.writestr("model.pth", inner.getvalue())
    elif kind == "npz":
        np.savez(outer, w=np.ones(3))
    else:
        return gzip.compress(inner.getvalue())
    return outer.getvalue()


@pytest.mark.parametrize(
    ("content", "words", "hint"),
    [
        (lambda w: in_archive("tar", w), "is a tar archive", "unpack it"),
        (lambda w: in_archive("zip", w), "is a zip archive", "unpack it"),
        (lambda w: in_archive("gz", w), "compressed by gzip", "unpack it"),
        (lambda w: in_archive("npz", w), "NumPy arrays", "state_dict"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS", "git lfs pull"),
        (lambda _: b"\n<!DOCTYPE html><html></html>", "a web page", "download"),
        (lambda _: b'{"metadata": {}, "weight_map": {}}', "JSON", "parts"),
        (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5", "PyTorch"),
        (lambda _: b"", "is empty", "to the end"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(weights, tmp_path, content, words, hint):
    (tmp_path / "w.bin").write_bytes(content(weights))
    error = refused(tmp_path / "w.bin")
    assert words in error.problem
    assert hint in error.hint


OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x)
"""


def test_an_export_without_a_checkpoint_says_whose_weights_it_has(cli, workdir):
    (workdir / "own_weights_net.py").write_text(OWN)
    ask = ("export", "own_weights_net:Own", "--input-shape", "4", "--out", "net.onnx")
    found = cli(*ask, "--format", "json")
    assert found.exit_code == 0, found.output
    assert "weights: the callable's own" in " ".join(json.loads(found.stdout)["verdict"]["notes"])
    torch.save(
        {"state_dict": {"model.head.weight": torch.ones(3, 4), "model.head.bias": torch.ones(3), "loss": torch.ones(2)}}, "w.bin"
    )
    found = cli(*ask, "--checkpoint", "w.bin")
    assert found.exit_code == 0, found.output
    assert "callable's own" not in found.output
    assert "also holds 'state_dict.loss': left over" in " ".join(found.output.split())


def test_an_unknown_content_with_an_unknown_ending_is_said_so(tmp_path):
    (tmp_path / "w.txt").write_text("hello")
    assert "ends in '.txt'" in refused(tmp_path / "w.txt").problem
    assert "is a folder" in refused(tmp_path).problem


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("torch_made", [True, False])
def test_code_is_called_code_in_every_protocol_and_never_run(tmp_path, protocol, torch_made):
    evil = {"model": Evil(exec, f"open({str(tmp_path / 'ran')!r}, 'w')"), "args": argparse.Namespace()}
    if torch_made:
        torch.save(evil, tmp_path / "evil.bin", pickle_protocol=protocol)
    else:
        (tmp_path / "evil.bin").write_bytes(pickle.dumps(evil, protocol))
    error = refused(tmp_path / "evil.bin")
    assert "it wants to run code" in error.problem
    assert "exec" in error.problem
    assert "weights_only=False" not in str(error), "no line that would run it"
    assert not (tmp_path / "ran").exists()


def test_a_name_that_is_made_up_on_the_way_is_code():
    stream = io.BytesIO(b"\x80\x04\x8c\x01a\x8c\x01b\x87\x8c\x06system\x93)R.")
    assert checkpoint_pickle._scan(stream)[0].runs_code == ("?",)


def test_a_cycle_and_a_deep_nest_end(weights, tmp_path):
    content = {"model": weights}
    content["self"] = content
    assert notes_of(content, weights, tmp_path) == ()
    deep = inner = {}
    for _ in range(300):
        inner["a"] = inner = {}
    inner["b"] = weights
    torch.save(deep, tmp_path / "deep.pth")
    with pytest.raises(CheckpointError, match="no tensor"):
        load_file(Net(), tmp_path / "deep.pth")


def test_what_grows_without_end_is_refused(monkeypatch):
    wide: dict = {"t": torch.ones(1)}
    for _ in range(14):
        wide = {str(i): wide for i in range(10)}
    monkeypatch.setattr(checkpoint_fit, "MAX_ENTRIES", 20_000)
    with pytest.raises(CheckpointError, match="too many entries"):
        checkpoint_fit.flattened(wide, "w.pth")
    monkeypatch.setattr(checkpoint_fit, "MAX_NAMES", 1000)
    with pytest.raises(CheckpointError, match="names are too long"):
        checkpoint_fit.flattened({"k" * 900: {"a": torch.ones(1), "b": torch.ones(1)}}, "w.pth")
    with pytest.raises(CheckpointError, match="no tensor"):
        checkpoint_fit.flattened({"k" * 1001: {"a": torch.ones(1)}}, "w.pth")
    with pytest.raises(CheckpointError, match="twice"):
        checkpoint_fit.flattened({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, "w.pth")


def test_many_keys_beside_the_weights_are_read_and_a_million_refused(weights, tmp_path):
    assert notes_of({"vocabulary": {f"w{i}": i for i in range(100_000)}, "net": weights}, weights, tmp_path) == ()
    torch.save({"vocabulary": {f"w{i}": i for i in range(1_000_000)}, "net": weights}, tmp_path / "w.pth")
    assert "its pickle is too large" in refused(tmp_path / "w.pth").problem


def test_names_of_endless_dots_are_read_in_bounded_time():
    names = {"." * 900 + str(i): torch.ones(1) for i in range(200)}
    assert checkpoint_fit.fit(names, {"weight": torch.ones(1)}).place == ""
