"""What tune.py has measured, as reports: rows of JSON in, for people and with a verdict out. Plain data, nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from deploykit.reports import Column, Report, Table

PEERS = (
    "torch eager", "torch.compile", "onnxruntime fp32", "onnxruntime static QUInt8", "onnxruntime static QInt8", "OpenVINO fp32",
    "OpenVINO default", "NNCF default on OpenVINO",
)  # fmt: skip
LEAST_STRICT = 4  # rows that have to be faster than every peer
LEAST_FASTER = 0.95  # of the honest networks

Row = Mapping[str, Any]


def against(row: Row) -> list[Row]:
    """The peers of a row that keep the decisions. `ratio`, `low`, `high`: above 1 the peer is the faster one."""
    return [peer for peer in row["peers"] if peer["keeps"]]


def holds(row: Row) -> bool:
    """Whether no peer that keeps the decisions is faster for sure."""
    return all(peer["low"] <= 1 for peer in against(row))


def is_strict(row: Row) -> bool:
    """Whether the tuned file is faster than each of them for sure."""
    return all(peer["high"] < 1 for peer in against(row))


def alone_holds(row: Row) -> bool:
    """Whether the file tuned with onnxruntime alone is faster than float32, or is float32."""
    return bool(row["alone"]["low"] > 1 or row["alone"]["verdict"] != "faster")


def of_rows(rows: Mapping[str, Row], asked: Sequence[str]) -> Report:
    """Every network beside every peer. `asked`: the names of all networks that are to be measured.

    `remark` in a row is written by hand: what was not as it should be when it was measured.
    """
    made = {name: rows[name] for name in asked if name in rows}
    strict = [name for name, row in made.items() if is_strict(row)]
    good = sum(map(holds, made.values()))
    shown = [
        {
            "network": name, "machine": _machine(row), "chosen": row["chosen"]["name"], **_cells(row),
            "alone": f"{_span(row['alone'], False)}, {row['alone']['name']}", "date": row.get("date"),
        }
        for name, row in made.items()
    ]  # fmt: skip
    seconds = [row["seconds"] for row in made.values()]
    missing = [name for name in asked if name not in made]
    return Report(
        title="Is the tuned file as fast as every peer's default?",
        document=made,
        good=None if missing else good == len(made) and len(strict) >= LEAST_STRICT and all(map(alone_holds, made.values())),
        headline=f"{good} of {len(made)} rows are at least as fast as every peer that keeps the decisions, within the noise; "
        f"{len(strict)} are faster than all of them",
        facts=[
            ("faster than all", ", ".join(strict) or "none"),
            ("not measured", ", ".join(missing) or "none"),
            ("a tuning took", f"{min(seconds):.0f} to {max(seconds):.0f} s" if seconds else "-"),
            ("figures", "time of the peer / time of the tuned file, with the 95 % interval of one interleaved run: above 1 the tuned file is faster"),
            ("in brackets", "a peer that does not keep the decisions"),
            ("networks", "the small ones are trained on 2,000 digits for three epochs; torchvision's have fresh weights whose BatchNorms have seen "
             "noise, and are proven on noise"),
            ("machines", "each has two cores; the line below is of the one that wrote this table"),
        ],
        tables=[Table("Rows", [
            Column("network", "network"), Column("machine", "instructions"), Column("chosen", "chosen", "prose"),
            *(Column(peer, peer) for peer in PEERS), Column("alone", "onnxruntime alone, of float32", "prose"), Column("date", "date"),
        ], shown)],
        notes=[f"{name}: {row['remark']}" for name, row in made.items() if row.get("remark")],
    )  # fmt: skip


def of_counts(part: str, rows: Sequence[Row], count: int, budget: float) -> Report:
    """The networks of `honest` or `spoiled`: what each got, and what that lost on fresh data. `budget`: of accuracy, 0 to 1."""
    lost = [number for number, row in enumerate(rows) if row.get("failed") or row["drop_low"] > budget]
    faster = [row for row in rows if row.get("verdict") == "faster"]
    speedups = [row["speedup"] for row in faster if row.get("speedup") is not None]
    facts = [("networks", f"{len(rows)} of {count} were run"), ("lost more than allowed", ", ".join(map(str, lost)) or "none")]
    if speedups:
        facts.append(("times as fast", f"{min(speedups):.2f} to {max(speedups):.2f}, median {median(speedups):.2f}"))
    enough = part == "spoiled" or len(faster) >= LEAST_FASTER * count
    shown = [
        {
            "number": number, "how": row.get("how") or "honest", "verdict": row.get("verdict", f"failed: {row.get('failed')}"),
            "chosen": row.get("chosen"), "speedup": row.get("speedup"), "fresh": row.get("fresh"), "refused": row.get("refused"),
            "drop": None if "drop" not in row else "{:+.2f} ({:+.2f} to {:+.2f})".format(*(100 * row[key] for key in ("drop", "drop_low", "drop_high"))),
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    return Report(
        title={"honest": "Do honest networks get a faster file?", "spoiled": "Does any spoiled network get a file that loses decisions?"}[part],
        document=list(rows),
        good=None if len(rows) < count else enough and not lost,
        headline=f"{len(faster)} of {len(rows)} got a faster file, {len(rows) - len(lost)} of {len(rows)} lost no more than {100 * budget:g} points",
        facts=facts,
        tables=[Table("Networks", [
            Column("number", "number", "count"), Column("how", "how"), Column("verdict", "verdict"), Column("chosen", "chosen", "prose"),
            Column("speedup", "times as fast", "ratio"), Column("refused", "candidates refused", "count"), Column("fresh", "fresh samples", "count"),
            Column("drop", "drop on them, points (95 % interval)"),
        ], shown)],
    )  # fmt: skip


def _machine(row: Row) -> str:
    instructions = row["conditions"]["instructions"].split()
    return next((name for name in ("amx_bf16", "avx512_vnni", "avx_vnni", "avx2") if name in instructions), "-")


def _cells(row: Row) -> dict[str, str]:
    found = {peer["peer"]: peer for peer in row["peers"]}
    return {name: _span(found[name], True) if name in found else "not run" for name in PEERS}


def _span(of: Row, turned: bool) -> str:
    """A ratio and its interval; `turned`: one over it."""
    low, high = (1 / of["high"], 1 / of["low"]) if turned else (of["low"], of["high"])
    text = f"{1 / of['ratio'] if turned else of['ratio']:.2f} ({low:.2f} to {high:.2f})"
    return text if of.get("keeps", True) else f"[{text}]"
