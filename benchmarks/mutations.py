"""How much do the tests notice? Lines of the package are changed at random, one at a time, and the tests that run them are run.

    pip install --target FOLDER 'coverage>=7.10'          # or into the environment, and then without PYTHONPATH
    PYTHONPATH=.:FOLDER python benchmarks/mutations.py --measure-only      # which test runs which line: once per package
    PYTHONPATH=.:FOLDER python benchmarks/mutations.py --mutants 200 --seed 0

Exit status 1 if less than 85 % is noticed. Every line that can be changed is as likely as any other (`_mutants.py` says what is done to
it), each mutant gets the tests that run its line (`_related_tests.py`), fastest first, up to the first that fails. A timeout, a
crash and an import that fails are noticed; a line that no test runs is not. What is in equivalent_mutants.toml is left out. A test
that fails without the change as well notices nothing.

It works on copies of the tracked files, in the temporary folder. Results are appended to a file in `--cache` and taken from there
when the command is run again: a noticed one while its module stays as it is, a survivor while its tests do, too.

Let the machine do nothing else meanwhile: what runs out of time is noticed, if the same tests are in time without the change.

Why no ready-made tool: mutmut 3 chooses tests by the functions that were called in its own process (many tests here start commands),
and leaves constants of modules and decorated functions (properties, commands) alone; cosmic-ray runs one and the same command, nine
minutes here, for each mutant, and knows neither dropped statements nor arguments. Neither draws lines at random.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import _related_tests
import _trials
from _mutants import Mutant, draw, equivalents, is_equivalent, mutated
from _related_tests import Map, digest
from _results import keep
from _trials import Outcome, Workplace

from deploykit import reports
from deploykit.reports import Column, Report, Table

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
LEAST = 0.85
COLUMNS = (
    Column("place", "place"),
    Column("kind", "kind", minor=True),
    Column("before", "was"),
    Column("now", "became"),
    Column("outcome", ""),
)


@dataclass(frozen=True)
class Chosen:
    """A mutant and what decides about it: test -> seconds, and a digest of the module and of those tests."""

    mutant: Mutant
    tests: dict[str, float]
    module: str
    tried: str


class Results:
    """Outcomes by mutant, in a file of JSON lines that only grows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lock = threading.Lock()
        lines = file.read_text().splitlines() if file.exists() else []
        self.known: dict[str, dict[str, Any]] = {}
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # half a line, of a run that was killed
                continue
            self.known[record["key"]] = record

    def of(self, chosen: Chosen) -> Outcome | None:
        """The outcome, if it still holds."""
        record = self.known.get(chosen.mutant.key)
        if record is None or record["module"] != chosen.module or record["outcome"] == "broken":
            return None
        if record["outcome"] != "noticed" and record["tried"] != chosen.tried:
            return None
        return Outcome(record["outcome"], record["by"], record["ran"])

    def add(self, chosen: Chosen, found: Outcome) -> None:
        """On its own line, in the file when this returns."""
        record = {"key": chosen.mutant.key, "module": chosen.module, "tried": chosen.tried, **vars(found)}
        with self.lock, self.file.open("a") as file:
            file.write("\n" * self._is_torn() + json.dumps(record) + "\n")

    def _is_torn(self) -> bool:
        return self.file.stat().st_size > 0 and not self.file.read_bytes().endswith(b"\n")


def main() -> int:
    """Copy, measure, draw, try, count."""
    options = parsed()
    if importlib.util.find_spec("coverage") is None:
        sys.exit("coverage is not installed; see the first lines of benchmarks/mutations.py")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        try:
            return tested(Path(folder), options)
        finally:
            _trials.end_all()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests per mutant")
    parser.add_argument("--tests", type=int, default=200, help="per mutant at most")
    parser.add_argument("--only", action="append", help="modules below deploykit/ (a glob); prints, and keeps no results")
    parser.add_argument("--suite", nargs="+", default=[], metavar="FILE", help="just these files of tests, for a look; likewise")
    parser.add_argument("--skip-slow", action="store_true", help="leave out the tests that are marked slow")
    parser.add_argument("--measure-only", action="store_true", help="just find out which test runs which line")
    parser.add_argument(
        "--old-map", action="store_true", help="what an earlier package's tests ran is good enough; lines are found by text"
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "deploykit-mutations")
    return parser.parse_args()


def tell(line: str) -> None:
    """One line of progress, for somebody who looks on."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def tested(folder: Path, options: argparse.Namespace) -> int:
    """All of it, in copies below the folder."""
    pristine = _trials.copy_tracked(ROOT, folder / "pristine")
    suite = options.suite or sorted(path.relative_to(pristine).as_posix() for path in (pristine / "tests").rglob("test_*.py"))
    began = time.monotonic()
    known = _related_tests.measure(
        pristine, suite, options.cache / "map", options.jobs, options.old_map, tell, options.skip_slow
    )  # fmt: skip
    print(f"{len(known.seconds)} tests pass in a copy, measured in {time.monotonic() - began:.0f} s")
    for title, names in (("fails in a copy, left out", known.failing), ("did not come to its end", known.incomplete)):
        print("".join(f"  {title}: {name}\n" for name in names), end="")
    if options.measure_only:
        return 0
    modules = {name: (pristine / name).read_text() for name in _related_tests.modules_of(pristine)}
    tried, equivalent = drawn(modules, options)
    chosen = [choose(mutant, known, modules, pristine, options) for mutant in tried]
    rows = judged(chosen, modules, folder, pristine, options)
    report = told(rows, len(equivalent), options)
    if options.only or options.suite:
        print(reports.render(report, "table"))
    else:
        keep("mutations", report)
    return 0 if report.good else 1


def drawn(modules: dict[str, str], options: argparse.Namespace) -> tuple[list[Mutant], list[Mutant]]:
    """So many as asked for, and those on the way that are known to be equivalent."""
    wanted = options.only or ["*"]
    files = {name: text for name, text in modules.items() if any(fnmatch(name, f"deploykit/{glob}") for glob in wanted)}
    known = equivalents(EQUIVALENT)
    found: tuple[list[Mutant], list[Mutant]] = [], []
    for mutant in draw(files, options.seed):
        if len(found[0]) == options.mutants:
            break
        found[is_equivalent(mutant, known)].append(mutant)
    return found


def choose(mutant: Mutant, known: Map, modules: dict[str, str], pristine: Path, options: argparse.Namespace) -> Chosen:
    """The tests for a mutant, and the digests that tell whether an earlier outcome holds."""
    tests = _related_tests.related(mutant, known, modules, options.seconds, options.tests)
    files = {test.partition("::")[0] for test in tests}
    tried = sorted([*tests, *(_related_tests.test_digest(pristine, file) for file in files)])
    return Chosen(mutant, tests, digest(pristine / mutant.file), _related_tests.digest_of_text("\n".join(tried)))


def judged(
    chosen: list[Chosen], modules: dict[str, str], folder: Path, pristine: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per mutant, in the order of the draw."""
    results = Results(options.cache / "results.jsonl")
    places: queue.SimpleQueue[Workplace] = queue.SimpleQueue()
    unchanged: dict[str, bool] = {}
    for number in range(options.jobs):
        places.put(Workplace(_trials.copy_tracked(ROOT, folder / str(number)), pristine, unchanged))

    def judge(one: Chosen) -> Outcome:
        found = results.of(one)
        if found is None:
            place = places.get()
            try:
                text = mutated(modules[one.mutant.file], one.mutant.change)
                found = place.judge(one.mutant.file, text or "", one.tests)
            finally:
                places.put(place)
            results.add(one, found)
        return found

    rows = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, (one, found) in enumerate(zip(chosen, _stoppable(pool, judge, chosen), strict=True), 1):
            tell(f"{number} of {len(chosen)}: {one.mutant.place} {found.outcome} {found.by}")
            change = one.mutant.change
            rows.append(
                {"place": one.mutant.place, "kind": change.kind, "before": one.mutant.before, "now": one.mutant.now, **vars(found)}
            )
    return rows


def _stoppable(pool: ThreadPoolExecutor, judge: Any, chosen: list[Chosen]) -> Iterator[Outcome]:
    """`pool.map`, which ends what runs when the command is to stop, instead of waiting for all that is still to be done."""
    futures = [pool.submit(judge, one) for one in chosen]
    try:
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _trials.end_all()


def told(rows: list[dict[str, Any]], equivalent: int, options: argparse.Namespace) -> Report:
    """Counts, share, survivors."""
    counts = {name: sum(row["outcome"] == name for row in rows) for name in ("noticed", "survived", "untouched", "broken")}
    whole = len(rows) - counts["broken"]
    share = counts["noticed"] / whole if whole else 0.0
    survivors = sorted((row for row in rows if row["outcome"] != "noticed"), key=lambda row: row["place"])
    facts = [("mutants", f"{len(rows)}, seed {options.seed}")]
    facts += [(name, str(count)) for name, count in counts.items()]
    facts += [("left out, equivalent", str(equivalent)), ("share noticed", f"{share:.1%}")]
    document = {"seed": options.seed, "counts": counts, "equivalent": equivalent, "share": share, "survivors": survivors}
    headline = f"{counts['noticed']} of {whole} changed lines are noticed ({share:.0%}), {equivalent} equivalent ones left out"
    tables = [Table("not noticed", COLUMNS, survivors)] if survivors else []
    return Report("do the tests notice?", document, headline, share >= LEAST, facts, tables)


if __name__ == "__main__":
    sys.exit(main())
