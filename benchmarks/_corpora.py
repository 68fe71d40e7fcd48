"""What the corpora share: one row per subject, each made in a process of its own, counted by outcome and by kind of cause.

A row is a dict with ``name``, ``group`` and ``outcome``; a subject whose process dies or takes too long has its row too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _results import keep

from deploykit import reports
from deploykit.reports import Column, Report, Table

Row = dict[str, Any]
Ask = Callable[[str], Row]
MEMORY = 12 << 30  # bytes that one subject may take
PRELOADED = ["torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "deploykit.exporter", "deploykit.verdict"]
CAUSES = (
    Column("outcome", "outcome"),
    Column("cause", "cause, with numbers and names left out"),
    Column("count", "times", "count"),
    Column("example", "such as"),
)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every corpus has."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--only", default="", metavar="REGEX", help="subjects whose name holds this; writes no results")
    made.add_argument("--limit", type=int, metavar="N", help="the first N subjects; writes no results")
    made.add_argument("--resume", type=Path, metavar="FILE", help="JSON lines: rows are added there, and those in it are kept")
    made.add_argument("--seconds", type=float, default=600, help="for one subject")
    return made


def rows_of(groups: Mapping[str, str], ask: Ask, asked: argparse.Namespace) -> list[Row]:
    """`ask(name)` for every name in `groups` (name -> its group) that the options leave; what is new goes to --resume at once."""
    wanted = [name for name in groups if re.search(asked.only, name)][: asked.limit]
    known: dict[str, Row] = {}
    if asked.resume and asked.resume.exists():
        known = {row["name"]: row for row in map(json.loads, asked.resume.read_text().splitlines())}
    for place, name in enumerate(wanted, 1):
        if name in known:
            continue
        known[name] = {"name": name, "group": groups[name], **_apart(name, ask, asked.seconds)}
        print(f"{place}/{len(wanted)} {_line(known[name])}", file=sys.stderr, flush=True)
        if asked.resume:
            with asked.resume.open("a") as file:
                file.write(json.dumps(known[name]) + "\n")
    return [{key: placeless(value) for key, value in known[name].items()} for name in wanted]


def placeless(value: Any) -> Any:
    """A text without the folders of the machine that it was made on; other values as they are."""
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", value) if isinstance(value, str) else value


def finish(name: str, report: Report, asked: argparse.Namespace) -> int:
    """Print the report; keep it if the whole corpus was asked. The exit status: 1 where the report is bad news."""
    if asked.only or asked.limit is not None:
        print(reports.render(report, "table"))
    else:
        keep(name, report)
    return 0 if report.good else 1


def causes(rows: Iterable[Row], usual: Sequence[str]) -> Table:
    """How often each kind of cause came among rows that have another outcome than the `usual`: the work list."""
    counted: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for row in rows:
        if row["outcome"] not in usual:
            key = (row["outcome"], _kind(row.get("reason", "")))
            counted[key] += 1
            example.setdefault(key, row["name"])
    found = [
        {"outcome": outcome, "cause": cause, "count": count, "example": example[outcome, cause]}
        for (outcome, cause), count in sorted(counted.items(), key=lambda item: (item[0][0], -item[1]))
    ]
    return Table("What is not as it should be, by cause", CAUSES, found)


def _kind(reason: str) -> str:
    """A reason without what differs from subject to subject: quoted text, paths of modules and files, numbers."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "'..'", reason)
    text = re.sub(r"\S*onnxruntime_src.*\) (?=\w)", "", text)  # the place in onnxruntime's source
    text = re.sub(r"(layers|weights|input): \S+", r"\1: NAME", text)
    text = re.sub(r"\S*/\S+", "FILE", text)
    text = re.sub(r"\b\w+(\.\w+){2,}|\b\w+\.\d+\b|\b\w+(_\w+)*_\d+\b", "NAME", text)
    return re.sub(r"-?\d[\d.,x]*(e[-+]?\d+)?", "N", text)[:200]


def _line(row: Row) -> str:
    return f"{row['name']:44} {row['outcome']:24} {row['wall']:6.1f} s  {row.get('reason', '')[:120]}"


def _apart(name: str, ask: Ask, seconds: float) -> Row:
    """The row that a process of its own makes; a crash or a timeout is a row as well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "row.json"
        process = context.Process(target=_work, args=(name, ask, folder, answer))
        process.start()
        try:
            process.join(seconds)
        finally:  # also at Ctrl-C
            late = process.is_alive()
            if late:
                with contextlib.suppress(ProcessLookupError):  # it may not have made its group yet
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()
                process.join()
        if answer.exists():
            row: Row = json.loads(answer.read_text())
        elif late:
            row = {"outcome": "timeout", "reason": f"took more than {seconds:g} s"}
        else:
            row = {"outcome": "crash", "reason": f"the process ended with status {process.exitcode}"}
    return {**row, "wall": round(time.perf_counter() - began, 1)}


def _work(name: str, ask: Ask, folder: str, answer: Path) -> None:
    os.setsid()  # a group of its own, which ends with it
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.environ.update(HF_HUB_OFFLINE="1", TMPDIR=folder)
    tempfile.tempdir = folder
    try:
        row = ask(name)
    except Exception as error:  # the benchmark's own fault, or a library's that nobody expected
        row = {"outcome": "error", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    partial = answer.with_suffix(".part")
    partial.write_text(json.dumps(row))
    partial.rename(answer)
