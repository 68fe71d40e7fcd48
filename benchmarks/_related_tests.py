"""Which tests run a line of the package? Measured with coverage, one file of tests at a time, and kept in a folder.

An entry of the cache holds what one file of tests did: each test's seconds and outcome, and for every line of the package the tests
that ran it, in processes of their own too. It is good for as long as the package, the file and its helpers stay as they are.

What a fixture of a file or a session does counts for the first test that asks for it. A line that runs on import belongs to no test:
there the tests count that run functions which mention the name that the line binds, or else those that run any function of the module.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import _trials
from _mutants import FUNCTIONS, Mutant, line_keys

LONGEST = 1500.0  # seconds for one file of tests
SITE = "import os\nif os.environ.get('COVERAGE_PROCESS_START'):\n    import coverage\n    coverage.process_startup()\n"
RC = """[run]
source = {package}
data_file = {data}/c
parallel = true
context = ${{MUTATION_TEST-}}
patch = _exit
disable_warnings = no-data-collected,module-not-imported,module-not-measured,already-imported,couldnt-parse,trace-changed
"""
# These read the package's text, and so notice lines that they do not run: of classes, and texts that are exchanged.
READERS = ("tests/test_dataclasses.py", "tests/test_errors.py", "tests/test_messages.py")
NEAR = 5.0  # a test in the folder that mirrors the module's counts as so many times faster: it is likelier to notice


@dataclass
class Map:
    """test -> seconds, for those that pass in a copy; file of the package -> line -> tests."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)  # files of tests that could not be run to their end

    def of(self, file: str, lines: Iterable[int]) -> set[str]:
        """The tests that run one of the lines and pass."""
        known = self.lines.get(file, {})
        return set().union(*(known.get(line, set()) for line in lines)) & self.seconds.keys()


def digest(*files: Path) -> str:
    """Of their contents and names."""
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:20]


def digest_of_text(text: str) -> str:
    """Of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def package_digest(folder: Path) -> str:
    """Of all files of the package."""
    return digest(*(p for p in (folder / "deploykit").rglob("*") if p.is_file() and p.suffix != ".pyc"))


def test_digest(folder: Path, test_file: str) -> str:
    """Of a file of tests and the modules that it may use: those of its folder that are no tests, and the shared fixtures."""
    path = folder / test_file
    helpers = {p for p in path.parent.glob("*.py") if not p.name.startswith("test_")} | {folder / "tests" / "conftest.py"}
    return digest(path, *(p for p in helpers if p.exists()))


def measure(
    folder: Path, test_files: list[str], cache: Path, jobs: int, old: bool, tell: Callable[[str], None], skip_slow: bool
) -> Map:
    """The map for all those files of tests; those that the cache knows are not run. `old`: entries of another package are as good."""
    cache.mkdir(parents=True, exist_ok=True)
    package = package_digest(folder)
    keys = {name: line_keys((folder / name).read_text()) for name in modules_of(folder)}

    def entry_of(test_file: str) -> dict[str, object]:
        name = f"{test_file.replace('/', '.')}-{'quick-' if skip_slow else ''}{test_digest(folder, test_file)}"
        file = cache / f"{name}-{package}.json"
        earlier = sorted(cache.glob(f"{name}-*.json"), key=lambda p: p.stat().st_mtime) if old else []
        if not file.exists() and not earlier:
            entry = _measured(folder, test_file, keys, skip_slow)
            partial = file.with_suffix(".part")
            partial.write_text(json.dumps(entry))
            partial.replace(file)
            tell(f"measured {test_file}: {len(entry['tests'])} tests, {entry['seconds']:.0f} s")
        found: dict[str, object] = json.loads((file if file.exists() else earlier[-1]).read_text())
        return found

    with ThreadPoolExecutor(jobs) as pool:
        return _joined(pool.map(entry_of, test_files), keys)


def modules_of(folder: Path) -> list[str]:
    """All modules of the package, relative to the repository."""
    return sorted(path.relative_to(folder).as_posix() for path in (folder / "deploykit").rglob("*.py"))


def _measured(folder: Path, test_file: str, keys: Mapping[str, list[str]], skip_slow: bool) -> dict[str, object]:
    import coverage  # the one thing that is not among the requirements

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-map-") as data:
        (Path(data) / "sitecustomize.py").write_text(SITE)
        rc = Path(data) / "rc"
        rc.write_text(RC.format(package=folder / "deploykit", data=data))
        beside = Path(coverage.__file__).parents[1]
        environment = {
            "COVERAGE_PROCESS_START": str(rc),
            "PYTHONPATH": os.pathsep.join(map(str, (folder, data, _trials.HERE, beside))),
        }
        flags = ("-m", "not slow and not gpu" if skip_slow else "not gpu")
        run = _trials.run_tests(folder, [test_file], LONGEST, environment, flags)
        joined = coverage.CoverageData(basename=str(Path(data) / "joined"))
        for part in Path(data).glob("c.*"):
            try:
                one = coverage.CoverageData(basename=str(part))
                one.read()
                joined.update(one)
            except coverage.CoverageException:  # of a process that was killed while it wrote
                continue
        order = {test: index for index, test in enumerate(run.outcomes)}
        lines: dict[str, dict[str, list[int]]] = {}
        for name, known in keys.items():
            by_line = joined.contexts_by_lineno(str(folder / name))
            found = {
                known[n - 1]: sorted({order[t] for t in _tests(contexts, run)})
                for n, contexts in by_line.items()
                if n <= len(known)
            }
            lines[name] = {key: tests for key, tests in found.items() if tests}
    tests = dict(run.outcomes)
    failed = [test for test, (_, outcome) in tests.items() if outcome == "failed"]
    for test in failed:  # some do because they are watched
        alone = _trials.run_tests(folder, [test], _trials.STARTUP + 5 * tests[test][0])
        tests |= alone.outcomes
    return {"file": test_file, "tests": tests, "lines": lines, "seconds": time.monotonic() - began, "status": run.status}


def _tests(contexts: Iterable[str], run: _trials.Run) -> set[str]:
    """A process that a test started names it twice: as its own context, and as what it was told."""
    return {test for context in contexts for test in context.split("|") if test in run.outcomes}


def _joined(entries: Iterable[dict[str, object]], keys: Mapping[str, list[str]]) -> Map:
    found = Map()
    numbers = {name: {key: number for number, key in enumerate(known, 1)} for name, known in keys.items()}
    for entry in entries:
        if entry["status"] not in (0, 1, 5):  # all passed, some failed, none is left after `--skip-slow`
            found.incomplete.append(str(entry["file"]))
        order = list(entry["tests"])  # type: ignore[call-overload]
        for test, (seconds, outcome) in entry["tests"].items():  # type: ignore[attr-defined]
            if outcome == "passed":
                found.seconds[test] = seconds
            elif outcome == "failed":
                found.failing.append(test)
        for name, by_key in entry["lines"].items():  # type: ignore[attr-defined]
            for key, tests in by_key.items():
                if key in numbers.get(name, {}):
                    found.lines.setdefault(name, {}).setdefault(numbers[name][key], set()).update(order[t] for t in tests)
    return found


def related(mutant: Mutant, known: Map, modules: Mapping[str, str], seconds: float, most: int) -> dict[str, float]:
    """The tests that run the changed line, fastest first, while their time adds up to `seconds`; at least one, at most `most`."""
    change = mutant.change
    if change.late:
        tests = known.of(mutant.file, range(change.statement[0], change.statement[1] + 1))
    else:
        tests = set()
        for file, source in modules.items():
            tests |= known.of(file, _lines_that_mention(source, change.names))
        tests = tests or known.of(mutant.file, _lines_of_functions(modules[mutant.file]))
    mirror = "tests/" + "/".join(mutant.file.split("/")[1:-1])
    if (
        not change.late and mirror != "tests/"
    ):  # what a module says when it is imported is often read as data, and no line of it is run
        tests = {*tests, *(test for test in known.seconds if test.startswith(mirror + "/"))}
    read = not change.late or change.kind == "arguments swapped"
    readers = {test: known.seconds[test] for test in sorted(known.seconds) if read and test.startswith(READERS)}
    tests -= readers.keys()
    chosen: dict[str, float] = {}
    for test in sorted(tests, key=lambda t: (known.seconds[t] / (NEAR if t.startswith(mirror + "/") else 1), t)):
        if chosen and (len(chosen) == most or sum(chosen.values()) + known.seconds[test] > seconds):
            continue
        chosen[test] = known.seconds[test]
    return readers | chosen


def _bodies(source: str) -> list[ast.stmt]:
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTIONS)]
    return [statement for function in functions for statement in function.body]


def _lines_of_functions(source: str) -> set[int]:
    return {line for body in _bodies(source) for line in range(body.lineno, (body.end_lineno or body.lineno) + 1)}


def _lines_that_mention(source: str, names: tuple[str, ...]) -> set[int]:
    """Lines of all functions that are called so, or have the name in their body."""
    found: set[int] = set()
    if not any(name in source for name in names):
        return found
    for function in (node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTIONS)):
        said = {function.name} | {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
        said |= {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)}
        if said & set(names):
            found.update(range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1))
    return found
