"""Weights beside the file. The limit is lowered here, so that a small network takes the way of a large one."""

from __future__ import annotations

import os
import shutil

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from deploykit.errors import ExportError, ModelFileError
from deploykit.exporter import export
from deploykit.onnx_file import external_data
from deploykit.runtime import Predictor
from deploykit.simplifier import simplify
from deploykit.verdict import validate


@pytest.fixture
def low_limit(monkeypatch):
    monkeypatch.setattr(external_data, "LIMIT", 100_000)


@pytest.fixture
def large(low_limit, tmp_path):
    result = export("lenet5", untrained=True, out=tmp_path / "model.onnx")
    assert result.verdict.same, result.verdict.checks
    return result


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_weights_begin_at_multiples_of_4096_where_they_can_be_mapped_into_memory(tmp_path):
    arrays = {name: np.full(size, size, np.float32) for name, size in (("a", 300), ("small", 3), ("b", 1024), ("c", 1025))}
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()])
    model = ir.serde.deserialize_model(onnx.helper.make_model(graph))
    external_data.move_out(model, tmp_path / "weights")
    moved = ir.serde.serialize_model(model)
    places = {tensor.name: onnx.external_data_helper.ExternalDataInfo(tensor) for tensor in external_data.external(moved)}
    assert {name: (int(place.offset), int(place.length)) for name, place in places.items()} == {
        "a": (0, 1200),
        "b": (4096, 4096),
        "c": (8192, 4100),
    }
    for tensor in moved.graph.initializer:
        np.testing.assert_array_equal(external_data.array(tensor, tmp_path), arrays[tensor.name])


def test_two_files_that_plain_onnxruntime_and_the_runtime_open(large, tmp_path):
    assert len(names(tmp_path)) == 2
    assert large.file.stat().st_size < 20_000
    assert large.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    onnx.checker.check_model(str(large.file), full_check=True)
    array = np.random.default_rng(0).standard_normal((3, 1, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(large.file, providers=["CPUExecutionProvider"])
    with Predictor(large.file, device="cpu") as predictor:
        np.testing.assert_array_equal(predictor.run(array), session.run(None, {"input": array})[0])


def test_it_is_validated_like_any_other_and_a_wrong_weight_is_found(large, tmp_path):
    verdict = validate(large.file, against="lenet5", untrained=True)
    assert verdict.same
    assert "10 of 10 tensors" in next(c.detail for c in verdict.checks if c.name == "weights")
    data = next(path for path in tmp_path.iterdir() if path.suffix == ".data")
    model = onnx.load(large.file, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "linear6.weight")
    offset = onnx.external_data_helper.ExternalDataInfo(tensor).offset
    with data.open("r+b") as stream:
        stream.seek(offset)
        stream.write(np.float32(1.0).tobytes())
    verdict = validate(large.file, against="lenet5", untrained=True)
    assert verdict.verdict == "different"
    assert verdict.first_divergent_layer == "linear6"


def test_the_next_export_takes_the_old_weights_with_it_and_equal_ones_make_equal_bytes(large, tmp_path):
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    export("lenet5", untrained=True, out=large.file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    export("lenet5", untrained=True, seed=1, out=large.file)
    assert len(names(tmp_path)) == 2
    assert names(tmp_path) != sorted(first)


def test_weights_lie_beside_the_file_and_not_beside_a_link_to_it(large, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "current.onnx"
    link.symlink_to(large.file)
    result = export("lenet5", untrained=True, seed=1, out=link)
    assert result.verdict.same
    assert result.file == large.file.resolve()
    assert names(tmp_path / "links") == ["current.onnx"]
    assert link.is_symlink()
    assert len(names(tmp_path)) == 3, "the old weights are gone"
    with Predictor(link, device="cpu") as predictor:
        assert predictor.run(np.zeros((1, 1, 32, 32), np.float32)).shape == (1, 10)


def test_a_foreign_file_with_small_weights_beside_it_is_read_whole(exported, tmp_path):
    model = onnx.load(exported)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=16)
    assert validate(tmp_path / "model.onnx", against=str(exported)).same
    assert simplify(tmp_path / "model.onnx").reason


@pytest.mark.parametrize("fault", ["missing", "outside", "link", "absolute", "short"])
def test_weights_that_cannot_be_trusted_are_refused(exported, tmp_path, fault):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "model.onnx"
    onnx.save(onnx.load(exported), file, save_as_external_data=True, location="w.bin", size_threshold=16)
    data = folder / "w.bin"
    if fault in ("missing", "link", "outside", "absolute"):
        shutil.move(data, tmp_path / "w.bin")
    if fault == "link":
        os.symlink(tmp_path / "w.bin", data)
    if fault == "short":
        data.write_bytes(data.read_bytes()[:-100])
    if fault in ("outside", "absolute"):
        model = onnx.load(file, load_external_data=False)
        external_data.rename(model, "../w.bin" if fault == "outside" else str(tmp_path / "w.bin"))
        file.write_bytes(model.SerializeToString())
    reason = {"missing": "not there", "short": "end behind the end"}.get(fault, "outside its folder")
    before = names(folder)
    for act in (lambda: validate(file, against=str(exported)), lambda: simplify(file)):
        with pytest.raises(ModelFileError, match=reason):
            act()
    assert names(folder) == before


def test_what_one_file_must_hold_is_said(low_limit, tmp_path, large):
    with pytest.raises(ModelFileError, match="cannot be simplified"):
        simplify(large.file)
    with pytest.raises(ExportError, match="too large for --precision fp16"):
        export("lenet5", untrained=True, precision="fp16", out=tmp_path / "half.onnx")
