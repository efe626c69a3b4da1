"""What the worker processes of one machine share: quota counters, open sessions, breaker verdicts,
what the agents of all calls say (see engines/interruption/voice_keeper.py), that their callers say
something (see telemetry/agreement.py) and of which kind it is (engines/interruption/learning.py;
nothing while learning is off), responses that are kept (see conversations/chat/responses_store.py),
and avatars that were asked for (see conversations/avatar/route.py).

The supervisor keeps it, and workers reach it by a UNIX socket: one JSON object a line, answers in
order. A worker that loses the supervisor counts for itself, as it does without Redis.

    {"do": "transact", "args": [adds, claims, force]} -> {"ok": answer} | {"error": text}
    {"do": "fill", "args": [{name: [used, window]}]}  -> {"ok": null}
    {"do": "held", "args": [{key: sessions}]}     -> {"ok": {key: sessions of the others}}
    {"do": "rest", "args": [provider, model, s]}  -> told to every other worker as {"rest": [...]}
    {"do": "voice", "args": [call, at, base64]}   -> likewise, as {"voice": [...]}
    {"do": "followed", "args": [call, what, from, until]} -> likewise, as {"followed": [...]}
    {"do": "kept", "args": [key, response, items]} -> likewise, as {"kept": [...]}
    {"do": "kept", "args": [key, id]}             -> likewise: it was deleted
    {"do": "avatar", "args": [what, ...]}         -> likewise, as {"avatar": [...]}
    {"do": "words", "args": [call, since, at, n]} -> likewise, as {"words": [...]}
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.server.counters import Add, Answer, Claim, Counters, CountersError

_logger = logging.getLogger(__name__)

LINE_BYTES_MAX: Final = 1 << 20
"""Longest message: the sessions of all keys, once a second."""

CALLS_MAX: Final = 1000
"""Calls of one worker that wait for their answers; a further one fails."""

ANSWER_S: Final = 0.25
"""How long the supervisor may take; then a worker counts for itself."""

HEARTBEAT_S: Final = 0.2
"""How old the counts of the other workers' sessions may be."""


TOLD: Final = frozenset({"rest", "voice", "words", "kept", "followed", "avatar"})
"""What is passed on to all other workers."""

UNREAD_BYTES_MAX: Final = 1 << 20
"""A worker that reads so slowly is told no more of what agents and callers say."""


class MachineError(CountersError):
    """The supervisor does not answer."""


class MachineState:
    """The supervisor's side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counters = Counters()
        self._held: dict[int, Counter[str]] = {}
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._number = 0

    async def start(self) -> None:
        """Listen. The socket is this user's alone."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self.path, limit=LINE_BYTES_MAX
            )
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """Let go of the workers."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers.values():
                writer.close()
            await self._server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        number = self._number
        self._writers[number] = writer
        try:
            while line := await reader.readline():
                writer.write(orjson.dumps(self._answer(number, orjson.loads(line))) + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError, OSError):
            pass  # a worker that is gone, or talks nonsense, is let go
        finally:
            self._writers.pop(number, None)
            self._held.pop(number, None)  # what a dead worker held is free again
            writer.close()

    def _answer(self, number: int, call: dict[str, Any]) -> dict[str, Any]:
        what, args = call.get("do"), call.get("args") or []
        if what == "held":
            self._held[number] = Counter(args[0])
            others: Counter[str] = Counter()
            for other, held in self._held.items():
                if other != number:
                    others.update(held)
            return {"ok": others}
        if what in TOLD:
            told = orjson.dumps({what: args}) + b"\n"
            for other, writer in self._writers.items():
                if other != number and (
                    what == "rest" or writer.transport.get_write_buffer_size() < UNREAD_BYTES_MAX
                ):
                    writer.write(told)
            return {"ok": None}
        if what == "transact":
            adds, claims, force = args
            claimed = [Claim(*one) for one in claims]
            return {"ok": tuple(self._counters.transact(adds, claimed, force=force))}
        if what == "fill":
            self._counters.fill(args[0])
            return {"ok": None}
        return {"error": f"nothing is called {str(what)[:64]!r}"}


class Machine:
    """A worker's side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._elsewhere: Mapping[str, int] = {}
        self._elsewhere_open = 0
        self._connected = asyncio.Event()
        self.on_rest: Callable[[str, str, float], None] | None = None
        """Called with provider, model and seconds when a deployment rests at another worker; 0
        seconds: it works again."""
        self.on_voice: Callable[[str, float, bytes], None] | None = None
        """Called with what an agent said at another worker; see `voice`."""
        self.on_followed: Callable[[str, str, float, float], None] | None = None
        """Called with what followed in a call at another worker; see `followed`."""
        self.on_kept: Callable[[Any], None] | None = None
        """Called with what another worker keeps, or has deleted; see `kept`."""
        self.on_words: Callable[[str, float, float, int], object] | None = None
        """Called with what a caller said at another worker; see `words`."""
        self.on_avatar: Callable[[Any], None] | None = None
        """Called with what became of an avatar at another worker; see `avatar`."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def elsewhere(self, key: str) -> int:
        """Sessions of `key` at the other workers."""
        return self._elsewhere.get(key, 0)

    def elsewhere_open(self) -> int:
        """Sessions of all keys at the other workers."""
        return self._elsewhere_open

    async def start(self, held: Mapping[str, int]) -> None:
        """Connect, and begin to tell of the sessions `held` here. A supervisor that is slow is not
        waited for longer than for an answer."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._beat(held)),
        ]
        with contextlib.suppress(TimeoutError):  # or the first requests would be counted here
            async with asyncio.timeout(ANSWER_S):
                await self._connected.wait()

    async def close(self) -> None:
        """Give everything back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lose()

    def rests(self, provider: str, model: str, seconds: float) -> None:
        """Tell the other workers, without waiting."""
        if self._writer is not None and len(self._waiting) < CALLS_MAX:
            self._send("rest", [provider, model, seconds])

    def voice(self, call: str, begins_at: float, marks: bytes) -> None:
        """Tell the other workers what an agent says, from any thread and without waiting; times
        are those of `time.monotonic`, which all processes of a machine share."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._tell_voice, call, begins_at, marks)

    def _tell_voice(self, call: str, begins_at: float, marks: bytes) -> None:
        if self._writer is not None and len(self._waiting) < CALLS_MAX:
            self._send("voice", [call, begins_at, base64.b64encode(marks).decode()])

    def followed(self, call: str, what: str, began: float, ended: float) -> None:
        """Tell the other workers what followed in a call, without waiting."""
        if self._writer is not None and len(self._waiting) < CALLS_MAX:
            self._send("followed", [call, what, began, ended])

    def kept(self, args: Sequence[Any]) -> None:
        """Tell the other workers of a response that is kept or was deleted, without waiting; one
        that does not fit into a message is known here alone."""
        if self._writer is not None and len(self._waiting) < CALLS_MAX:
            self._send("kept", list(args), LINE_BYTES_MAX // 2)

    def words(self, call: str, since: float, at: float, words: int) -> None:
        """Tell the other workers how many words a caller has said, without waiting."""
        if self._writer is not None and len(self._waiting) < CALLS_MAX:
            self._send("words", [call, since, at, words])

    def avatar(self, args: Sequence[Any]) -> None:
        """Tell the other workers what became of an avatar, without waiting."""
        if self._writer is not None and len(self._waiting) < CALLS_MAX:
            self._send("avatar", list(args))

    async def transact(
        self, adds: Sequence[Add], claims: Sequence[Claim], *, force: bool
    ) -> Answer:
        """See `Counters`."""
        told = await self._call(
            "transact", [tuple(one) for one in adds], [tuple(one) for one in claims], force
        )
        return Answer(*told)

    async def fill(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """See `Counters`."""
        await self._call("fill", counts)

    async def _call(self, what: str, *args: Any) -> Any:
        if self._writer is None or len(self._waiting) >= CALLS_MAX:
            raise MachineError("the supervisor does not answer")
        answer = self._send(what, list(args))
        try:
            async with asyncio.timeout(ANSWER_S):
                told = await asyncio.shield(answer)
        except TimeoutError:
            raise MachineError("the supervisor does not answer in time") from None
        if "error" in told:
            raise MachineError(told["error"])
        return told["ok"]

    def _send(
        self, what: str, args: list[Any], bytes_max: int = LINE_BYTES_MAX
    ) -> asyncio.Future[Any]:
        assert self._writer is not None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        line = orjson.dumps({"do": what, "args": args}) + b"\n"
        if len(line) < bytes_max:
            self._waiting.append(answer)
            self._writer.write(line)
        return answer

    async def _listen(self) -> None:
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(
                    self.path, limit=LINE_BYTES_MAX
                )
                self._connected.set()
                while line := await reader.readline():
                    told = orjson.loads(line)
                    try:
                        self._hear(told)
                    except Exception:  # or nothing would be heard any more, answers included
                        _logger.exception("internal error")
            except (OSError, ValueError) as error:
                _logger.warning(
                    "the supervisor is away; this worker counts for itself",
                    extra={"error": type(error).__name__},
                )
            self._lose()
            await asyncio.sleep(HEARTBEAT_S)

    def _hear(self, told: dict[str, Any]) -> None:
        if "rest" in told:
            if self.on_rest is not None:
                self.on_rest(*told["rest"])
        elif "words" in told:
            if self.on_words is not None:
                self.on_words(*told["words"])
        elif "voice" in told:
            if self.on_voice is not None:
                call, begins_at, marks = told["voice"]
                self.on_voice(call, begins_at, base64.b64decode(marks))
        elif "followed" in told:
            if self.on_followed is not None:
                self.on_followed(*told["followed"])
        elif "avatar" in told:
            if self.on_avatar is not None:
                self.on_avatar(told["avatar"])
        elif "kept" in told:
            if self.on_kept is not None:
                self.on_kept(told["kept"])
        elif self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_result(told)

    def _lose(self) -> None:
        """The supervisor is gone: nobody waits for it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_result({"error": "the supervisor is gone"})
        self._elsewhere, self._elsewhere_open = {}, 0

    async def _beat(self, held: Mapping[str, int]) -> None:
        while True:
            with contextlib.suppress(MachineError):
                self._elsewhere = await self._call("held", dict(held))
                self._elsewhere_open = sum(self._elsewhere.values())
            await asyncio.sleep(HEARTBEAT_S)
