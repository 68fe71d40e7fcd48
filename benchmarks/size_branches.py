"""How often is a file that is wrong at some size called the same, and a right one refused? Networks that branch on sizes, at random.

    python benchmarks/size_branches.py --networks 500
    python benchmarks/size_branches.py --networks 500 --resume branches.jsonl    # an hour or two; stop it and go on at will

Each network is exported with open batch, height and width at a random size. Then the file is run in plain onnxruntime at sizes that the
verdict did not choose, beside PyTorch: that says whether it is right. Expected before the run: no wrong file called the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from _results import keep
from _size_networks import network

from deploykit.errors import DeploykitError
from deploykit.exporter import export
from deploykit.reports import Column, Report, Table

SIZES = 60


def asked_for(module: torch.nn.Module) -> list[tuple[int, int, int]]:
    """Batch, height and width at the numbers in the words of a network, alone and in pairs: chance does not hit a single size."""
    numbers = sorted({near for text in re.findall(r"\d+", str(module.words)) for near in (int(text), int(text) + 1)} - {0})
    rows = [(number, 9, 11) for number in numbers if number <= 129]
    images = [pair for number in numbers for pair in ((2, number, 11), (2, 9, number), (2, number, number), (18, number, 11))]
    return [*rows, *images, *((2, one, two) for one in numbers for two in numbers if one * two < 1 << 15)]


def wrong_at(module: torch.nn.Module, file: Path, seed: int) -> str:
    """The first size at which the file differs from the network, empty for none of `SIZES`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    chance = random.Random(1000 + seed)
    sizes = [
        (chance.choice([1, 2, 3, 4, 5, 6, 7, 9, 12, 18]), chance.randrange(1, 100), chance.randrange(1, 100)) for _ in range(SIZES)
    ]
    for batch, height, width in (*sizes, *asked_for(module)):
        x = torch.randn(batch, 3, height, width)
        try:
            with torch.no_grad():
                expected = module(x).numpy()
        except Exception:  # the network refuses the size: no evidence
            continue
        try:
            found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        except Exception as error:
            return f"{batch}x3x{height}x{width}: {str(error)[:80]}"
        if found.shape != expected.shape or not np.allclose(found, expected, 1e-3, 1e-4):
            return f"{batch}x3x{height}x{width}"
    return ""


def row(seed: int, folder: Path) -> dict[str, Any]:
    """What became of one network."""
    module = network(seed)
    chance = random.Random(seed)
    shape = (3, chance.randrange(4, 40), chance.randrange(4, 40))
    file = folder / f"{seed}.onnx"
    found: dict[str, Any] = {"seed": seed, "network": module.words, "shape": list(shape)}
    namespace = Path(folder / f"net{seed}.py")
    namespace.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom _size_networks import network\nnet = network({seed})\n"
    )
    try:
        result = export(f"net{seed}:net", input_shapes=[shape], dynamic=("batch", "height", "width"), out=file, simplify=False)
    except DeploykitError as error:
        return {**found, "verdict": "refused", "why": str(error)[:200]}
    check = next((check.detail for check in result.verdict.checks if not check.passed), "")
    return {**found, "verdict": result.verdict.verdict, "why": check[:200], "wrong_at": wrong_at(module, result.file, seed)}


def rows_of(seeds: range, kept: Path | None) -> list[dict[str, Any]]:
    """A row for each seed; those that the file `kept` holds are taken from it, and new ones are added to it at once."""
    known = (
        {} if kept is None or not kept.exists() else {row["seed"]: row for row in map(json.loads, kept.read_text().splitlines())}
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        for seed in seeds:
            if seed in known:
                continue
            last = known[seed] = row(seed, Path(folder))
            word = "WRONG, called same" if last["verdict"] == "same" and last.get("wrong_at") else last["verdict"]
            print(f"{seed:4d} {word:20s} {last['network'][:90]:90s} {last.get('wrong_at', '')} {last['why'][:60]}", flush=True)
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(last) + "\n")
    return [known[seed] for seed in seeds]


def main() -> None:
    """Ask all, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="JSON lines: rows are added there, and those in it are kept")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    kept = options.resume and options.resume.absolute()
    rows = rows_of(range(options.seed, options.seed + options.networks), kept)
    tally = Counter((r["verdict"], "wrong" if r.get("wrong_at") else "right") for r in rows)
    fooled = tally["same", "wrong"]
    columns = [Column("verdict", "verdict"), Column("file", "file"), Column("networks", "networks", "count")]
    counts = [{"verdict": word, "file": state, "networks": count} for (word, state), count in sorted(tally.items())]
    headline = f"{fooled} wrong files called the same, of {len(rows)} networks that branch on sizes"
    keep(
        "size_branches", Report("Branches on sizes", rows, tables=[Table("", columns, counts)], headline=headline, good=not fooled)
    )


if __name__ == "__main__":
    main()
