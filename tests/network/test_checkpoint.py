"""A checkpoint rebuilds its network with nothing else at hand, and nothing in it ever runs."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from deploykit import architectures
from deploykit.errors import CheckpointError
from deploykit.network.checkpoint import Checkpoint, load_checkpoint, load_weights, read_weights, save_checkpoint


@pytest.fixture
def network():
    torch.manual_seed(1)
    return architectures.get("lenet5").create()


@pytest.fixture
def path(network, tmp_path):
    file = tmp_path / "model.safetensors"
    architecture = architectures.get("lenet5")
    save_checkpoint(
        Checkpoint(
            architecture="lenet5",
            arguments=dict(architecture.defaults),
            input=architecture.input,
            tensors=network.state_dict(),
            classes=tuple("0123456789"),
            dataset="digits",
            recipe={"lr": 0.1},
            seed=7,
            metrics={"test": 0.5},
            versions={"torch": "x"},
        ),
        file,
    )
    return file


def test_what_was_saved_is_rebuilt(network, path):
    loaded = load_checkpoint(path)
    rebuilt = loaded.build()
    inputs = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(rebuilt(inputs), network.eval()(inputs))
    assert not rebuilt.training
    assert loaded.classes == tuple("0123456789")
    assert (loaded.seed, loaded.dataset, dict(loaded.metrics)) == (7, "digits", {"test": 0.5})
    assert loaded.input == architectures.get("lenet5").input


def test_equal_checkpoints_are_equal_bytes(path, tmp_path):
    save_checkpoint(load_checkpoint(path), tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def cut(data, _):
    return data[: len(data) // 2]


def huge_header(data, _):
    return struct.pack("<Q", 10 << 30) + data[8:]


def noise(data, _):
    return os.urandom(1000)


def forged(change):
    def apply(data, path):
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        inner = json.loads(header["__metadata__"]["deploykit"])
        header["__metadata__"]["deploykit"] = change(inner)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "not a readable safetensors file"),
        (huge_header, "not a readable safetensors file"),
        (noise, "not a readable safetensors file"),
        (lambda *_: b"", "not a readable safetensors file"),
        (forged(lambda h: "{"), "not valid JSON"),
        (forged(lambda h: "[" * 100_000), "not valid JSON"),
        (forged(lambda h: "[1]"), "header format"),
        (forged(lambda h: json.dumps({**h, "format": 99})), "header format 99"),
        (forged(lambda h: json.dumps({k: v for k, v in h.items() if k != "input"})), "damaged"),
        (forged(lambda h: json.dumps({**h, "architecture": 5})), "damaged"),
        (forged(lambda h: json.dumps({**h, "input": {"kind": "image", "channels": -1, "height": 1, "width": 1}})), "damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_line(path, damage, message):
    path.write_bytes(damage(path.read_bytes(), path))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "model.safetensors" in str(caught.value)


def test_weights_of_somebody_else_have_no_header(tmp_path, network):
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="not deploykit's header"):
        load_checkpoint(tmp_path / "w.safetensors")
    assert set(read_weights(tmp_path / "w.safetensors")) == set(network.state_dict())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_pt_files_are_read_with_the_usual_wrappers(tmp_path, network, wrap, prefix):
    torch.save(wrap({prefix + name: tensor for name, tensor in network.state_dict().items()}), tmp_path / "w.pt")
    load_weights(architectures.get("lenet5").create(), read_weights(tmp_path / "w.pt"), "w.pt")


class Evil:
    """Unpickling this would write a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def test_a_pickle_that_wants_to_run_code_is_refused_and_never_run(tmp_path):
    proof = tmp_path / "ran"
    torch.save({"weight": Evil(proof)}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt was refused: it wants to run code"):
        read_weights(tmp_path / "evil.pt")
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"PK\x03\x04 no zip", os.urandom(300)])
def test_a_broken_pt_file_is_one_line(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pt"):
        read_weights(tmp_path / "w.pt")


def test_a_pt_file_without_tensors_is_refused(tmp_path):
    torch.save({"lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no tensor"):
        read_weights(tmp_path / "w.pt")
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_weights(tmp_path / "w.pt")


def test_the_first_tensor_that_does_not_fit_is_named(network):
    tensors = dict(network.state_dict())
    with pytest.raises(CheckpointError, match=r"'conv3.weight' of shape \[1\], the network needs \[16, 6, 5, 5\]"):
        load_weights(network, {**tensors, "conv3.weight": torch.zeros(1)}, "x")
    with pytest.raises(CheckpointError, match=r"no tensor 'conv1.bias'"):
        load_weights(network, {k: v for k, v in tensors.items() if k != "conv1.bias"}, "x")
    with pytest.raises(CheckpointError, match="'extra' that the network does not know; is it of another architecture"):
        load_weights(network, {**tensors, "extra": torch.zeros(1)}, "x")


def test_a_missing_file_or_another_ending_is_said_so(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="ends in '.txt'"):
        read_weights(tmp_path / "w.txt")


def test_weights_for_other_classes_say_what_to_type(tmp_path):
    from deploykit.network.checkpoint import load_weights

    two = architectures.get("lenet5").create({"classes": 2}).state_dict()
    with pytest.raises(
        CheckpointError, match=r"\[2, 84\], the network needs \[10, 84\]; .* For 2 classes: --arg num_classes=2 .* classes=2"
    ):
        load_weights(architectures.get("lenet5").create(), two, "two.pth")
