"""What needs no cluster: inputs become parts, a folder keeps them, and what cannot be is one line before anything is started."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from deploykit.cluster import connecting, tables
from deploykit.cluster.connecting import connected
from deploykit.cluster.folder import Folder
from deploykit.cluster.listing import RowGroup, inputs_of
from deploykit.cluster.planning import Part, parts_of
from deploykit.cluster.pool import Pool, pool_for
from deploykit.cluster.worker import Asked, Worker, as_text, told_by
from deploykit.errors import DeviceUnavailable, InputError, OutputError, Unavailable
from deploykit.runtime import (
    Area,
    Candidate,
    Detection,
    Detections,
    Embedding,
    MultiLabel,
    Prediction,
    Predictor,
    Quantity,
    Regression,
    Segmentation,
)

RUN = {"file": "ab12", "sources": ["digits"], "top": 1}


@pytest.fixture
def contract(exported):
    with Predictor(exported, "cpu") as model:
        return model.contract


@pytest.mark.parametrize(
    ("count", "batch", "size"), [(10, 64, 64), (300, 64, 64), (64 * 200, 64, 384), (70_000, 64, 1024), (70_000, 100, 1000)]
)
def test_parts_are_whole_batches_and_every_row_is_in_one(count, batch, size):
    parts = list(parts_of((f"{n}.png" for n in range(count)), batch))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert {part.rows for part in parts[:-1]} <= {size}
    assert sum((part.inputs for part in parts), []) == [f"{n}.png" for n in range(count)]
    assert [part.first for part in parts] == np.cumsum([0, *(part.rows for part in parts[:-1])]).tolist()
    assert Part.unpacked(parts[0].packed()) == parts[0]


def test_parts_grow_with_the_run():
    parts = list(parts_of((str(n) for n in range(3 << 20)), 64))
    assert sum(part.rows for part in parts) == 3 << 20
    assert next(part.rows for part in parts if part.first >= 1 << 20) == 2048
    assert parts[-1].rows == 3072 or parts[-2].rows == 3072
    assert len(parts) < 2000


def test_groups_of_rows_lie_between_paths():
    found = ["a.png", RowGroup("t.parquet", 0, 0, 1500, "image"), RowGroup("t.parquet", 1, 1500, 7, "image"), "b.png"]
    parts = list(parts_of(found, 64))
    assert [(part.first, part.rows) for part in parts] == [(0, 1), (1, 1024), (1025, 476), (1501, 7), (1508, 1)]
    assert parts[2].inputs == {"file": "t.parquet", "group": 0, "skip": 1024, "first": 0, "column": "image"}


def test_what_people_name_is_found_in_order_and_what_is_not_there_is_named(digits, contract, tmp_path):
    files = sorted(map(str, digits.iterdir()))
    assert list(inputs_of([str(digits)], contract)) == files
    assert list(inputs_of([f"{digits}/0000[0-3].png", files[7]], contract)) == [*files[:4], files[7]]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{files[3]}\r\n\ns3://bucket/a.png\n")
    assert list(inputs_of([str(listed)], contract)) == [files[3], "s3://bucket/a.png"]
    with pytest.raises(InputError, match="there is no file or folder 'nowhere'; check the path"):
        list(inputs_of(["nowhere"], contract))
    with pytest.raises(InputError, match=r"there are no inputs in 'no\*.png'"):
        list(inputs_of(["no*.png"], contract))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no inputs in"):
        list(inputs_of([str(tmp_path / "empty")], contract))


def test_columns_of_parquet(contract, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'deploykit[ray]'")
    import pyarrow.parquet as pq

    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    as_hugging_face = pa.array([{"bytes": b"x", "path": None}] * 5)
    pq.write_table(pa.table({"label": [1] * 5, "image": as_hugging_face}), one, row_group_size=3)
    pq.write_table(pa.table({"left": [b"x"], "right": [b"y"]}), two)
    assert list(inputs_of([str(one)], contract)) == [
        RowGroup(str(one), 0, 0, 3, "image"),
        RowGroup(str(one), 1, 3, 2, "image"),
    ]
    assert list(inputs_of([str(two)], contract, "right")) == [RowGroup(str(two), 0, 0, 1, "right")]
    with pytest.raises(
        InputError,
        match="does not say which column holds the images; its columns of bytes are left, right: choose one with --column",
    ):
        list(inputs_of([str(two)], contract))
    with pytest.raises(InputError, match="has no column of bytes 'label'; its columns of bytes are image"):
        list(inputs_of([str(one)], contract, "label"))
    one.write_bytes(b"no table")
    with pytest.raises(InputError, match="is no readable Parquet file"):
        list(inputs_of([str(one)], contract))


def test_stores_are_listed(digits, contract, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'deploykit[ray]'")
    files = sorted(digits.iterdir())
    assert list(inputs_of([f"file://{digits}"], contract)) == [f"file://{file}" for file in files]
    assert list(inputs_of([f"file://{digits}/0001*.png"], contract)) == [f"file://{file}" for file in files[10:20]]
    assert list(inputs_of([f"file://{files[3]}"], contract)) == [f"file://{files[3]}"]
    with pytest.raises(InputError, match="there is nothing at"):
        list(inputs_of([f"file://{tmp_path}/nowhere"], contract))
    with pytest.raises(InputError, match="nonsense://bucket cannot be reached"):
        list(inputs_of(["nonsense://bucket/a.png"], contract))


def test_a_folder_belongs_to_one_run(tmp_path):
    folder = Folder(str(tmp_path / "out"))
    assert folder.begin(RUN, resume=False) is False
    assert folder.listed() is None
    parts = list(parts_of((f"{n}.png" for n in range(70_000)), 64))
    assert folder.keep_list(parts) == folder.listed() == {"parts": len(parts), "rows": 70_000}
    assert len(list((tmp_path / "out" / "_deploykit").glob("inputs-*"))) == 2
    assert list(folder.parts(len(parts), {0, 5})) == [part for part in parts if part.number not in (0, 5)]
    assert not list(folder.parts(len(parts), set(range(len(parts)))))
    assert folder.part(66) == parts[66]
    folder.write("part-00000004.parquet", b"x")
    assert folder.done() == {4}
    assert folder.begin(RUN, resume=True)
    with pytest.raises(InputError, match="add --resume to go on"):
        folder.begin(RUN, resume=False)
    with pytest.raises(InputError, match="belongs to another run: its file is 'ab12', not 'cd34'"):
        folder.begin({**RUN, "file": "cd34"}, resume=True)
    with pytest.raises(InputError, match=r"part-00000004\.parquet is damaged: .*; remove it, then add --resume"):
        folder.counts(4, "parquet")
    (tmp_path / "out" / "_deploykit" / "inputs-000001.json.z").write_bytes(b"?")
    with pytest.raises(InputError, match="the list of inputs in .* is damaged"):
        list(folder.parts(len(parts), set()))


def test_a_folder_with_something_else_stays_as_it_is(tmp_path):
    (tmp_path / "precious.parquet").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"has files of something else \('precious.parquet'\)"):
        Folder(str(tmp_path)).begin(RUN, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.parquet"]
    with pytest.raises(OutputError, match="is no folder"):
        Folder(str(tmp_path / "precious.parquet"))


MASK = np.array([[0, 0, 1], [2, 2, 2]], np.uint8)
ANSWERS = {
    "classification": (Prediction("a", 0.5, 1, (Candidate("a", 0.5, 1), Candidate("b", 0.25, 0))), {"label": "a", "score": 0.5, "index": 1}),
    "multilabel": (MultiLabel(labels=(Candidate("a", 0.9, 0),), scores=np.array([0.9, 0.1])), {"scores": [0.9, 0.1]}),
    "segmentation": (Segmentation(mask=MASK, areas=(Area("x", 2, 0.5),)), {"height": 2, "width": 3, "unseen": 255, "runs": [[0, 2], [1, 1], [2, 3]]}),
    "detection": (Detections(detections=(Detection("a", 0.5, 0, (1.0, 2.0, 3.0, 4.0)),), size=(8, 9)), {"width": 8, "height": 9}),
    "embedding": (Embedding(values=np.array([0.1, 2], np.float32)), {"values": [float(np.float32(0.1)), 2.0], "shape": None}),
    "regression": (Regression(values=np.array([3.0]), quantities=(Quantity("t", 3.0, "K"),)), {"quantities": [{"name": "t", "value": 3.0, "unit": "K"}]}),
    "raw": (Prediction(values=np.array([[1, 2], [3, 4]], np.float32)), {"values": [1.0, 2.0, 3.0, 4.0], "shape": [2, 2]}),
}  # fmt: skip


@pytest.mark.parametrize("task", ANSWERS)
def test_every_task_has_its_columns(task, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'deploykit[ray]'")
    import pyarrow.parquet as pq

    answer, said = ANSWERS[task]
    data = tables.file_of([answer.at("a\n.png"), Prediction(path="b.png", error="broken")], 40, task, "parquet")
    assert data == tables.file_of([answer.at("a\n.png"), Prediction(path="b.png", error="broken")], 40, task, "parquet")
    (tmp_path / "p.parquet").write_bytes(data)
    good, bad = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert (good["row"], good["path"], good["error"]) == (40, r"'a\n.png'", None)
    assert {name: good.get(name) for name in said} == said
    assert {name: value for name, value in bad.items() if value is not None} == {"row": 41, "path": "b.png", "error": "broken"}
    with (tmp_path / "p.parquet").open("rb") as stream:
        assert tables.counts_in(stream, "parquet") == (2, 1)


def test_lines_of_json_are_those_of_predict(tmp_path):
    answer = ANSWERS["classification"][0].at("a.png")
    data = tables.file_of([answer, Prediction(path="b.png", error="broken")], 7, "classification", "jsonl")
    assert [json.loads(line) for line in data.decode().splitlines()] == [
        {"row": 7, **answer.as_dict()},
        {"row": 8, **Prediction(path="b.png", error="broken").as_dict()},
    ]
    (tmp_path / "p.jsonl").write_bytes(data)
    with (tmp_path / "p.jsonl").open("rb") as stream:
        assert tables.counts_in(stream, "jsonl") == (2, 1)


def test_a_part_whose_whole_source_is_gone_is_no_part_of_bad_images(exported, digits, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'deploykit[ray]'")
    source = tmp_path / "source"
    shutil.copytree(digits, source)
    part = next(parts_of(map(str, sorted(source.iterdir())[:10]), 64))
    worker = Worker(exported.read_bytes(), Asked("cpu", 1, 1, 64, 1, "classification", "parquet"))
    assert [answer.ok for answer in worker.answer(part)].count(False) == 1
    for path in source.iterdir():
        path.unlink()
    assert not any(answer.ok for answer in worker.answer(part))  # they were removed one by one: each is its own error
    source.rmdir()
    with pytest.raises(InputError, match=r"is not there any more; bring it back, then add --resume"):
        worker.answer(part)


@pytest.mark.parametrize(
    "error", [InputError("a", "b"), OutputError("full"), Unavailable("late", "a", "b"), DeviceUnavailable("cuda", "none")]
)
def test_an_error_of_a_worker_arrives_as_it_was(error):
    found = told_by(as_text(error))
    assert type(found) is type(error)
    assert (str(found), found.exit_status) == (str(error), error.exit_status)


def nodes(*resources):
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": each} for each in resources])


def test_actors_fill_the_machines():
    cpus = nodes({"CPU": 4.0}, {"CPU": 3.0}, {})
    assert pool_for(cpus, "auto", None, None) == Pool(7, 1, 0)
    assert pool_for(cpus, "auto", 2, None) == Pool(3, 2, 0)
    assert pool_for(cpus, "cpu", None, 5) == Pool(5, 1, 0)
    with pytest.raises(InputError, match="no machine of the cluster has 8 CPUs"):
        pool_for(cpus, "auto", 8, None)
    with pytest.raises(DeviceUnavailable, match="the cluster has no GPU"):
        pool_for(cpus, "cuda", None, None)
    mixed = nodes({"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0})
    assert pool_for(mixed, "auto", None, None) == Pool(3, 8, 1)
    assert pool_for(mixed, "cpu", None, None) == Pool(88, 1, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://x", "is no address of a Ray cluster; give local, auto, ray://HOST"),
        ("ray://", "is no address of a Ray cluster"),
        ("ray://127.0.0.1:1", "no Ray cluster answers at 'ray://127.0.0.1:1': connection refused; check the address"),
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1': connection refused"),
    ],
)
def test_an_address_where_nobody_is(address, said):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'deploykit[ray]'")
    if ray.is_initialized():
        pytest.skip("this process is connected")
    with pytest.raises(InputError, match=said), connected(address):
        pass


@pytest.mark.filterwarnings("ignore")
def test_an_address_that_takes_connections_and_says_nothing(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'deploykit[ray]'")
    monkeypatch.setattr(connecting, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(InputError, match="it takes connections and says nothing"):
        connecting._answering(f"ray://127.0.0.1:{server.getsockname()[1]}")


def test_without_ray_it_is_one_line(exported, digits, tmp_path, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = cli("predict", exported, digits, "--ray", "local", "--out", tmp_path / "out")
    assert "needs the package 'ray', which is not installed; pip install 'deploykit[ray]'" in done.stderr
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()
    assert cli("predict", exported, digits, "--ray", "local").exit_code == 2
    assert "goes with --ray" in cli("predict", exported, digits, "--resume").stderr
