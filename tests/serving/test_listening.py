"""The port that is held, and the moment in which the door is closed."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys

import pytest

from deploykit.errors import InputError
from deploykit.serving.listening import Options, bound, let_nobody_in, listen
from deploykit.serving.server import held


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can drop what comes to a socket that listens")
def test_who_is_connected_stays_and_nobody_else_comes_in():
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = listening.getsockname()
        early = opened.enter_context(socket.create_connection(address))
        let_nobody_in(listening)
        early.sendall(b"before it was accepted")
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        accepted = opened.enter_context(listening.accept()[0])
        assert accepted.recv(100) == b"before it was accepted"
        accepted.sendall(b"answer")
        assert early.recv(100) == b"answer"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
        listening.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


def test_a_port_is_held_from_the_first_moment_on():
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        for listens in (False, True):
            if listens:
                listen(first, 5)
            with pytest.raises(
                InputError,
                match=rf"^cannot listen on port {port} of 127.0.0.1: address already in use; choose another with --port$",
            ):
                bound("127.0.0.1", port)
    bound("127.0.0.1", port).close()


def test_both_ports_are_held_before_anything_is_loaded():
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
    with (
        pytest.raises(
            InputError,
            match=rf"^cannot listen on port {port} of 127.0.0.1 for gRPC: it is that of HTTP; choose another with --grpc-port$",
        ),
        held(Options(port=port, grpc_port=port)),
    ):
        pass
    with held(Options(port=0, grpc_port=port)) as (sock, for_grpc):
        assert sock.getsockname()[1] not in (0, port)
        with (
            pytest.raises(
                InputError,
                match=rf"^cannot listen on port {port} of 127.0.0.1 for gRPC: address already in use; choose another with --grpc-port$",
            ),
            held(Options(port=0, grpc_port=port)),
        ):
            pass
        for_grpc.close()
        bound("127.0.0.1", port).close()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nothing is left of a connection")
def test_a_port_with_connections_that_are_still_closing_is_free():
    with bound("127.0.0.1", 0) as first:
        listen(first, 5)
        address = first.getsockname()
        with socket.create_connection(address) as caller:
            first.accept()[0].close()  # who closes first keeps what is left
            assert caller.recv(1) == b""
    with bound(*address) as again, pytest.raises(OSError, match="in use"), socket.socket() as plain:
        plain.bind(address)
        assert again


def test_who_loses_the_race_for_a_port_is_told_so_in_one_line():
    with bound("127.0.0.1", 0) as first, socket.socket() as second:
        port = first.getsockname()[1]
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listen(first, 5)
        with pytest.raises(OSError, match="in use"):
            second.bind(("127.0.0.1", port))

        class Lost:
            def setsockopt(self, *_):
                pass

            def listen(self, _):
                raise OSError(errno.EADDRINUSE, "Address already in use")

            def getsockname(self):
                return "127.0.0.1", port

        with pytest.raises(InputError, match=rf"^cannot listen on port {port} of 127.0.0.1: address already in use"):
            listen(Lost(), 5)
