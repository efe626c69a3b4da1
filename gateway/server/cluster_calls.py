"""What is known of calls at one machine, for the others that share a Redis: what agents say (see
engines/interruption/voice_keeper.py), and of which kind their callers' words are (learning.py).

/tts of a call may be at another replica than its /bargein. Each process publishes what it is
told, batch by batch, and hears the others; nothing is stored in Redis, nobody waits for it, and
without it each machine goes by what it knows itself. Moments travel as seconds from the time of
sending, since clocks of machines differ: they arrive late by as much as the way takes.

    PUBLISH <prefix>/calls
    {"from": machine, "voice": [[call, seconds, base64]], "followed": [[call, what, from, until]]}
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway.upstreams.bounded_json import loads

_logger = logging.getLogger(__name__)

FLUSH_S: Final = 0.05
"""What is told within so long goes in one message."""

PENDING_BYTES_MAX: Final = 1 << 20
"""That wait to be published; what comes then is not told."""

MESSAGE_BYTES_MAX: Final = 4 << 20
"""A longer one is not read."""

APART_S_MAX: Final = 600.0
"""A moment that is farther off is none."""

CALL_CHARS_MAX: Final = 1024
TIMEOUT_S: Final = 1.0
RETRY_S: Final = 1.0
QUIET_S: Final = 30.0
"""Without a message for so long it is tried whether Redis is still there."""


def machine_name(shared: str | None) -> str:
    """The same for all processes that share a machine's state (see machine.py), which tell one
    another already, and for nobody else."""
    return f"{socket.gethostname()}:{shared or f'{os.getpid()}-{os.urandom(6).hex()}'}"


class ClusterCalls:
    """One for each process. `voice` and `followed` may be called from any thread, once `start` was;
    what other machines tell goes to `on_voice` and `on_followed`, with moments of this process'
    `time.monotonic`."""

    def __init__(
        self,
        url: str,
        prefix: str,
        machine: str,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`machine`: see `machine_name`. `on_failure` is called whenever Redis does not answer."""
        self._url = url
        self._channel = f"{prefix}/calls"
        self._machine = machine
        self._on_failure = on_failure
        self._voice: list[tuple[str, float, str]] = []
        self._followed: list[tuple[str, str, float, float]] = []
        self._pending_bytes = 0
        self._pending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._redis: Any = None
        self._fails = False
        self.on_voice: Callable[[str, float, bytes], None] | None = None
        self.on_followed: Callable[[str, str, float, float], None] | None = None
        self.listens = asyncio.Event()
        """Set while the others are heard."""

    def start(self) -> None:
        """Begin to tell and to hear."""
        import redis.asyncio

        self._loop = asyncio.get_running_loop()
        self._redis = redis.asyncio.from_url(
            self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._tasks = [
            asyncio.create_task(self._keep(self._tell)),
            asyncio.create_task(self._keep(self._hear)),
        ]

    async def close(self) -> None:
        """Tell and hear no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._redis is not None:
            with contextlib.suppress(Exception):
                await self._redis.aclose()

    def voice(self, call: str, begins_at: float, marks: bytes) -> None:
        """What an agent says here, in marks; see voice_keeper.OnMarks."""
        encoded = base64.b64encode(marks).decode()
        self._soon(lambda: self._voice.append((call, begins_at, encoded)), len(call + encoded))

    def followed(self, call: str, what: str, began: float, ended: float) -> None:
        """What followed in a call here; see learning.OnTold."""
        self._soon(lambda: self._followed.append((call, what, began, ended)), len(call) + 64)

    def _soon(self, add: Callable[[], None], size: int) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._add, add, size)

    def _add(self, add: Callable[[], None], size: int) -> None:
        if self._pending_bytes + size <= PENDING_BYTES_MAX:
            self._pending_bytes += size
            add()
            self._pending.set()

    def _take(self, now: float) -> bytes:
        """What waits, as a message."""
        voice, self._voice = self._voice, []
        followed, self._followed = self._followed, []
        self._pending_bytes = 0
        self._pending.clear()
        return orjson.dumps(
            {
                "from": self._machine,
                "voice": [(call, at - now, marks) for call, at, marks in voice],
                "followed": [
                    (call, what, began - now, ended - now) for call, what, began, ended in followed
                ],
            }
        )

    async def _keep(self, do: Callable[[], Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        # redis-py may lose a cancellation, see cluster_sessions.py
        while not task.cancelling():
            try:
                await do()
            except Exception as error:  # whatever it is: calls go on without the others
                self.listens.clear()
                self._on_failure()
                if not self._fails:
                    self._fails = True
                    _logger.warning(
                        "agents' voices of other machines are not known",
                        extra={"error": type(error).__name__},
                    )
                await asyncio.sleep(RETRY_S)

    async def _tell(self) -> None:
        await self._pending.wait()
        await asyncio.sleep(FLUSH_S)
        async with asyncio.timeout(TIMEOUT_S):
            await self._redis.publish(self._channel, self._take(time.monotonic()))

    async def _hear(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self._channel)
            self.listens.set()
            while True:
                message = await channel.get_message(timeout=QUIET_S)
                self._fails = False
                if message is None:
                    await channel.ping()
                elif message["type"] == "message":
                    self.heard(message["data"], time.monotonic())

    def heard(self, data: bytes, now: float) -> None:
        """One message that came at `now`; what is none of ours, or nonsense, is nothing."""
        if len(data) > MESSAGE_BYTES_MAX:
            return
        try:
            told = loads(data)
            if told["from"] == self._machine:
                return
            for call, seconds, marks in told["voice"]:
                if _is_call(call) and _is_moment(seconds) and self.on_voice is not None:
                    decoded = base64.b64decode(marks, validate=True)
                    self.on_voice(call, now + seconds, decoded)
            for call, what, began, ended in told["followed"]:
                known = _is_call(call) and _is_moment(began) and _is_moment(ended)
                if known and isinstance(what, str) and self.on_followed is not None:
                    self.on_followed(call, what, now + began, now + ended)
        except (ValueError, TypeError, KeyError):
            return


def _is_call(call: Any) -> bool:
    return isinstance(call, str) and len(call) <= CALL_CHARS_MAX


def _is_moment(seconds: Any) -> bool:
    return (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and math.isfinite(seconds)
        and abs(seconds) <= APART_S_MAX
    )
