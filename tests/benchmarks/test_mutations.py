"""benchmarks/mutations.py: what it changes, what it leaves alone, and how a changed line is noticed. Nothing is measured here."""

from collections import Counter
from pathlib import Path

import _mutants
import _related_tests
import _trials
import pytest

ROOT = Path(__file__).parents[2]


def variants(source: str) -> set[str]:
    """All texts that a module may become."""
    return {text for change in _mutants.changes(source) if (text := _mutants.mutated(source, change)) is not None}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ok = a < b", ["ok = a <= b", "ok = a >= b"]),
        ("ok = (a) in b", ["ok = (a) not in b"]),
        ("ok = a  is  not b", ["ok = a  is b"]),
        ("c = a + b", ["c = a - b"]),
        ("c = é + b ** d", ["c = é - b ** d", "c = é + b * d"]),
        ("c = a and b", ["c = a or b", "c = a", "c = b"]),
        (
            "c = a or (b if c else d)",
            ["c = a and (b if c else d)", "c = a", "c = (b if c else d)", "c = a or (b if not (c) else d)"],
        ),
        ("c = not a", ["c = a"]),
        ("c = 3", ["c = 4", "c = 2", "c = 30"]),
        ("c = 0", ["c = 1", "c = -1"]),
        ("c = True", ["c = False"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("def f():\n    raise E", ["def f():\n    pass"]),
        ("f(a)", ["pass"]),
        ("for a in b:\n    break", ["for a in b:\n    continue"]),
        ("if a:\n    import b", ["if not (a):\n    import b"]),
        ("c = f(a, b, k=d)", ["c = f(b, a, k=d)", "c = f(a, b)"]),
        ("c = f(\n    k=d,  # why\n)", ["c = f(\n    # why\n)"]),
        ("c = max(a, b)", []),
        ("c = a[b:d]", ["c = a[:d]", "c = a[b:]"]),
        ("def f(a):\n    a += b", ["def f(a):\n    a -= b", "def f(a):\n    pass"]),
        ("def f(a):\n    a = b\n    c = b", ["def f(a):\n    pass\n    c = b"]),
    ],
)
def test_each_operator(source, expected):
    assert variants(source) == set(expected)


@pytest.mark.parametrize(
    "source",
    [
        '"""1 < 2"""',
        "import a",
        "__all__ = [f(1)]",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    c = 1",
        "if __name__ == '__main__':\n    f(1)",
        "def f(a: Literal[1]) -> Literal[True]:\n    ...",
        "c: Literal[1]",
        "@overload\ndef f(a=1): ...",
        "c = f'{1 + 2}'",
        "c = zip(a, a, strict=True)",
        "@dataclass(slots=True)\nclass A(B[1]):\n    pass",
        "kind = int | str",
        "class A:\n    def __init__(self):\n        self.a = b",
    ],
)
def test_what_is_left_alone(source):
    assert variants(source) == set()


@pytest.mark.parametrize("name", ["deploykit/runtime/prediction.py", "deploykit/files.py", "deploykit/profiler/statistics.py"])
def test_every_change_of_a_real_module_compiles_and_changes_one_place(name):
    source = (ROOT / name).read_text()
    raw = source.encode()
    found = _mutants.changes(source)
    assert len(found) > 50
    for change in found[::3]:
        text = _mutants.mutated(source, change)
        assert text is not None, change
        assert text.encode().startswith(raw[: change.start])
        assert text.encode().endswith(raw[change.end :])
        assert change.statement[0] <= change.line <= change.statement[1]


def test_the_draw_takes_every_line_once_and_is_repeatable():
    source = "def f(a):\n    return a + 1 < 2 * 3\n\n\ndef g(a):\n    return not a\n"
    modules = {"a.py": source, "b.py": source}
    places = [mutant.place for mutant in _mutants.draw(modules, 0)]
    assert sorted(places) == ["a.py:2", "a.py:6", "b.py:2", "b.py:6"]
    assert list(_mutants.draw(modules, 0)) == list(_mutants.draw(modules, 0))
    first = Counter(next(_mutants.draw(modules, seed)).place for seed in range(200))
    assert len(first) == 4
    assert min(first.values()) > 25, "a line with many changes is as likely as one with few"


def test_a_line_that_was_edited_moves_no_other_in_the_draw():
    lines = [f"def f{n}(a):\n    return a + {n + 5}\n" for n in range(8)]
    edited = ["# a line more\n", *lines]
    before = [mutant.before for mutant in _mutants.draw({"a.py": "".join(lines)}, 0)]
    assert [mutant.before for mutant in _mutants.draw({"a.py": "".join(edited)}, 0)] == before


def test_a_known_equivalent_is_recognized(tmp_path):
    file = tmp_path / "equivalent.toml"
    file.write_text('[[mutant]]\nfile = "a*.py"\nbefore = "c = a < b"\nnow = "c = a <= b"\nreason = "they never meet"\n')
    known = _mutants.equivalents(file)
    found = {
        mutant.now: _mutants.is_equivalent(mutant, known)
        for seed in range(20)
        for mutant in _mutants.draw({"abc.py": "c = a < b"}, seed)
    }
    assert found == {"c = a <= b": True, "c = a >= b": False}
    file.write_text('[[mutant]]\nfile = "a.py"\n')
    with pytest.raises(SystemExit, match="needs file, before, now, reason"):
        _mutants.equivalents(file)


def test_the_recorded_equivalents_have_their_keys():
    _mutants.equivalents(ROOT / "benchmarks" / "equivalent_mutants.toml")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A module with a test that passes, one that is blind, and one that fails anyway; in a copy, beside an unchanged one."""
    for folder in (tmp_path / "0", tmp_path / "pristine"):
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "toy.py").write_text("def larger(a, b):\n    if a > b:\n        return a\n    return b\n")
        (folder / "test_toy.py").write_text(
            "from toy import larger\n\n"
            "def test_good():\n    assert larger(1, 2) == 2\n\n"
            "def test_blind():\n    larger(1, 2)\n\n"
            "def test_fails_anyway():\n    larger(1, 2)\n    assert False\n"
        )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # each start of pytest would import them
    return _trials.Workplace(tmp_path / "0", tmp_path / "pristine", {})


def test_a_changed_line_is_noticed_or_survives(toy):
    source = (toy.folder / "toy.py").read_text()
    upside_down, boundary = source.replace("a > b", "a <= b"), source.replace("a > b", "a >= b")
    good, blind, anyway = (f"test_toy.py::test_{name}" for name in ("good", "blind", "fails_anyway"))
    assert toy.judge("toy.py", upside_down, {blind: 1.0, good: 1.0}) == _trials.Outcome("noticed", good, 2)
    assert toy.judge("toy.py", upside_down, {anyway: 1.0, blind: 1.0}) == _trials.Outcome("survived", ran=1)
    assert toy.judge("toy.py", boundary, {good: 1.0}) == _trials.Outcome("survived", ran=1)
    assert toy.judge("toy.py", upside_down, {}) == _trials.Outcome("untouched")
    assert toy.judge("toy.py", "import nothing_of_that_name\n", {good: 1.0}) == _trials.Outcome("noticed", "import", 1)
    assert (toy.folder / "toy.py").read_text() == source


def test_what_a_test_started_is_ended_with_it(toy, monkeypatch):
    """A loop without end is a timeout; so is the process that the test left in a session of its own."""
    monkeypatch.setattr(_trials, "STARTUP", 3.0)
    (toy.folder / "test_toy.py").write_text(
        "import subprocess, sys, pathlib, time\n\n"
        "def test_starts():\n"
        "    code = 'import time; time.sleep(600)'\n"
        "    child = subprocess.Popen([sys.executable, '-c', code], start_new_session=True)\n"
        "    pathlib.Path('pid').write_text(str(child.pid))\n"
        "    if pathlib.Path.cwd().name != 'pristine':\n"
        "        time.sleep(600)\n"
    )
    (toy.pristine / "test_toy.py").write_text((toy.folder / "test_toy.py").read_text())
    source = (toy.folder / "toy.py").read_text()
    assert toy.judge("toy.py", source, {"test_toy.py::test_starts": 0.0}).by == "timeout"
    for folder in (toy.folder, toy.pristine):
        status = Path(f"/proc/{(folder / 'pid').read_text()}/stat")
        assert not status.exists() or status.read_text().split()[2] == "Z"


def test_the_tests_of_a_line_come_fastest_first_and_within_their_time():
    source = "LIMIT = 3\n\n\ndef f(a):\n    return a < LIMIT\n"
    seconds = {"tests/a.py::slow": 50.0, "tests/a.py::fast": 0.1, "tests/runtime/a.py::near": 0.4, "tests/a.py::other": 1.0}
    ran = {5: {"tests/a.py::slow", "tests/a.py::fast", "tests/runtime/a.py::near"}}
    file = "deploykit/runtime/toy.py"
    known = _related_tests.Map(seconds, {file: ran})
    by_line = {mutant.change.line: mutant for mutant in _mutants.draw({file: source}, 0)}
    for mutant in by_line.values():  # the limit is read by the function: its tests are the constant's
        found = _related_tests.related(mutant, known, {file: source}, 10.0, 5)
        assert list(found) == ["tests/runtime/a.py::near", "tests/a.py::fast"]
    assert list(_related_tests.related(by_line[5], known, {file: source}, 60.0, 5))[-1] == "tests/a.py::slow"
    assert list(_related_tests.related(by_line[5], known, {file: source}, 60.0, 1)) == ["tests/runtime/a.py::near"]


def test_tests_that_read_the_source_count_for_what_is_imported_and_for_texts_that_are_exchanged():
    source = "LIMIT = 3\n\n\ndef f(a, b):\n    raise InputError(a, b)\n"
    file, reader = "deploykit/runtime/toy.py", "tests/test_messages.py::test_order"
    known = _related_tests.Map({reader: 2.0, "tests/a.py::fast": 0.1}, {file: {5: {"tests/a.py::fast"}}})
    for mutant in _mutants.draw({file: source}, 0):
        swapped = mutant.change.kind == "arguments swapped"
        found = list(_related_tests.related(mutant, known, {file: source}, 60.0, 5))
        assert found == ([reader] if not mutant.change.late or swapped else []) + ["tests/a.py::fast"]
