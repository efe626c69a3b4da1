"""Keeps the worker processes of one server: starts, replaces and drains them, and speaks for them
on the operator's port.

A worker gets its configuration on standard input, and after it orders: one byte for each signal
that the supervisor was sent, and each new configuration; the end of that input means that the
supervisor is gone. Signals of the system reach the supervisor alone: a terminal or systemd sends
one to every process of a server, and two would end a worker at once. A worker writes one byte to
standard output when it serves, and one for each new configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway import __version__
from gateway.server.machine import MachineState
from gateway.server.operator import OperatorServer
from gateway.server.reload_route import Reload, Reloaded, reload_route
from gateway.telemetry.expositions import Exposition, add_up, lasting, parse, write
from gateway.telemetry.metrics import Metrics

_logger = logging.getLogger(__name__)

BACKOFF_S: Final = 0.5
"""A worker that died is replaced after this long; twice as long after each further death."""

BACKOFF_S_MAX: Final = 30.0

HEALTHY_S: Final = 60.0
"""After the death of a worker that had lived this long, the backoff begins again."""

CLOSE_S: Final = 20.0
"""After the grace: how long workers may take to close sockets and write their usage records."""

FORCED_S: Final = 2.0
"""The same after a second signal."""

ANSWER_S: Final = 5.0
"""How long a worker may take to answer on its private socket. Prometheus waits 10 s."""

WATCH_S: Final = 2.0
"""Workers are asked so far apart whether they answer."""

SILENT_MAX: Final = 4
"""A worker that has not answered so often in a row hangs, and new connections to it with it: it is
killed, and replaced. With ANSWER_S that is after half a minute, so that one that is only slow, or
whose machine slept, is not taken for one."""

ANSWER_BYTES_MAX: Final = 64 << 20
"""Longest answer of a worker that is passed on."""

RELOAD: Final = 0
"""An order that is no signal: eight bytes of length and a configuration follow."""

TAKEN: Final = b"+"
"""A worker serves by its new configuration."""

TAKE_S: Final = 10.0
"""How long workers may take to do so; one that is slower still does it as soon as it can."""

REQUEST_BYTES_MAX: Final = 1 << 20
"""Longest body of the operator's that is passed on."""


def sized(data: bytes) -> bytes:
    """`data` behind its length."""
    return len(data).to_bytes(8, "big") + data


def take_orders(heard: bytearray) -> Iterator[int | bytes]:
    """The whole orders at the beginning of `heard`, taken out of it: the number of a signal, or a
    new configuration."""
    while heard:
        if heard[0] != RELOAD:
            yield heard.pop(0)
            continue
        end = 9 + int.from_bytes(heard[1:9], "big")
        if len(heard) < max(9, end):
            return
        order = bytes(heard[9:end])
        del heard[:end]
        yield order


class Backoff:
    """How long to wait before the next start. Pure."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_S

    def after(self, lived_s: float) -> float:
        """Seconds to wait after the death of a process that lived `lived_s`."""
        if lived_s >= HEALTHY_S:
            self._next_s = BACKOFF_S
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, BACKOFF_S_MAX)
        return wait_s


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker's place; its replacements take the same. `folder` holds the private sockets.
    `listener` is the number of an inherited listening socket; None: each worker makes its own."""

    number: int
    folder: Path
    host: str
    port: int
    listener: int | None = None

    @property
    def machine(self) -> Path:
        """Where the supervisor counts for all workers."""
        return self.folder / "machine"

    @property
    def admin(self) -> Path:
        """Where the worker answers the supervisor."""
        return self.folder / f"worker-{self.number}"


class _Worker:
    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.process: asyncio.subprocess.Process | None = None
        self.serves = False
        self.told: Exposition = {}
        """What its process told last."""
        self.taking: asyncio.Future[bool] | None = None
        """Whether it serves by the configuration that it was given last."""

    def give(self, order: bytes) -> asyncio.Future[bool] | None:
        """Give its process a new configuration. What became of it, if it serves already."""
        process = self.process
        if process is None or process.returncode is not None:
            return None
        assert process.stdin is not None
        if not process.stdin.is_closing():
            process.stdin.write(bytes((RELOAD,)) + sized(order))
        self.taking = asyncio.get_running_loop().create_future() if self.serves else None
        return self.taking

    def answered(self, told: bytes) -> None:
        """A byte of its process, b"" for its end."""
        if self.taking is not None and not self.taking.done():
            self.taking.set_result(told == TAKEN)

    def tell(self, signals: Sequence[int]) -> None:
        """Pass signals on."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        if not process.stdin.is_closing():
            process.stdin.write(bytes(signals))
        if not self.serves:  # it still loads its models, and listens to nobody
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()


class Supervisor:
    """Runs `command` once for each seat. A worker first reads `config` and its seat."""

    def __init__(
        self,
        seats: Sequence[Seat],
        command: Sequence[str],
        config: object,
        grace_s: float,
        listener: socket.socket | None = None,
        admin_socket: socket.socket | None = None,
    ) -> None:
        """`listener`: the socket that workers inherit, if they do."""
        self._workers = [_Worker(seat) for seat in seats]
        self._command = command
        self._config = config
        self._grace_s = grace_s
        self._listener = listener
        self._admin_socket = admin_socket
        self._machine = MachineState(seats[0].machine)
        self.metrics = Metrics()
        self.reloads: Reload | None = None
        self.page: Sequence[BaseRoute] = ()
        """Routes of the operator's page."""
        self._reloading: set[asyncio.Future[Reloaded]] = set()
        self._ended: Exposition = {}
        self._scraping = asyncio.Lock()
        self._signals: list[int] = []
        self._stopping = asyncio.Event()
        self._has_served = False
        self._status = 0

    async def run(self, on_hangup: Callable[[Callable[[], None]], None]) -> int:
        """Serve until a signal ends it. `on_hangup` is given what to call for a SIGHUP. Returns the
        exit status: that of a worker which could not start, if none has ever served."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        on_hangup(self._hung_up)
        await self._machine.start()
        admin = OperatorServer(self._app(), websockets=bool(self.page))
        serving = None
        if self._admin_socket is not None:
            serving = asyncio.create_task(admin.serve([self._admin_socket]))
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._keep(worker))
        finally:
            if serving is not None:
                admin.should_exit = True
                await serving
            await self._machine.close()
        return self._status

    def _signalled(self, number: int) -> None:
        first = not self._signals
        self._signals.append(number)
        for worker in self._workers:
            worker.tell([number])
        if first:
            _logger.info("shutting down", extra={"workers": len(self._workers)})
            if self._listener is not None:  # or it would be listened to after the last worker
                self._listener.close()
            self._stopping.set()
        loop = asyncio.get_running_loop()
        loop.call_later(self._grace_s + CLOSE_S if first else FORCED_S, self._kill)

    def _hung_up(self) -> None:
        if self.reloads is not None:
            task = asyncio.ensure_future(self.reloads("SIGHUP"))
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)

    async def use(self, config: object, grace_s: float) -> None:
        """Have all workers serve by `config`, those too that start later. One that cannot is
        replaced, as gently as its grace allows."""
        self._config, self._grace_s = config, grace_s
        order = pickle.dumps(config)
        taking = {w.seat.number: told for w in self._workers if (told := w.give(order)) is not None}
        if taking:
            await asyncio.wait(taking.values(), timeout=TAKE_S)
        late = [number for number, told in taking.items() if not told.done()]
        failed = [number for number, told in taking.items() if told.done() and not told.result()]
        for numbers, text in (
            (late, "workers have not taken the new configuration yet"),
            (failed, "workers could not take the new configuration and are replaced"),
        ):
            if numbers:
                _logger.error(text, extra={"numbers": ",".join(map(str, numbers))})

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    async def _keep(self, worker: _Worker) -> None:
        backoff = Backoff()
        while not self._signals:
            began = time.monotonic()
            status = await self._live(worker)
            if self._signals:
                return
            if not self._has_served and status > 0:  # the worker has said why
                self._status = status
                self._signalled(signal.SIGINT)
                return
            wait_s = backoff.after(time.monotonic() - began)
            self.metrics.worker_restarts.inc()
            _logger.error(
                "a worker ended and is replaced",
                extra={"worker": worker.seat.number, "status": status, "in_s": wait_s},
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    async def _live(self, worker: _Worker) -> int:
        """Run one process to its end: its status, or the negative number of a signal."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(worker.seat.number),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=() if worker.seat.listener is None else (worker.seat.listener,),
                start_new_session=True,  # a terminal's Ctrl+C is the supervisor's
            )
        except OSError as error:
            _logger.error("no worker can be started", extra={"error": str(error)})  # noqa: TRY400
            return 0
        worker.process = process
        watching: asyncio.Task[None] | None = None
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(sized(pickle.dumps((self._config, worker.seat))))
            if self._signals:
                worker.tell(self._signals)
            if await process.stdout.read(1):
                self._has_served = worker.serves = True
                watching = asyncio.create_task(self._watch(worker))
                while told := await process.stdout.read(1):
                    worker.answered(told)
            return await process.wait()
        finally:
            if watching is not None:
                watching.cancel()
            worker.kill()
            worker.answered(b"")
            worker.process, worker.serves = None, False
            # what was not asked for since is lost, but no counter falls
            self._ended = add_up((self._ended, lasting(worker.told)))
            worker.told = {}

    async def _watch(self, worker: _Worker) -> None:
        """Kill a worker that hangs."""
        silent = 0
        while silent < SILENT_MAX:
            await asyncio.sleep(WATCH_S)
            answer = await self._ask(worker, "/healthz")
            silent = silent + 1 if answer is None else 0
        _logger.error("a worker hangs and is killed", extra={"worker": worker.seat.number})
        worker.kill()

    # the operator's port

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._exposition),
                *([] if self.reloads is None else [reload_route(self.reloads)]),
                *self.page,
                Route("/{path:path}", self._pass_on, methods=["GET", "POST", "PUT", "DELETE"]),
            ]
        )

    async def _healthz(self, request: Request) -> Response:
        return _json({"status": "ok", "version": __version__})

    async def _readyz(self, request: Request) -> Response:
        """As one worker says it, the first that is ready before all others."""
        answers = await asyncio.gather(
            *(self._ask(worker, request.url.path, request.url.query) for worker in self._serving())
        )
        given = [answer for answer in answers if answer is not None]
        ready = [answer for answer in given if answer.status == 200]
        details: dict[str, Any] = {}
        best = next(iter(ready or given), None)
        if best is not None and best.status not in (200, 503):
            return best.response()  # the question was wrong
        if best is not None:
            details = orjson.loads(best.body)
        draining = bool(self._signals)
        details |= {
            "ready": bool(ready) and not draining,
            "draining": draining,
            "workers": {"configured": len(self._workers), "ready": len(ready)},
        }
        return _json(details, 200 if details["ready"] else 503)

    async def _exposition(self, request: Request) -> Response:
        async with self._scraping:  # or an older answer would replace a newer one
            await asyncio.gather(*(self._scrape(worker) for worker in self._serving()))
            own = parse(generate_latest(self.metrics.registry).decode())
            total = add_up((own, self._ended, *(worker.told for worker in self._workers)))
        return Response(write(total), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _scrape(self, worker: _Worker) -> None:
        """Renew what the worker told; if it does not answer now, the last stands."""
        process = worker.process
        answer = await self._ask(worker, "/metrics")
        if answer is None or answer.status != 200:
            return
        told = await asyncio.to_thread(parse, answer.body.decode())
        if worker.process is process:
            worker.told = told

    async def _pass_on(self, request: Request) -> Response:
        """Whatever else the operator asks is answered by one worker."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > REQUEST_BYTES_MAX:
                return _json({"error": {"message": "the body is too large"}}, 413)
        for worker in self._serving():
            answer = await self._ask(
                worker,
                request.url.path,
                request.url.query,
                request.method,
                bytes(body),
                {k: v for k, v in request.headers.items() if k in ("content-type", "accept")},
            )
            if answer is not None:
                return answer.response()
            if request.method != "GET":
                break  # it may have been done
        return _json({"error": {"message": "no worker answers"}}, 503)

    async def every(self, path: str, headers: Mapping[str, str]) -> list[bytes]:
        """What each worker answers to a GET on its private socket, where it does with 200."""
        answers = await asyncio.gather(*(self._get(one, path, headers) for one in self._serving()))
        return [answer for answer in answers if answer is not None]

    async def some(self, path: str, headers: Mapping[str, str]) -> list[bytes]:
        """The same of the first that does."""
        for worker in self._serving():
            if (answer := await self._get(worker, path, headers)) is not None:
                return [answer]
        return []

    async def _get(self, worker: _Worker, path: str, headers: Mapping[str, str]) -> bytes | None:
        path, _, query = path.partition("?")
        answer = await self._ask(worker, path, query, headers=headers)
        return answer.body if answer is not None and answer.status == 200 else None

    def sockets(self) -> list[Path]:
        """The private sockets of the workers that serve."""
        return [worker.seat.admin for worker in self._serving()]

    def _serving(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.serves]

    async def _ask(
        self,
        worker: _Worker,
        path: str,
        query: str = "",
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> _Answer | None:
        """A worker's answer on its private socket; None: there is none."""
        connector = aiohttp.UnixConnector(str(worker.seat.admin), force_close=True)
        url = f"http://worker{path}?{query}" if query else f"http://worker{path}"
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                aiohttp.ClientSession(connector=connector, auto_decompress=False) as http,
                http.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                read = bytearray()
                async for piece in answer.content.iter_any():
                    read += piece
                    if len(read) > ANSWER_BYTES_MAX:
                        return None
                return _Answer(answer.status, answer.headers.get("content-type"), bytes(read))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str | None
    body: bytes

    def response(self) -> Response:
        headers = {"content-type": self.content_type} if self.content_type else None
        return Response(self.body, self.status, headers=headers)


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
