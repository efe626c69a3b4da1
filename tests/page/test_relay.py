"""What the page's bench asks is handed on to a worker, over its private socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from gateway.page.relay import INFERENCE, Relay
from gateway.server.operator import OperatorServer


async def told(request: Request) -> Response:
    return JSONResponse(
        {
            "query": str(request.query_params),
            "authorization": request.headers.get("authorization"),
            "cookie": request.headers.get("cookie"),
            "body": (await request.body()).decode(),
        },
        418,
    )


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    return StreamingResponse(pieces())


async def breaks_off(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError

    return StreamingResponse(pieces())


async def echo(client: WebSocket) -> None:
    if client.query_params.get("model") == "none":
        return  # refused
    await client.accept()
    while (said := await client.receive())["type"] == "websocket.receive":
        if said.get("text") == "end":
            await client.close(1008, "ended")
            return
        await client.send(
            {"type": "websocket.send", "text": said.get("text"), "bytes": said.get("bytes")}
        )


@asynccontextmanager
async def served(app: Any, sock: socket.socket) -> AsyncIterator[None]:
    server = OperatorServer(app, websockets=True)
    task = asyncio.create_task(server.serve([sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def relayed(folder: Path, *, away: bool = False) -> AsyncIterator[str]:
    """The address of a relay to a worker."""
    routes = [
        Route("/told", told, methods=["POST"]),
        Route("/endless", endless),
        Route("/breaks-off", breaks_off),
        WebSocketRoute("/echo", echo),
    ]
    path = folder / "worker"
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as sock,
    ):
        unix.bind(str(path))
        worker = Starlette(routes=[Mount(INFERENCE, routes=routes)])
        relay = Relay(lambda: [] if away else [path])
        async with served(worker, unix), served(relay, sock):
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_a_request_is_handed_on_without_what_is_the_pages_own(tmp_path: Path) -> None:
    async with relayed(tmp_path) as url, aiohttp.ClientSession() as http:
        headers = {"authorization": "Bearer t", "cookie": "parley_page=secret"}
        async with http.post(f"{url}/told?a=1&b=%20", data=b"hello", headers=headers) as answer:
            assert answer.status == 418
            assert await answer.json() == {
                "query": "a=1&b=+",
                "authorization": "Bearer t",
                "cookie": None,
                "body": "hello",
            }


async def test_an_answer_comes_piece_by_piece_and_may_be_left(tmp_path: Path) -> None:
    async with (
        relayed(tmp_path) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/endless") as answer,
    ):
        assert await answer.content.readexactly(1000) == b"x" * 1000


async def test_an_answer_that_breaks_off_does_so_for_the_page_too(tmp_path: Path) -> None:
    async with (
        relayed(tmp_path) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/breaks-off") as answer,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_websocket_is_handed_on_both_ways_with_its_end(tmp_path: Path) -> None:
    async with (
        relayed(tmp_path) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/echo?model=m") as client,
    ):
        await client.send_str("words")
        assert (await client.receive()).data == "words"
        await client.send_bytes(b"\0\1")
        assert (await client.receive()).data == b"\0\1"
        await client.send_str("end")
        assert (await client.receive()).type is aiohttp.WSMsgType.CLOSE
        assert client.close_code == 1008


async def test_a_refused_websocket_is_refused(tmp_path: Path) -> None:
    async with relayed(tmp_path) as url, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{url}/echo?model=none")


async def test_without_a_worker_the_page_is_told(tmp_path: Path) -> None:
    async with (
        relayed(tmp_path, away=True) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}/told", data=b"") as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["error"]["message"] == "no worker answers"
