"""Can the latency comparison be believed? Networks are compared with themselves, and with copies that do 5 % more.

    python benchmarks/latency_honesty.py [--pairs 40] [--seconds 3] [--threads N]      # seven minutes, on a quiet machine

Exit status 1 unless at least 38 of 40 comparisons of a network with itself say "no difference", at least 36 of 40 see the 5 %,
and each engine's median, measured beside another engine, lies within 5 % of what it is alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import keep
from torch import nn

from deploykit import exporter, onnx_file
from deploykit.network import target
from deploykit.profiler import Subject, compare_latency
from deploykit.profiler.benchmark.latency import measure_latency
from deploykit.profiler.subjects import random_arrays
from deploykit.reports import Column, Report, Table

BLOCKS = 20  # and one more is 5 % of extra work
COLUMNS = (
    Column("case", "case"),
    Column("backend", "backend"),
    Column("pairs", "comparisons", "count"),
    Column("right", "right", "count"),
    Column("ratio", "median ratio", "number"),
    Column("width", "median width", "number"),
)


def chain(blocks: int = BLOCKS, channels: int = 32, side: int = 14) -> nn.Module:
    """So many equal blocks in a row that their number is the work."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(blocks)))
    network.example_inputs = [torch.zeros(1, channels, side, side)]  # type: ignore[assignment]
    return network


def subjects(folder: Path) -> dict[str, dict[int, Subject]]:
    """By backend and number of blocks."""
    found: dict[str, dict[int, Subject]] = {"torch": {}, "onnxruntime": {}}
    for blocks in (BLOCKS, BLOCKS + 1):
        name, arguments = "latency_honesty:chain", {"blocks": blocks}
        found["torch"][blocks] = Subject(name, arguments=arguments, untrained=True, label=f"{blocks} blocks")
        file = folder / f"{blocks}.onnx"
        onnx_file.write(exporter.to_onnx(target.resolve(name, untrained=True, arguments=arguments)), file)
        found["onnxruntime"][blocks] = Subject(str(file), label=f"{blocks} blocks")
    return found


def case(title: str, backend: str, a: Subject, b: Subject, expected: str, options: argparse.Namespace) -> dict[str, Any]:
    """Compare as often as asked; count the verdicts that are right."""
    ratios, widths, right = [], [], 0
    for number in range(options.pairs // 2):
        found = compare_latency(a, b, seconds=options.seconds, threads=options.threads).comparisons[0]
        right += found.verdict == expected
        ratios.append(found.ratio)
        widths.append(found.high - found.low)
        print(f"{title} on {backend}, {number + 1}: {found}", file=sys.stderr, flush=True)
    return {"case": title, "backend": backend, "pairs": options.pairs // 2, "right": right, "ratio": float(np.median(ratios)),
            "width": float(np.median(widths))}  # fmt: skip


def beside_and_alone(both: list[Subject], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each engine's median beside the other over its median alone, taken in turns."""
    arrays = random_arrays(both[0], 1)
    beside: list[list[float]] = [[], []]
    alone: list[list[float]] = [[], []]
    for _ in range(5):
        together = measure_latency(both, arrays, seconds=options.seconds, threads=options.threads).latencies
        for index, subject in enumerate(both):
            beside[index].append(together[index].median_ms)
            alone[index].append(
                measure_latency([subject], arrays, seconds=options.seconds, threads=options.threads).latencies[0].median_ms
            )
    ratios = [float(np.median(b) / np.median(a)) for b, a in zip(beside, alone, strict=True)]
    return [{"case": "beside / alone", "backend": s.engine, "pairs": 5, "right": 5 if abs(r - 1) <= 0.05 else 0, "ratio": r}
            for s, r in zip(both, ratios, strict=True)]  # fmt: skip


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40, help="comparisons of each kind, half of them on each backend")
    parser.add_argument("--seconds", type=float, default=3.0, help="for one comparison")
    parser.add_argument("--threads", type=int, help="of every engine; all cores by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        of = subjects(Path(folder))
        rows = []
        for backend, by_blocks in of.items():
            same, more = by_blocks[BLOCKS], by_blocks[BLOCKS + 1]
            rows.append(case("with itself", backend, same, same, "no difference", options))
            rows.append(case("5 % more work", backend, same, more, "slower", options))
        rows += beside_and_alone([of["torch"][BLOCKS], of["onnxruntime"][BLOCKS]], options)
    good = verdict(rows, options.pairs)
    report = Report("is the latency comparison honest?", rows, words(rows, options.pairs), good, tables=[Table("", COLUMNS, rows)])
    keep("latency_honesty", report)
    return 0 if good else 1


def words(rows: list[dict[str, Any]], pairs: int) -> str:
    """The figures in one sentence."""
    itself, more = (sum(row["right"] for row in rows if row["case"] == case) for case in ("with itself", "5 % more work"))
    ratios = ", ".join(f"{row['ratio']:.3f} ({row['backend']})" for row in rows if row["case"] == "beside / alone")
    return (
        f"{itself} of {pairs} comparisons of a network with itself say no difference, {more} of {pairs} see 5 % more work; "
        f"median beside another engine / alone: {ratios}"
    )


def verdict(rows: list[dict[str, Any]], pairs: int) -> bool:
    """Whether the shares that the project promises were reached."""
    right = {title: sum(row["right"] for row in rows if row["case"] == title) for title in {row["case"] for row in rows}}
    return right["with itself"] >= 0.95 * pairs and right["5 % more work"] >= 0.9 * pairs and right["beside / alone"] == 10


if __name__ == "__main__":
    sys.exit(main())
