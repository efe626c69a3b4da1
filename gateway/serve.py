"""Runs the server: listening sockets, uvicorn for callers and for the operator, a graceful end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import time
from types import FrameType
from typing import Final

import uvicorn

from gateway.app import Gateway, create_admin_app, create_app
from gateway.config import Config
from gateway.server.connections import counted_protocols
from gateway.server.drain import Drain
from gateway.settings.server import TlsConfig
from gateway.upstreams.errors import Kind

_logger = logging.getLogger(__name__)

KEEPALIVE_S: Final = 75
"""An idle HTTP connection is kept so long: longer than clients keep theirs."""

TICKS_PER_SWEEP: Final = 10
"""uvicorn ticks every 0.1 s: while nothing drains, a look at the open sockets each second will
do."""

CONNECTION_CLOSE: Final = (b"connection", b"close")

CLOSE_S: Final = 5
"""After the grace time: how long closing handshakes may take."""

SEND_BYTES: Final = 128 << 10
"""What the system may hold of a connection's answer (it takes twice this). By itself it grows to
megabytes: a minute of speech that a client which was interrupted never reads, and that is paid
for. Enough for 2 MB/s at 100 ms."""

_TCP_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that vanished is noticed within a minute. WebSocket pings cannot tell: clients do not
answer them on pooled sockets."""


class ListenError(Exception):
    """A port cannot be listened on; the message says why."""


class TlsError(Exception):
    """The certificate or its key cannot be used; the message says why."""


def listen(host: str, port: int, option: str = "port") -> socket.socket:
    """A listening socket whose connections have TCP keepalive. `option` of `server` names it where
    that fails. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        for name, value in _TCP_KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, name, value)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        why = error.strerror if isinstance(error, OSError) else "no such port"
        message = f"cannot listen on {host} port {port} (server.{option}): {why}"
        raise ListenError(message) from error
    return sock


class DrainingServer(uvicorn.Server):
    """Serves callers on one port and the operator on another, and ends in steps.

    On the first SIGTERM /readyz says 503. For `drain_delay_s` more, connections are taken as
    before (not after SIGINT: then a person waits); then the listening socket is closed. What is
    open goes on for the grace time, HTTP answers say `Connection: close`. The operator's port
    answers to the end. On the second signal: the end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        admin: uvicorn.Server | None = None,
        admin_socket: socket.socket | None = None,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._admin = admin
        self._admin_socket = admin_socket
        self._admin_task: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gateway.admission.drain is not None:
            self.should_exit = True
            self.force_exit = True
            return
        server = self._gateway.config.server
        drain = Drain(
            time.monotonic(),
            0.0 if sig == signal.SIGINT else server.drain_delay_s,
            server.shutdown_grace_s,
        )
        self._gateway.begin_drain(drain)
        # uvicorn makes each answer's headers of these; the first are renewed from the second
        self.config.encoded_headers.append(CONNECTION_CLOSE)
        self.server_state.default_headers = [CONNECTION_CLOSE]
        _logger.info(
            "shutting down",
            extra={"open": self._gateway.admission.open_requests, "grace_s": drain.grace_s},
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._admin is not None and self._admin_socket is not None:
            self._admin_task = asyncio.create_task(self._admin._serve([self._admin_socket]))

    async def on_tick(self, counter: int) -> bool:
        drain, now = self._gateway.admission.drain, time.monotonic()
        if drain is not None:
            if self._gateway.admission.listens and not drain.listens(now):
                self._stop_listening()
            if drain.is_over(now, self._gateway.admission.open_requests):
                self.should_exit = True
        if drain is not None or counter % TICKS_PER_SWEEP == 0:
            self._gateway.tick(now)
        return await super().on_tick(counter)

    def _stop_listening(self) -> None:
        self._gateway.admission.listens = False
        for server in self.servers:
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.admission.listens = False
        await super().shutdown(sockets)
        if self._admin is not None and self._admin_task is not None:
            self._admin.should_exit = True
            await self._admin_task


def check_tls(tls: TlsConfig) -> None:
    """Whether the certificate and its key can be used. Raises TlsError."""
    if tls.certificate is None or tls.key is None:
        return
    for option, path in (("certificate", tls.certificate), ("key", tls.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsError(f"server.tls.{option}: {path}: {error.strerror}") from error
    try:
        # the empty passphrase: without one OpenSSL would ask for it on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, "")
    except (ssl.SSLError, OSError) as error:
        what = "no certificate and key without a passphrase that belong together"
        raise TlsError(f"server.tls: {tls.certificate}, {tls.key}: {what} ({error})") from error


def serve(config: Config, sock: socket.socket, admin_sock: socket.socket | None = None) -> None:
    """Serve callers on `sock`, and the operator on `admin_sock`, until a signal ends it. Raises
    ModelError or TlsError before anything is served."""
    tls = config.server.tls
    check_tls(tls)
    gateway = Gateway(config)
    gateway.stt.warm()
    http, ws = counted_protocols(
        gateway.addresses,
        config.server.trusted_proxies,
        gateway.metrics.refusals.labels("any", Kind.TOO_MANY_CONNECTIONS.value).inc,
    )
    server = DrainingServer(
        uvicorn.Config(
            create_app(gateway),
            loop="uvloop",
            http=http,
            ws=ws,
            ws_max_size=config.limits.message_bytes,
            ws_ping_interval=config.server.ws_ping_interval_s or None,
            timeout_keep_alive=KEEPALIVE_S,
            timeout_graceful_shutdown=CLOSE_S,
            backlog=2048,
            ssl_certfile=tls.certificate,
            ssl_keyfile=tls.key,
            ssl_keyfile_password="" if tls.key is not None else None,
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        ),
        gateway,
        _admin_server(gateway) if admin_sock is not None else None,
        admin_sock,
    )
    scheme = "http" if tls.certificate is None else "https"
    card = gateway.bargein_engine.card
    turn = gateway.eot_engine.model.card if gateway.eot_engine.model is not None else None
    _logger.info(
        "serving",
        extra={
            "address": f"{scheme}://{_address(sock)}",
            "admin_address": f"http://{_address(admin_sock)}" if admin_sock else None,
            "keys": len(config.keys),
            "providers": ",".join(gateway.accounts) or "none",
            "chat_models": len(gateway.chat.catalogue.names()),
            "stand_ins": ",".join(gateway.stand_ins()) or "none",
            "bargein_model": f"{card.name} {card.version}",
            "eot_model": turn.name if turn is not None else "none",
        },
    )
    server.run(sockets=[sock])
    _logger.info("stopped")


def _admin_server(gateway: Gateway) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            create_admin_app(gateway),
            http="httptools",
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=1,
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
    )


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
