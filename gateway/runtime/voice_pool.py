"""Sockets to providers: opened before they are needed, used again, shared where they must be."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.runtime.connector import Connector, UpstreamSocket
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, SocketClosed, SocketEvent, SocketFrame
from gateway.upstreams.tts import (
    CancelMode,
    Failed,
    Finished,
    Released,
    SocketVoice,
    SpeechRequest,
    SynthesisEvent,
)

RELEASE_S: Final = 1.0
"""How long a provider may take to confirm a cancellation; then its socket is closed."""

FORGET_S: Final = 20.0
"""The same on a socket with other speeches, which is not closed: only the place is taken back."""

REST_S: Final = 5.0
"""After a socket could not be opened, none is opened ahead of need for so long."""

Sink = Callable[[SynthesisEvent], None]
"""Takes what is heard of one speech. Called from the event loop."""

_numbers = itertools.count(1)

_Key = tuple[str, str, tuple[tuple[str, str], ...], tuple[str, ...]]


def _key(provider: str, dial: Dial) -> _Key:
    return provider, dial.url, tuple(sorted(dial.headers.items())), dial.subprotocols


class PooledSynthesis:
    """A speech on a line. All calls return at once; what is heard goes to its sink."""

    __slots__ = (
        "_key",
        "_lines",
        "context",
        "finished",
        "heard",
        "line",
        "request",
        "sink",
        "texts",
        "voice",
    )

    def __init__(
        self,
        lines: ConnectionPool,
        voice: SocketVoice,
        key: _Key,
        request: SpeechRequest,
        sink: Sink,
    ) -> None:
        self._lines = lines
        self._key = key
        self.voice = voice
        self.request = request
        self.sink: Sink | None = sink
        self.context = f"u{next(_numbers)}"
        self.texts: list[str] = []
        self.finished = False
        self.heard = False
        self.line: _PooledConnection | None = None

    def say(self, text: str) -> None:
        """More text."""
        self.texts.append(text)
        if self.line is not None:
            self.line.send(self.line.dialogue.say(self.context, text))

    def finish(self) -> None:
        """No more text."""
        self.finished = True
        if self.line is not None:
            self.line.send(self.line.dialogue.finish(self.context))

    def cancel(self) -> None:
        """Nothing more is to be heard; the provider is told at once."""
        self.sink = None
        if self.line is not None:
            self.line.cancel(self)
            self.line = None

    def hear(self, heard: SynthesisEvent) -> None:
        self.heard = True
        if isinstance(heard, (Finished, Failed)):
            sink, self.sink, self.line = self.sink, None, None
        else:
            sink = self.sink
        if sink is not None:
            sink(heard)

    def lost(self, failure: Failure, fresh: bool) -> None:
        """Its line is gone. If the line had served before and this speech never heard a word, the
        socket had died unnoticed, which is no failure of the provider: another is opened."""
        self.line = None
        if self.sink is None:
            return
        if fresh or self.heard:
            self.hear(Failed(failure))
            return
        self.heard = True
        self._lines.place(self, self._key, fresh=True)


class _PooledConnection:
    """One socket, its protocol and the speeches on it."""

    def __init__(self, lines: ConnectionPool, key: _Key, voice: SocketVoice, dial: Dial) -> None:
        self._lines = lines
        self._dial = dial
        self.key = key
        self.traits = voice.traits
        self.dialogue = voice.dialogue()
        self.speeches: dict[str, PooledSynthesis] = {}
        self.leaving: dict[str, asyncio.TimerHandle] = {}
        self.served = 0
        self.open = False
        self.closing = False
        self.born = time.monotonic()
        self._frames: deque[str | bytes] = deque()
        self._wake = asyncio.Event()
        self._socket: UpstreamSocket | None = None
        self._idle: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._run())

    @property
    def free(self) -> bool:
        """Whether it can take one more speech."""
        return (
            not self.closing
            and (self.traits.reusable or not self.served)
            and len(self.speeches) + len(self.leaving) < self.traits.contexts
            and time.monotonic() - self.born < self.traits.life_s
        )

    @property
    def empty(self) -> bool:
        return not self.speeches and not self.leaving

    def take(self, speech: PooledSynthesis) -> None:
        """Serve `speech`, with all it was given to say so far."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self.served += 1
        self.speeches[speech.context] = speech
        speech.line = self
        self.send(self.dialogue.begin(speech.context, speech.request))
        for text in speech.texts:
            self.send(self.dialogue.say(speech.context, text))
        if speech.finished:
            self.send(self.dialogue.finish(speech.context))

    def send(self, frames: object) -> None:
        """Queue frames; bounded by the texts of an utterance, which the session bounds."""
        self._frames.extend(frames)  # type: ignore[arg-type]
        self._wake.set()

    def cancel(self, speech: PooledSynthesis) -> None:
        """Tell the provider to stop, and keep the socket where the protocol allows it."""
        self.speeches.pop(speech.context, None)
        if self.traits.cancel is CancelMode.CLOSE or not self.open:
            # a socket that is still being opened goes on to serve another
            if self.traits.cancel is CancelMode.CLOSE and self.open:
                self.close()
            else:
                self._frames.clear()
                self._rest()
            return
        frames = self.dialogue.cancel(speech.context)
        self.send(frames)
        if self.traits.cancel is CancelMode.ACKNOWLEDGED:
            loop, context = asyncio.get_running_loop(), speech.context
            self.leaving[context] = (
                loop.call_later(RELEASE_S, self.close)
                if self.traits.contexts == 1
                else loop.call_later(FORGET_S, self._forget, context)
            )
        else:
            self._rest()

    def _forget(self, context: str) -> None:
        self.leaving.pop(context, None)
        self._rest()

    def close(self) -> None:
        """Close the socket and let go of the rest."""
        if not self.closing:
            self.closing = True
            self._wake.set()
            self._lines.forget(self)

    def _rest(self) -> None:
        """A speech has ended: stay for the next one, for a time."""
        if not self.empty or self.closing:
            return
        alive = time.monotonic() - self.born < self.traits.life_s
        if not alive or (self.served and not self.traits.reusable):
            self.close()
            return
        if self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(self.traits.idle_s, self.close)

    async def _run(self) -> None:
        opened = await self._lines.connect(self._dial)
        if isinstance(opened, Failure):
            self._lines.unreachable(self.key)
            self._lose(opened)
            return
        self._socket = opened
        self.open = True
        listening = asyncio.create_task(opened.listen(0, _Ear(self)))
        try:
            self._rest()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._frames:
                    await opened.send(self._frames.popleft())
                if self.closing:
                    return
        except (ConnectionError, RuntimeError):
            self._lose(Failure(Kind.CONNECTION_LOST, "the provider's connection broke off"))
        finally:
            listening.cancel()
            self._quiet()
            await asyncio.gather(listening, return_exceptions=True)
            await opened.close()

    def _quiet(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        for timer in self.leaving.values():
            timer.cancel()
        self.leaving.clear()

    def _lose(self, failure: Failure) -> None:
        self.close()
        self._quiet()
        fresh = self.served <= len(self.speeches)
        speeches, self.speeches = list(self.speeches.values()), {}
        for speech in speeches:
            speech.lost(failure, fresh or not self.open)

    def hear(self, event: SocketEvent) -> None:
        """What the socket says."""
        match event:
            case SocketFrame(data=data):
                for context, heard in self.dialogue.decode(data):
                    self._dispatch(context, heard)
            case SocketClosed(code=code, reason=reason):
                self._lose(self.dialogue.closed(code, reason))
            case ConnectionFailed(failure=failure):
                self._lose(failure)

    def _dispatch(self, context: str | None, heard: SynthesisEvent) -> None:
        if context is None:
            if isinstance(heard, Failed):
                # which speech it means is not said, so it means all; the socket is suspect
                for speech in list(self.speeches.values()):
                    speech.hear(heard)
                self.speeches.clear()
                self.close()
                return
            if self.leaving:  # what still comes of a cancelled speech
                context = next(iter(self.leaving))
            elif self.speeches:
                context = next(iter(self.speeches))
            else:
                return
        if context in self.leaving:
            if isinstance(heard, (Released, Finished, Failed)):
                self.leaving.pop(context).cancel()
                self._rest()
            return
        found = self.speeches.get(context)
        if found is None:
            return
        if isinstance(heard, (Finished, Failed)):
            del self.speeches[context]
            if isinstance(heard, Failed) and self.traits.contexts == 1:
                self.close()
        found.hear(heard)
        self._rest()


class _Ear(Inbox[SocketEvent]):
    """Hears a line at once: a socket that several speeches share must not wait for one of them.
    What piles up is bounded where it is kept, at each client's own inbox."""

    __slots__ = ("_line",)

    def __init__(self, line: _PooledConnection) -> None:
        super().__init__()
        self._line = line

    def post(self, event: SocketEvent) -> None:
        self._line.hear(event)

    async def put(self, event: SocketEvent) -> None:
        self._line.hear(event)


class Reservation:
    """Says that a session may soon want a line; until it is released."""

    __slots__ = ("_key", "_lines")

    def __init__(self, lines: ConnectionPool, key: _Key) -> None:
        self._lines = lines
        self._key = key

    def release(self) -> None:
        self._lines.released(self._key)


class ConnectionPool:
    """The sockets of all sessions, by provider and what their URL and headers fix.

    A speech gets a line of its own while the provider allows so many, so that a broken one hits
    one caller; then lines are shared up to their contexts. As many lines as sessions wait are
    kept open ahead of need, at most `spare_max` for each kind.
    """

    def __init__(self, connector: Connector, open_timeout_s: float, spare_max: int) -> None:
        self._connector = connector
        self._open_timeout_s = open_timeout_s
        self._spare_max = spare_max
        self._lines: dict[_Key, list[_PooledConnection]] = {}
        self._by_provider: dict[str, int] = {}
        self._reserved: dict[_Key, int] = {}
        self._resting: dict[_Key, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open_lines(self) -> int:
        return sum(len(lines) for lines in self._lines.values())

    async def connect(self, dial: Dial) -> UpstreamSocket | Failure:
        return await self._connector.websocket(dial, self._open_timeout_s)

    def reserve(self, provider: str, voice: SocketVoice, request: SpeechRequest) -> Reservation:
        """Have a line open for a session that may soon speak."""
        dial = voice.dial(request)
        key = _key(provider, dial)
        self._reserved[key] = self._reserved.get(key, 0) + 1
        lines = self._lines.get(key, ())
        spare = sum(line.empty and line.free for line in lines)
        if (
            spare < min(self._reserved[key], self._spare_max)
            and time.monotonic() >= self._resting.get(key, 0.0)
            and self._by_provider.get(provider, 0) < voice.traits.lines_max
        ):
            self._open(key, voice, dial)
        return Reservation(self, key)

    def released(self, key: _Key) -> None:
        self._reserved[key] -= 1
        if not self._reserved[key]:
            del self._reserved[key]

    def begin(
        self, provider: str, voice: SocketVoice, request: SpeechRequest, sink: Sink
    ) -> PooledSynthesis:
        """Start a speech."""
        dial = voice.dial(request)
        key = _key(provider, dial)
        speech = PooledSynthesis(self, voice, key, request, sink)
        self.place(speech, key)
        return speech

    def place(self, speech: PooledSynthesis, key: _Key, *, fresh: bool = False) -> None:
        """Give `speech` a line: an idle one, else a new one, else a shared one."""
        lines = self._lines.get(key, ())
        # the one used last: what has been idle for long may have died
        idle = [line for line in lines if line.free and line.empty and not fresh]
        if idle:
            max(idle, key=lambda line: (line.open, line.served)).take(speech)
            return
        if self._by_provider.get(key[0], 0) >= speech.voice.traits.lines_max:
            self._close_idle(key[0])
        if self._by_provider.get(key[0], 0) < speech.voice.traits.lines_max:
            self._open(key, speech.voice, speech.voice.dial(speech.request)).take(speech)
            return
        shared = [line for line in lines if line.free]
        if shared:
            min(shared, key=lambda line: len(line.speeches)).take(speech)
            return
        speech.hear(Failed(Failure(Kind.OVERLOADED, "all connections to the provider are in use")))

    def _close_idle(self, provider: str) -> None:
        """Make room: a line of the same provider that nobody uses (another voice's) goes."""
        for lines in list(self._lines.values()):
            for line in lines:
                if line.key[0] == provider and line.empty:
                    line.close()
                    return

    def _open(self, key: _Key, voice: SocketVoice, dial: Dial) -> _PooledConnection:
        line = _PooledConnection(self, key, voice, dial)
        self._lines.setdefault(key, []).append(line)
        self._by_provider[key[0]] = self._by_provider.get(key[0], 0) + 1
        self._tasks.add(line.task)
        line.task.add_done_callback(self._tasks.discard)
        return line

    def forget(self, line: _PooledConnection) -> None:
        """A line takes no more speeches."""
        lines = self._lines.get(line.key, [])
        if line in lines:
            lines.remove(line)
            self._by_provider[line.key[0]] -= 1
            if not lines:
                del self._lines[line.key]

    def unreachable(self, key: _Key) -> None:
        """A line could not be opened."""
        now = time.monotonic()
        self._resting = {k: until for k, until in self._resting.items() if until > now}
        self._resting[key] = now + REST_S

    async def close(self) -> None:
        for lines in list(self._lines.values()):
            for line in list(lines):
                line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
