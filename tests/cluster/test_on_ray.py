"""A cluster answers as one process does, bit for bit, each row once, whatever is lost on the way; all on one shared start of Ray."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from deploykit.cluster import predict
from deploykit.errors import InputError, Unavailable
from deploykit.runtime import Predictor

# By a thread: nothing that a signal raises gets through a call of Ray that waits.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300, method="thread")]


def rows_in(out):
    import pyarrow.parquet as pq

    return pq.read_table(out).sort_by("row").to_pylist()


def require_equal(out, file, sources, batch_size=64):
    """Every row once, in all its columns what one process says to the same batches."""
    rows = rows_in(out)
    with Predictor(file, "cpu") as model:
        alone = list(model.predict_many(sources, batch_size))
    assert [row["row"] for row in rows] == list(range(len(alone)))
    for row, answer in zip(rows, alone, strict=True):
        assert (row["path"], row["error"]) == (answer.path, answer.error)
        assert (row["label"], row["score"], row["index"]) == (answer.label, answer.score, answer.index)
        assert [each["score"] for each in row["top"] or ()] == [each.score for each in answer.top]


@pytest.fixture
def slow(monkeypatch):
    """Workers that take a moment for each part, so that something can happen meanwhile."""
    from deploykit.cluster import actors

    base = actors.Worker

    class Slow(base):
        def ask(self, packed):
            time.sleep(0.2)
            return super().ask(packed)

    monkeypatch.setattr(actors, "Worker", Slow)


def wait_for(folder, count, seconds=90):
    deadline = time.monotonic() + seconds
    while len(list(folder.glob("part-*"))) < count:
        assert time.monotonic() < deadline, f"{folder} has not {count} parts"
        time.sleep(0.05)


def test_the_answers_are_those_of_one_process_and_a_second_run_asks_nothing(machines, exported, digits, tmp_path):
    out = tmp_path / "out"
    found = predict(exported, digits, out=out, ray=machines.address)
    assert (found.rows, found.errors, found.resumed, found.lost) == (300, 1, 0, 0)
    require_equal(out, exported, str(digits))
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    again = predict(exported, digits, out=out, ray=machines.address, resume=True)
    assert (again.rows, again.errors, again.resumed, again.rows_per_second) == (300, 1, 300, None)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    with pytest.raises(InputError, match="has a run of these inputs already; add --resume"):
        predict(exported, digits, out=out, ray=machines.address)
    with pytest.raises(InputError, match="belongs to another run: its top is 1, not 2"):
        predict(exported, digits, out=out, ray=machines.address, top=2, resume=True)


def test_parquet_stores_and_lists_in_one_run(machines, exported, digits, tmp_path, cli):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(digits.iterdir())
    data = [file.read_bytes() for file in files[:50]]
    pq.write_table(pa.table({"number": range(50), "image": [*data[:49], None]}), tmp_path / "images.parquet", row_group_size=20)
    listed = tmp_path / "some.txt"
    listed.write_text("".join(f"{file}\n" for file in files[100:110]))
    store = tmp_path / "store"
    store.mkdir()
    for file in files[200:203]:
        shutil.copy(file, store)
    out = tmp_path / "out"
    sources = [tmp_path / "images.parquet", f"file://{store}", listed]
    done = cli("predict", exported, *sources, "--ray", "auto", "--out", f"file://{out}", "--format", "json")
    assert done.exit_code == 2, done.output
    assert "2 of 63 inputs got no answer" in done.stderr
    document = json.loads(done.stdout)
    assert (document["rows"], document["errors"]) == (63, 2)
    rows = rows_in(out)
    assert [row["path"] for row in rows[:50]] == [f"{tmp_path / 'images.parquet'}#{row}" for row in range(50)]
    assert [row["path"] for row in rows[50:53]] == [f"file://{store / file.name}" for file in files[200:203]]
    assert [row["path"] for row in rows[53:]] == list(map(str, files[100:110]))
    with Predictor(exported, "cpu") as model:
        alone = list(model.predict_many([*data[:49], *map(str, files[200:203]), *map(str, files[100:110])]))
    assert [row["label"] for row in rows if row["row"] != 49] == [answer.label for answer in alone]
    assert rows[7]["error"]
    assert (
        rows[49]["error"]
        == "an image cannot be a NoneType; give a path, an open file, bytes, a Pillow image or a uint8 array (height, width[, 3])"
    )
    assert sorted(path.name for path in out.iterdir())[0] == "_deploykit"


def test_a_driver_that_is_killed_is_resumed_and_asks_only_what_is_missing(machines, exported, digits, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(digits, source)
    script = (
        "import sys, time\n"
        "from deploykit.cluster import actors, predict\n"
        "def slowly(base):\n"
        "    class Slow(base):\n"
        "        def ask(self, packed):\n"
        "            time.sleep(0.3)\n"
        "            return super().ask(packed)\n"
        "    return Slow\n"
        "actors.Worker = slowly(actors.Worker)\n"
        "predict(sys.argv[1], sys.argv[2], out=sys.argv[3], ray=sys.argv[4], batch_size=8)\n"
    )
    command = [sys.executable, "-c", script, exported, source, out, machines.address]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            wait_for(out, 5)
        finally:
            driver.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 5 <= len(before) < 38
    asked = {"out": out, "ray": machines.address, "batch_size": 8, "resume": True}

    source.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"the source '{source}' is not there any more; bring it back, then add --resume"):
        predict(exported, source, **asked, actors=1)
    assert {path: path.stat().st_mtime_ns for path in out.glob("part-*")} == before
    (tmp_path / "elsewhere").rename(source)

    (source / "zz-came-later.png").write_bytes(b"not part of this run")
    found = predict(exported, source, **asked)
    (source / "zz-came-later.png").unlink()
    assert (found.rows, found.resumed) == (300, 8 * len(before))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    require_equal(out, exported, str(source), 8)


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ({"deploykit": "0.0.1"}, r"deploykit is 0\.0\.1 here and \S+ on the worker \S+: the answers could differ"),
        ({"no_such_package": "1"}, r"the worker \S+ has no no_such_package; install there what is installed here"),
    ],
)
def test_workers_with_other_versions_are_refused(machines, exported, digits, tmp_path, monkeypatch, here, said):
    from deploykit.cluster import connecting

    monkeypatch.setattr(connecting, "versions", lambda: here)
    with pytest.raises(InputError, match=said):
        predict(exported, digits, out=tmp_path / "out", ray=machines.address)


def test_a_machine_that_is_lost_costs_only_what_it_was_at(machines, exported, digits, tmp_path, slow):
    """The last of the tests that need three machines."""
    out = tmp_path / "out"

    class Losing:
        lost = False
        said = ()

        def start(self, task, total=None): ...

        def say(self, line):
            self.said = (*self.said, line)

        def advance(self, steps=1, note=""):
            if steps and not self.lost and list(out.glob("part-*")):
                self.lost = True
                with contextlib.redirect_stdout(io.StringIO()):
                    machines.remove_node(list(machines.worker_nodes)[-1], allow_graceful=False)

    progress = Losing()
    found = predict(exported, digits, out=out, ray=machines.address, batch_size=8, progress=progress)
    assert progress.lost
    assert (found.rows, found.errors) == (300, 1)
    if found.lost:  # the actor of that machine was at work, as nearly always
        assert "what is missing is asked again" in progress.said[0]
    require_equal(out, exported, str(digits), 8)


def test_parts_on_which_workers_die_or_fail_are_left_and_all_others_answered(machines, exported, digits, tmp_path, monkeypatch):
    from deploykit.cluster import actors

    base = actors.Worker

    class Failing(base):
        def answer(self, part):
            if part.number == 1:
                os._exit(1)
            if part.number == 3:
                raise RuntimeError("a fault of its own")
            return super().answer(part)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(actors, "Worker", Failing)
        with pytest.raises(
            Unavailable, match=r"^workers end with the same inputs each time \(.+\); 2 parts missing; what is answered stays"
        ):
            predict(exported, digits, out=out, ray=machines.address)
    assert len(list(out.glob("part-*"))) == 3
    found = predict(exported, digits, out=out, ray=machines.address, resume=True)
    assert (found.rows, found.lost) == (300, 0)
    require_equal(out, exported, str(digits))


def test_workers_that_never_come_end_the_run(machines, exported, digits, tmp_path, monkeypatch):
    from deploykit.cluster import actors

    base = actors.Worker

    class Stillborn(base):
        def __init__(self, *given):
            raise RuntimeError("no memory for it")

    monkeypatch.setattr(actors, "Worker", Stillborn)
    with pytest.raises(Unavailable, match=r"workers are lost again and again \(.+\); 5 parts missing"):
        predict(exported, digits, out=tmp_path / "out", ray=machines.address, actors=1)
