"""The operator's server: bounded as the callers', and deaf to signals."""

from __future__ import annotations

import asyncio
import signal
import socket

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.server.http1 import URL_BYTES_MAX
from gateway.server.operator import OperatorServer


async def _hello(request: Request) -> Response:
    return Response("hello")


async def asked(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    reply = await reader.read()
    writer.close()
    return reply


async def test_it_serves_until_it_is_told_to_end_and_leaves_signals_alone() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    server = OperatorServer(Starlette(routes=[Route("/hello", _hello)]))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        serving = asyncio.create_task(server.serve([sock]))
        port = sock.getsockname()[1]
        while not server.started:
            await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGTERM) is handler
        reply = await asked(port, b"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert reply.endswith(b"\r\n\r\nhello")
        reply = await asked(port, b"GET /" + b"x" * URL_BYTES_MAX)
        assert reply.startswith(b"HTTP/1.1 414 ")
        server.should_exit = True
        await serving
