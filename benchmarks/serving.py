"""`deploykit serve` beside LitServe, MLServer, BentoML, Ray Serve and a FastAPI application by hand: same file, cores and client.

    python benchmarks/serving.py environments --environments FOLDER [--only deploykit,fastapi]     # once; pip, some minutes
    python benchmarks/serving.py run --environments FOLDER --network lenet5 [--seconds 3] [--rounds 3] [--only deploykit,fastapi]

Every server runs on loopback in an environment of its own, with one onnxruntime session of `--threads` threads and its own batching
at its best documented setting (`_serving_peers/`, one file each; what was chosen is in the report). The client is a process of its
own (`_serving_load.py`) that shares the cores with the server; it is raw sockets, and the report says what it took.

A round goes through all servers, each time in another order: start, one answer that must be right, a warm-up, closed loops at
concurrency 1, 8 and 32, then open loops (Poisson) at 0.5 and 0.9 times the best goodput of those. Twice the capacity comes in turns with
the closed loop that gave that best goodput, in shorter pieces: the speed of a shared host changes by half within seconds, and the share of the peak
is that of the closed loops just before and after. Two noisy cores: only ratios within one round count. A load during which other
processes took more than a tenth of a core is measured again, four times at most; the report says what they took. A server that does
not start is a line in the report. Some 13 minutes for 3 rounds of 6 servers.

One caller of our server alone comes in turns with `Predictor.run` in a process of its own, once one run after the other and once with a pause
of a millisecond before each, as long as the network waits for the next request of one caller. The pause alone makes a run of resnet18 a
fifth slower (probably because its 44 MB of weights leave the caches). Both are limits: the first is what an application sees that asks one run
after the other, the second is nearer to what the server adds.

Expected before measuring, on two cores (with uvloop, one call of the system for an answer, refusals at the connection):
- concurrency 1: 0.2 to 0.4 ms above `Predictor.run`, for both networks (limit: 1 ms). This was wrong, see the results: the runs with pauses
  were added when resnet18 had missed the limit, and the limit above one run after the other stays beside the new one. Then one caller
  alone came to be answered in the event loop: expected 0.10 to 0.15 ms less for both, and nothing else changed.
- goodput at 32, lenet5 (0.05 ms a row, so it is HTTP that is measured): 2 to 8 times LitServe, MLServer, BentoML and Ray Serve, whose
  requests cross processes or are JSON; 1.0 to 1.4 of FastAPI by hand, which checks nothing and counts nothing, but computes between
  reading and writing, in one thread.
- goodput at 32, resnet18 (2.8 ms alone, 1.5 in a batch): 1.4 to 1.9 times FastAPI, which does not batch, 1.0 to 1.4 times the others.
- twice the capacity, resnet18: goodput above 95 % of the peak, refusals within 20 ms, p99 of accepted below the bound of the queue.
- twice the capacity, lenet5: a refusal costs 8 to 15 microseconds and an answer 140, so 85 to 95 % of the peak are left, less what the
  client takes of the two cores; refusals within 40 ms. While an accepted request waits, 0.85 to 1.0 of the answers are given that the line
  and the runs hold, and those that are given while a request waits to be read, as long as one that is refused.
- FastAPI, LitServe and MLServer have no bound: at twice the capacity their latency grows as long as the load lasts, and they refuse nothing.

Exit status 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import _serving_servers as servers
import numpy as np
from _results import keep
from _serving_limits import OURS, QUIET, limits, report

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "trained" / "lenet5" / "model.onnx"
NETWORKS = ("lenet5", "resnet18")
CONCURRENCIES = (1, 8, 32)
SHARES = (0.5, 0.9)
TWICE_THE_PEAK = 2.0
TURNS = 4  # pieces at twice the capacity in a round, each half as long as another load
TURNS_OF_ONE = 8  # pieces of one caller alone, each a third as long
MOST_CONNECTIONS = 512  # more than our line (128) and two runs (64) hold, so that the client does not do its work
WARM_SECONDS = 1.0
ATTEMPTS = 5  # at a load, while others take more
Times = dict[str, float]  # of `Predictor.run`, in milliseconds
ONCE, TWICE = "in one round: ", "twice, then no more: "


def main() -> int:
    """One of the commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("environments", "run"))
    parser.add_argument("--environments", type=Path, required=True, help="folder of the virtual environments")
    parser.add_argument("--only", default="", help="names of servers, with commas")
    parser.add_argument("--network", choices=NETWORKS, default="lenet5")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime, in every server")
    parser.add_argument("--dry", action="store_true", help="print, and keep nothing")
    asked = parser.parse_args()
    asked.environments = asked.environments.resolve()
    chosen = servers.peers([name for name in asked.only.split(",") if name])
    if asked.command == "environments":
        import onnxruntime

        return 1 if servers.make(asked.environments, chosen, onnxruntime.__version__) else 0
    found = run(asked, chosen)
    if asked.dry:
        from deploykit import reports

        print(reports.render(found, "table"))
    else:
        keep(f"serving_{asked.network}", found)
    return 1 if found.good is False else 0


def run(asked: argparse.Namespace, chosen: list[ModuleType]) -> Any:
    """All rounds; a report."""
    file = network(asked.network, asked.environments)
    values, right = sample(file)
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    loads = [_load()]
    for turn in range(asked.rounds):
        for peer in [*chosen[turn % len(chosen) :], *chosen[: turn % len(chosen)]]:
            if missing.get(peer.NAME, "").startswith(TWICE):
                continue
            try:
                in_process = partial(alone, asked, file, values) if peer.NAME == OURS else None
                with servers.running(asked.environments, peer, file, asked.threads, values, right) as server:
                    found = loaded(server, asked.seconds, turn, in_process)
                rows += [{"round": turn, "server": peer.NAME, **row} for row in found]
            except servers.NotStarted as error:
                missing[peer.NAME] = f"{TWICE if peer.NAME in missing else ONCE}{error}"
                print(f"{peer.NAME}: {error}", file=sys.stderr, flush=True)
        loads.append(_load())
    document = {
        "network": asked.network, "threads": asked.threads, "seconds": asked.seconds, "load": ", ".join(loads),
        "versions": {peer.NAME: servers.versions(asked.environments, peer) for peer in chosen}, "missing": missing,
        "limits": limits(rows), "rounds": rows,
    }  # fmt: skip
    return report(document, missing, {peer.NAME: peer.SETTINGS for peer in chosen})


def loaded(server: servers.Running, seconds: float, turn: int, in_process: Callable[[float], Times] | None) -> list[dict[str, Any]]:
    """One server under every load. `peak`: its best goodput of the closed loops. `in_process`: what one caller alone comes in turns with."""
    asked: dict[str, Any] = {
        "port": server.port, "request": base64.b64encode(server.request).decode(), "seed": turn, "most": MOST_CONNECTIONS,
    }  # fmt: skip
    client({**asked, "concurrency": 8, "seconds": WARM_SECONDS})

    def once(load: str, rate: float | None, **more: Any) -> dict[str, Any]:
        before, own, busy, began = server.cpu(), _own_cpu(), _busy(), time.perf_counter()
        row = client({**asked, "seconds": seconds, **more, "rate": rate})
        wall, busy, own, used = time.perf_counter() - began, _busy() - busy, _own_cpu() - own, server.cpu() - before
        answers = row.pop("all_good")
        row["others"] = max(0.0, busy - own - used) / wall
        return {"load": load, "rate": rate, **row, "cpu_ms": used * 1000 / answers if answers else None}

    def under(load: str, rate: float | None, **more: Any) -> dict[str, Any]:
        for attempt in range(ATTEMPTS):
            row = once(load, rate, **more)
            if row["others"] <= QUIET:
                break
            time.sleep(attempt)
        return {**row, "attempts": attempt + 1}

    found = [under(f"closed {concurrency}", None, concurrency=concurrency) for concurrency in CONCURRENCIES]
    peak, best = max((row["goodput"], at) for row, at in zip(found, CONCURRENCIES, strict=True))
    found += [under(f"open {share:g}", max(1.0, share * peak)) for share in SHARES]
    twice = in_turns(under, best, seconds / 2, turn * TURNS)
    one = [] if in_process is None else in_turns_with_runs(under, in_process, seconds / 3)
    return [*({**row, "peak": peak} for row in found), *one, *twice]


def in_turns(under: Callable[..., dict[str, Any]], concurrency: int, seconds: float, seed: int) -> list[dict[str, Any]]:
    """Twice the capacity in `TURNS` pieces of `seconds`, each between two closed loops. `peak`: the mean goodput of these two."""
    closed = [under("peak", None, concurrency=concurrency, seconds=seconds)]
    opened = []
    for turn in range(TURNS):
        rate = max(1.0, TWICE_THE_PEAK * closed[-1]["goodput"])
        opened.append(under(f"open {TWICE_THE_PEAK:g}", rate, seconds=seconds, seed=seed + turn))
        closed.append(under("peak", None, concurrency=concurrency, seconds=seconds))
    peaks = [(before["goodput"] + after["goodput"]) / 2 for before, after in itertools.pairwise(closed)]
    opened = [{**row, "peak": peak} for row, peak in zip(opened, peaks, strict=True)]
    return [*({**row, "peak": row["goodput"]} for row in closed), *opened]


def in_turns_with_runs(
    under: Callable[..., dict[str, Any]], in_process: Callable[[float], Times], seconds: float
) -> list[dict[str, Any]]:
    """One caller in `TURNS_OF_ONE` pieces of `seconds`, each between two measurements of `Predictor.run`: the means of these two, in ms."""
    runs, served = [in_process(seconds)], []
    for _ in range(TURNS_OF_ONE):
        served.append(under("one caller", None, concurrency=1, seconds=seconds))
        runs.append(in_process(seconds))
    return [
        {**row, "peak": None, **{name: (before[name] + after[name]) / 2 for name in before}}
        for row, (before, after) in zip(served, itertools.pairwise(runs), strict=True)
    ]


def _busy() -> float:
    """Seconds of CPU that all processes of this machine have taken so far."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting for disks


def _own_cpu() -> float:
    """Seconds of CPU of this process and of the clients that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def client(asked: dict[str, Any]) -> dict[str, Any]:
    """One load, by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-I", HERE / "_serving_load.py"], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    time.sleep(0.1)
    return json.loads(done.stdout)


def alone(asked: argparse.Namespace, file: Path, values: bytes, seconds: float) -> Times:
    """`Predictor.run` for so long, in a process, in the environment of our server: milliseconds by the name of how it was called."""
    interpreter = servers.python(asked.environments / OURS)
    if not interpreter.exists():
        raise servers.NotStarted("no environment: make it with the command `environments`")
    done = subprocess.run(
        [interpreter, HERE / "_serving_inprocess.py", file, str(asked.threads), str(seconds)],
        input=values,
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def network(name: str, folder: Path) -> Path:
    """The ONNX file: the one that is shipped, or an export of random weights, which take as long as trained ones."""
    if name == "lenet5":
        return SHIPPED
    file = folder / f"{name}.onnx"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "deploykit", "export", name, "--untrained", "--quiet", "--out", file]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    return file


def sample(file: Path) -> tuple[bytes, list[float]]:
    """One image of noise in 256 greys, as raw float32, and the logits that every server must give."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    shape = [1, *session.get_inputs()[0].shape[1:]]
    greys = np.random.default_rng(18).integers(0, 256, shape)
    # Seven digits: JSON says them exactly enough, and as briefly as it can.
    values = np.asarray([float(f"{value:.7g}") for value in ((greys / 255 - 0.5) / 0.5).ravel()], np.float32).reshape(shape)
    return values.tobytes(), session.run(None, {"input": values})[0].ravel().tolist()


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg()[:2])


if __name__ == "__main__":
    sys.exit(main())
