"""Opens a Dial: the only place that talks to providers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

from gateway.runtime.loop import TURN_S, Inbox
from gateway.runtime.pace import PacedConnector
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind, kind_of_status
from gateway.upstreams.events import (
    BodyChunk,
    BodyEnd,
    ConnectionFailed,
    ResponseHead,
    SocketClosed,
    SocketEvent,
    SocketFrame,
)

READ_BYTES: Final = 1 << 16
"""Upstream bytes buffered before reading pauses (aiohttp pauses at twice this)."""

PIECE_BYTES: Final = 8 << 10
"""An upstream's body is handed on in pieces of at most so many bytes: they may be 800 events, which
take some milliseconds, and between two pieces others get their turn."""

KEEPALIVE_S: Final = 75.0
"""How long an idle upstream connection is kept for the next request."""

LARGE_BYTES: Final = 256 << 10
"""A request body longer than this is sent in parts."""

WARM_S: Final = 5.0
"""How long warming one connection may take."""

WARM_BYTES: Final = 1 << 20
"""So much of the answer is read; with more to come the connection is not kept."""

END_S: Final = 1.0
"""How long the end of a body is waited for after its last event."""

CLOSE_S: Final = 2.0
"""How long the goodbye of a WebSocket is waited for."""

CONTROLS_MAX: Final = 10_000
"""Pings and pongs in a row: one every two seconds of a session of six hours."""

SocketSink = Callable[[SocketEvent], Awaitable[object] | None]
"""Takes an event of an upstream socket at once. Returns None, or what to await before the socket
is read further. An `Inbox` is one."""

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class UpstreamSocket:
    """An open WebSocket to a provider."""

    __slots__ = ("_socket",)

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = websocket

    async def send(self, frame: str | bytes) -> None:
        """Send one message; waits while the provider does not read. Raises ConnectionError."""
        if isinstance(frame, str):
            await self._socket.send_str(frame)
        else:
            await self._socket.send_bytes(frame)

    async def listen(self, attempt: int, sink: SocketSink) -> None:
        """Hand every message to `sink`, at last SocketClosed or ConnectionFailed. While `sink` has
        returned something to await, the socket is read no further. Messages that came together are
        there at once: every TURN_S others have their turn."""
        rested_at = time.monotonic()
        controls = 0
        while True:
            message = await self._socket.receive()
            now = time.monotonic()
            if now - rested_at > TURN_S:
                rested_at = now
                await asyncio.sleep(0)
            match message.type:
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    controls = 0
                    full = sink(SocketFrame(attempt, message.data))
                    if full is not None:
                        await full
                case aiohttp.WSMsgType.PING | aiohttp.WSMsgType.PONG:
                    controls += 1
                    if controls > CONTROLS_MAX:
                        failure = Failure(
                            Kind.PROTOCOL_ERROR, "the provider sends nothing but pings"
                        )
                        sink(ConnectionFailed(attempt, failure))
                        return
                    if message.type is aiohttp.WSMsgType.PING:
                        await self._pong(message.data)
                case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING:
                    code = message.data if isinstance(message.data, int) else 1005
                    sink(SocketClosed(attempt, code, message.extra or ""))
                    return
                case aiohttp.WSMsgType.CLOSED:
                    sink(SocketClosed(attempt, self._socket.close_code or 1006, ""))
                    return
                case _:
                    failure = Failure(Kind.CONNECTION_LOST, "the provider's connection broke off")
                    sink(ConnectionFailed(attempt, failure))
                    return

    async def _pong(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # its end is read next
            await self._socket.pong(data)

    async def close(self) -> None:
        """Close normally, waiting a moment for the other side's goodbye, also where it says other
        things instead."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close()

    def abort(self) -> None:
        """Cut the connection, so that a blocked `send` ends with a ConnectionError."""
        transport_socket = self._socket.get_extra_info("socket")
        if transport_socket is None or transport_socket.fileno() < 0:
            return  # closed already
        # a second descriptor: uvloop's own socket object cannot be shut down
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(transport_socket.fileno())) as twin,
        ):
            twin.shutdown(socket.SHUT_RDWR)


class Connector:
    """Connections to providers, kept alive and shared. One for each process."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def warm(self, dial: Dial) -> None:
        """Pay for DNS, TCP and TLS before the first caller: make the request, drop the answer,
        keep the connection. What goes wrong will be seen by who needs it."""
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError, TimeoutError):
            async with (
                asyncio.timeout(WARM_S),
                self._open().request(
                    dial.method, dial.url, headers=dial.headers, allow_redirects=False
                ) as response,
            ):
                await response.content.read(WARM_BYTES)

    def let_end(self, task: asyncio.Task[None]) -> None:
        """A request whose answer is whole gets a moment for the last bytes of its body: a
        connection that is closed before them cannot be kept."""
        if not task.done():
            timer = asyncio.get_running_loop().call_later(END_S, task.cancel)
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.add_done_callback(lambda _: timer.cancel())

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # no limit: one slow upstream must not take connections from the others
                connector=PacedConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                read_bufsize=READ_BYTES,
                timeout=aiohttp.ClientTimeout(total=None),
                # looked up for every request, so only where there is one
                trust_env=any(os.environ.get(name) for name in _PROXY_VARIABLES),
                skip_auto_headers=("User-Agent", "Accept"),
                trace_configs=[_no_redirects()],
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self, dial: Dial, attempt: int, inbox: Inbox[Any], connect_timeout_s: float
    ) -> None:
        """Make an HTTP request and put what comes back into `inbox`, the last event being End
        or Broke. Cancelling it closes the connection."""
        try:
            async with self._open().request(
                dial.method,
                dial.url,
                # a large body is written in parts: in one piece it would hold up everybody else
                data=io.BytesIO(dial.body) if len(dial.body) > LARGE_BYTES else dial.body or None,
                headers=dial.headers,
                allow_redirects=False,
                # `connect` holds for the look-up of the name too, which `sock_connect` leaves out
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
                ),
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                inbox.post(ResponseHead(attempt, response.status, headers))
                async for data in response.content.iter_any():
                    for at in range(0, len(data), PIECE_BYTES):
                        await inbox.put(BodyChunk(attempt, data[at : at + PIECE_BYTES]))
                inbox.post(BodyEnd(attempt))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            inbox.post(ConnectionFailed(attempt, _failure(error)))

    async def websocket(
        self, dial: Dial, open_timeout_s: float, message_bytes_max: int = 4 << 20
    ) -> UpstreamSocket | Failure:
        """Open a WebSocket, or say why not (`upstream_status` is that of a refused handshake)."""
        try:
            async with asyncio.timeout(open_timeout_s):
                return UpstreamSocket(
                    await self._open().ws_connect(
                        dial.url,
                        headers=dial.headers,
                        protocols=dial.subprotocols,
                        max_msg_size=message_bytes_max,
                        heartbeat=dial.ping_interval_s,
                        compress=0,
                        autoping=False,  # it answers them all in one turn of the loop
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                    )
                )
        except TimeoutError:
            return Failure(Kind.TIMEOUT, "the provider did not open the connection in time")
        except aiohttp.WSServerHandshakeError as error:
            return Failure(
                kind_of_status(error.status),
                f"the provider refused the connection with status {error.status}",
                upstream_status=error.status,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error)


class RedirectedError(aiohttp.ClientError):
    """A provider wanted to lead the request elsewhere: keys in headers would go along."""


async def _refuse_redirect(*_: Any) -> None:
    raise RedirectedError


def _no_redirects() -> aiohttp.TraceConfig:
    """WebSockets have no option against redirects; HTTP requests never follow them."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    return tracing


def _failure(error: Exception) -> Failure:
    """By type, never by text: the texts hold addresses, which are the operator's."""
    match error:
        case RedirectedError():
            return Failure(
                Kind.UPSTREAM_NOT_FOUND,
                "the provider's address leads elsewhere: redirects are not followed",
            )
        case aiohttp.ConnectionTimeoutError() | TimeoutError():
            # a second try would take as long again
            return Failure(Kind.TIMEOUT, "the provider could not be reached in time")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return Failure(Kind.UNREACHABLE, "the provider's TLS certificate was not accepted")
        case aiohttp.ClientConnectorDNSError():
            return Failure(Kind.UNREACHABLE, "the provider's host name was not found")
        case aiohttp.ClientConnectorError():
            return Failure(Kind.UNREACHABLE, "the provider could not be reached")
        case aiohttp.ClientPayloadError():
            return Failure(Kind.CONNECTION_LOST, "the provider's answer broke off")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return Failure(Kind.UNREACHABLE, "the provider closed the connection")
        case aiohttp.ClientResponseError():
            return Failure(Kind.PROTOCOL_ERROR, "the provider's answer is no valid HTTP")
        case _:
            return Failure(Kind.UNREACHABLE, "the provider could not be reached")
