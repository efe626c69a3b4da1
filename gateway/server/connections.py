"""How many connections an address may have open, before any token is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import orjson

from gateway.server.addresses import Networks, within
from gateway.server.asgi import failure_headers
from gateway.server.http import HttpProtocol
from gateway.server.http1 import last_answer
from gateway.server.websocket import WebSocketProtocol
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind, error_body

_logger = logging.getLogger(__name__)

REFUSED_S: Final = 5.0
"""A connection too many is closed after its first bytes, which the answer waits for so that it is
read; and after so long where none come."""


TOLD_EVERY_S: Final = 60.0
"""The log says so no more often."""

DESCRIPTORS_MAX: Final = 65536
"""As many as the system lets us have, up to this: its usual limit is for programs of one user."""

DESCRIPTORS_SPARE: Final = 64
"""File descriptors that no caller's connection takes: for the operator, providers, stores."""


def too_many(most: int) -> Failure:
    return Failure(
        Kind.TOO_MANY_CONNECTIONS,
        f"this address has {most} connections open already (limits.connections_per_address)",
        retry_after_s=1,
        bound=Bound.CONNECTIONS_PER_ADDRESS,
    )


class AddressLimit:
    """Places for each address. `on_full` is told of an address when it is refused for the first
    time since it had a place left: a flood must not fill the log."""

    def __init__(
        self,
        most: int,
        on_full: Callable[[str], None] = lambda address: None,
        trusted: Networks = (),
    ) -> None:
        self.most = most
        self.trusted = trusted
        """Proxies, whose connections need no place: the callers behind them are counted with
        their requests."""
        self._on_full = on_full
        self._held: Counter[str] = Counter()
        self._told: set[str] = set()

    def take(self, address: str) -> bool:
        """Take a place, if there is one."""
        if self._held[address] >= self.most:
            if address not in self._told:
                self._told.add(address)
                self._on_full(address)
            return False
        self._held[address] += 1
        return True

    def give_back(self, address: str) -> None:
        self._told.discard(address)
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]


def descriptors_max() -> float:
    """Files and sockets that this process may have open, after it asked for DESCRIPTORS_MAX."""
    try:
        import resource
    except ImportError:  # not on this system
        return math.inf
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return math.inf
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if wanted > soft:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft


class Descriptors:
    """Keeps the last DESCRIPTORS_SPARE of them from callers: without any, nobody could ask the
    operator's port what is wrong, and nothing would be said."""

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._told_at = -math.inf

    def exhausted(self, transport: asyncio.BaseTransport) -> bool:
        """Whether this connection is one too many."""
        sock = transport.get_extra_info("socket")
        # the system gives the lowest number that is free
        number = sock.fileno() if sock is not None else 0
        if number < self._most - DESCRIPTORS_SPARE:
            return False
        if self._clock() - self._told_at > TOLD_EVERY_S:
            self._told_at = self._clock()
            _logger.error(
                "no file descriptors are left for callers: raise the limit (ulimit -n, "
                "LimitNOFILE), or lower limits.connections_per_address",
                extra={"limit": self._most},
            )
        return True


def counted_protocols(
    limit: AddressLimit,
    on_bound: Callable[[Bound], None],
    closing: Callable[[], bool],
) -> tuple[type[HttpProtocol], type[WebSocketProtocol]]:
    """The HTTP and the WebSocket protocol, whose connections have a place of `limit` from their
    beginning to their end. `on_bound` is told of every bound that one comes to. Answers that begin
    while `closing` end their connection."""

    held: dict[asyncio.BaseTransport, str] = {}
    descriptors = Descriptors(descriptors_max())

    def leave(transport: asyncio.BaseTransport) -> None:
        address = held.pop(transport, None)
        if address is not None:
            limit.give_back(address)

    class CountedHttp(HttpProtocol):
        _refused: asyncio.TimerHandle | None = None

        def closing(self) -> bool:
            return super().closing() or closing()

        def reached(self, bound: Bound) -> None:
            on_bound(bound)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if descriptors.exhausted(transport):
                on_bound(Bound.DESCRIPTORS)
                self._refused = self._loop.call_later(REFUSED_S, self._transport.abort)
                self._transport.abort()
                return
            address = self.client[0] if self.client else ""
            if within(address, limit.trusted):
                return
            if limit.take(address):
                held[transport] = address
            else:
                on_bound(Bound.CONNECTIONS_PER_ADDRESS)
                self._refused = self._loop.call_later(REFUSED_S, self._transport.abort)

        def data_received(self, data: bytes) -> None:
            if self._refused is None:
                super().data_received(data)
            elif not self._transport.is_closing():
                self._transport.write(_answer(too_many(limit.most)))
                self._transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._refused is not None:
                self._refused.cancel()
            leave(self._transport)
            super().connection_lost(exc)

    class CountedWebSocket(WebSocketProtocol):
        def reached(self, bound: Bound) -> None:
            on_bound(bound)

        def connection_lost(self, exc: Exception | None) -> None:
            leave(self._transport)
            super().connection_lost(exc)

    return CountedHttp, CountedWebSocket


def _answer(failure: Failure) -> bytes:
    body = orjson.dumps(error_body(failure))
    return last_answer(failure.status, failure_headers(failure), body)
