"""The moment in which the door is closed."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from deploykit.serving.listening import let_nobody_in


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
