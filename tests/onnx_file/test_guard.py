"""A file from a stranger is rehearsed once per content, as long as it is remembered."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from onnx import TensorProto, helper

from deploykit.errors import ModelFileError
from deploykit.onnx_file import guard


@pytest.fixture
def rehearsals(monkeypatch):
    """The names of the files that were rehearsed, and the sizes that they were said to have."""
    found = []

    def isolated(work, name, size):
        found.append((name, size))
        return work()

    monkeypatch.setattr(guard, "isolated", isolated)
    monkeypatch.setattr(guard, "_rehearsed", OrderedDict())
    return found


def files(folder, count):
    """Files of different content."""
    paths = []
    for number in range(count):
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [number + 1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        paths.append(folder / f"{number}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    return paths


def test_a_content_is_rehearsed_once(tmp_path, rehearsals):
    first, second = files(tmp_path, 2)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(first.read_bytes())
    for path in (first, second, first, copy, second):
        assert guard.read(path) == path.read_bytes()
    assert rehearsals == [(str(path), path.stat().st_size) for path in (first, second)]


def test_the_oldest_is_forgotten_first(tmp_path, rehearsals, monkeypatch):
    monkeypatch.setattr(guard, "REMEMBERED", 2)
    first, second, third = files(tmp_path, 3)
    for path in (first, second, third, second, third):
        guard.read(path)
    assert len(rehearsals) == 3
    guard.read(first)
    assert len(rehearsals) == 4
    assert len(guard._rehearsed) == guard.REMEMBERED


def test_what_did_not_pass_is_rehearsed_again(tmp_path, rehearsals, monkeypatch):
    (path,) = files(tmp_path, 1)

    def crash(work, name, size):
        raise ModelFileError(f"{name} was refused", "")

    with monkeypatch.context() as patch:
        patch.setattr(guard, "isolated", crash)
        with pytest.raises(ModelFileError, match="was refused"):
            guard.read(path)
    guard.read(path)
    assert len(rehearsals) == 1


def test_every_reader_is_tried_after_one_that_raised(tmp_path, monkeypatch):
    (path,) = files(tmp_path, 1)
    tried = []

    def attempt(name, fails):
        def run(*_args, **_options):
            tried.append(name)
            if fails:
                raise ValueError(name)

        return run

    monkeypatch.setattr(guard.onnx.checker, "check_model", attempt("checker", True))
    monkeypatch.setattr(guard.onnx.shape_inference, "infer_shapes", attempt("shapes", True))
    monkeypatch.setattr(guard, "run_on_zeros", attempt("run", False))
    with pytest.raises(ValueError, match="shapes"):
        guard._rehearse(path.read_bytes(), path)
    assert tried == ["checker", "shapes", "run"]
