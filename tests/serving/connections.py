"""Connections to our own protocol, served by the loop of the test: what is sent byte by byte, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json

from uvicorn.server import ServerState

from deploykit.serving import door, gate, listening, process
from deploykit.serving.app import application

BODY = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
PATH = "/v2/models/m/infer"


def request(body=BODY, path=PATH, method="POST", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Caller:
    """One connection. `heads`: those of the answers that it got."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def answer(self):
        """(status, headers, document) of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body) if body else None

    async def ask(self, data):
        self.writer.write(data)
        return await self.answer()


@contextlib.asynccontextmanager
async def calling(service, tokens=None, log=None, idle=60, most=4096):
    """A connection to a server of this loop; its doors are in `caller.doors`, what it counts in `caller.state`.

    `idle`: seconds after which a connection is closed; `most`: connections at a time.
    """
    config = process.config_of(gate.Gate(application(service), service, tokens, log), listening.Options())
    config.load()
    config.timeout_keep_alive, config.limit_concurrency = idle, most
    state, doors = ServerState(), []

    def made():
        doors.append(door.Door(config=config, server_state=state, app_state={}))
        return doors[-1]

    opened = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*opened.sockets[0].getsockname())
    caller = Caller(reader, writer)
    caller.doors, caller.state, caller.address = doors, state, opened.sockets[0].getsockname()
    try:
        yield caller
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        opened.close()
        await opened.wait_closed()
        while state.connections:
            await asyncio.sleep(0.001)
