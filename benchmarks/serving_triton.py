"""The real tritonserver serves what `deploykit package --with-python-backend` writes, and answers like the file. Exit 1 if not.

python -m venv /tmp/pytriton && /tmp/pytriton/bin/pip install nvidia-pytriton onnxruntime
python benchmarks/serving_triton.py --python /tmp/pytriton/bin/python

The wheel of nvidia-pytriton holds Triton's own binary with its Python backend alone, so the variant of the onnxruntime backend is not run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import deploykit
from deploykit.runtime import Predictor

SHIPPED = Path(__file__).parents[1] / "trained" / "lenet5" / "model.onnx"
WHERE = "import sysconfig, sys; print(sysconfig.get_path('purelib'), f'{sys.version_info[0]}.{sys.version_info[1]}')"


def started(python: Path, repository: Path, folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    """Triton on these three ports of loopback (HTTP, gRPC, metrics), with the stub of that Python beside its backend."""
    packages, version = subprocess.run([python, "-c", WHERE], capture_output=True, text=True, check=True).stdout.split()
    triton = Path(packages) / "pytriton" / "tritonserver"
    shutil.copytree(triton / "backends", folder / "backends")
    for file in (triton / "python_backend_stubs" / version).iterdir():
        shutil.copy(file, folder / "backends" / "python")
    base = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    env = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": packages,
        "LD_LIBRARY_PATH": f"{Path(packages) / 'nvidia_pytriton.libs'}{os.pathsep}{base}/lib",
    }
    command = [
        triton / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={folder / 'backends'}",
        f"--http-port={ports[0]}", f"--grpc-port={ports[1]}", f"--metrics-port={ports[2]}", "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1", "--backend-config=python,shm-default-byte-size=4194304",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=env)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    socks = [socket.socket() for _ in range(count)]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def answered(port: int, batch: np.ndarray) -> np.ndarray:
    """The logits of Triton for a batch, in JSON."""
    entry = {"name": "input", "datatype": "FP32", "shape": list(batch.shape), "data": batch.ravel().tolist()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v2/models/lenet5_python/infer", json.dumps({"inputs": [entry]}))
    response = connection.getresponse()
    said = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise RuntimeError(said)
    return np.array(said["outputs"][0]["data"], np.float32).reshape(said["outputs"][0]["shape"])


def is_ready(port: int) -> bool:
    """Whether every model of the server is loaded and warm."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main() -> int:
    """Package, start, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, required=True, help="an interpreter with nvidia-pytriton and onnxruntime")
    python = parser.parse_args().python.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deploykit.package(SHIPPED, out=folder / "models", max_batch_size=8, python_backend=True)
        shutil.rmtree(folder / "models" / "lenet5")
        ports = free_ports(3)
        server = started(python, folder / "models", folder, ports)
        try:
            end = time.monotonic() + 90
            while not is_ready(ports[0]):
                if server.poll() is not None or time.monotonic() > end:
                    print((folder / "log").read_text()[-3000:])
                    return 1
                time.sleep(0.3)
            batch = np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype(np.float32)
            with Predictor(SHIPPED, "cpu") as model:
                expected = model.run(batch)
            worst = float(np.abs(answered(ports[0], batch) - expected).max())
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    print(f"Triton's answers differ by at most {worst:.2g} from the file's, whose largest is {float(np.abs(expected).max()):.3g}")
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
