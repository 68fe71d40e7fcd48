"""What serving takes by default: said once, for the classes and for the functions whose options are those of the commands."""

from __future__ import annotations

import inspect
import sys

import pytest

from deploykit.serving import bodies, door, gate, inference, listening, models, process, server, triton
from deploykit.serving.packaging import package


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (models.Settings(), {
            "device": "auto", "threads": None, "instances": 1, "max_rows": 32, "delay": 0.0, "queue": 128, "timeout": 60.0,
            "allow_rejected": False,
        }),
        (bodies.Limits(), {"body": 64 * 1024**2, "held": 512 * 1024**2, "seconds": 60.0}),
        (listening.Options(), {
            "host": "127.0.0.1", "port": 8000, "grpc_port": None, "drain": 30.0, "drain_delay": 0.0, "token_file": None,
            "tls_certificate": None, "tls_key": None, "allow_reload": False, "limits": None,
        }),
        (triton.Wish(), {"max_batch_size": 32, "delay_us": 0, "instances": 1, "kind": "KIND_AUTO"}),
    ],
    ids=lambda made: type(made).__name__,
)  # fmt: skip
def test_settings(made, values):
    assert vars(made) == values


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (server.serve, {
            "host": "127.0.0.1", "port": 8000, "grpc_port": None, "names": (), "max_batch_size": 32, "max_queue_delay_us": 0,
            "instances": 1, "threads": None, "queue_size": 128, "timeout": 60.0, "device": "auto", "token_file": None,
            "tls_certificate": None, "tls_key": None, "allow_rejected": False, "allow_reload": False, "drain_seconds": 30.0,
            "drain_delay": 0.0, "access_log": None, "started": None,
        }),
        (package, {
            "kind": "triton", "out": "models", "names": (), "max_batch_size": 32, "max_queue_delay_us": 0, "instances": 1,
            "python_backend": False, "storage": "pvc://models", "allow_rejected": False,
        }),
    ],
    ids=lambda function: getattr(function, "__name__", ""),
)  # fmt: skip
def test_keywords(function, values):
    empty = inspect.Parameter.empty
    parameters = inspect.signature(function).parameters.values()
    assert {each.name: each.default for each in parameters if each.default is not empty} == values
    assert [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD] in (["files"], ["given"])


def test_what_a_request_may_be():
    assert (inference.MAX_ID, bodies.WORTH_IT) == (1024, 1400)
    assert inference.Inference({}, ()) == inference.Inference({}, (), "", None)
    assert inference.Wanted("x", True).classes == 0
    assert gate.MAX_TOKEN_FILE == 65_536
    assert set(gate.OPEN) == {"/v2/health/live", "/v2/health/ready", "/", "/page/page.js", "/page/style.css"}
    assert models.Model(None) == models.Model(None, {}, "UNAVAILABLE", "")


def test_the_process_is_configured_for_callers_of_its_own(monkeypatch):
    monkeypatch.setattr(process, "room_for", lambda connections: connections)
    found = process.config_of(None, listening.Options())
    assert found.http is door.Door
    assert {name: getattr(found, name) for name in (
        "log_config", "log_level", "access_log", "lifespan", "ws", "server_header", "proxy_headers", "backlog", "limit_concurrency",
        "timeout_keep_alive", "timeout_graceful_shutdown",
    )} == {
        "log_config": None, "log_level": "error", "access_log": False, "lifespan": "off", "ws": "none", "server_header": False,
        "proxy_headers": False, "backlog": 1024, "limit_concurrency": 4096, "timeout_keep_alive": 60, "timeout_graceful_shutdown": 30,
    }  # fmt: skip
    assert process.config_of(None, listening.Options(drain=0.2)).timeout_graceful_shutdown == 1
    assert process.config_of(None, listening.Options(drain=2.6)).timeout_graceful_shutdown == 3


def test_the_loop_and_the_protocol_are_the_fastest_that_are_installed(monkeypatch):
    made = server.fastest_loop()
    assert made is None or "uvloop" in made.__module__
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert server.fastest_loop() is None
    monkeypatch.setitem(sys.modules, "deploykit.serving.door", None)
    assert process.config_of(None, listening.Options()).http == "auto"


def test_where_it_listens_as_an_address():
    assert listening.Listening("::1", 8000, None, "https").address == "https://[::1]:8000"
    assert listening.Listening("127.0.0.1", 80, 9, "http").address == "http://127.0.0.1:80"
