"""Which models lie in files and folders; loading them, exchanging them, and what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from onnx import TensorProto, helper
from serving_files import CPU, digits, doubling, two_by_two
from small_models import build, linear, with_contract

from deploykit.errors import InputError, ModelFileError
from deploykit.serving.models import Models, Served, Settings
from deploykit.serving.repository import find


def save(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def found(*given, names=()):
    return {source.name: {version: path.name for version, path in source.files.items()} for source in find(given, names)}


def test_names_and_versions(tmp_path):
    for name in ("lenet5/model.onnx", "alone.onnx", "repo/a/1/model.onnx", "repo/a/10/model.onnx", "repo/a/2/other.onnx", "repo/b/model.onnx", "repo/notes/read.me", "repo/a/x/model.onnx", "repo/a/01/model.onnx", "repo/.hidden/model.onnx"):  # fmt: skip
        save(tmp_path / name, b"")
    save(tmp_path / "repo/b/model.rejected.onnx", b"")
    assert found(tmp_path / "lenet5/model.onnx") == {"lenet5": {1: "model.onnx"}}
    assert found(tmp_path / "lenet5") == {"lenet5": {1: "model.onnx"}}
    assert found(tmp_path / "alone.onnx") == {"alone": {1: "alone.onnx"}}
    assert found(tmp_path / "repo/a") == {"a": {1: "model.onnx", 2: "other.onnx", 10: "model.onnx"}}
    assert list(found(tmp_path / "repo")) == ["a", "b"]
    assert found(tmp_path / "repo/b") == {"b": {1: "model.onnx"}}
    assert found(tmp_path / "alone.onnx", tmp_path / "lenet5", names=("x", "y")) == {"x": {1: "alone.onnx"}, "y": {1: "model.onnx"}}


def test_what_cannot_be_served(tmp_path):
    save(tmp_path / "a/model.onnx", b"")
    save(tmp_path / "b/a/model.onnx", b"")
    save(tmp_path / "c/sub/deep/model.onnx", b"")
    save(tmp_path / "bad name.onnx", b"")
    for given, said in (
        ([tmp_path / "a", tmp_path / "b"], "two models have the name 'a'"),
        ([tmp_path / "c"], "no models are in"),
        ([tmp_path / "none"], "there is no file or folder"),
        ([tmp_path / "bad name.onnx"], "cannot be served under the name"),
        ([], "nothing to serve"),
    ):
        with pytest.raises(InputError, match=said):
            find(given)
    with pytest.raises(InputError, match="2 names are given for 1 models"):
        find([tmp_path / "a"], ["x", "y"])


@pytest.mark.parametrize("allowed", [False, True])
def test_a_rejected_file_is_refused_unless_allowed(tmp_path, allowed):
    path = save(tmp_path / "model.onnx", digits("different"))
    settings = Settings("cpu", 1, allow_rejected=allowed)
    if allowed:
        Served("a", 1, path, settings).close()
    else:
        with pytest.raises(InputError, match=r"rejected by its own verdict .* --allow-rejected"):
            Served("a", 1, path, settings)


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    path = save(tmp_path / "model.onnx", b"\x08\x09 no model")
    with pytest.raises(ModelFileError):
        Served("a", 1, path, CPU)


def test_which_models_share_runs_and_why_not(tmp_path):
    def served(model):
        return Served("a", 1, save(tmp_path / "model.onnx", model), CPU)

    one = served(digits())
    assert (one.max_batch_size, one.note, one.takes_images) == (8, "", True)
    fixed = served(with_contract(linear(batch=4), None))
    assert fixed.max_batch_size == 0
    assert "open first axis" in fixed.note
    value = helper.make_tensor_value_info
    mixing = served(
        build(
            [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
            [value("x", TensorProto.FLOAT, ["n", 2])],
            [value("y", TensorProto.FLOAT, ["n", 2])],
        )
    )
    assert mixing.max_batch_size == 0
    assert "together as alone" in mixing.note
    # A request of any rows still runs, alone.
    answer = mixing.submit({"x": np.zeros((100, 2), np.float32)}).result(10)
    assert answer.outputs["y"].shape == (100, 2)
    for each in (one, fixed, mixing):
        each.close()


def test_what_the_protocol_cannot_carry_is_said(tmp_path):
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = build([helper.make_node("SequenceConstruct", ["x"], ["y"])], [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])], [sequence])  # fmt: skip
    with pytest.raises(InputError, match="no datatype for seq"):
        Served("a", 1, save(tmp_path / "model.onnx", model), CPU)


def test_a_failed_reload_keeps_the_old_and_a_good_one_swaps_without_a_gap(tmp_path):
    path = save(tmp_path / "m/model.onnx", doubling())
    models = Models(find([tmp_path]), CPU)
    models.load_all()
    row = {"input": np.ones((1, 3), np.float32)}
    save(path, b"damaged")
    with pytest.raises(ModelFileError):
        models.load("m")
    assert models.model("m").reason
    assert models.get("m").submit(row, 5).result(10).outputs["out"].tolist() == [[2, 2]]

    stop, failures, answered = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            served = models.get("m")
            try:
                answered.append(served.submit(row, 5).result(10).outputs["out"].tolist())
            except Exception as error:
                if not served.closed:  # else the new one is asked, as app.py does
                    failures.append(error)

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    save(path, doubling())
    old = models.get("m")
    for _ in range(5):
        models.load("m")
    stop.set()
    for caller in callers:
        caller.join()
    assert not failures
    assert answered
    assert models.get("m") is not old
    assert "closed" in repr(old.predictor)
    models.close()


def test_new_versions_are_found_by_a_reload(tmp_path):
    save(tmp_path / "m/1/model.onnx", doubling())
    models = Models(find([tmp_path / "m"]), CPU)
    models.load_all()
    assert models.get("m").version == "1"
    save(tmp_path / "m/12/model.onnx", two_by_two())
    models.load("m")
    assert models.get("m").version == "12"
    assert models.get("m", "1").signature.inputs[0].name == "input"
    models.close()


def test_what_was_given_another_name_is_found_again_where_it_lies(tmp_path):
    for path in ("repo/a/1/model.onnx", "repo/b/a.onnx", "repo/c/model.onnx", "alone/model.onnx"):
        save(tmp_path / path, b"")
    sources = find([tmp_path / "repo", tmp_path / "alone"], ["c", "b", "a", "x"])  # two are called a there
    save(tmp_path / "repo/a/2/model.onnx", b"")
    for source, files in zip(
        sources, (["a/1/model.onnx", "a/2/model.onnx"], ["b/a.onnx"], ["c/model.onnx"], ["../alone/model.onnx"]), strict=True
    ):
        again = source.again()
        assert again.name == source.name
        assert [path.resolve() for path in again.files.values()] == [(tmp_path / "repo" / file).resolve() for file in files]
    (tmp_path / "repo/b/a.onnx").unlink()
    with pytest.raises(InputError, match="the model 'b' is no longer in"):
        sources[1].again()


def test_nothing_is_left_open_where_one_model_cannot_be_loaded(tmp_path):
    save(tmp_path / "a/model.onnx", doubling())
    save(tmp_path / "b/model.onnx", b"damaged")
    before = threading.active_count()
    with pytest.raises(ModelFileError):
        Models(find([tmp_path]), CPU).load_all()
    assert threading.active_count() == before
