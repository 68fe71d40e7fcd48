"""Is a file legal? Asked without leaving anything beside it, and without needing room there."""

from __future__ import annotations

import os
import tempfile

import onnx
import pytest

from deploykit.errors import OutputError
from deploykit.onnx_file import external_data
from deploykit.verdict import legal, validate
from deploykit.verdict.deployed import Deployed


@pytest.fixture
def large(exported, tmp_path, monkeypatch):
    """A file whose weights count as too many for one message, in a folder inside its own."""
    monkeypatch.setattr(external_data, "LIMIT", 100_000)
    folder = tmp_path / "folder"
    (folder / "parts").mkdir(parents=True)
    onnx.save(onnx.load(exported), folder / "model.onnx", save_as_external_data=True, location="parts/w.bin", size_threshold=1024)
    return folder / "model.onnx"


def structure(file):
    return legal.checks(Deployed(onnx.load(file, load_external_data=False), file.parent))[0]


def test_the_folder_of_the_file_is_not_touched(large, monkeypatch):
    written = []
    real = os.open

    def noting(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            written.append(str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", noting)
    large.parent.chmod(0o555)
    try:
        assert structure(large).passed
        assert validate(large, against=str(large)).same
    finally:
        large.parent.chmod(0o755)
    assert not [path for path in written if path.startswith(str(large.parent))], (
        "where the tests run as root, a folder is never read-only"
    )
    assert sorted(path.name for path in large.parent.iterdir()) == ["model.onnx", "parts"]


def test_weights_with_a_second_name_are_no_fault_of_the_file(large, tmp_path):
    os.link(large.parent / "parts" / "w.bin", tmp_path / "kept.bin")
    assert structure(large).passed


def test_what_is_illegal_is_found_in_a_large_file_too(large):
    model = onnx.load(large, load_external_data=False)
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save(model, large)
    check = structure(large)
    assert not check.passed
    assert "NoSuchOperator" in check.detail


def test_no_room_to_check_is_no_fault_of_the_file(large, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="TMPDIR"):
        structure(large)


@pytest.mark.parametrize(
    ("operator", "values", "passed"),
    [("Where", [float("nan")], True), ("Where", [float("nan"), 1.0], False), ("Add", [float("nan")], False)],
)
def test_a_lone_nan_that_is_only_chosen_is_no_broken_weight(operator, values, passed):
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy")
    stored = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [len(values)], values)
    chosen = [onnx.helper.make_node("Cast", ["x"], ["c"], to=onnx.TensorProto.BOOL)] if operator == "Where" else []
    last = onnx.helper.make_node(operator, ["c", "w", "x"] if chosen else ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([*chosen, last], "g", [x], [y], [stored]))
    assert legal._finite(Deployed(model)).passed is passed
