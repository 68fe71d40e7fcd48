"""The unmodified tritonclient against the server, by an interpreter that has it: this one, or that of an environment of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from serving_process import Server  # noqa: E402

HAS_GRPC = importlib.util.find_spec("grpc") is not None


@pytest.fixture(scope="module")
def python():
    """The interpreter: $TRITONCLIENT_PYTHON, that of `make tritonclient`, or this one."""
    own = ROOT / ".venv-tritonclient" / "bin" / "python"
    given = os.environ.get("TRITONCLIENT_PYTHON")
    if given:
        return given
    if own.exists():
        return str(own)
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("tritonclient is not installed: `make tritonclient` makes an environment for it")
    return sys.executable


@pytest.fixture(scope="module")
def server(repository):
    more = ["--grpc-port", "0"] if HAS_GRPC else []
    with Server([repository], "--max-batch-size", "8", "--threads", "1", *more) as server:
        yield server
    assert server.process.returncode == 0
    assert not [line for line in server.lines if "Traceback" in line]


def said(python, script, *arguments):
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run([python, script, *arguments], capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_http(python, server):
    assert said(python, HERE / "client_http.py", f"127.0.0.1:{server.port}") == ["sync", "aio"]


def test_grpc(python, server):
    if not HAS_GRPC:
        pytest.skip("the extra grpc is not installed")
    if subprocess.run([python, "-c", "import tritonclient.grpc"], capture_output=True, check=False).returncode:
        pytest.skip("tritonclient's gRPC part is not installed")
    found = said(python, HERE / "client_grpc.py", f"127.0.0.1:{server.grpc_port}")
    assert found == ["sync", "stream", "typed", "aio"]


@pytest.mark.parametrize("first", ["tritonclient.grpc", "deploykit.serving.grpc_messages"])
def test_both_in_one_process_in_either_order(first):
    for name in ("tritonclient", "grpc", "google.protobuf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed here")
    code = (
        f"import {first}\n"
        "from tritonclient.grpc import service_pb2 as theirs\n"
        "from deploykit.serving.grpc_messages import MESSAGES, message\n"
        "ours = message('ModelInferRequest')(model_name='a', id='b', raw_input_contents=[b'c'])\n"
        "ours.parameters['p'].int64_param = 3\n"
        "ours.inputs.add(name='x', datatype='FP32', shape=[1, -1]).contents.fp32_contents.append(0.5)\n"
        "assert theirs.ModelInferRequest.FromString(ours.SerializeToString()).SerializeToString() == ours.SerializeToString()\n"
        "from tritonclient.grpc import model_config_pb2\n"
        "for line in MESSAGES.strip().splitlines():\n"
        "    name = line.split(':')[0]\n"
        "    other = theirs\n"
        "    for part in name.split('.'):\n"
        "        other = getattr(other, part, None) or getattr(model_config_pb2, part)\n"
        "    known = {f.name: (f.number, f.type) for f in other.DESCRIPTOR.fields}\n"
        "    mine = {f.name: (f.number, f.type) for f in message(name).DESCRIPTOR.fields}\n"
        "    assert mine.items() <= known.items(), (name, mine, known)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
