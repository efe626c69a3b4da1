"""Opens a Dial: the only place that talks to providers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSParsedURL,
    WSTransport,
    ws_connect,
)
from python_socks import ProxyError

from gateway.runtime.loop import TURN_S, Inbox
from gateway.runtime.names import Names
from gateway.runtime.pace import PacedConnector
from gateway.upstreams.dial import Dial, websocket_url
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
from gateway.upstreams.request_ids import told_id

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

READ_BUFFER_BYTES: Final = 4 << 10
"""What is allocated for each WebSocket to read into; it grows with the messages that come."""

TOGETHER_MAX: Final = 10_000
"""Messages that one read may bring: a provider of speech sends a handful."""

UNHEARD_MAX: Final = 1000
"""Messages between our goodbye and the provider's; then the connection is cut."""

FRAGMENTS_MAX: Final = 1024
"""Fragments of one message of a provider; their bytes are bounded too."""

HAPPY_EYEBALLS_S: Final = 0.25
"""A host's next address is tried after so long (RFC 8305)."""

_TEXT, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE

_SILENT: Final = logging.getLogger("gateway.picows")
"""What picows would say holds addresses and texts of providers; failures are told as values."""
_SILENT.setLevel(logging.CRITICAL + 1)

_TOO_LONG: Final = Failure(Kind.CONNECTION_LOST, "the provider sent a message that is too long")

CONTROLS_MAX: Final = 10_000
"""Pings and pongs in a row: one every two seconds of a session of six hours."""

SocketSink = Callable[[SocketEvent], Awaitable[object] | None]
"""Takes an event of an upstream socket at once. Returns None, or what to await before the socket
is read further. An `Inbox` is one."""

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class _OthersTurn:
    """To be awaited, or to be ignored, which a coroutine may not be."""

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.sleep(0).__await__()


class UpstreamSocket(WSListener):
    """An open WebSocket to a provider. What comes is handed on in the call that has read it."""

    def __init__(
        self, message_bytes_max: int, count: Callable[[int], None] = lambda change: None
    ) -> None:
        """`count` is told 1 when it is open, and -1 when it no longer is."""
        self._bytes_max = message_bytes_max
        self._count = count
        self._transport: WSTransport
        self.connected = False  # its handshake is over
        self._abandoned = False  # nobody waits for it
        self._attempt = 0
        self._sink: SocketSink | None = None
        self._waiting: deque[str | bytes] = deque()  # came when nobody could take it
        self._holding: asyncio.Task[None] | None = None  # there while the sink is full
        self._parts: list[bytes] = []  # of a message whose end has not come
        self._is_text = False
        self._together = 0  # messages of one read so far
        self._turn_at = 0.0  # when the first of them was handed on
        self._controls = 0  # pings and pongs in a row
        self._ping: bytes | None = None  # that has no answer so far
        self._unheard = 0  # messages since nobody listens
        self._writable = asyncio.Event()
        self._writable.set()
        self._end: SocketClosed | ConnectionFailed | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- for its user

    def write(self, frame: str | bytes) -> bool:
        """Send one message; False: the provider does not read, the next one should wait. Raises
        ConnectionError."""
        if self._end is not None or self._transport.is_disconnected:
            raise ConnectionResetError
        self._transport.send(_TEXT if isinstance(frame, str) else _BINARY, frame)
        return self._writable.is_set()

    async def send(self, frame: str | bytes) -> None:
        """Send one message; waits while the provider does not read. Raises ConnectionError."""
        if not self.write(frame):
            await self.drained()

    async def drained(self) -> None:
        """The provider reads. Raises ConnectionError."""
        await self._writable.wait()
        if self._transport.is_disconnected:
            raise ConnectionResetError

    async def listen(self, attempt: int, sink: SocketSink) -> None:
        """Hand every message to `sink`, at last SocketClosed or ConnectionFailed. While `sink` has
        returned something to await, the socket is read no further."""
        self._attempt = attempt
        try:
            await self._hand_on(sink)
            self._sink = sink
            if self._end is not None:
                self._tell_end()
            else:
                self._transport.underlying_transport.resume_reading()
            await self._over
        finally:
            self._sink = None
            if self._holding is not None:
                self._holding.cancel()

    async def close(self) -> None:
        """Close normally, waiting a moment for the other side's goodbye."""
        self._abandoned = True
        self._waiting.clear()
        transport = self._transport
        try:
            if not transport.is_disconnected:
                transport.send_close(WSCloseCode.OK)
                transport.underlying_transport.resume_reading()
            async with asyncio.timeout(CLOSE_S):
                await transport.wait_disconnected()
        except Exception:  # noqa: S110 - it ends here, however it does
            pass
        finally:
            transport.disconnect(graceful=False)

    def abort(self) -> None:
        """Cut the connection, so that a blocked `send` ends with a ConnectionError."""
        self._abandoned = True
        if self.connected:
            self._transport.disconnect(graceful=False)

    # -- from picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.connected = True
        self._count(1)
        if self._abandoned:
            transport.disconnect(graceful=False)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._abandoned or self._end is not None:
            self._unheard += 1
            if frame.msg_type == _CLOSE:
                transport.disconnect()
            elif self._unheard == UNHEARD_MAX:
                self._transport.disconnect(graceful=False)
            return
        if self._together == 0:
            self._turn_at = time.monotonic()
        self._together += 1
        try:
            if self._together > TOGETHER_MAX:
                self._break(Failure(Kind.PROTOCOL_ERROR, "the provider floods us with messages"))
            else:
                self._read(transport, frame)
        except UnicodeDecodeError:
            self._break(Failure(Kind.CONNECTION_LOST, "the provider sent text that is no UTF-8"))
        except Exception as error:
            self._fail(error)
        if frame.last_in_buffer:
            self._together = 0
            if self._ping is not None and self._writable.is_set():
                transport.send_pong(self._ping)  # of pings that came together, the last is answered
            self._ping = None

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.connected:
            self._count(-1)
        self._writable.set()  # who waits to send learns that nobody reads
        if self._end is None:
            self._end = SocketClosed(self._attempt, 1006, "")
            self._tell_end()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- messages

    def _read(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if frame.payload_size > self._bytes_max:
            self._break(_TOO_LONG)
        elif kind == WSMsgType.PING or kind == WSMsgType.PONG:
            self._controls += 1
            if kind == WSMsgType.PING:
                self._ping = frame.get_payload_as_bytes()
            if self._controls > CONTROLS_MAX:
                nothing_else = "the provider sends nothing but pings"
                self._break(Failure(Kind.PROTOCOL_ERROR, nothing_else))
        elif kind == _TEXT and frame.fin and not self._parts:
            self._take(frame.get_payload_as_utf8_text())
        elif kind == _BINARY and frame.fin and not self._parts:
            self._take(frame.get_payload_as_bytes())
        elif kind == _CLOSE:
            code: Any = frame.get_close_code()
            transport.send_close(code or WSCloseCode.OK)
            transport.disconnect()
            reason = frame.get_close_reason() or ""
            self._end = SocketClosed(self._attempt, int(code) or 1005, reason)
            self._tell_end()
        elif kind in (_TEXT, _BINARY, WSMsgType.CONTINUATION):
            self._take_part(frame)

    def _take_part(self, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._is_text = frame.msg_type == _TEXT
        self._parts.append(frame.get_payload_as_bytes())
        if (
            len(self._parts) > FRAGMENTS_MAX
            or sum(len(part) for part in self._parts) > self._bytes_max
        ):
            self._break(
                Failure(Kind.CONNECTION_LOST, "the provider sent a message that is too long")
            )
        elif frame.fin:
            message, self._parts = b"".join(self._parts), []
            self._take(message.decode() if self._is_text else message)

    def _take(self, data: str | bytes) -> None:
        self._controls = 0
        if self._sink is None or self._holding is not None:
            self._waiting.append(data)
            self._transport.underlying_transport.pause_reading()
            return
        full = self._sink(SocketFrame(self._attempt, data))
        if full is None and self._together > 1 and time.monotonic() - self._turn_at > TURN_S:
            full = _OthersTurn()
        if full is not None and self._sink is not None:
            self._transport.underlying_transport.pause_reading()
            self._holding = asyncio.create_task(self._hold(full, self._sink))

    async def _hold(self, full: Awaitable[object], sink: SocketSink) -> None:
        try:
            await full
            await self._hand_on(sink)
        except Exception as error:
            self._fail(error)
            return
        self._holding = None
        if self._end is not None:
            self._tell_end()
        else:
            self._transport.underlying_transport.resume_reading()

    async def _hand_on(self, sink: SocketSink) -> None:
        """What waits, in order. Every TURN_S others have their turn."""
        rested_at = time.monotonic()
        while self._waiting:
            full = sink(SocketFrame(self._attempt, self._waiting.popleft()))
            if full is not None:
                await full
            elif time.monotonic() - rested_at > TURN_S:
                await asyncio.sleep(0)
                rested_at = time.monotonic()

    # -- the end

    def _break(self, failure: Failure) -> None:
        """The provider has made a mistake."""
        self._end = ConnectionFailed(self._attempt, failure)
        self._transport.disconnect(graceful=False)
        self._tell_end()

    def _fail(self, error: Exception) -> None:
        """Whoever listens has made one: it is raised there."""
        if not self._over.done():
            self._over.set_exception(error)

    def _tell_end(self) -> None:
        """Once, after all messages."""
        if self._sink is None or self._holding is not None or self._over.done():
            return
        assert self._end is not None
        try:
            self._sink(self._end._replace(attempt=self._attempt))
        except Exception as error:
            self._fail(error)
        else:
            if not self._over.done():
                self._over.set_result(None)


class Connector:
    """Connections to providers, kept alive and shared. One for each process."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self._names = Names()
        self.open_sockets = 0
        """WebSockets that are open now."""

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
                connector=PacedConnector(
                    limit=0,
                    keepalive_timeout=KEEPALIVE_S,
                    resolver=self._names,
                    use_dns_cache=False,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                read_bufsize=READ_BYTES,
                timeout=aiohttp.ClientTimeout(total=None),
                # looked up for every request, so only where there is one
                trust_env=any(os.environ.get(name) for name in _PROXY_VARIABLES),
                skip_auto_headers=("User-Agent", "Accept"),
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
        socket = UpstreamSocket(message_bytes_max, self._count)
        opened = False
        try:
            url, headers = _address(dial)
            async with asyncio.timeout(open_timeout_s):
                await ws_connect(
                    lambda request, response: socket,
                    url,
                    ssl_context=self._tls_context() if url.startswith("wss") else None,
                    websocket_handshake_timeout=open_timeout_s,
                    logger_name=_SILENT,
                    enable_auto_ping=dial.ping_interval_s is not None,
                    auto_ping_idle_timeout=dial.ping_interval_s or 0.0,
                    auto_ping_reply_timeout=(dial.ping_interval_s or 0.0) / 2,
                    enable_auto_pong=False,
                    max_frame_size=message_bytes_max,
                    extra_headers=headers,
                    max_redirects=0,
                    proxy=_proxy(url),
                    read_buffer_init_size=READ_BUFFER_BYTES,
                    socket_factory=self._connect,
                )
            opened = socket.connected
        except TimeoutError:
            return Failure(Kind.TIMEOUT, "the provider did not open the connection in time")
        except WSHandshakeError as error:
            return _refusal(error)
        except (WSError, ProxyError, OSError, ValueError) as error:
            return _failure(error)
        finally:
            if not opened:
                socket.abort()
        if not opened:
            return Failure(Kind.UNREACHABLE, "the provider closed the connection")
        return socket

    def _count(self, change: int) -> None:
        self.open_sockets += change

    async def _connect(self, url: WSParsedURL) -> socket.socket:
        """A connection to the provider, or to the proxy before it."""
        return await self._names.connect(url.host, url.port, HAPPY_EYEBALLS_S)

    def _tls_context(self) -> ssl.SSLContext:
        """Made once: it reads all certificates that the machine trusts."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def _address(dial: Dial) -> tuple[str, list[tuple[str, str]]]:
    """URL and headers of a handshake; a user in the URL becomes a header."""
    headers = list(dial.headers.items())
    if dial.subprotocols:
        headers.append(("Sec-WebSocket-Protocol", ", ".join(dial.subprotocols)))
    parts = urlsplit(websocket_url(dial.url))
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers.append(("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}"))
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return urlunsplit(parts._replace(fragment="")), headers


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this URL; looked for only where there is one."""
    if not any(os.environ.get(name) for name in _PROXY_VARIABLES):
        return None
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    named = getproxies()
    return named.get("https" if parts.scheme == "wss" else "http") or named.get("all")


def _refusal(error: WSHandshakeError) -> Failure:
    """What a handshake that was answered by anything but an upgrade means."""
    status = None if error.response is None else int(error.response.status)
    if status is None or status == 101:
        return Failure(Kind.PROTOCOL_ERROR, "the provider's answer is no WebSocket handshake")
    if 300 <= status < 400:
        return _failure(RedirectedError())
    assert error.response is not None
    headers = {name.lower(): text for name, text in error.response.headers.items()}
    return Failure(
        kind_of_status(status),
        f"the provider refused the connection with status {status}",
        upstream_status=status,
        upstream_id=told_id(headers),
    )


class RedirectedError(aiohttp.ClientError):
    """A provider wanted to lead the request elsewhere: keys in headers would go along."""


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
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return Failure(Kind.UNREACHABLE, "the provider's TLS certificate was not accepted")
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
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
