"""What every fake provider shares: a loopback server in its own thread that records and misbehaves.

    with FakeOpenAI() as fake:
        fake.script("status:500", "text")
        ...
        assert fake.received[0].body["model"] == "gpt-4.1-mini"

A fake for another provider names its routes and writes one handler; for a WebSocket it uses
`Exchange.said` and `Exchange.heard` to record the frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDict

from tests.ports import HOST, Port

BODY_BYTES_MAX = 64 * 1024 * 1024  # tests send 10 MB messages on purpose
RECEIVED_MAX = 10_000
START_TIMEOUT_S = 60.0
POLL_S = 0.005

Handler = Callable[[web.Request, "Exchange"], Coroutine[Any, Any, web.StreamResponse]]


@dataclass
class Exchange:
    """One request or connection as the provider saw it. Times are `time.monotonic()`."""

    method: str
    path: str
    query: dict[str, str]
    headers: CIMultiDict[str]
    scenario: str = ""
    raw: bytes = b""
    heard: list[str | bytes] = field(default_factory=list)  # WebSocket frames from the client
    said: list[str | bytes] = field(default_factory=list)  # and to it
    started_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    disconnected_at: float | None = None  # when the client went away before the end
    failure: str | None = None  # a mistake in the fake itself

    @property
    def body(self) -> Any:
        """The body as JSON; None if it is not."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None

    @property
    def disconnected_early(self) -> bool:
        return self.disconnected_at is not None


class FakeServer:
    """Runs on an ephemeral port of 127.0.0.1 from `start` to `stop`, or as a context manager."""

    def __init__(self) -> None:
        self.received: deque[Exchange] = deque(maxlen=RECEIVED_MAX)
        self._script: deque[str] = deque()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._port: Port | None = None
        self.port = 0

    # -- for subclasses

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        """Method, path and handler of everything that is served."""
        raise NotImplementedError

    def next_scripted(self) -> str | None:
        with self._lock:
            return self._script.popleft() if self._script else None

    # -- for tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *scenarios: str) -> None:
        """What to play for the next requests, one each; then the request itself decides again."""
        with self._lock:
            self._script.extend(scenarios)

    def forget(self) -> None:
        """Start over: nothing received, nothing scripted."""
        with self._lock:
            self._script.clear()
        self.received.clear()

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> bool:
        """Whether the condition came true in time; for what the server learns a little later."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def start(self) -> Self:
        self._port = Port()
        self.port = self._port.number
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=type(self).__name__, daemon=True)
        self._thread.start()
        self._in_loop(self._open())
        return self

    def stop(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_TIMEOUT_S)
        self._loop.close()
        self._loop = self._thread = None
        if self._port is not None:
            self._port.release()
            self._port = None

    def refuse(self) -> None:
        """Refuse connections from now on, on the same port."""
        self._in_loop(self._stop_listening())

    def listen(self) -> None:
        """Undo `refuse`."""
        self._in_loop(self._listen())

    def hang_up(self) -> None:
        """Cut every connection that is open."""
        self._in_loop(self._hang_up())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self.stop)

    # -- the server itself

    def _serve(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT_S)

    async def _open(self) -> None:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        for method, path, handler in self.routes():
            app.router.add_route(method, path, self._recorded(handler))
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
        await self._site.start()

    async def _stop_listening(self) -> None:
        assert self._site is not None
        await self._site.stop()

    async def _hang_up(self) -> None:
        assert self._runner is not None
        for connection in list(self._runner.server.connections if self._runner.server else []):
            if connection.transport is not None:
                connection.transport.abort()

    async def _close(self) -> None:
        assert self._runner is not None
        await self._hang_up()
        await self._runner.cleanup()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _recorded(self, handler: Handler) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            exchange = Exchange(
                method=request.method,
                path=request.path,
                query=dict(request.query),
                headers=CIMultiDict(request.headers),
            )
            self.received.append(exchange)
            try:
                if request.headers.get("Upgrade", "").lower() != "websocket":
                    exchange.raw = await request.read()
                return await handler(request, exchange)
            except (asyncio.CancelledError, ConnectionError):
                exchange.disconnected_at = time.monotonic()
                raise
            except Exception as error:
                exchange.failure = repr(error)
                raise
            finally:
                exchange.ended_at = time.monotonic()

        return handle


def reset(request: web.Request) -> None:
    """Cut the connection with a TCP reset, as a crashing provider does."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def cut(request: web.Request) -> None:
    """Close the connection properly but in the middle of the body."""
    if request.transport is not None:
        request.transport.close()
