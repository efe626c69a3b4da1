"""Runs the server: a listening socket, uvicorn, and a graceful end."""

from __future__ import annotations

import logging
import socket
import time
from types import FrameType
from typing import Final

import uvicorn

from gateway.app import Gateway, create_app
from gateway.config import Config
from gateway.server.websocket import WebSocketProtocol

_logger = logging.getLogger(__name__)

KEEPALIVE_S: Final = 75
"""An idle HTTP connection is kept so long: longer than clients keep theirs."""

CLOSE_S: Final = 5
"""After the grace time: how long closing handshakes may take."""

SEND_BYTES: Final = 128 << 10
"""What the system may hold of a connection's answer (it takes twice this). By itself it grows to
megabytes: a minute of speech that a client which was interrupted never reads, and that is paid
for. Enough for 2 MB/s at 100 ms."""

_TCP_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that vanished is noticed within a minute. WebSocket pings cannot tell: clients do not
answer them on pooled sockets."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections have TCP keepalive. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        for option, value in _TCP_KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class DrainingServer(uvicorn.Server):
    """On the first SIGTERM or SIGINT: no new sessions (503, /readyz too), open ones go on for the
    grace time. On the second: the end."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_until: float | None = None
        self._to_tell = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain_until is not None:
            self.should_exit = True
            self.force_exit = True
            return
        self._drain_until = time.monotonic() + self._gateway.config.server.shutdown_grace_s
        self._gateway.admission.draining = True
        # not logged here: a signal may come while the log's queue is locked by this very thread
        self._to_tell = True

    async def on_tick(self, counter: int) -> bool:
        if self._to_tell:
            self._to_tell = False
            grace_s = self._gateway.config.server.shutdown_grace_s
            _logger.info(
                "shutting down",
                extra={"open": self._gateway.admission.open_requests, "grace_s": grace_s},
            )
        if self._drain_until is not None and (
            self._gateway.admission.open_requests == 0 or time.monotonic() >= self._drain_until
        ):
            self.should_exit = True
        return await super().on_tick(counter)


def serve(config: Config, sock: socket.socket) -> None:
    """Serve until a signal ends it. Raises ModelError before anything is served."""
    gateway = Gateway(config)
    gateway.stt.warm()
    server = DrainingServer(
        uvicorn.Config(
            create_app(gateway),
            loop="uvloop",
            http="httptools",
            ws=WebSocketProtocol,
            ws_max_size=config.limits.message_bytes,
            ws_ping_interval=config.server.ws_ping_interval_s or None,
            timeout_keep_alive=KEEPALIVE_S,
            timeout_graceful_shutdown=CLOSE_S,
            backlog=2048,
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        ),
        gateway,
    )
    host, port = sock.getsockname()[:2]
    card = gateway.bargein_engine.card
    turn = gateway.eot_engine.model.card if gateway.eot_engine.model is not None else None
    _logger.info(
        "serving",
        extra={
            "address": f"http://{host}:{port}",
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
