"""Try to break `deploykit serve`: signals, reloads, bodies without sense, shapes that change. Prints one line for each; exit 1 if one fails.

A trial that is named is kept as a row of `benchmarks/results/serving_faults.md`, beside those of the others.

python benchmarks/serving_faults.py                          # a little of each, a minute
python benchmarks/serving_faults.py signals --times 50
python benchmarks/serving_faults.py reloads --times 200
python benchmarks/serving_faults.py bodies --times 20000
python benchmarks/serving_faults.py shapes --times 100000
python benchmarks/serving_faults.py kills --times 5
python benchmarks/serving_faults.py large --times 500
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from _results import RESULTS, keep
from serving_process import Load, Server

from deploykit.reports import Column, Report, Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

from damage import mutated

SHIPPED = Path(__file__).parents[1] / "trained" / "lenet5" / "model.onnx"
PATH = "/v2/models/lenet5/infer"
LITTLE = {"signals": 3, "reloads": 10, "bodies": 1000, "shapes": 2000, "kills": 2, "large": 50}
GROWTH = 50 << 20  # bytes by which a server may grow


def body_of(rows: int, side: int = 32) -> bytes:
    """A request in JSON with so many black images."""
    shape = [rows, 1, side, side]
    entry = {"name": "input", "datatype": "FP32", "shape": shape, "data": [0.5] * (rows * side * side)}
    return json.dumps({"inputs": [entry]}).encode()


def signals(times: int) -> tuple[bool, str]:
    """SIGTERM at random moments under load: nothing that was accepted is lost, and the exit status is 0."""
    lost: list[str] = []
    statuses: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    random_ = random.Random(18)
    for turn in range(times):
        server = Server([SHIPPED], "--threads", "1", "--max-queue-delay-us", str(random_.choice([0, 2000])))
        with Load(server, PATH, body_of(1), callers=8, keep=turn % 2 == 0) as load:
            time.sleep(random_.uniform(0, 1))
            statuses[server.end(signal.SIGTERM)] += 1
        lost += load.lost
        answered.update(load.statuses)
    good = not lost and set(statuses) == {0} and set(answered) <= {200}
    return good, f"{times} times SIGTERM under load: {dict(answered)} answered, {len(lost)} lost {lost[:2]}, exit {dict(statuses)}"


def kills(times: int) -> tuple[bool, str]:
    """SIGKILL under load, and a new server on the same port: its first request is answered."""
    port, first = 0, Counter[int]()
    for _ in range(times):
        server = Server([SHIPPED], "--threads", "1", port=port)
        port = server.port
        first[server.ask("POST", PATH, body_of(1))[0]] += 1
        with Load(server, PATH, body_of(1), callers=4) as load:
            load.wait_for(20)
            server.end(signal.SIGKILL)
    return set(first) == {200}, f"{times} times SIGKILL and again on port {port}: {dict(first)}"


def reloads(times: int) -> tuple[bool, str]:
    """Reloads under load: every request is answered, memory stays."""
    with Server([SHIPPED], "--threads", "1", "--allow-reload") as server, Load(server, PATH, body_of(1), callers=4) as load:
        done: Counter[int] = Counter()
        memory = 0
        for turn in range(times):
            done[server.ask("POST", "/v2/repository/models/lenet5/load")[0]] += 1
            if turn == times // 5:
                memory = server.memory()
        grown = server.memory() - memory
    good = set(done) == {200} and set(load.statuses) == {200} and not load.lost and grown < GROWTH
    return (
        good,
        f"{times} reloads: {dict(done)}, requests {load.statuses}, {len(load.lost)} lost, memory {grown / 1e6:+.1f} MB after the first fifth",
    )


def bodies(times: int) -> tuple[bool, str]:
    """Bodies of which bytes were exchanged: 200 or 4xx, never a traceback, and the server answers afterwards; memory stays."""
    random_ = random.Random(18)
    raw = np.full((1, 1, 32, 32), 0.5, "<f4").tobytes()
    head = json.dumps(
        {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1, 32, 32], "parameters": {"binary_data_size": len(raw)}}]}
    ).encode()
    seeds = [
        (PATH, body_of(1), {}),
        (PATH, head + raw, {"Inference-Header-Content-Length": str(len(head))}),
        (PATH, raw, {"Inference-Header-Content-Length": "0"}),
        ("/v2/models/lenet5/predict", b'{"inputs": [[[0, 1], [2, 3]]]}', {"Content-Type": "application/json"}),
        ("/v2/models/lenet5/predict", image(), {"Content-Type": "image/png"}),
        ("/v2/models/lenet5/predict", form(), {"Content-Type": "multipart/form-data; boundary=b"}),
        ("/v2/repository/index", b'{"ready": true}', {}),
    ]
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    with Server([SHIPPED], "--threads", "1") as server:
        memory = 0
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for turn in range(times):
            path, body, headers = random_.choice(seeds)
            connection.request("POST", path, mutated(random_, body), headers)
            response = connection.getresponse()
            said = response.read()
            statuses[response.status] += 1
            if response.status != 200 and (response.status >= 500 or b"Traceback" in said or not said.startswith(b'{"error":')):
                wrong.append(f"{response.status} {said[:80]!r}")
            if turn == times // 5:
                memory = server.memory()
        connection.close()
        grown = server.memory() - memory
        again = server.ask("POST", PATH, body_of(1))[0]
        traces = sum("Traceback" in line for line in server.lines)
    good = not wrong and again == 200 and not traces and grown < GROWTH
    return (
        good,
        f"{times} bodies: {dict(statuses)}, wrong {wrong[:3]}, {traces} tracebacks, memory {grown / 1e6:+.1f} MB after the first fifth",
    )


def shapes(times: int) -> tuple[bool, str]:
    """Requests of changing numbers of rows: memory stays."""
    random_ = random.Random(18)
    raws = {rows: np.zeros((rows, 1, 32, 32), "<f4").tobytes() for rows in range(1, 33)}
    statuses: Counter[int] = Counter()
    with Server([SHIPPED], "--threads", "1") as server:
        memory = 0
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for turn in range(times):
            connection.request("POST", PATH, raws[random_.randint(1, 32)], {"Inference-Header-Content-Length": "0"})
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1
            server.lines.clear()
            if turn == times // 5:
                memory = server.memory()
        connection.close()
        grown = server.memory() - memory
    return set(statuses) == {
        200
    } and grown < GROWTH, f"{times} requests of 1 to 32 rows: {dict(statuses)}, memory {grown / 1e6:+.1f} MB after the first fifth"


def large(times: int) -> tuple[bool, str]:
    """Bodies of 8 MB that are refused, or whose callers go away: nothing of them is kept."""
    random_ = random.Random(18)
    rows = bytes(2048 * 4096)  # more rows than a run takes
    raw = {"Inference-Header-Content-Length": "0"}
    asked = [
        (PATH, rows, raw),
        (PATH, rows[:-1], raw),
        (PATH, b'{"inputs": "' + b"x" * len(rows) + b'"}', {}),
        (PATH, rows, {"Content-Encoding": "gzip"}),
        ("/v2/models/lenet5/predict", image()[:40] + rows, {"Content-Type": "image/png"}),
        ("/v2/models/lenet5/predict", rows, {"Content-Type": "application/json"}),
    ]
    statuses: Counter[int] = Counter()
    with Server([SHIPPED], "--threads", "1") as server:
        sizes = []
        for _ in range(times):
            path, body, headers = random_.choice(asked)
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("POST", path, body, headers)
            if random_.random() < 0.9:
                statuses[connection.getresponse().status] += 1
            connection.close()
            sizes.append(server.memory())
        again = server.ask("POST", PATH, body_of(1))[0]
    grown = max(sizes[times // 5 :]) - sizes[times // 5]
    good = all(400 <= status < 500 for status in statuses) and again == 200 and grown < GROWTH
    return good, f"{times} large bodies: {dict(statuses)}, memory {grown / 1e6:+.1f} MB at most after the first fifth"


def image() -> bytes:
    """A small PNG."""
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "png")
    return stream.getvalue()


def form() -> bytes:
    """The same in a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return head + image() + b"\r\n--b--\r\n"


TRIALS: dict[str, Callable[[int], tuple[bool, str]]] = {
    "signals": signals, "kills": kills, "reloads": reloads, "bodies": bodies, "shapes": shapes, "large": large,
}  # fmt: skip


def kept(trial: str, times: int, good: bool, seen: str) -> None:
    """The row of this trial in place of its last one, in the table of all."""
    row = {"trial": trial, "times": times, "holds": "yes" if good else "NO", "seen": seen, "date": date.today().isoformat()}
    try:
        before = json.loads((RESULTS / "serving_faults.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        before = []
    found = {each["trial"]: each for each in [*before, row]}
    rows = [found[name] for name in TRIALS if name in found]
    broken = [each["trial"] for each in rows if each["holds"] != "yes"]
    report = Report(
        title="deploykit serve under faults", document=rows, good=not broken,
        headline=f"broken by: {', '.join(broken)}" if broken else f"all {len(rows)} trials hold",
        facts=[("what each trial does", "; ".join(f"{name}: {doc.splitlines()[0]}" for name, trial in TRIALS.items() if (doc := trial.__doc__)))],
        tables=[Table("", [
            Column("trial", "trial"), Column("times", "times", "count"), Column("holds", "holds"), Column("seen", "seen", "prose"),
            Column("date", "date"),
        ], rows)],
    )  # fmt: skip
    keep("serving_faults", report)


def main() -> int:
    """Run the trials that are asked for, or a little of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trial", nargs="?", choices=sorted(TRIALS))
    parser.add_argument("--times", type=int)
    asked = parser.parse_args()
    failed = 0
    for name in [asked.trial] if asked.trial else TRIALS:
        times = asked.times or LITTLE[name]
        good, line = TRIALS[name](times)
        print(f"{'ok ' if good else 'NO '} {name}: {line}", flush=True)
        failed += not good
        if asked.trial:
            kept(name, times, good, line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
