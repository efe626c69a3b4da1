"""The pool of sockets to voices, shared by all sessions of a process. Pure: events in, actions out.

It decides which synthesis goes over which socket, when sockets are opened ahead of need, and when
they are closed. Upstream frames are decoded here. What an event leads to is performed by
`gateway/runtime/sockets.py` (sockets) and by the route (Deliver).
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    ConnectionFailed,
    DeadlinePassed,
    SocketClosed,
    SocketEvent,
    SocketFrame,
    SocketOpened,
)
from gateway.upstreams.tts import (
    CancelMode,
    Dialogue,
    Failed,
    Finished,
    Released,
    Retried,
    SocketVoice,
    SpeechRequest,
    SynthesisEvent,
)

RELEASE_S: Final = 1.0
"""Time a provider has to confirm a cancellation on a socket for one synthesis; then the socket is
closed: a new one costs the next synthesis less than waiting would."""

FORGET_S: Final = 20.0
"""The same on a socket with several contexts. It is not closed; only the place is taken back."""

OPEN_FAILED_REST_S: Final = 5.0
"""After a socket could not be opened, none like it is opened ahead of need for this long."""

DEAD_S: Final = 2.0
"""A kept socket that says nothing for this long after it was asked is taken for dead. Half of the
default `first_audio_timeout_s`: the other half is for the socket that replaces it. Providers that
are up answer within 0.1 to 1 s."""

ANSWERS_KEPT: Final = 8
"""Recent answers of a provider by which its silence is judged: one that was slow lately is not
taken for dead before twice the slowest of them."""

NAT_S: Final = 230.0
"""A kept socket without pings on which nothing came for this long is not used again: load balancers
and NATs forget an idle connection after 240 s (Azure) to 350 s (AWS), mostly without a word."""

UNRESERVED_MAX: Final = 16
"""Idle sockets to a provider that no session waits for: callers name voices, and each voice has
sockets of its own."""

UNASKED_MAX: Final = 1000
"""Frames on a socket that nobody uses: a provider that goes on sends for nobody."""


# Events. Those of sockets (`SocketEvent`) carry the number that OpenSocket gave.


@dataclass(frozen=True, slots=True)
class SynthesisWanted:
    """Start a synthesis. `context` names it; unique in the process."""

    context: str
    provider: str
    voice: SocketVoice
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class TextSaid:
    """More text for a synthesis."""

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class TextFinished:
    """No more text comes for a synthesis."""

    context: str


@dataclass(frozen=True, slots=True)
class SynthesisCancelled:
    """Nothing more of a synthesis is wanted. `suspect`: see `LiveSynthesis.cancel`."""

    context: str
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class ReservationTaken:
    """A session may soon want a synthesis like this."""

    reservation: int
    provider: str
    voice: SocketVoice
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class ReservationReleased:
    """It no longer does."""

    reservation: int


@dataclass(frozen=True, slots=True)
class VoiceEnded:
    """A provider was removed or changed, and nobody will ask this voice any more."""

    voice: SocketVoice


@dataclass(frozen=True, slots=True)
class ReceiverFull:
    """Whoever hears this synthesis has enough waiting."""

    context: str


@dataclass(frozen=True, slots=True)
class ReceiverReady:
    """It has room again."""

    context: str


PoolEvent = (
    SocketEvent
    | SynthesisWanted
    | TextSaid
    | TextFinished
    | SynthesisCancelled
    | ReservationTaken
    | ReservationReleased
    | VoiceEnded
    | ReceiverFull
    | ReceiverReady
    | DeadlinePassed
)


# Actions


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """Open a socket; its events come back with this number."""

    number: int
    dial: Dial


@dataclass(frozen=True, slots=True)
class SendFrames:
    """Send these frames in order; the socket is open."""

    number: int
    frames: Sequence[str | bytes]


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """Send what was given, then close. No event of this socket is wanted any more."""

    number: int


@dataclass(frozen=True, slots=True)
class PauseReading:
    """Read no further from this socket: its only listener has enough."""

    number: int


@dataclass(frozen=True, slots=True)
class ResumeReading:
    """Read on."""

    number: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand this to whoever hears the synthesis. Finished or Failed is the last."""

    context: str
    event: SynthesisEvent


PoolAction = OpenSocket | SendFrames | CloseSocket | PauseReading | ResumeReading | Deliver

_Key = tuple[str, str, tuple[tuple[str, str], ...], tuple[str, ...]]
"""Provider, and what its URL, headers and subprotocols fix: syntheses with equal keys may share
a socket."""


def _key(provider: str, dial: Dial) -> _Key:
    return provider, dial.url, tuple(sorted(dial.headers.items())), dial.subprotocols


_TimerKey = tuple[int, str]
"""Of a socket: the context whose end it waits for, or _IDLE, or _SILENT."""

_IDLE: Final = ""

_SILENT: Final = "?"
"""Of a socket: it was asked, and its silence is being judged."""


@dataclass(slots=True, eq=False)
class _Synthesis:
    """`texts` are all that it was given, to be said again on another socket. `heard`: something
    has come back. `full`: its listener has enough. `kept`: its socket was open before it came, so
    it may have died unnoticed. `asked_at`: when the provider had all it needs to begin."""

    context: str
    key: _Key
    voice: SocketVoice
    request: SpeechRequest
    texts: list[str] = field(default_factory=list)
    finished: bool = False
    heard: bool = False
    retried: bool = False
    full: bool = False
    kept: bool = False
    asked_at: float | None = None
    socket: _Socket | None = None


@dataclass(slots=True, eq=False)
class _Socket:
    """One socket and the syntheses on it, by context.

    `leaving` are cancelled contexts whose end the provider has not confirmed. `served` counts the
    syntheses begun on it. `draining`: takes no more, closed when empty. `doubtful`: a synthesis
    was cancelled on it before it had said a word; true until the next frame. `heard_at`: its last
    sign of life. `pinged`: the shell pings it while it is quiet. `watched`: its silence is judged.
    `unasked`: frames since it has nothing to say.
    """

    number: int
    key: _Key
    voice: SocketVoice
    dialogue: Dialogue
    born: float
    heard_at: float
    open: bool = False
    served: int = 0
    draining: bool = False
    doubtful: bool = False
    paused: bool = False
    pinged: bool = False
    watched: bool = False
    unasked: int = 0
    syntheses: dict[str, _Synthesis] = field(default_factory=dict)
    leaving: dict[str, None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.syntheses and not self.leaving

    def has_room(self, now: float) -> bool:
        """Whether it can take one more synthesis."""
        traits = self.voice.traits
        return (
            not self.draining
            and (traits.reusable or not (self.served or self.syntheses))
            and len(self.syntheses) + len(self.leaving) < traits.contexts
            and now - self.born < traits.life_s
        )

    def outlived(self, now: float) -> bool:
        """Whether it is idle and whoever stands between may have forgotten it."""
        return self.open and self.empty and not self.pinged and now - self.heard_at > NAT_S


class VoicePool:
    """Sockets by provider and by what their URL and headers fix.

    A synthesis gets a socket of its own while the provider allows so many, so that a broken one
    hits one caller; after that, sockets are shared up to their contexts. As many sockets as
    sessions wait are kept open ahead of need, at most `spare_max` for each kind. A socket that
    was kept and breaks, or says nothing for DEAD_S, before a synthesis has heard anything is taken
    for dead beforehand: the synthesis is said again over a new one, once, and its listener hears
    Retried. Idle sockets to the same provider that have shown no life since are closed with it.
    """

    def __init__(self, spare_max: int) -> None:
        self.spare_max = spare_max
        self._numbers = itertools.count(1)
        self._sockets: dict[int, _Socket] = {}
        self._by_key: dict[_Key, list[_Socket]] = {}
        self._by_provider: dict[str, int] = {}
        self._syntheses: dict[str, _Synthesis] = {}
        self._reservations: dict[int, _Key] = {}
        self._reserved: dict[_Key, int] = {}
        self._resting: dict[_Key, float] = {}
        self._answers: dict[str, deque[float]] = {}
        self._timers = _Timers()
        self._out: list[PoolAction] = []

    @property
    def deadline(self) -> float | None:
        """When it wants DeadlinePassed."""
        return self._timers.earliest()

    @property
    def sockets(self) -> int:
        """Sockets that are open or being opened."""
        return len(self._sockets)

    def handle(self, event: PoolEvent, now: float) -> list[PoolAction]:
        match event:
            case SocketFrame(number, data):  # nearly all events are this one
                socket = self._sockets.get(number)
                if socket is not None:
                    self._frame(socket, data, now)
            case TextSaid(context, text):
                self._say(context, text, now)
            case TextFinished(context):
                self._finish(context, now)
            case SynthesisWanted():
                self._want(event, now)
            case SynthesisCancelled(context, suspect):
                self._cancel(context, suspect, now)
            case ReservationTaken():
                self._reserve(event, now)
            case ReservationReleased(reservation):
                self._release(reservation)
            case VoiceEnded(voice):
                self._end_voice(voice)
            case SocketOpened(number):
                self._opened(number, now)
            case SocketClosed(number, code, reason):
                socket = self._sockets.get(number)
                if socket is not None:
                    self._lose(socket, socket.dialogue.closed(code, reason), now)
            case ConnectionFailed(number, failure):
                socket = self._sockets.get(number)
                if socket is not None:
                    self._lose(socket, failure, now)
            case ReceiverFull(context):
                self._flow(context, True)
            case ReceiverReady(context):
                self._flow(context, False)
            case DeadlinePassed():
                self._tick(now)
        out, self._out = self._out, []
        return out

    # Syntheses

    def _want(self, wanted: SynthesisWanted, now: float) -> None:
        key = _key(wanted.provider, wanted.voice.dial(wanted.request))
        synthesis = _Synthesis(wanted.context, key, wanted.voice, wanted.request)
        self._syntheses[wanted.context] = synthesis
        self._place(synthesis, now)

    def _say(self, context: str, text: str, now: float) -> None:
        synthesis = self._syntheses.get(context)
        if synthesis is None:
            return
        synthesis.texts.append(text)
        socket = synthesis.socket
        if socket is not None and socket.open:
            self._send(socket, socket.dialogue.say(context, text))
            self._asked(socket, synthesis, now)

    def _finish(self, context: str, now: float) -> None:
        synthesis = self._syntheses.get(context)
        if synthesis is None:
            return
        synthesis.finished = True
        socket = synthesis.socket
        if socket is not None and socket.open:
            self._send(socket, socket.dialogue.finish(context))
            self._asked(socket, synthesis, now)

    def _cancel(self, context: str, suspect: bool, now: float) -> None:
        synthesis = self._syntheses.pop(context, None)
        if synthesis is None or synthesis.socket is None:
            return
        socket = synthesis.socket
        del socket.syntheses[context]
        if not socket.open:  # nothing was sent yet, so it can serve another
            self._rest(socket, now)
            return
        traits = socket.voice.traits
        if suspect and synthesis.kept and not synthesis.heard:
            self._distrust(socket, synthesis.asked_at or socket.heard_at)
        if suspect or traits.cancel is CancelMode.CLOSE:
            socket.draining = True
            if not socket.syntheses:
                self._close(socket)
                return
        socket.doubtful = socket.doubtful or not synthesis.heard
        self._send(socket, socket.dialogue.cancel(context))
        if traits.cancel is CancelMode.ACKNOWLEDGED:
            socket.leaving[context] = None
            wait_s = RELEASE_S if traits.contexts == 1 else FORGET_S
            self._timers.set((socket.number, context), now + wait_s)
        self._reconsider_reading(socket)
        self._rest(socket, now)

    def _end(self, synthesis: _Synthesis, last: SynthesisEvent) -> None:
        self._syntheses.pop(synthesis.context, None)
        self._out.append(Deliver(synthesis.context, last))

    # Placement

    def _place(self, synthesis: _Synthesis, now: float, *, fresh: bool = False) -> None:
        """Give `synthesis` a socket: an idle one (unless `fresh`), else a new one, else a shared
        one."""
        key = synthesis.key
        provider, sockets_max = key[0], synthesis.voice.traits.lines_max
        for outlived in [s for s in self._by_key.get(key, ()) if s.outlived(now)]:
            self._close(outlived)
        idle = [s for s in self._by_key.get(key, ()) if s.empty and s.has_room(now)]
        if idle and not fresh:
            # what has shown no life for long may have died unnoticed
            best = max(idle, key=lambda s: (not s.doubtful, s.open, s.heard_at))
            self._take(best, synthesis, now)
            return
        if self._by_provider.get(provider, 0) >= sockets_max:
            self._close_idle(provider)
        if self._by_provider.get(provider, 0) < sockets_max:
            dial = synthesis.voice.dial(synthesis.request)
            self._take(self._open(key, synthesis.voice, dial, now), synthesis, now)
            return
        shared = [s for s in self._by_key.get(key, ()) if s.has_room(now)]
        if shared:
            self._take(min(shared, key=lambda s: len(s.syntheses)), synthesis, now)
            return
        failure = Failure(Kind.OVERLOADED, "all connections to the provider are in use")
        self._end(synthesis, Failed(failure))

    def _take(self, socket: _Socket, synthesis: _Synthesis, now: float) -> None:
        self._timers.cancel((socket.number, _IDLE))
        synthesis.socket = socket
        socket.syntheses[synthesis.context] = synthesis
        synthesis.kept, synthesis.asked_at = socket.open, None
        if socket.open:
            self._begin(socket, synthesis, now)
        self._reconsider_reading(socket)

    def _begin(self, socket: _Socket, synthesis: _Synthesis, now: float) -> None:
        """Send all that the synthesis was given so far."""
        socket.served += 1
        dialogue, context = socket.dialogue, synthesis.context
        frames = list(dialogue.begin(context, synthesis.request))
        for text in synthesis.texts:
            frames += dialogue.say(context, text)
        if synthesis.finished:
            frames += dialogue.finish(context)
        self._send(socket, frames)
        self._asked(socket, synthesis, now)

    # Silence

    def _asked(self, socket: _Socket, synthesis: _Synthesis, now: float) -> None:
        """The provider was sent something for `synthesis`: from when it has all it needs to speak,
        the silence of a kept socket is judged."""
        if synthesis.asked_at is not None or not synthesis.texts:
            return
        if socket.voice.traits.waits_for_finish and not synthesis.finished:
            return
        synthesis.asked_at = now
        if synthesis.kept and not synthesis.retried and not socket.watched:
            socket.watched = True
            slowest = max(self._answers.get(socket.key[0], ()), default=0.0)
            self._timers.set((socket.number, _SILENT), now + max(DEAD_S, 2 * slowest))

    def _answered(self, socket: _Socket, synthesis: _Synthesis, now: float) -> None:
        """The first of a synthesis is heard."""
        synthesis.heard = True
        if synthesis.asked_at is not None:
            answers = self._answers.setdefault(socket.key[0], deque(maxlen=ANSWERS_KEPT))
            answers.append(now - synthesis.asked_at)

    def _found_dead(self, socket: _Socket, now: float) -> None:
        """A kept socket has said nothing when it was due to."""
        asked = [s.asked_at for s in socket.syntheses.values() if s.asked_at is not None]
        self._distrust(socket, min(asked, default=socket.heard_at))
        self._out.append(CloseSocket(socket.number))
        text = "a kept connection to the provider was dead"
        self._lose(socket, Failure(Kind.CONNECTION_LOST, text), now)

    def _distrust(self, dead: _Socket, since: float) -> None:
        """What cut `dead` has mostly cut its neighbours too: close the idle ones that have shown no
        life after `since`, when it was asked in vain."""
        for socket in tuple(self._sockets.values()):
            alike = socket is not dead and socket.key[0] == dead.key[0]
            if alike and socket.open and socket.empty and socket.heard_at <= since:
                self._close(socket)

    # Sockets

    def _open(self, key: _Key, voice: SocketVoice, dial: Dial, now: float) -> _Socket:
        socket = _Socket(next(self._numbers), key, voice, voice.dialogue(), now, now)
        socket.pinged = dial.ping_interval_s is not None
        self._sockets[socket.number] = socket
        self._by_key.setdefault(key, []).append(socket)
        self._by_provider[key[0]] = self._by_provider.get(key[0], 0) + 1
        self._out.append(OpenSocket(socket.number, dial))
        return socket

    def _opened(self, number: int, now: float) -> None:
        socket = self._sockets.get(number)
        if socket is None:
            return
        socket.open, socket.heard_at = True, now
        for synthesis in socket.syntheses.values():
            self._begin(socket, synthesis, now)
        self._rest(socket, now)

    def _send(self, socket: _Socket, frames: Sequence[str | bytes]) -> None:
        if frames:
            self._out.append(SendFrames(socket.number, frames))

    def _rest(self, socket: _Socket, now: float) -> None:
        """If nothing is left on the socket: keep it for the next synthesis, for a time."""
        if not socket.empty or socket.number not in self._sockets:
            return
        traits = socket.voice.traits
        used_up = bool(socket.served) and not traits.reusable
        if socket.draining or used_up or now - socket.born >= traits.life_s:
            self._close(socket)
        elif (socket.number, _IDLE) not in self._timers:
            self._timers.set((socket.number, _IDLE), now + traits.idle_s)

    def _close(self, socket: _Socket) -> None:
        self._forget(socket)
        self._out.append(CloseSocket(socket.number))

    def _close_idle(self, provider: str) -> None:
        """Make room: close a socket of this provider that nobody uses (another voice's)."""
        for socket in self._sockets.values():
            if socket.key[0] == provider and socket.empty:
                self._close(socket)
                return

    def _end_voice(self, voice: SocketVoice) -> None:
        """Close its sockets; one that serves another by now is closed after that."""
        for socket in [s for s in self._sockets.values() if s.voice is voice]:
            socket.draining = True
            if socket.empty:
                self._close(socket)

    def _forget(self, socket: _Socket) -> None:
        del self._sockets[socket.number]
        alike = self._by_key[socket.key]
        alike.remove(socket)
        if not alike:
            del self._by_key[socket.key]
        self._by_provider[socket.key[0]] -= 1
        self._timers.cancel((socket.number, _IDLE))
        self._timers.cancel((socket.number, _SILENT))
        for context in socket.leaving:
            self._timers.cancel((socket.number, context))

    def _lose(self, socket: _Socket, failure: Failure, now: float) -> None:
        """The socket is gone."""
        self._forget(socket)
        if not socket.open:
            self._resting = {key: until for key, until in self._resting.items() if until > now}
            self._resting[socket.key] = now + OPEN_FAILED_REST_S
        # what a provider says when it closes a socket at its first use is an answer
        unused = socket.served <= len(socket.syntheses)
        dead = not unused or failure.kind is Kind.CONNECTION_LOST
        for synthesis in tuple(socket.syntheses.values()):
            synthesis.socket = None
            if not (synthesis.kept and dead) or synthesis.heard or synthesis.retried:
                self._end(synthesis, Failed(failure))
            else:
                synthesis.retried = True
                self._out.append(Deliver(synthesis.context, Retried(failure)))
                self._place(synthesis, now, fresh=True)

    # What a socket says

    def _frame(self, socket: _Socket, data: str | bytes, now: float) -> None:
        socket.heard_at, socket.doubtful = now, False
        socket.unasked = socket.unasked + 1 if socket.empty else 0
        if socket.unasked > UNASKED_MAX:
            self._close(socket)
            return
        if socket.watched:
            socket.watched = False
            self._timers.cancel((socket.number, _SILENT))
        for context, heard in socket.dialogue.decode(data):
            self._hear(socket, context, heard, now)
            if socket.number not in self._sockets:
                return

    def _hear(
        self, socket: _Socket, context: str | None, heard: SynthesisEvent, now: float
    ) -> None:
        if context is None:
            if isinstance(heard, Failed):
                # it does not say which synthesis it means, so it means all; the socket is suspect
                syntheses = tuple(socket.syntheses.values())
                self._close(socket)
                for synthesis in syntheses:
                    self._end(synthesis, heard)
                return
            context = next(iter(socket.leaving), None) or next(iter(socket.syntheses), None)
            if context is None:
                return
        if context in socket.leaving:  # what still comes of a cancelled synthesis
            if isinstance(heard, (Released, Finished, Failed)):
                self._left(socket, context, now)
            return
        found = socket.syntheses.get(context)
        if found is None:
            return
        if not found.heard:
            self._answered(socket, found, now)
        if not isinstance(heard, (Finished, Failed)):
            self._out.append(Deliver(context, heard))
            return
        del socket.syntheses[context]
        self._end(found, heard)
        if isinstance(heard, Failed) and socket.voice.traits.contexts == 1:
            self._close(socket)
            return
        self._reconsider_reading(socket)
        self._rest(socket, now)

    def _left(self, socket: _Socket, context: str, now: float) -> None:
        """The place of a cancelled synthesis is free again."""
        del socket.leaving[context]
        self._timers.cancel((socket.number, context))
        self._reconsider_reading(socket)
        self._rest(socket, now)

    # Back-pressure

    def _flow(self, context: str, full: bool) -> None:
        synthesis = self._syntheses.get(context)
        if synthesis is not None:
            synthesis.full = full
            if synthesis.socket is not None:
                self._reconsider_reading(synthesis.socket)

    def _reconsider_reading(self, socket: _Socket) -> None:
        """A socket that serves one synthesis alone is read no further while its listener has
        enough; one that serves others must not wait for the slowest."""
        pause = (
            len(socket.syntheses) == 1
            and not socket.leaving
            and next(iter(socket.syntheses.values())).full
        )
        if pause != socket.paused:
            socket.paused = pause
            action = PauseReading if pause else ResumeReading
            self._out.append(action(socket.number))

    # Reservations and time

    def _reserve(self, taken: ReservationTaken, now: float) -> None:
        dial = taken.voice.dial(taken.request)
        key = _key(taken.provider, dial)
        self._reservations[taken.reservation] = key
        self._reserved[key] = self._reserved.get(key, 0) + 1
        spare = sum(
            s.empty and s.has_room(now) and not s.outlived(now) for s in self._by_key.get(key, ())
        )
        if (
            spare < min(self._reserved[key], self.spare_max)
            and now >= self._resting.get(key, 0.0)
            and self._by_provider.get(taken.provider, 0) < taken.voice.traits.lines_max
        ):
            self._open(key, taken.voice, dial, now)

    def _release(self, reservation: int) -> None:
        key = self._reservations.pop(reservation, None)
        if key is None:
            return
        self._reserved[key] -= 1
        if not self._reserved[key]:
            del self._reserved[key]
            self._thin_out(key[0])

    def _thin_out(self, provider: str) -> None:
        """Close what is idle and was opened for nobody who still waits, but for the newest."""
        idle = [
            socket
            for socket in self._sockets.values()
            if socket.key[0] == provider and socket.empty and socket.key not in self._reserved
        ]
        idle.sort(key=lambda socket: socket.heard_at)
        for socket in idle[:-UNRESERVED_MAX]:
            self._close(socket)

    def _tick(self, now: float) -> None:
        for number, context in self._timers.take_due(now):
            socket = self._sockets.get(number)
            if socket is None:
                continue
            if context == _SILENT:
                socket.watched = False
                if any(s.asked_at is not None and not s.heard for s in socket.syntheses.values()):
                    self._found_dead(socket, now)
            elif context != _IDLE and socket.voice.traits.contexts > 1:
                self._left(socket, context, now)
            else:
                self._close(socket)


class _Timers:
    """Moments by key, the earliest first. Setting a key again replaces its moment."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[_TimerKey, float] = {}
        self._heap: list[tuple[float, _TimerKey]] = []

    def __contains__(self, key: _TimerKey) -> bool:
        return key in self._at

    def set(self, key: _TimerKey, at: float) -> None:
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + 64:  # mostly cancelled ones
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: _TimerKey) -> None:
        self._at.pop(key, None)

    def earliest(self) -> float | None:
        heap = self._heap
        while heap and self._at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take_due(self, now: float) -> list[_TimerKey]:
        """Remove and return what is due."""
        due = []
        while (at := self.earliest()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            due.append(key)
        return due
