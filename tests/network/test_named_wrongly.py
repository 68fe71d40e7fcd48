"""A folder, a file or a dotted name where a network is wanted: the error names what to type instead."""

from __future__ import annotations

import pytest

from deploykit.errors import InputError, ModelFileError
from deploykit.network.target import resolve
from deploykit.runtime.onnx_bytes import read_model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / "net" / name).write_bytes(b"x")
    (tmp_path / "photo.png").write_bytes(b"x")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("net", "it is a folder; give the checkpoint in it: net/model.safetensors"),
        ("empty", "it is a folder; give the checkpoint in it$"),
        ("photo.png", "neither a checkpoint nor an ONNX file"),
        ("mynet.Net", "with a colon: mynet:Net"),
        ("mynet.py:Net", "without the ending: mynet:Net"),
        ("some/mynet.py:Net", "without the ending: some.mynet:Net"),
        ("x" * 5000, "unknown network"),
    ],
    ids=lambda text: text[:20],
)
def test_a_target(folder, target, said):
    with pytest.raises(InputError, match=said):
        resolve(target)


@pytest.mark.parametrize(
    ("path", "said"), [("net", "is a folder; give the ONNX file in it: net/model.onnx"), ("empty", "give an ONNX file")]
)
def test_a_model(folder, path, said):
    with pytest.raises(ModelFileError, match=said):
        read_model(path)
