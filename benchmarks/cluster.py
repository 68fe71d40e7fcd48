"""Batch inference on Ray, under faults and beside what there is: one command for each question; results in `benchmarks/results`.

    python benchmarks/cluster.py faults [--images 20000]        # three machines in one; one is lost, then a driver is killed
    python benchmarks/cluster.py hosts [--images 20000]         # three network namespaces as hosts; one is lost, its cable pulled
    python benchmarks/cluster.py throughput [--images 20000]    # beside predict_many on the same two cores, in turns
    python benchmarks/cluster.py memory [--images 100000]       # flat?
    python benchmarks/cluster.py peers [--images 20000]         # beside fifteen lines of Ray Data, as fast and under the same faults
    python benchmarks/cluster.py growth                         # a model for a thousand machines and a thousand million images

Needs Ray (`pip install 'deploykit[ray]'`, for `peers` also `'ray[data]'`) and Linux. Exit status 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _cluster as cluster
from _results import keep

from deploykit.reports import Column, Report, Table

LEAST_RATIO = 0.9  # of predict_many
MOST_GROWTH = 50 << 20  # bytes, between a fifth of the run and its end
DRIVER = "import sys\nfrom deploykit.cluster import predict\npredict(sys.argv[1], sys.argv[2], out=sys.argv[3], ray=sys.argv[4])\n"
RESUME = DRIVER.replace(")\n", ", resume=True)\n")


def faults(folder: Path, count: int) -> Report:
    """A machine is lost midway, a driver is killed midway and resumed: each row is there once, with the answer of one process."""
    from deploykit.cluster import predict

    source, rows = cluster.images(folder / "images", count), []
    (source / "0000007.png").write_bytes(b"no image")
    with cluster.Machines(3) as machines:
        out = folder / "lost"
        watch = cluster.Watch(0.4, machines.lose_one)
        began = time.perf_counter()
        found = predict(cluster.FILE, source, out=out, ray=machines.address, progress=watch)
        rows.append({"fault": "a machine of three lost", "rows": found.rows, "asked again after": found.lost, "before": 0})
        rows[-1] |= {**cluster.wrong_rows(out, source), "seconds": time.perf_counter() - began}

        out = folder / "killed"
        parts = found.parts
        cluster.killed_driver(
            ["-c", DRIVER], [cluster.FILE, source, out, machines.address], out, lambda path: cluster.parts_in(path) >= 0.4 * parts
        )
        before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
        began = time.perf_counter()
        found = predict(cluster.FILE, source, out=out, ray=machines.address, resume=True)
        kept = sum(path.stat().st_mtime_ns == when for path, when in before.items())
        rows.append(
            {"fault": "the driver killed, resumed", "rows": found.rows, "asked again after": found.lost, "before": found.resumed}
        )
        rows[-1] |= {**cluster.wrong_rows(out, source), "seconds": time.perf_counter() - began}
    good = kept == len(before) and all(row["missing"] == row["twice"] == row["different"] == 0 for row in rows)
    good = good and rows[0]["asked again after"] > 0 and 0 < rows[1]["before"] < count
    columns = [
        Column("fault", "fault"),
        *(Column(name, name, "count") for name in list(rows[0])[1:-1]),
        Column("seconds", "seconds"),
    ]
    return Report(
        title=f"Faults on three machines in one, {count:,} images of {cluster.SIDE} pixels",
        document=rows, good=good, headline="each row once, as one process answers it" if good else "rows are wrong",
        facts=[("before", "rows that were on the disk and not asked again"), ("different", "not the same bits as predict_many")],
        tables=[Table("", columns, rows)],
    )  # fmt: skip


def hosts(folder: Path, count: int) -> Report:
    """As `faults`, between hosts with addresses of their own: Ray started by its own command on each, and a network between them."""
    import subprocess

    import _cluster_hosts

    title = f"Faults on three hosts (network namespaces), {count:,} images of {cluster.SIDE} pixels"
    missing = _cluster_hosts.unavailable()
    if missing:
        return Report(title=title, document={"why": missing}, headline=f"not run: {missing}")
    source, rows = cluster.images(folder / "images", count), []
    address = f"{_cluster_hosts.NETWORK}.1:{_cluster_hosts.PORT}"

    def when(out: Path, share: float, then: Callable[[subprocess.Popen[str]], object]) -> Callable[[subprocess.Popen[str]], None]:
        def meanwhile(process: subprocess.Popen[str]) -> None:
            until = time.monotonic() + 300
            while process.poll() is None and cluster.parts_in(out) < share * 32 and time.monotonic() < until:
                time.sleep(0.02)
            then(process)

        return meanwhile

    with _cluster_hosts.Hosts(3) as found:
        for fault, then in (
            ("none", lambda _process: None),
            ("the driver killed, resumed", lambda process: process.kill()),
            ("a host lost, its cable pulled", lambda _process: found.lose_one()),
        ):
            out, began = folder / fault.split()[1 if " " in fault else 0], time.perf_counter()
            found.driver(DRIVER, [cluster.FILE, source, out, address], when(out, 0.3, then))
            before = cluster.parts_in(out)
            if "driver" in fault:
                found.driver(RESUME, [cluster.FILE, source, out, address], lambda _process: None)
            rows.append(
                {"fault": fault, "parts before": before, **cluster.wrong_rows(out, source), "seconds": time.perf_counter() - began}
            )
    good = all(row["missing"] == row["twice"] == row["different"] == 0 for row in rows)
    names = list(rows[0])
    columns = [Column("fault", "fault"), *(Column(n, n, "count") for n in names[1:-1]), Column("seconds", "seconds")]
    headline = "each row once, as one process answers it" if good else "rows are wrong"
    return Report(title=title, document=rows, good=good, headline=headline, tables=[Table("", columns, rows)])


def throughput(folder: Path, count: int, rounds: int = 3) -> Report:
    """Rows per second of two actors with a core each beside `predict_many`, in turns on the same images."""
    from deploykit import Predictor
    from deploykit.cluster import predict

    source, rows = cluster.images(folder / "images", count), []
    with cluster.own_ray(2):
        for turn in range(rounds):
            out = folder / f"out-{turn}"
            watch = cluster.Watch()
            found = predict(cluster.FILE, source, out=out, progress=watch)
            shutil.rmtree(out)
            (start, first), (end, last) = watch.seen[1], watch.seen[-1]
            with Predictor(cluster.FILE, "cpu") as model:
                began = time.perf_counter()
                alone = sum(1 for _ in model.predict_many(str(source)))
                seconds = time.perf_counter() - began
            rows.append(
                {
                    "turn": turn + 1, "predict_many": alone / seconds, "with its start": found.rows_per_second,
                    "on Ray": (last - first) / (end - start),
                }
            )  # fmt: skip
    ratio = statistics.median(row["on Ray"] / row["predict_many"] for row in rows)
    whole = statistics.median(row["with its start"] / row["predict_many"] for row in rows)
    return Report(
        title=f"Rows per second on two cores, {count:,} images of {cluster.SIDE} pixels",
        document={"ratio": ratio, "ratio_with_start": whole, "turns": rows},
        good=ratio >= LEAST_RATIO,
        headline=f"{ratio:.2f} times predict_many, {whole:.2f} with the start of the actors",
        tables=[Table("", [Column("turn", "turn", "count"), *(Column(n, n, "number") for n in list(rows[0])[1:])], rows)],
    )


def memory(folder: Path, count: int) -> Report:
    """Resident bytes of the driver and of all actors while `count` small images are answered."""
    import os

    from deploykit.cluster import predict

    source, rows = cluster.images(folder / "images", count, side=16), []

    class Sampling(cluster.Watch):
        def advance(self, steps: int = 1, note: str = "") -> None:
            super().advance(steps, note)
            if self.rows >= (len(rows) + 1) * count / 10:
                found = {"driver": cluster.memory_of({os.getpid()}), "actors": cluster.memory_of(cluster.workers())}
                rows.append({"share": self.rows / count, **found})

    with cluster.own_ray(2):
        predict(cluster.FILE, source, out=folder / "out", progress=Sampling())
    grown = {name: rows[-1][name] - rows[1][name] for name in ("driver", "actors")}
    good = all(bytes_ < MOST_GROWTH for bytes_ in grown.values())
    said = ", ".join(f"{name} {bytes_ / 1e6:+.1f} MB" for name, bytes_ in grown.items())
    shown = [{"share": f"{row['share']:.0%}", "driver": row["driver"], "actors": row["actors"]} for row in rows]
    return Report(
        title=f"Memory over {count:,} images",
        document={"grown": grown, "samples": rows},
        good=good,
        headline=f"{said} from a fifth of the run to its end",
        tables=[
            Table("", [Column("share", "done"), Column("driver", "driver", "bytes"), Column("actors", "actors", "bytes")], shown)
        ],
    )


def peers(folder: Path, count: int) -> Report:
    """The plain script beside `predict`: rows per second in turns, and what is left after the same faults."""
    rows = [_speed(folder, count), *_same_faults(folder, min(count, 4000))]
    ratio = rows[0]["deploykit"] / rows[0]["plain Ray Data"]
    good = ratio >= 1.0
    table = [{key: f"{value:,.0f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    return Report(
        title="deploykit beside fifteen lines of Ray Data",
        document={"ratio": ratio, "rows": rows},
        good=good,
        headline=f"{ratio:.2f} times as fast; what the plain script loses is in the table",
        tables=[Table("", [Column(name, name, "prose") for name in ("what", "deploykit", "plain Ray Data")], table)],
    )


def _speed(folder: Path, count: int) -> dict[str, Any]:
    import ray
    from _cluster_peer import run

    from deploykit.cluster import predict

    source, ours, theirs = cluster.images(folder / "images", count), [], []
    with cluster.own_ray(2):
        ray.data.DataContext.get_current().enable_progress_bars = False
        for turn in range(3):
            began = time.perf_counter()
            predict(cluster.FILE, source, out=folder / f"ours-{turn}")
            ours.append(count / (time.perf_counter() - began))
            began = time.perf_counter()
            run(str(source), str(cluster.FILE), str(folder / f"theirs-{turn}"))
            theirs.append(count / (time.perf_counter() - began))
    return {
        "what": "rows per second on two cores",
        "deploykit": statistics.median(ours),
        "plain Ray Data": statistics.median(theirs),
    }


def _same_faults(folder: Path, count: int) -> list[dict[str, Any]]:
    """One bad image; a driver that is killed and started again with the same line."""
    import pyarrow.dataset as ds

    from deploykit.cluster import predict

    script = Path(cluster.__file__).parent / "_cluster_peer.py"
    source = cluster.images(folder / "few", count)
    rows = []
    with cluster.Machines(3) as machines:

        def theirs(out: Path, wait: str = "0") -> str:
            import subprocess

            command = [sys.executable, script, source, cluster.FILE, out, machines.address, wait]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=280)
            return "done" if done.returncode == 0 else "failed: " + done.stderr.strip().splitlines()[-1][:90]

        def counted(out: Path) -> str:
            found = [row["path"] for row in ds.dataset(out).to_table(columns=["path"]).to_pylist()] if any(out.glob("*")) else []
            return f"{len(found):,} rows, {len(found) - len(set(found)):,} of them twice"

        out = folder / "plain-killed"
        cluster.killed_driver(
            [str(script)], [source, cluster.FILE, out, machines.address, "0.15"], out, lambda path: any(path.glob("*.parquet")), 120
        )
        left = counted(out)
        again = theirs(out)
        rows.append({"what": "driver killed, the same line again", "plain Ray Data": f"{again}; {counted(out)} (left: {left})"})
        out = folder / "ours-killed"
        cluster.killed_driver(
            ["-c", DRIVER], [cluster.FILE, source, out, machines.address], out, lambda path: cluster.parts_in(path) >= 9
        )
        found = predict(cluster.FILE, source, out=out, ray=machines.address, resume=True)
        rows[-1]["deploykit"] = f"{found.rows:,} rows, {found.resumed:,} not asked again, {cluster.wrong_rows(out, source)}"

        (source / "0000007.png").write_bytes(b"no image")
        out = folder / "plain-bad"
        rows.append({"what": "one image of them is broken", "plain Ray Data": f"{theirs(out)}; {counted(out)}"})
        found = predict(cluster.FILE, source, out=folder / "ours-bad", ray=machines.address)
        rows[-1]["deploykit"] = f"{found.rows:,} rows, {found.errors} with an error"
    rows.append(
        {
            "what": "preprocessing and labels", "deploykit": "of the file's contract; a rejected or damaged file is refused",
            "plain Ray Data": "by hand, numbers of classes",
        }
    )  # fmt: skip
    return rows


ASSUMED = {
    "cores of a machine": 16,
    "rows per second and core": 200.0,  # ResNet-50 at 224 pixels, decoding included
    "seconds of the start": 60.0,  # of Ray and the actors, the image of the container being there
    "driver, ms per part": 8.0,  # dispatch and the driver's share; writing is the workers', for --out is a URI
    "listing, ms per Parquet file": 20.0 / 16,  # its footer, 16 at a time
    "rows of a Parquet file": 10_000.0,  # single images in a store: 1,000 names in 30 ms, which is 240 times as long
    "days between losses of a machine": 30.0,  # each; spot machines: 1
    "seconds of a loss": 60.0,  # of that machine: Ray notices after some 30 s, then it comes back and starts its actors
    "parts that each of its actors loses": 0.5,
}


def growth(_folder: Path, _count: int) -> Report:
    """On paper: how long, and what bounds it. The assumptions stand beside it."""
    rows = [_modelled(machines, images, days) for images in (1e7, 1e9) for machines in (1, 10, 100, 1000) for days in (30.0, 1.0)]
    columns = [
        Column("machines", "machines", "count"), Column("images", "images", "count"), Column("days", "days between losses"),
        *(Column(name, name) for name in ("hours", "efficiency", "bound by", "parts", "losses")),
    ]  # fmt: skip
    return Report(
        title="A model of growth, on paper",
        document={"assumed": ASSUMED, "rows": rows},
        headline="good to a hundred machines; at 1,000 the driver takes longer than the work; losses cost little",
        facts=[(name, f"{value:g}") for name, value in ASSUMED.items()],
        tables=[Table("", columns, rows)],
    )


def _parts(images: float) -> float:
    """As `planning` cuts them: 1,024 rows, more after every million, up to 16,384."""
    from deploykit.cluster.planning import GROWING, LARGEST, ROWS

    parts, left = 0.0, images
    for step in range(LARGEST):
        taken = min(left, GROWING) if step < LARGEST - 1 else left
        parts, left = parts + taken / (ROWS * (step + 1)), left - taken
    return parts


def _modelled(machines: int, images: float, days: float) -> dict[str, Any]:
    speed = machines * ASSUMED["cores of a machine"] * ASSUMED["rows per second and core"]
    parts = _parts(images)
    work, driver = images / speed, parts * ASSUMED["driver, ms per part"] / 1e3
    listing = images / ASSUMED["rows of a Parquet file"] * ASSUMED["listing, ms per Parquet file"] / 1e3
    part_seconds = images / parts / ASSUMED["rows per second and core"]
    busy = max(work, driver)
    lost = 0.0
    for _ in range(20):  # what is lost makes the run longer, in which more is lost
        losses = machines * (busy + lost) / (days * 86400)
        lost = losses / machines * (ASSUMED["seconds of a loss"] + ASSUMED["parts that each of its actors loses"] * part_seconds)
    total = ASSUMED["seconds of the start"] + listing + busy + lost + part_seconds  # the last part ends alone
    bounds = {"workers": work, "driver": driver, "listing": listing, "losses": lost}
    return {
        "machines": machines, "images": int(images), "days": days, "hours": f"{total / 3600:,.2f}",
        "efficiency": f"{work / total:.0%}", "bound by": max(bounds, key=lambda name: bounds[name]), "parts": f"{parts:,.0f}",
        "losses": f"{losses:,.2f}",
    }  # fmt: skip


TRIALS: dict[str, tuple[Callable[[Path, int], Report], int]] = {
    "faults": (faults, 20_000), "throughput": (throughput, 20_000), "memory": (memory, 100_000), "peers": (peers, 20_000), "growth": (growth, 0),
    "hosts": (hosts, 20_000),
}  # fmt: skip


def main() -> int:
    """One trial; its report is kept as ``cluster_NAME``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--images", type=int)
    parser.add_argument("--dry", action="store_true", help="print, and keep nothing")
    asked = parser.parse_args()
    trial, usual = TRIALS[asked.trial]
    # Ray prints the log of a machine that is lost on stdout.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        report = trial(Path(folder), asked.images or usual)
    if asked.dry:
        from deploykit import reports

        print(reports.render(report, "table"))
    else:
        keep(f"cluster_{asked.trial}", report)
    return 1 if report.good is False else 0


if __name__ == "__main__":
    sys.exit(main())
