"""The process: what ends it, what it refuses to begin with, and callers that behave badly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving_files import digits, doubling, own_certificate
from small_models import counting

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from serving_process import Load, Server

from deploykit.cli import cli
from deploykit.errors import InputError

BODY = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
PATH = "/v2/models/doubling/infer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for name, model in (("doubling", doubling()), ("digits", digits())):
        (root / name).mkdir()
        (root / name / "model.onnx").write_bytes(model.SerializeToString())
    return root


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("# ours\n" + "s" * 32 + "\n")
    return path


@pytest.fixture(scope="module")
def server(folder):
    with Server([folder], "--threads", "1") as server:
        yield server
    assert server.process.returncode == 0


def begun(*arguments):
    """What the command raises before anything answers."""
    with pytest.raises(InputError) as refused:
        cli.main(["serve", *map(str, arguments)], standalone_mode=False)
    assert refused.value.exit_status == 2
    return str(refused.value)


def test_what_it_does_not_begin_with(folder, tmp_path, server):
    assert "already in use" in begun(folder, "--port", server.port)
    assert "no models are in" in begun(tmp_path)
    assert "two models have the name" in begun(folder, folder / "digits/model.onnx", "--port", 0)
    rejected = tmp_path / "rejected.onnx"
    rejected.write_bytes(digits("different").SerializeToString())
    assert "--allow-rejected" in begun(rejected, "--port", 0)
    assert "cannot listen on 'nowhere.invalid'" in begun(folder, "--host", "nowhere.invalid")
    assert "cannot listen on port" in begun(folder, "--host", "192.0.2.1")
    assert "cannot be read" in begun(folder, "--token-file", tmp_path / "none")
    (tmp_path / "short").write_text("short\n")
    assert "too short" in begun(folder, "--token-file", tmp_path / "short")
    (tmp_path / "empty").write_text("\n# none\n")
    assert "holds no token" in begun(folder, "--token-file", tmp_path / "empty")
    assert "both" in begun(folder, "--tls-certificate", tmp_path / "short")
    assert "certificate cannot be used" in begun(folder, "--tls-certificate", tmp_path / "short", "--tls-key", tmp_path / "short")


def test_a_line_of_json_for_every_request(server):
    server.ask("GET", "/v2/models/%0anone%22")
    server.ask("POST", PATH, BODY)
    time.sleep(0.2)
    first, second = [json.loads(line) for line in server.lines if line.startswith("{")][-2:]
    assert (first["status"], first["path"]) == (404, '/v2/models/\nnone"')
    assert (second["status"], second["model"], second["batch"], second["bytes_in"]) == (200, "doubling", 1, len(BODY))
    assert second["computed_ms"] <= second["ms"]


def test_callers_that_go_away_and_callers_that_are_slow_hold_up_nobody(server):
    half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for number, sock in enumerate(half):
        sock.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()[: 20 + 10 * number])
    gone = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for sock in gone:
        sock.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        sock.close()
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        os.urandom(300),
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(garbage)
    assert server.ask("POST", PATH, BODY)[0] == 200
    for sock in half:
        sock.close()
    assert server.ask("POST", PATH, BODY)[0] == 200
    assert not [line for line in server.lines if "Traceback" in line]


def test_a_reload_under_load_loses_nothing(server):
    with Load(server, PATH, BODY, callers=4) as load:
        load.wait_for(20)
        for _ in range(3):
            before = sum("loaded again" in line for line in server.lines)
            server.process.send_signal(signal.SIGHUP)
            for _ in range(600):
                if sum("loaded again" in line for line in server.lines) >= before + 2:
                    break
                time.sleep(0.05)
        load.wait_for(sum(load.statuses.values()) + 20)
    assert set(load.statuses) == {200}
    assert not load.lost
    assert sum("loaded again" in line for line in server.lines) == 6, server.lines[-5:]


@pytest.mark.parametrize("keep", [True, False])
def test_sigterm_under_load_loses_no_accepted_request(folder, keep):
    server = Server([folder / "doubling"], "--threads", "1")
    with Load(server, PATH, BODY, callers=8, keep=keep) as load:
        load.wait_for(50)
        assert server.end(signal.SIGTERM) == 0
    assert not load.lost
    assert set(load.statuses) == {200}
    assert load.turned_away
    with Server([folder / "doubling"], "--threads", "1", port=server.port) as again:
        assert again.ask("POST", PATH, BODY)[0] == 200
        again.process.kill()
    with Server([folder / "doubling"], "--threads", "1", port=server.port) as again:  # its port is free at once
        assert again.ask("GET", "/v2/health/ready")[0] == 200
        assert again.end(signal.SIGINT) == 130


def test_a_token_is_needed_where_there_is_one(folder, token_file):
    with Server([folder / "doubling"], "--token-file", str(token_file), "--threads", "1") as server:
        for given, status in (
            (None, 401), ("Bearer " + "s" * 31, 401), ("Basic " + "s" * 32, 401), ("Bearer", 401), ("Bearer " + "s" * 32, 200),
            ("bearer " + "s" * 32, 200), ("Bearer " + "ß" * 16, 401),
        ):  # fmt: skip
            headers = {} if given is None else {"Authorization": given}
            assert server.ask("GET", "/v2/models/doubling", headers=headers)[0] == status
        assert server.ask("GET", "/v2/health/live")[0] == 200
        status, body = server.ask("POST", PATH, BODY)
        assert (status, list(json.loads(body))) == (401, ["error"])
        assert not any("s" * 32 in line for line in server.lines)


def test_tls(folder, tmp_path):
    certificate, key = own_certificate(tmp_path)
    with Server([folder / "doubling"], "--tls-certificate", str(certificate), "--tls-key", str(key), "--threads", "1") as server:
        import http.client
        import ssl

        context = ssl.create_default_context(cafile=certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
        connection.request("POST", PATH, BODY)
        assert connection.getresponse().status == 200
        connection.close()


def test_more_callers_than_there_is_room_for_get_an_answer_or_a_refusal_until_the_end(folder):
    server = Server([folder / "doubling"], "--threads", "1", "--queue-size", "2", "--max-batch-size", "2")
    with Load(server, PATH, BODY, callers=24) as load:
        load.wait_for(300)
        before = dict(load.statuses)
        assert server.end(signal.SIGTERM) == 0
    assert before[200] > 0
    assert before[503] > 0
    assert set(load.statuses) == {200, 503}
    assert not load.lost
    refused = [json.loads(line) for line in server.lines if '"status": 503' in line]
    assert {line["error"] for line in refused} <= {
        "2 requests wait already, which is the limit; try again later", "2 requests wait already, which is the limit",
    }  # fmt: skip
    assert not [line for line in server.lines if "Traceback" in line]


class Unread(Server):
    """One whose stderr nobody reads any more once it answers."""

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if "listening on" in line:
                break
        self._ready.set()


def test_whoever_does_not_read_the_log_holds_up_nobody(folder):
    server = Unread([folder / "doubling"], "--threads", "1")
    for _ in range(150):
        assert server.ask("GET", "/" + "a" * 480)[0] == 404  # a line of 900 bytes; a pipe holds 64 kB
    assert server.end() == 0


@pytest.fixture
def endless(tmp_path):
    """A network that is asked to count as far as nobody can, and the whole request."""
    (tmp_path / "counter.onnx").write_bytes(counting().SerializeToString())
    body = json.dumps({"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [1 << 60]}]}).encode()
    head = f"POST /v2/models/counter/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return tmp_path / "counter.onnx", head.encode() + body


def sent(server, request):
    """A connection on which that request is being computed."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    sock.sendall(request)
    while b'deploykit_pending_requests{model="counter",version="1"} 1' not in server.ask("GET", "/metrics")[1]:
        time.sleep(0.01)
    return sock


def test_a_second_signal_ends_it_while_a_network_runs(endless):
    server = Server([endless[0]], "--threads", "1")
    with sent(server, endless[1]):
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.7)
        assert server.end(signal.SIGTERM) == -signal.SIGTERM


def test_a_network_that_runs_on_does_not_outlast_the_drain(endless):
    server = Server([endless[0]], "--threads", "1", "--drain-seconds", "1")
    with sent(server, endless[1]) as sock:
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 10
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"the server ends" in answer
    assert not any("Traceback" in line for line in server.lines)


def test_ports_are_refused_in_one_line(folder, server):
    assert f"cannot listen on port {server.port} of 127.0.0.1: address already in use" in begun(folder, "--port", server.port)
    pytest.importorskip("grpc", reason="the extra grpc is not installed")
    assert f"cannot listen on port {server.port} of 127.0.0.1 for gRPC" in begun(folder, "--port", 0, "--grpc-port", server.port)
