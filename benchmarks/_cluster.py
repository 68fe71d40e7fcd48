"""What `cluster.py` measures with: images, three machines in one, a driver of its own process, and whether rows are right."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])])
warnings.simplefilter("ignore")

FILE = ROOT / "trained" / "lenet5" / "model.onnx"
SIDE = 160  # pixels: a digit is enlarged to it, so that an image is some work
OBJECTS = 100 << 20


def images(folder: Path, count: int, side: int = SIDE) -> Path:
    """`count` digits as PNG files, each with a stroke of its own."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = (load_digits().images * 15).astype("uint8")
    random = np.random.default_rng(19)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = digits[number % len(digits)].copy()
        pixels[random.integers(8), random.integers(8)] = random.integers(256)
        Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(folder / f"{number:07}.png", compress_level=1)
    return folder


class Machines:
    """Ray's `Cluster` of `count` machines with a CPU each, in this one; gone at the end of the block."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        plain = {"num_cpus": 1, "object_store_memory": OBJECTS}
        self.cluster = Cluster(initialize_head=True, head_node_args={**plain, "include_dashboard": False})
        self._nodes = [self.cluster.add_node(**plain) for _ in range(count - 1)]
        self.address: str = self.cluster.address

    def lose_one(self) -> None:
        """SIGKILL to all processes of a machine."""
        with contextlib.redirect_stdout(sys.stderr):
            self.cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()


def parts_in(out: Path) -> int:
    """How many parts are answered."""
    return len(list(out.glob("part-*"))) if out.is_dir() else 0


class Watch:
    """A `Progress` that calls `then` once, when `share` of the rows is there; keeps (seconds, rows) as they come in `seen`."""

    def __init__(self, share: float = 2.0, then: Callable[[], object] = lambda: None) -> None:
        self._share, self._then = share, then
        self._total, self.rows = 0, 0
        self.seen: list[tuple[float, int]] = []
        self.said: list[str] = []

    def start(self, task: str, total: int | None = None) -> None:
        """See `Progress.start`."""
        self._total = total or 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        """See `Progress.advance`."""
        self.rows += steps
        self.seen.append((time.perf_counter(), self.rows))
        if self._total and self.rows >= self._share * self._total:
            self._share = 2.0
            self._then()

    def say(self, line: str) -> None:
        """See `Progress.say`."""
        self.said.append(line)


def killed_driver(program: list[str], given: list[Any], out: Path, enough: Callable[[Path], bool], seconds: float = 300) -> None:
    """Run a driver in a process of its own, and SIGKILL to it when `enough` of `out` is there."""
    command = [sys.executable, *program, *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        until = time.monotonic() + seconds
        while driver.poll() is None and not enough(out) and time.monotonic() < until:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)


def wrong_rows(out: Path, folder: Path, batch_size: int = 64) -> dict[str, int]:
    """Rows that are missing, there twice, or not what `predict_many` says in this process, bit for bit."""
    import pyarrow.parquet as pq

    from deploykit import Predictor

    rows = pq.read_table(out).sort_by("row").to_pylist()
    with Predictor(FILE, "cpu") as model:
        alone = list(model.predict_many(str(folder), batch_size))
    numbers = [row["row"] for row in rows]
    first = {row["row"]: row for row in rows}
    other = sum(
        (found := first.get(number)) is not None
        and (found["path"], found["label"], found["score"], found["error"])
        != (answer.path, answer.label, answer.score, answer.error)
        for number, answer in enumerate(alone)
    )
    return {"missing": len(alone) - len(first), "twice": len(numbers) - len(first), "different": other}


def memory_of(processes: set[int]) -> int:
    """Resident bytes of processes of this machine that are there, without what they share with others."""
    total = 0
    for pid in processes:
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{pid}/statm").read_text().split()
            total += (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return total


def workers() -> set[int]:
    """The processes of deploykit's actors on this machine."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::Worker"):
                found.add(int(path.parent.name))
    return found


@contextlib.contextmanager
def own_ray(cpus: int) -> Iterator[Any]:
    """Ray on this machine with so many CPUs."""
    import ray

    ray.init(num_cpus=cpus, object_store_memory=OBJECTS, include_dashboard=False, log_to_driver=False, logging_level="critical")
    try:
        yield ray
    finally:
        ray.shutdown()
