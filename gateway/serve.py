"""Runs the server: listening sockets, uvicorn for callers and for the operator, a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from gateway.app import Gateway, create_admin_app, create_app
from gateway.config import Config
from gateway.engines.types import ModelError
from gateway.server.connections import counted_protocols
from gateway.server.drain import Drain
from gateway.server.machine import Machine
from gateway.server.operator import OperatorServer
from gateway.server.supervisor import Seat, Supervisor
from gateway.settings.server import TlsConfig
from gateway.telemetry import log
from gateway.upstreams.errors import Kind

_logger = logging.getLogger(__name__)

KEEPALIVE_S: Final = 75
"""An idle HTTP connection is kept so long: longer than clients keep theirs."""

TICKS_PER_SWEEP: Final = 10
"""uvicorn ticks every 0.1 s: while nothing drains, a look at the open sockets each second will
do."""

CLOSE_S: Final = 5
"""After the grace time: how long closing handshakes may take."""

BACKLOG: Final = 2048
"""Connections that wait to be accepted."""

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


def listen(host: str, port: int, option: str = "port", *, shared: bool = False) -> socket.socket:
    """A listening socket whose connections have TCP keepalive. `option` of `server` names it where
    that fails. `shared`: other processes may listen there as well, and the system spreads the
    connections over them. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
        admin: OperatorServer | None = None,
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
        _logger.info(
            "shutting down",
            extra={"open": self._gateway.admission.open_requests, "grace_s": drain.grace_s},
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._admin is not None and self._admin_socket is not None:
            self._admin_task = asyncio.create_task(self._admin.serve([self._admin_socket]))

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


class WorkerServer(DrainingServer):
    """One of several: its supervisor says through a pipe when to end, and learns through another
    that it serves. See gateway/server/supervisor.py."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        admin: OperatorServer,
        admin_socket: socket.socket,
        orders: int,
        report: int,
    ) -> None:
        super().__init__(config, gateway, admin, admin_socket)
        self._orders = orders
        self._report = report
        self.orphaned = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals that reach every process of the server are the supervisor's affair."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._orders, self._hear)
        if self.started:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._report, b".")

    def _hear(self) -> None:
        told = os.read(self._orders, 64)
        if not told:  # the supervisor is gone: nobody would ever end this process
            self.orphaned = True
            asyncio.get_running_loop().remove_reader(self._orders)
        for number in told or (signal.SIGTERM,):
            super().handle_exit(number, None)


def serve(config: Config, sock: socket.socket, admin_sock: socket.socket | None = None) -> None:
    """Serve callers on `sock`, and the operator on `admin_sock`, until a signal ends it. Raises
    ModelError or TlsError before anything is served."""
    check_tls(config.server.tls)
    gateway = Gateway(config)
    gateway.stt.warm()
    server = DrainingServer(
        _uvicorn_config(gateway),
        gateway,
        OperatorServer(create_admin_app(gateway)) if admin_sock is not None else None,
        admin_sock,
    )
    _log_serving(gateway, sock, _address(admin_sock) if admin_sock is not None else None)
    server.run(sockets=[sock])
    _logger.info("stopped")


def serve_with_workers(
    config: Config, host: str, sock: socket.socket, admin_sock: socket.socket | None = None
) -> int:
    """The same with `server.workers` processes; `sock` is taken over. Returns the exit status:
    that of a worker which could not start, or 0. Raises ListenError, TlsError."""
    check_tls(config.server.tls)
    workers = config.server.workers
    config = for_workers(config, _cores())
    sock = _shared(host, sock)
    inherited = None if SHARES_EVENLY else sock
    if inherited is not None:
        inherited.listen(BACKLOG)
        inherited.set_inheritable(True)
    with sock, tempfile.TemporaryDirectory(prefix="parley-") as folder:  # this user's alone
        seats = [
            Seat(
                number,
                Path(folder),
                host,
                sock.getsockname()[1],
                None if inherited is None else inherited.fileno(),
            )
            for number in range(1, workers + 1)
        ]
        supervisor = Supervisor(
            seats,
            # -c and not -m: what a worker starts itself would import its main module again
            (sys.executable, "-c", "from gateway.serve import work; work()"),
            lambda seat: pickle.dumps((config, seat)),
            config.server.shutdown_grace_s,
            inherited,
            admin_sock,
        )
        scheme = "http" if config.server.tls.certificate is None else "https"
        _logger.info(
            "supervising",
            extra={
                "address": f"{scheme}://{_address(sock)}",
                "admin_address": f"http://{_address(admin_sock)}" if admin_sock else None,
                "workers": workers,
            },
        )
        status = uvloop.run(supervisor.run())
    _logger.info("stopped")
    return status


def work() -> None:
    """The main function of a worker: what to do stands on standard input."""
    orders, report = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # what a worker starts itself has no part in them
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    order = _read(orders, int.from_bytes(_read(orders, 8), "big"))
    config, seat = pickle.loads(order)  # noqa: S301 - from the process that started this one
    log.configure(config.log.level, config.log.format)
    try:
        _work(config, seat, orders, report)
    except (ListenError, ModelError, TlsError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _work(config: Config, seat: Seat, orders: int, report: int) -> None:
    gateway = Gateway(config, Machine(seat.machine))
    gateway.stt.warm()
    seat.admin.unlink(missing_ok=True)  # that of a worker which died
    with socket.socket(socket.AF_UNIX) as admin_sock, _listener(seat) as sock:
        admin_sock.bind(str(seat.admin))
        server = WorkerServer(
            _uvicorn_config(gateway),
            gateway,
            OperatorServer(create_admin_app(gateway)),
            admin_sock,
            orders,
            report,
        )
        _log_serving(gateway, sock, None, seat.number)
        server.run(sockets=[sock])
    if server.orphaned:  # nobody else removes it; the other workers end likewise
        shutil.rmtree(seat.folder, ignore_errors=True)
    _logger.info("stopped", extra={"worker": seat.number})


def _read(file: int, count: int) -> bytes:
    """Exactly `count` bytes. Ends this process where there are no more."""
    read = bytearray()
    while len(read) < count:
        piece = os.read(file, count - len(read))
        if not piece:
            sys.exit(1)
        read += piece
    return bytes(read)


SHARES_EVENLY: Final = sys.platform == "linux"
"""Whether the system spreads connections over several sockets that listen on one port."""


def _shared(host: str, sock: socket.socket) -> socket.socket:
    """`sock`, or a socket in its place that keeps the port for those of the workers. The first one
    has found the port free: with a shared one a second server there would not be noticed."""
    if not SHARES_EVENLY:
        return sock
    port = sock.getsockname()[1]
    sock.close()
    return listen(host, port, shared=True)


def _listener(seat: Seat) -> socket.socket:
    if seat.listener is None:
        return listen(seat.host, seat.port, shared=True)
    return socket.socket(fileno=seat.listener)


def _cores() -> int:
    with contextlib.suppress(AttributeError):  # Linux alone says what this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def for_workers(config: Config, cores: int) -> Config:
    """`config` for each of several workers: unless `bargein.threads` is set, the interruption
    model gets a worker's share of the cores."""
    if "threads" in config.bargein.model_fields_set:
        return config
    threads = max(1, cores // config.server.workers)
    bargein = config.bargein.model_copy(update={"threads": threads})
    return config.model_copy(update={"bargein": bargein})


def _uvicorn_config(gateway: Gateway) -> uvicorn.Config:
    config, tls = gateway.config, gateway.config.server.tls
    http, ws = counted_protocols(
        gateway.addresses,
        config.server.trusted_proxies,
        gateway.metrics.refusals.labels("any", Kind.TOO_MANY_CONNECTIONS.value).inc,
        lambda: gateway.admission.drain is not None,
    )
    return uvicorn.Config(
        create_app(gateway),
        loop="uvloop",
        http=http,
        ws=ws,
        ws_max_size=config.limits.message_bytes,
        ws_ping_interval=config.server.ws_ping_interval_s or None,
        timeout_keep_alive=KEEPALIVE_S,
        timeout_graceful_shutdown=CLOSE_S,
        backlog=BACKLOG,
        ssl_certfile=tls.certificate,
        ssl_keyfile=tls.key,
        ssl_keyfile_password="" if tls.key is not None else None,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )


def _log_serving(
    gateway: Gateway, sock: socket.socket, admin: str | None, worker: int | None = None
) -> None:
    scheme = "http" if gateway.config.server.tls.certificate is None else "https"
    card = gateway.bargein_engine.card
    turn = gateway.eot_engine.model.card if gateway.eot_engine.model is not None else None
    addresses = {
        "address": f"{scheme}://{_address(sock)}",
        "admin_address": f"http://{admin}" if admin is not None else None,
    }
    _logger.info(
        "serving",
        extra={
            **(addresses if worker is None else {"worker": worker}),
            "keys": len(gateway.config.keys),
            "providers": ",".join(gateway.accounts) or "none",
            "chat_models": len(gateway.chat.catalogue.names()),
            "stand_ins": ",".join(gateway.stand_ins()) or "none",
            "bargein_model": f"{card.name} {card.version}",
            "eot_model": turn.name if turn is not None else "none",
        },
    )


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
