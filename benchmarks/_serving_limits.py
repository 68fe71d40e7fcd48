"""What serving.py has measured -> rows for people and the limits that hold or do not. Plain data in and out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deploykit.reports import Column, Report, Table

OURS = "deploykit"
MOST_OVER_IN_PROCESS = 1.0  # ms, at concurrency 1
LEAST_OF_PEAK = 0.9  # goodput at twice the capacity
MOST_TO_REFUSE = 50.0  # ms, p99
QUIET = 0.1  # cores that other processes may take during a load
QUEUE, BATCH = 128, 32  # requests that may wait and rows of a run: the defaults of `deploykit serve`

Row = Mapping[str, Any]


def limits(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every limit: `found` and `bound` as numbers, and whether it holds; `None` where nothing was measured."""
    return [
        *_alone(rows),
        *_ahead(rows),
        *_overloaded(rows),
    ]


def ratios(rows: Sequence[Row], peer: str, load: str) -> list[float]:
    """Our goodput divided by a peer's, one for each round in which both were measured."""
    return [ours["goodput"] / theirs["goodput"] for ours, theirs in _pairs(rows, peer, load) if theirs["goodput"]]


def summary(rows: Sequence[Row], loads: Iterable[str]) -> list[dict[str, Any]]:
    """One row per server and load: medians over the rounds."""
    found = []
    for load in loads:
        for server in dict.fromkeys(row["server"] for row in rows):
            some = [row for row in rows if row["server"] == server and row["load"] == load]
            if some:
                counts = [max(1, sum(row[key] for key in ("answered", "refused", "unanswered"))) for row in some]
                found.append({
                    "load": load, "server": server, "rate": _median(row["rate"] for row in some),
                    **{key: _median(row[key] for row in some) for key in ("goodput", "median_ms", "p99_ms", "p99_behind", "refusal_p99_ms", "client_cpu", "cpu_ms", "others")},
                    "refused": _median(row["refused"] / count for row, count in zip(some, counts, strict=True)),
                    "unanswered": _median(row["unanswered"] / count for row, count in zip(some, counts, strict=True)),
                })  # fmt: skip
    return found


def report(document: dict[str, Any], missing: Mapping[str, str], settings: Mapping[str, str]) -> Report:
    """The whole run for people; `document` is what is kept."""
    rows, found = document["rounds"], document["limits"]
    broken = [row for row in found if row["holds"] is False]
    judged = [row for row in found if row["holds"] is not None]
    loads = list(dict.fromkeys(row["load"] for row in rows))
    headline = f"{len(judged) - len(broken)} of {len(judged)} limits hold"
    if broken:
        headline += "; missed: " + ", ".join(row["limit"] for row in broken)
    shown = [
        {
            **row, "found": f"{row['found']:.2f}" if row["found"] is not None else "not measured",
            "bound": f"{row['relation']} {row['bound']:.2f}", "holds": {True: "yes", False: "NO", None: "-"}[row["holds"]],
            "each": ", ".join(f"{value:.2f}" for value in row["each"]),
        }
        for row in found
    ]  # fmt: skip
    versions = [
        {
            "server": name,
            "versions": ", ".join(f"{package} {version}" for package, version in told.items()),
            "settings": settings[name],
        }
        for name, told in document["versions"].items()
    ]
    return Report(
        title=f"deploykit serve beside its peers: {document['network']}",
        document=document, good=None if not judged else not broken, headline=headline,
        facts=[
            ("each figure", "median over the rounds, which are interleaved; only ratios within a round mean something"),
            ("load of the machine", f"{document['load']} (1 and 5 minutes, before the first round and after each)"),
            ("other processes", _others(rows)),
            ("cores", "all servers and the client share them; the client is raw sockets in a process of its own"),
            ("rate", "requests per second that were sent; 0.5 and 0.9 times the server's own peak of the closed loops in that round"),
            ("twice the capacity", "in turns with closed loops at the concurrency of the peak (\"peak\"), and twice what the one just before "
             "gave; its share is of the mean of the two beside it"),
            ("Predictor.run", _in_process(rows)),
            ("latency", "open loop: from the moment at which the request was meant to begin, so waiting in the client counts"),
            *((f"{name} not measured", why) for name, why in missing.items()),
        ],
        tables=[
            Table("Limits", [
                Column("limit", "limit", "prose"), Column("found", "found"), Column("bound", "bound"), Column("holds", "holds"),
                Column("each", "each round", "prose", minor=True),
            ], shown),
            Table("Loads", [
                Column("load", "load"), Column("server", "server"), Column("rate", "rate", "number"), Column("goodput", "goodput", "number"),
                Column("median_ms", "median", "ms"), Column("p99_ms", "p99", "ms"), Column("p99_behind", "answers meanwhile, p99", "number", minor=True), Column("refused", "refused", "percent"),
                Column("refusal_p99_ms", "p99 of refusals", "ms"), Column("unanswered", "unanswered", "percent"),
                Column("cpu_ms", "CPU of the server per answer", "ms"), Column("client_cpu", "client, cores", "number", minor=True),
                Column("others", "other processes, cores", "number", minor=True),
            ], summary(rows, loads)),
            Table("Servers", [Column("server", "server"), Column("versions", "versions", "prose"), Column("settings", "settings", "prose")], versions),
        ],
        notes=[
            "unanswered: no answer within 2 seconds after the last arrival", "goodput: answers with status 200 per second, within the window",
            "answers meanwhile: how many others were answered with 200 while one waited that was, which no speed of the host changes",
        ],
    )  # fmt: skip


def _others(rows: Sequence[Row]) -> str:
    """What else computed while it was measured."""
    known = [row["others"] for row in rows if row.get("others") is not None]
    if not known:
        return "not measured"
    busy = sum(value > QUIET for value in known)
    text = f"took {max(known):.2f} cores at most during a load"
    if busy:
        text += f", more than {QUIET:g} in {busy} of {len(known)} loads: near the capacity and at low concurrency those say little"
    return text


def _alone(rows: Sequence[Row]) -> list[dict[str, Any]]:
    some = [row for row in _of(rows, OURS, "one caller") if row["median_ms"] is not None]
    return [
        _limit(
            f"at concurrency 1, ms above Predictor.run {how}",
            [row["median_ms"] - row[name] for row in some],
            "<=",
            MOST_OVER_IN_PROCESS,
        )
        for how, name in (("one after the other", "back_to_back_ms"), ("with pauses of 1 ms", "paused_ms"))
    ]


def _in_process(rows: Sequence[Row]) -> str:
    """`Predictor.run` beside one caller alone."""
    some = [row for row in _of(rows, OURS, "one caller") if row["median_ms"] is not None]
    if not some:
        return "not measured"
    paused, without = (_median(row[name] for row in some) for name in ("paused_ms", "back_to_back_ms"))
    over = _median(row["median_ms"] - row["back_to_back_ms"] for row in some)
    return (
        f"{paused:.2f} ms with a pause of 1 ms before each run, as a caller of the server makes them, and {without:.2f} one after the other, "
        f"above which one caller waits {over:.2f} ms longer; in turns with one caller alone"
    )


def _ahead(rows: Sequence[Row]) -> list[dict[str, Any]]:
    peers = [name for name in dict.fromkeys(row["server"] for row in rows) if name != OURS]
    return [_limit(f"goodput at 32 beside {peer}, times as much", ratios(rows, peer, "closed 32"), ">", 1.0) for peer in peers]


def _overloaded(rows: Sequence[Row]) -> list[dict[str, Any]]:
    some = _of(rows, OURS, "open 2")
    shares = [row["goodput"] / row["peak"] for row in some if row["peak"]]
    refusals = [row["refusal_p99_ms"] for row in some if row["refusal_p99_ms"] is not None]
    # What is accepted waits to be read, like what is refused, and then in the line. Counted in answers: what the line holds is a
    # number of requests, and how many milliseconds they take changes with the host, by half within a second.
    bounded = [
        row["p99_behind"] / (QUEUE + 2 * BATCH + (row["refusal_p99_behind"] or 0.0))
        for row in some
        if row["p99_behind"] is not None
    ]
    lost = [row["unanswered"] for row in some]
    return [
        _limit("at twice the capacity, goodput of the peak", shares, ">=", LEAST_OF_PEAK),
        _limit("at twice the capacity, ms to refuse (p99)", refusals, "<=", MOST_TO_REFUSE),
        _limit(
            f"at twice the capacity, answers given while an accepted one waits (p99), "
            f"of {QUEUE} waiting + 2 runs of {BATCH} + those while one is refused (p99)",
            bounded, "<=", 1.0,
        ),
        _limit("at twice the capacity, requests without any answer", lost, "<=", 0.0),
    ]  # fmt: skip


def _limit(limit: str, each: list[float], relation: str, bound: float) -> dict[str, Any]:
    found = _median(each)
    holds = None if found is None else {"<=": found <= bound, ">=": found >= bound, ">": found > bound}[relation]
    return {"limit": limit, "found": found, "relation": relation, "bound": bound, "holds": holds, "each": each}


def _of(rows: Sequence[Row], server: str, load: str) -> list[Row]:
    return [row for row in rows if row["server"] == server and row["load"] == load]


def _pairs(rows: Sequence[Row], peer: str, load: str) -> list[tuple[Row, Row]]:
    theirs = {row["round"]: row for row in _of(rows, peer, load)}
    return [(row, theirs[row["round"]]) for row in _of(rows, OURS, load) if row["round"] in theirs]


def _median(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return statistics.median(given) if given else None
