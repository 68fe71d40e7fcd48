"""Where the server listens: its options, the socket that holds its port, its certificate."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import ssl
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.errors import InputError, first_line
from deploykit.serving.bodies import Limits


@dataclass(frozen=True)
class Options:
    """Where and how to listen. `drain_delay`: seconds in which it goes on after SIGTERM, no longer ready; `drain`: to finish in."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    drain: float = 30.0
    drain_delay: float = 0.0
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_reload: bool = False
    limits: Limits | None = None


@dataclass
class Listening:
    """Where the server answers, for whoever started it."""

    host: str
    port: int
    grpc_port: int | None
    scheme: str

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:8000."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def bound(host: str, port: int, grpc: bool = False) -> socket.socket:
    """A socket that holds the port and does not listen yet: while models are loaded nobody is kept waiting. Raises `InputError`.

    `grpc`: the port is that of gRPC, for the message.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(found[0], found[1], found[2])
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host!r:.80}: {first_line(error)}", "give an address of this machine with --host"
        ) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _bind(sock, found[4])
    except (OSError, OverflowError) as error:
        sock.close()
        raise _taken(host, port, error, grpc) from error
    return sock


def _bind(sock: socket.socket, address: Any) -> None:
    """Hold an address alone: with SO_REUSEADDR, as many servers as like may hold a port on which none of them listens yet.

    Only where connections of a server that was killed are still there is it needed to get the port at all.
    """
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or os.name != "posix":
            raise
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)


def listen(sock: socket.socket, backlog: int) -> None:
    """Let callers in. Raises `InputError` where another server listens there by now."""
    if os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is left of its connections will keep nobody from the port
    try:
        sock.listen(backlog)
    except OSError as error:
        host, port = sock.getsockname()[:2]
        raise _taken(host, port, error) from error


def _taken(host: str, port: int, error: Exception, grpc: bool = False) -> InputError:
    what, option = (" for gRPC", "--grpc-port") if grpc else ("", "--port")
    return InputError(f"cannot listen on port {port} of {host}{what}: {first_line(error)}", f"choose another with {option}")


def certificate_of(options: Options) -> ssl.SSLContext | None:
    """What TLS is spoken with; `None` where it is not. Raises `InputError` for files that cannot be used."""
    if options.tls_certificate is None and options.tls_key is None:
        return None
    if options.tls_certificate is None or options.tls_key is None:
        raise InputError("TLS needs a certificate and its key", "give both --tls-certificate and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the certificate cannot be used: {first_line(error)}", "give PEM files of a certificate and its key"
        ) from error
    return context


def pem_of(options: Options) -> tuple[bytes, bytes] | None:
    """Key and certificate as they lie in their files; `None` without TLS."""
    if options.tls_key is None or options.tls_certificate is None:
        return None
    return options.tls_key.read_bytes(), options.tls_certificate.read_bytes()


def let_nobody_in(sock: socket.socket) -> None:
    """From here on the system drops what callers send who are not connected yet; where it cannot, nothing changes.

    One that connects between the last `accept` and the closing of the socket would be reset. Its first packet is dropped instead:
    it is sent again a second later, and refused then, before the caller has sent any request. Linux alone can do that.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction of BPF: return 0 bytes
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(program)))  # 26: SO_ATTACH_FILTER
