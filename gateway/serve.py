"""Runs the server: listening sockets, uvicorn for callers and for the operator, a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from gateway.app import Gateway, create_admin_app, create_app, supervisors_page
from gateway.config import Config, ConfigError, Loaded
from gateway.engines.interruption.engine import check_versions
from gateway.engines.types import ModelError
from gateway.page.routes import PAGE_HEADER
from gateway.reload import Reloader, options
from gateway.server.connections import counted_protocols
from gateway.server.drain import Drain
from gateway.server.machine import Machine
from gateway.server.operator import OperatorServer
from gateway.server.reload_route import Reload, Reloaded
from gateway.server.supervisor import TAKEN, Seat, Supervisor, take_orders
from gateway.settings.server import TlsConfig
from gateway.telemetry import log
from gateway.telemetry.changes import ChangeLog, changes_file, user

_logger = logging.getLogger(__name__)

KEEPALIVE_S: Final = 75
"""An idle HTTP connection is kept so long: longer than clients keep theirs."""

TICK_S: Final = 0.1
"""Between two ticks of uvicorn's."""

TICKS_PER_SWEEP: Final = 10
"""While nothing drains, a look at the open sockets each second will
do."""

CLOSE_S: Final = 5
"""After the grace time: how long closing handshakes may take."""

FORCED_S: Final = 20
"""After a second signal: how long usage records may take to be written. Most take none."""

BACKLOG: Final = 2048
"""Connections that wait to be accepted."""

ORDER_BYTES: Final = 1 << 16
"""So much is read at once of what the supervisor says."""

FAILED: Final = b"-"
"""A worker cannot take its new configuration."""

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


class Hangups:
    """SIGHUP is a wish to read the configuration again, and no end of the server, from the start
    on: a wish that comes before anybody listens is kept."""

    def __init__(self) -> None:
        self._missed = False
        signal.signal(signal.SIGHUP, self._miss)

    def _miss(self, number: int, frame: FrameType | None) -> None:
        self._missed = True

    def listen(self, wish: Callable[[], None]) -> None:
        """Have `wish` called on the event loop, at once if one was missed."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wish)
        if self._missed:
            wish()


def _end_while_starting() -> None:
    """Have SIGTERM end this process until the server sees to it: process 1 of a container ignores
    it otherwise, and would be killed after its whole grace."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))


def _settle_heap() -> None:
    """What stands now stands until the end: no later collection of garbage looks at it, which
    would stop every session for as long as that takes."""
    gc.collect()
    gc.freeze()
    gc.collect()  # the next full one comes once a quarter more is there: of what is left now


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
        hangups: Hangups | None = None,
        reloads: Reload | None = None,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._hangups = hangups
        self._reloads = reloads
        self._reloading: set[asyncio.Future[Reloaded]] = set()
        self._admin = admin
        self._admin_socket = admin_socket
        self._admin_task: asyncio.Task[None] | None = None
        self._ticked_at: float | None = None

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
        _settle_heap()
        if self._admin is not None and self._admin_socket is not None:
            self._admin_task = asyncio.create_task(self._admin.serve([self._admin_socket]))
        if self._hangups is not None:
            self._hangups.listen(self._hung_up)

    def _hung_up(self) -> None:
        if self._reloads is not None:
            task = asyncio.ensure_future(self._reloads("SIGHUP"))
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)

    async def on_tick(self, counter: int) -> bool:
        drain, now = self._gateway.admission.drain, time.monotonic()
        if self._ticked_at is not None:
            self._gateway.metrics.loop_lag.observe(max(0.0, now - self._ticked_at - TICK_S))
        self._ticked_at = now
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
        if self.force_exit:  # then uvicorn leaves these out, and usage records would be lost
            for task in self.server_state.tasks:
                task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FORCED_S):
                    await self.lifespan.shutdown()
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
        self._heard = bytearray()
        self._taking: set[asyncio.Task[None]] = set()
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
        told = os.read(self._orders, ORDER_BYTES)
        if not told:  # the supervisor is gone: nobody would ever end this process
            self.orphaned = True
            asyncio.get_running_loop().remove_reader(self._orders)
            super().handle_exit(signal.SIGTERM, None)
        self._heard += told
        for order in take_orders(self._heard):
            if isinstance(order, int):
                super().handle_exit(order, None)
            else:
                task = asyncio.create_task(self._take(order))
                self._taking.add(task)
                task.add_done_callback(self._taking.discard)

    async def _take(self, order: bytes) -> None:
        """Serve by a new configuration; where that fails, make room for another worker."""
        try:
            config = pickle.loads(order)  # noqa: S301 - from the supervisor
            await use(self._gateway, self.config, config)
        except Exception:
            _logger.exception("the new configuration cannot be taken")
            os.write(self._report, FAILED)
            super().handle_exit(signal.SIGTERM, None)
        else:
            os.write(self._report, TAKEN)


async def use(gateway: Gateway, settings: uvicorn.Config, config: Config) -> None:
    """Serve new connections, requests and sessions by `config`, which was checked. `settings` are
    those of the inference port."""
    tls = config.server.tls
    if settings.ssl is not None and tls.certificate is not None:
        settings.ssl.load_cert_chain(tls.certificate, tls.key, "")
    await gateway.use(config)
    settings.ws_max_size = config.limits.message_bytes
    settings.ws_ping_interval = config.server.ws_ping_interval_s or None
    log.configure(config.log.level, config.log.format)


def _checked(read: Callable[[], Loaded]) -> Callable[[], Loaded]:
    """`read`, and the files of TLS and of other versions of models with it."""

    def checked() -> Loaded:
        loaded = read()
        try:
            check_tls(loaded.config.server.tls)
        except TlsError as error:
            raise ConfigError([str(error)]) from error
        try:
            check_versions(loaded.config.bargein)
        except ModelError as error:
            raise ConfigError([f"bargein.models: {error}"]) from error
        return loaded

    return checked


def _changes(config: Config) -> ChangeLog:
    """Where it is kept who changes the configuration: that somebody started this server, too."""
    kept = ChangeLog(changes_file(config.usage))
    kept.started(user(), options(config))
    return kept


def serve(
    config: Config,
    read: Callable[[], Loaded],
    sock: socket.socket,
    admin_sock: socket.socket | None = None,
) -> None:
    """Serve callers on `sock`, and the operator on `admin_sock`, until a signal ends it. `read`
    gives the configuration as it is then, for a reload. Raises ModelError or TlsError before
    anything is served."""
    hangups = Hangups()
    _end_while_starting()
    check_tls(config.server.tls)
    gateway = Gateway(config)
    gateway.installation.stt.warm()
    settings = _uvicorn_config(gateway)

    async def use_soon(new: Config) -> None:
        await use(gateway, settings, new)

    kept = _changes(config)
    reloads = Reloader(config, _checked(read), use_soon, gateway.metrics, kept).reload
    admin = _operator_server(gateway, reloads) if admin_sock is not None else None
    server = DrainingServer(settings, gateway, admin, admin_sock, hangups, reloads)
    _log_serving(gateway, sock, _address(admin_sock) if admin_sock is not None else None)
    server.run(sockets=[sock])
    _logger.info("stopped")


def _operator_server(gateway: Gateway, reloads: Reload) -> OperatorServer:
    page = gateway.config.page.token is not None
    return OperatorServer(create_admin_app(gateway, reloads), websockets=page)


def serve_with_workers(
    config: Config,
    read: Callable[[], Loaded],
    host: str,
    sock: socket.socket,
    admin_sock: socket.socket | None = None,
) -> int:
    """The same with `server.workers` processes; `sock` is taken over. Returns the exit status:
    that of a worker which could not start, or 0. Raises ListenError, TlsError."""
    hangups = Hangups()
    _end_while_starting()
    check_tls(config.server.tls)
    workers, cores = config.server.workers, _cores()
    config = for_workers(config, cores)
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
            config,
            config.server.shutdown_grace_s,
            inherited,
            admin_sock,
        )

        def read_for_workers() -> Loaded:
            loaded = read()
            return replace(loaded, config=for_workers(loaded.config, cores, workers))

        async def use_everywhere(new: Config) -> None:
            log.configure(new.log.level, new.log.format)
            await supervisor.use(new, new.server.shutdown_grace_s)

        reloader = Reloader(
            config, _checked(read_for_workers), use_everywhere, supervisor.metrics, _changes(config)
        )
        supervisor.reloads = reloader.reload
        if (token := config.page.token) is not None:
            named = {PAGE_HEADER: token.get_secret_value()}
            supervisor.page = supervisors_page(
                lambda: reloader.config,
                lambda path: supervisor.every(path, named),
                lambda path: supervisor.some(path, named),
                supervisor.sockets,
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
        status = uvloop.run(supervisor.run(hangups.listen))
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
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor's affair
    gateway = Gateway(config, Machine(seat.machine))
    gateway.installation.stt.warm()
    seat.admin.unlink(missing_ok=True)  # that of a worker which died
    with socket.socket(socket.AF_UNIX) as admin_sock, _listener(seat) as sock:
        admin_sock.bind(str(seat.admin))
        server = WorkerServer(
            _uvicorn_config(gateway),
            gateway,
            OperatorServer(
                create_admin_app(gateway, supervised=True),
                websockets=config.page.token is not None,
            ),
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


def for_workers(config: Config, cores: int, workers: int | None = None) -> Config:
    """`config` for each of several workers (`workers`, or as many as it says): unless
    `bargein.threads` is set, the interruption model gets a worker's share of the cores."""
    if "threads" in config.bargein.model_fields_set:
        return config
    threads = max(1, cores // (workers or config.server.workers))
    bargein = config.bargein.model_copy(update={"threads": threads})
    return config.model_copy(update={"bargein": bargein})


def _uvicorn_config(gateway: Gateway) -> uvicorn.Config:
    config, tls = gateway.config, gateway.config.server.tls
    http, ws = counted_protocols(
        gateway.addresses,
        gateway.metrics.connection_reached,
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
            "providers": ",".join(gateway.installation.adapters.accounts) or "none",
            "chat_models": len(gateway.installation.catalogues["chat"].names()),
            "stand_ins": ",".join(gateway.installation.stand_ins()) or "none",
            "bargein_model": f"{card.name} {card.version}",
            "eot_model": turn.name if turn is not None else "none",
        },
    )


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
