from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deploykit
from deploykit.errors import ContractError, DeviceUnavailable, InputError
from deploykit.runtime import Predictor, expand, predict


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.PNG", "sub/c.jpg", "sub/.hidden.png", ".dark/d.png", "x[1].png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        level = sum(name.encode()) % 256
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(path, "JPEG" if name.endswith("jpg") else "PNG")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(paths: object) -> list[str]:
    return [path.replace(os.sep, "/") for path in expand(paths)]  # type: ignore[arg-type]


def test_folders_files_and_patterns(folder: Path) -> None:
    in_folder = ["images/a.PNG", "images/b.png", "images/x[1].png", "images/sub/c.jpg"]
    assert names("images") == in_folder
    assert names(["images/b.png", Path("images")]) == ["images/b.png", *in_folder]
    assert names("images/*.png") == ["images/b.png", "images/x[1].png"]
    assert names("images/**/*.jpg") == ["images/sub/c.jpg"]
    assert names("images/x[1].png") == ["images/x[1].png"]
    assert names("images/notes.txt") == ["images/notes.txt"]
    assert names(["none.png", "no*.png", "empty"]) == ["none.png", "no*.png", "empty"]
    assert names([]) == []


def test_a_folder_that_contains_itself_ends(folder: Path) -> None:
    (folder / "images" / "loop").symlink_to(folder / "images", target_is_directory=True)
    assert len(names("images")) == 4


def test_one_answer_each_in_the_order_given(folder: Path, digits_file: Path) -> None:
    seen = predict(digits_file, ["images/b.png", "none.png", "empty", "images/notes.txt", "images/*.png"], device="cpu", top=3)
    assert [result.path for result in seen] == [
        "images/b.png",
        "none.png",
        "empty",
        "images/notes.txt",
        "images/b.png",
        "images/x[1].png",
    ]
    assert [result.ok for result in seen] == [True, False, False, False, True, True]
    assert seen[0] == seen[4]
    assert "there is no file none.png" in (seen[1].error or "")
    assert "empty is a folder" in (seen[2].error or "")
    document = seen[0].as_dict()
    assert list(document) == ["path", "label", "score", "top", "error", "values"]
    assert [list(candidate) for candidate in document["top"]] == [["label", "score"]] * 3
    assert json.loads(json.dumps([r.as_dict() for r in seen], allow_nan=False))[1]["label"] is None
    with Predictor(digits_file, device="cpu") as model:
        assert predict(model, "images/b.png", top=3) == [seen[0]]
        assert model.predict("images/b.png").ok  # an open predictor stays open


def test_arrays(folder: Path, regression_file: Path) -> None:
    np.save("empty/one.npy", np.array([1, 2, 3], np.float32))
    shutil.copy("images/b.png", "empty/b.png")
    assert [r.values.tolist() for r in predict(regression_file, "empty", device="cpu") if r.values is not None] == [[2, 4]]


def test_the_public_name_is_the_function() -> None:
    assert deploykit.predict is predict
    assert deploykit.Predictor is Predictor


def test_progress_is_told(folder: Path, digits_file: Path) -> None:
    told: list[object] = []

    class Listener:
        def start(self, task: str, total: int | None = None) -> None:
            told.append((task, total))

        def advance(self, steps: int = 1, note: str = "") -> None:
            told.append(steps)

        def say(self, line: str) -> None:
            told.append(line)

    predict(digits_file, "images", device="cpu", progress=Listener())
    assert told == [("loading", None), ("predicting", 4), 1, 1, 1, 1]


def test_nothing_to_predict(digits_file: Path, save) -> None:
    from small_models import linear

    with pytest.raises(InputError, match="no paths were given"):
        predict(digits_file, [], device="cpu")
    with pytest.raises(ContractError, match="has no contract"):
        predict(save(linear()), ["x.png"], device="cpu")


def test_names_that_are_no_text(folder: Path, digits_file: Path) -> None:
    name = b"\xff\xfe.png"
    try:
        shutil.copy(b"images/b.png", name)
    except OSError:
        pytest.skip("this file system takes only text as names")
    (result,) = predict(digits_file, os.fsdecode(name), device="cpu")
    assert result.ok
    json.dumps(result.as_dict(), ensure_ascii=False).encode()


def test_labels_from_a_stranger_cannot_write_to_the_terminal() -> None:
    from deploykit import reports
    from deploykit.runtime import Candidate, Prediction
    from deploykit.views.predictions import report

    nasty = "\x1b[2J\x1b]0;owned\x07\r"
    top = (Candidate(nasty, 0.9, 0), Candidate(nasty, 0.1, 1))
    answer = Prediction(nasty, 0.9, 0, top, path=f"{nasty}.png", error=None)
    for name in ("table", "json"):
        text = reports.render(report([answer]), name)
        assert "owned" in text
        assert not {"\x1b", "\x07", "\r"} & set(text)


def test_the_commands(folder: Path, digits_file: Path, run_command) -> None:
    """Exit statuses, clean stdout, one line on stderr."""
    good = run_command("predict", digits_file, "images", "--format", "json", "--top", "2", cwd=folder)
    assert good.returncode == 0, good.stderr
    assert good.stderr == ""
    documents = json.loads(good.stdout)
    assert [d["path"] for d in documents] == ["images/a.PNG", "images/b.png", "images/x[1].png", "images/sub/c.jpg"]
    assert all(len(d["top"]) == 2 and d["error"] is None for d in documents)

    part = run_command("predict", digits_file, "images/b.png", "none.png", "--format", "json", cwd=folder)
    assert part.returncode == 2
    assert [d["error"] is None for d in json.loads(part.stdout)] == [True, False]
    assert part.stderr == "error: 1 of 2 inputs got no answer; their errors are listed\n"

    table = run_command("predict", digits_file, "images/b.png", "none.png", cwd=folder)
    assert "there is no file none.png" in table.stdout

    for arguments in (
        ["none.onnx", "images/b.png"],
        [digits_file],
        [digits_file, "images", "--top", "0"],
        [digits_file, "images", "--device", "tpu"],
    ):
        bad = run_command("predict", *arguments, cwd=folder)
        assert bad.returncode == 2
        assert bad.stdout == ""
        assert bad.stderr.startswith("error: ")
        assert bad.stderr.count("\n") == 1


def test_the_command_on_a_machine_without_cuda(folder: Path, digits_file: Path, run_command) -> None:
    try:
        Predictor(digits_file, device="cuda")
        pytest.skip("this machine has CUDA")
    except DeviceUnavailable:
        pass
    refused = run_command("predict", digits_file, "images", "--device", "cuda", cwd=folder)
    assert refused.returncode == 3
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: device 'cuda' was asked for, but CUDA cannot be used: ")
    assert refused.stderr.count("\n") == 1
    fallen = run_command("predict", digits_file, "images", "--device", "auto", cwd=folder)
    assert fallen.returncode == 0
    assert fallen.stderr.count("CUDA is not used") == 1
    assert fallen.stderr.count("\n") == 1
    with Predictor(digits_file) as model:
        lost = model.cuda_lost
    by_default = run_command("predict", digits_file, "images", cwd=folder)
    assert by_default.returncode == 0
    assert by_default.stderr.count("CUDA is not used") == lost  # that there is no GPU is no news, unless one was asked for
    quiet = run_command("predict", digits_file, "images", "--device", "auto", "--quiet", cwd=folder)
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_of_several_labels_the_table_shows_those_that_were_given_and_then_the_others():
    from deploykit.runtime import Candidate, MultiLabel
    from deploykit.views.predictions import report

    best, next_best = Candidate("busy", 0.4, 0), Candidate("even", 0.3, 1)
    found = [MultiLabel(top=(best, next_best)), MultiLabel(top=(best, next_best), labels=(best,))]
    (table,) = report(found).tables
    assert [column.key for column in table.columns] == ["answer", "others"]
    assert [(row["answer"], row["others"]) for row in table.rows] == [
        ("nothing", "busy 0.4000, even 0.3000"),
        ("busy 0.4000", "even 0.3000"),
    ]
