"""The servers of serving.py: their environments, their processes, one request to each; see `_serving_peers` for what is in a file."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent / "_serving_peers"
REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 90.0
STOP_SECONDS = 20.0
TOKEN = "DEPLOYKIT_SERVING_BENCHMARK"  # in the environment of every process of a server, by which it is found to be ended


class NotStarted(Exception):
    """One line: why a server cannot be measured."""


def peers(only: Sequence[str] = ()) -> list[ModuleType]:
    """The files of `_serving_peers`, ours first; those named in `only` where it has any. Raises `SystemExit` for an unknown name."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    found = {peer.NAME: peer for peer in (importlib.import_module(f"_serving_peers.{name}") for name in names)}
    unknown = set(only) - set(found)
    if unknown:
        raise SystemExit(f"there is no server {sorted(unknown)}; there are: {', '.join(found)}")
    chosen = [peer for name, peer in found.items() if not only or name in only]
    return sorted(chosen, key=lambda peer: (peer.NAME != "deploykit", peer.NAME))


def make(folder: Path, chosen: Sequence[ModuleType], onnxruntime: str) -> int:
    """A virtual environment for each, one after the other, with what pip installed written beside it; the number that failed."""
    failed = 0
    for peer in chosen:
        place = folder / peer.NAME
        needed = [
            part.format(repository=REPOSITORY, onnxruntime=f"onnxruntime=={onnxruntime}") for part in (*peer.REQUIREMENTS, "numpy")
        ]
        print(f"{peer.NAME}: {' '.join(needed)}", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
            pip = [python(place), "-m", "pip", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", "-q", *needed], check=True, env=clean())
            listed = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True, text=True, env=clean())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{peer.NAME}: not made: {error}", flush=True)
            failed += 1
            continue
        found = {entry["name"].lower(): entry["version"] for entry in json.loads(listed.stdout)}
        (place / "versions.json").write_text(json.dumps(found, indent=1))
    return failed


def clean() -> dict[str, str]:
    """The variables of this process without those that would change another Python, or the number of its threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OMP_", "RAY_", "VIRTUAL_ENV"))}


def python(place: Path) -> Path:
    """The interpreter of an environment."""
    return place / "bin" / "python"


def versions(folder: Path, peer: ModuleType) -> dict[str, str]:
    """Of the packages that decide its speed; empty where its environment is not there."""
    try:
        found = json.loads((folder / peer.NAME / "versions.json").read_text())
    except (OSError, ValueError):
        return {}
    told = (peer.NAME, "onnxruntime", "numpy", "uvicorn", "starlette", "fastapi", "uvloop", "httptools")
    return {name: found[name] for name in told if name in found}


class Running:
    """A server that answers `port`, rightly; `request` is what to send it."""

    def __init__(self, port: int, request: bytes, token: str) -> None:
        self.port = port
        self.request = request
        self._token = token

    def cpu(self) -> float:
        """Seconds of CPU that its processes have taken so far."""
        ticks = 0
        for pid in _with_token(self._token):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # user and system time, after the state and eight numbers
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(folder: Path, peer: ModuleType, file: Path, threads: int, values: bytes, right: Sequence[float]) -> Iterator[Running]:
    """Start it, wait until it gives the `right` logits for `values`; end it and all its processes. Raises `NotStarted`."""
    place = folder / peer.NAME
    if not python(place).exists():
        raise NotStarted(f"no environment in {place.name}: make it with the command `environments`")
    port, token = free_port(), uuid.uuid4().hex
    settings = {"PEER_FILE": str(file), "PEER_THREADS": str(threads), TOKEN: token, "PYTHONUNBUFFERED": "1"}
    settings["PATH"] = f"{place / 'bin'}:{os.environ.get('PATH', '')}"
    with tempfile.TemporaryDirectory(prefix="serving-") as own, (Path(own) / "log").open("w+b") as log:
        work = Path(own) / "work"
        work.mkdir()
        process = subprocess.Popen(
            [python(place), FOLDER / f"{peer.__name__.rpartition('.')[2]}.py", file, str(port), str(threads), work],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=work, env={**clean(), **settings},
        )  # fmt: skip
        try:
            _await(process, peer, port, values, right, log)
            yield Running(port, request_of(peer, values, port), token)
        finally:
            _end(process, token)


def request_of(peer: ModuleType, values: bytes, port: int) -> bytes:
    """One HTTP request as bytes, for a connection that is kept."""
    sent = peer.body(values)
    headers = {"Host": f"127.0.0.1:{port}", **peer.HEADERS, "Content-Length": str(len(sent))}
    lines = [f"POST {peer.PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + sent


def free_port() -> int:
    """A port of loopback that is free, as are the two above it, for a server that takes more than one."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for more in (1, 2):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + more))
            except (OSError, OverflowError):
                continue
            return port


def _await(
    process: subprocess.Popen[bytes], peer: ModuleType, port: int, values: bytes, right: Sequence[float], log: object
) -> None:
    end, said = time.monotonic() + START_SECONDS, "no answer"
    while time.monotonic() < end:
        if process.poll() is not None:
            raise NotStarted(f"it ended with status {process.returncode}: {_last_line(log)}")
        time.sleep(0.2)
        try:
            status, data = _ask(peer, port, values)
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
            continue
        if status == 200:
            found = peer.logits(data)
            if len(found) == len(right) and all(abs(a - b) <= 1e-3 * (1 + abs(b)) for a, b in zip(found, right, strict=True)):
                return
            raise NotStarted(f"it gives other logits: {found[:3]}, not {list(right)[:3]}")
        said = f"status {status}: {data[:120]!r}"
    raise NotStarted(f"not ready within {START_SECONDS:g} seconds: {said}; {_last_line(log)}")


def _ask(peer: ModuleType, port: int, values: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", peer.PATH, peer.body(values), peer.HEADERS)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _last_line(log: object) -> str:
    log.seek(0)  # type: ignore[attr-defined]
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]  # type: ignore[attr-defined]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["it said nothing"])[-1][:200]


def _end(process: subprocess.Popen[bytes], token: str) -> None:
    """SIGTERM to the server; what is left of its processes is killed, found by the token in their environment."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    for _ in range(3):
        left = _with_token(token)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.2)
    process.wait(10)


def _with_token(token: str) -> list[int]:
    wanted, found = f"{TOKEN}={token}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
    return found
