"""Addresses of providers' host names.

The system looks a name up in a thread, for ten seconds and more where its name server hangs. uvloop
has two such threads for all names together, so one provider's name would keep every other from
being looked up. Here each name has a thread of its own, and one at a time: whoever asks meanwhile
waits for the same answer. While a name server does not answer, the last address is good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import aiohappyeyeballs  # aiohttp's own
from aiohttp.abc import AbstractResolver, ResolveResult

_logger = logging.getLogger(__name__)

FRESH_S: Final = 60.0
"""So long an answer is used without asking again."""

KEPT_S: Final = 3600.0
"""So long it is good while there is no new one."""

PATIENCE_S: Final = 0.3
"""How long a new one is waited for where there is an old one."""

TOGETHER_MAX: Final = 64
"""Names that are looked up at the same time, each in a thread; the configuration has named them."""

NAMES_MAX: Final = 256
"""Names whose addresses are remembered."""

AddrInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""As socket.getaddrinfo gives it."""

LookUp = Callable[[str], Sequence[AddrInfo]]


def _look_up(host: str) -> Sequence[AddrInfo]:
    flags = socket.AI_ADDRCONFIG
    return socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=flags)


@dataclass(slots=True)
class _Known:
    infos: Sequence[AddrInfo]
    at: float
    told: bool = False  # that it is an old one


class Names(AbstractResolver):
    """For one event loop: `HOST` -> its addresses. Raises socket.gaierror."""

    def __init__(
        self, look_up: LookUp | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up or _look_up
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, asyncio.Future[Sequence[AddrInfo]]] = {}

    async def addresses(self, host: str, port: int) -> list[AddrInfo]:
        """Where to connect to."""
        infos = await self._infos(host)
        # address and port, and what IPv6 has beside them
        return [(*info[:4], (info[4][0], port, *info[4][2:])) for info in infos]

    async def connect(self, host: str, port: int, delay_s: float) -> socket.socket:
        """A connected socket: to the first address that answers, each tried `delay_s` after the one
        before (RFC 8305). Raises OSError."""
        return await aiohappyeyeballs.start_connection(
            await self.addresses(host, port),
            happy_eyeballs_delay=delay_s,
            interleave=1,
            loop=asyncio.get_running_loop(),
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The same for aiohttp."""
        return [
            ResolveResult(
                hostname=host,
                host=info[4][0],
                port=port,
                family=info[0],
                proto=info[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for info in await self._infos(host)
            if family in (socket.AF_UNSPEC, info[0])
        ]

    async def close(self) -> None:
        """Nothing: threads end by themselves, and hold up no end of the process."""

    async def _infos(self, host: str) -> Sequence[AddrInfo]:
        with contextlib.suppress(ValueError):
            ip_address(host)
            return socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        known = self._known.get(host)
        age_s = self._clock() - known.at if known is not None else KEPT_S
        if known is not None and age_s < FRESH_S:
            return known.infos
        if known is None or age_s >= KEPT_S:
            return await asyncio.shield(self._ask(host))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(self._ask(host))
        except (OSError, TimeoutError):
            if not known.told:
                known.told = True
                _logger.warning(
                    "a provider's name is not looked up; its last address is used",
                    extra={"host": host, "age_s": round(age_s)},
                )
            return known.infos

    def _ask(self, host: str) -> asyncio.Future[Sequence[AddrInfo]]:
        if (asked := self._asked.get(host)) is not None:
            return asked
        if len(self._asked) >= TOGETHER_MAX:
            raise socket.gaierror(socket.EAI_AGAIN, "too many names are looked up")
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, args=(host, loop), name="names", daemon=True)
        asked = self._asked[host] = loop.create_future()
        try:
            thread.start()
        except RuntimeError:  # the system has none left for now: nobody would ever answer
            del self._asked[host]
            raise socket.gaierror(socket.EAI_AGAIN, "there is no thread to look it up") from None
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asked

    def _run(self, host: str, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread."""
        found: Sequence[AddrInfo] | Exception
        try:
            found = self._look_up(host)
        except Exception as error:  # it must not end without an answer
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(self._answered, host, found)

    def _answered(self, host: str, found: Sequence[AddrInfo] | Exception) -> None:
        asked = self._asked.pop(host)
        if isinstance(found, Exception):
            if not asked.done():
                asked.set_exception(found)
            return
        if host not in self._known and len(self._known) >= NAMES_MAX:
            del self._known[next(iter(self._known))]
        self._known[host] = _Known(found, self._clock())
        if not asked.done():
            asked.set_result(found)
