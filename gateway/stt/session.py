"""One /stt WebSocket: what to say to which recogniser, and to the client. Pure.

A session has a line to the recogniser that serves it; while it changes lines it may have two more:
`_next`, which is being opened to take over, and `_old`, which gives its last finals. The audio
since the last final is kept, so that a line which fails is followed by one that hears it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.errors import Failure, Kind
from gateway.events import Binary, Broke, Closed, Frame, Left, Opened, SocketEvent, Text, Woken
from gateway.health import Health
from gateway.plan import Attempt, Plan
from gateway.stt import messages
from gateway.stt.actions import Action, Close, Linger, Pause, Resume, Send, Tell
from gateway.stt.course import SERVED_S, Course
from gateway.stt.kept import KeptAudio
from gateway.stt.line import Line
from gateway.stt.lines import Lines
from gateway.stt.messages import Asked, CloseSession, Create, FinalizeSession, Update
from gateway.stt.planning import updated
from gateway.stt.renewal import Renewal, is_calm
from gateway.stt.report import Report
from gateway.stt.settings import SttConfig
from gateway.stt.telling import Telling
from gateway.stt.upstream import (
    FINISH,
    Eager,
    Ended,
    Expiring,
    Failed,
    Flushed,
    Heard,
    Interim,
    NotUpdated,
    Ready,
    Resumed,
    SpeechStarted,
    SttUpstream,
)
from gateway.stt.upstream import (
    Final as FinalHeard,
)
from gateway.stt.watch import FILL_AFTER_S, Watch

Planner = Callable[[Asked], Plan | Failure]
"""Who is to be asked for what a client wants; see `planning`."""

CREATE_S: Final = 30.0
"""A client that has not sent session.create after so long is let go."""

ASLEEP_S: Final = 5.0
"""A caller who has sent no audio for so long is muted: a line that ends is not replaced before
there is something to hear."""

UPDATE_WAIT_S: Final = 6.0
"""A change of settings waits so long for a calm moment."""

DRAIN_S: Final = 3.0
"""How long the last finals of a replaced line are waited for; the new line's wait meanwhile."""

HELD_MAX: Final = 256
"""Words of the new line that wait for the old one's end."""

END_S: Final = 5.0
"""livekit-agents 1.5 sends no session.close: so long after its finalize, the session is over."""

LINGER_S: Final = 0.25
"""After session.close nothing is said for so long: @livekit/agents 1.9 sends its close right
behind it, and its process dies of any message that comes then."""

FINALIZES_MAX: Final = 64
"""Unanswered finalizes that are counted; more get no answer of their own."""

PAUSE_SHARE: Final = 0.8
RESUME_SHARE: Final = 0.4
"""Of the audio that may be kept: with so much unsent, the client is read no further; until so
little is."""

_EPSILON: Final = 0.02

Event = Text | Binary | Left | SocketEvent


class SttSession:
    """Events in, actions out.

    `ends_itself` is for clients that finalize at the end and then wait for the server to close.
    """

    def __init__(
        self,
        config: SttConfig,
        planner: Planner,
        upstreams: Mapping[str, SttUpstream],
        health: Health,
        session_id: str,
        now: float,
        *,
        ends_itself: bool = False,
    ) -> None:
        self._config = config
        self._planner = planner
        self._id = session_id
        self._ends_itself = ends_itself
        self._out: list[Action] = []
        self._over = False
        self._began_at = self._client_at = self._audio_at = now
        self._asked: Asked | None = None
        self._kept = KeptAudio(16_000, config.replay_s)
        self._telling = Telling(self._kept, session_id)
        self._watch = Watch(config, self._kept, self._telling)
        self._timeout_s = config.open_timeout_s
        # lines
        self._line: Line | None = None
        self._next: Line | None = None
        self._old: Line | None = None
        self._old_by = 0.0
        self._held: list[tuple[Line, Heard]] = []
        self._course = Course(health, config.retries)
        self._retry_at: float | None = None
        self._asleep = False
        # change of lines
        self._renewal = Renewal()
        # what is owed
        self._finalizes = 0
        self._acks = 0
        self._finalized_at: float | None = None
        self._closing_by: float | None = None
        self._first_audio_at: float | None = None
        self._paused = False
        self.deadline: float | None = now + CREATE_S
        self.report = Report()
        self._lines = Lines(upstreams, health, self.report)

    # -- the way in

    def handle(self, event: Event | Woken, now: float) -> list[Action]:
        if self._over:
            return []
        out: list[Action] = []
        self._out = out
        match event:
            case Text(text):
                self._client_at = now
                message = messages.read_message(text)
                if isinstance(message, bytes):
                    if self._audio(message, now):
                        return out  # a live frame: nothing can be due earlier than before
                else:
                    self._message(message, now)
            case Frame(number, data):
                self._frame(number, data, now)
            case Opened(number):
                self._opened(number, now)
            case Closed(number, code, reason):
                self._closed(number, code, reason, now)
            case Broke(number, failure):
                self._broke(number, failure, now)
            case Left(code):
                self.report.left = code not in (1000, 1001, 1005)
                out.append(Close(1000))
                self._end()
            case Binary():
                self._refuse(
                    Failure(Kind.BAD_REQUEST, "binary message: audio is sent as input_audio")
                )
            case Woken():
                self._tick(now)
        self._schedule(now)
        return out

    # -- the client

    def _message(
        self, message: Create | Update | FinalizeSession | CloseSession | Failure, now: float
    ) -> None:
        if isinstance(message, Failure):
            self._refuse(message)
        elif isinstance(message, Create):
            self._create(message, now)
        elif isinstance(message, CloseSession):
            self._close(now)
        elif self._asked is None:
            self._refuse(Failure(Kind.BAD_REQUEST, "type: expected session.create first", "type"))
        elif isinstance(message, Update):
            self._update(message, now)
        else:
            self._finalize(now)

    def _create(self, create: Create, now: float) -> None:
        if self._asked is not None:
            self._refuse(Failure(Kind.BAD_REQUEST, "session.create was sent before", "type"))
            return
        plan = self._planner(create.asked)
        if isinstance(plan, Failure):
            self._refuse(plan)
            return
        self._asked = create.asked
        self._kept = KeptAudio(create.sample_rate, self._config.replay_s)
        self._telling = Telling(self._kept, self._id)
        self._watch = Watch(self._config, self._kept, self._telling)
        self._telling.language = _told_language(create.asked.language)
        if create.timeout_s is not None:
            self._timeout_s = min(self._timeout_s, create.timeout_s)
        if create.retries is not None:
            self._course.retries = create.retries
        self.report.model = create.asked.model or "auto"
        self._course.begin(plan, now)
        self._out.append(Tell(messages.simple("session.created", self._id)))
        self._open_line(now)

    def _audio(self, pcm: bytes, now: float) -> bool:
        """Keep the audio and pass it on; whether it was a frame like all others."""
        kept = self._kept
        if self._asked is None:
            self._refuse(Failure(Kind.BAD_REQUEST, "audio before session.create", "type"))
            return False
        if self._closing_by is not None:
            return True  # after session.close: not asked for
        wrong = messages.check_audio(pcm, kept.rate)
        if wrong is not None:
            self._refuse(wrong)
            return False
        if not pcm:
            return True
        if self._first_audio_at is None:
            self._first_audio_at = now
        self._audio_at = now
        made = kept.add(pcm)
        if self._old is not None and self._old.unsent:  # what it has to send is counted from here
            self._old.unsent = min(self._old.unsent + made, len(kept.chunks))
        line = self._line
        if line is not None:
            live = line.ready and not line.unsent
            line.unsent = min(line.unsent + made, len(kept.chunks))
            if line.ready:
                frames: list[Any] = []
                line.pump(kept, now, frames)
                if frames:
                    self._out.append(Send(line.number, frames))
                if live and not line.unsent and self._finalized_at is None:
                    return line.unheard_s < self._config.stall_s and self._renewal.at is None
                self._caught_up(line, now)
            self._check_stall(line, now)
        elif self._asleep:
            self._asleep = False
            self._open_line(now)
        self._finalized_at = None
        self._watch_backlog()
        return False

    def _watch_backlog(self) -> None:
        """Slow down a client that is ahead of what can be sent."""
        line, kept = self._line, self._kept
        unsent = len(kept.chunks) if line is None else line.unsent
        share = kept.seconds_of(unsent) / self._config.replay_s
        if not self._paused and share >= PAUSE_SHARE and not self._asleep:
            self._paused = True
            self._out.append(Pause())
        elif self._paused and share <= RESUME_SHARE:
            self._paused = False
            self._out.append(Resume())

    def _finalize(self, now: float) -> None:
        self._finalizes = min(self._finalizes + 1, FINALIZES_MAX)
        self._finalized_at = now
        line = self._line
        if line is None and self._asleep:
            if self._kept.speech() is None:
                self._acks = self._finalizes
                self._acknowledge()
            else:
                self._asleep = False
                self._open_line(now)
        elif line is not None and line.ready and not line.unsent:
            self._flush(line, now)

    def _close(self, now: float) -> None:
        if self._closing_by is None:
            self._out.append(Linger(LINGER_S))
        if self._asked is None:
            self._out.append(Tell(messages.simple("session.closed", self._id)))
            self._out.append(Close(1000))
            self._end()
            return
        if self._closing_by is not None:
            return
        line = self._line
        self._closing_by = now + self._closing_s(line)
        nothing_said = self._kept.speech() is None and self._telling.interim is None
        if line is None or not line.ready:
            if nothing_said:
                self._closed_well()
            elif line is None and self._asleep:
                self._asleep = False
                self._open_line(now)
        elif not line.unsent:
            self._finish(line, now)

    def _closing_s(self, line: Line | None) -> float:
        """How long the last finals are waited for: the audio that is unsent has to go out first."""
        close_s = self._config.close_s
        if line is None:
            return close_s + self._kept.seconds
        if line.traits.flush_is_answered:
            close_s = max(close_s, line.traits.final_within_s)
        return close_s + self._kept.seconds_of(line.unsent) / line.traits.replay_rate

    def _update(self, update: Update, now: float) -> None:
        asked = self._asked
        assert asked is not None
        changed = updated(asked, update)
        plan = self._planner(changed)
        if isinstance(plan, Failure):
            self._refuse(plan)
            return
        self._asked = changed
        self._telling.language = _told_language(changed.language)
        self._course.replan(plan)
        line = self._line
        if line is None:
            self._course.left = self._course.ordered(plan, now)
            return
        same = next((attempt for attempt in plan if _same_place(attempt, line.attempt)), None)
        moved = update.model is not None and not _same_place(plan[0], line.attempt)
        if same is not None and not moved:
            self._course.left = (same, *(attempt for attempt in plan if attempt is not same))
            if same == line.attempt:
                return
            if line.ready and (frames := line.recognizer.update(same)) is not None:
                line.attempt = same
                if frames:
                    self._out.append(Send(line.number, list(frames)))
                return
        else:
            self._course.left = (line.attempt, *self._course.ordered(plan, now))
        self._renew(now, now + UPDATE_WAIT_S, plan if same is None or moved else self._course.left)

    def _refuse(self, failure: Failure) -> None:
        """The client's mistake, or its end."""
        self.report.failure = failure
        self._out.append(Tell(messages.error(failure, self._id)))
        code = 1008 if failure.status < 500 else 1011
        self._out.append(Close(code, failure.message))
        self._end()

    def _end(self) -> None:
        """Let go of everything."""
        self._over = True
        self.deadline = None
        self._out[:0] = self._lines.drop_all()
        self.report.audio_s = self._kept.end / self._kept.rate
        self.report.finals = self._telling.finals

    def _ended(self, line: Line | None, now: float) -> None:
        """The last line is through, or its time is."""
        if line is None or not self._watch.owes_end(line):
            self._closed_well()
            return
        self._watch.closed_again += 1
        self._watch.doubted(line)
        self._failed(line, Failure(Kind.TIMEOUT, "the last transcripts did not come"), now)

    def _closed_well(self) -> None:
        self._tell(self._telling.settle())
        self._acks = self._finalizes
        self._acknowledge()
        self._out.append(Tell(messages.simple("session.closed", self._id)))
        self._out.append(Close(1000))
        self._end()

    def _tell(self, texts: list[str]) -> None:
        for text in texts:
            self._out.append(Tell(text))

    # -- flushes

    def _flush(self, line: Line, now: float) -> None:
        if line.flush_sent_at is not None:
            return  # the next one goes out when this one is answered
        self._acks = self._finalizes
        frames: list[Any] = []
        line.flush(now, frames)
        self._out.append(Send(line.number, frames))

    def _flushed(self, line: Line, now: float) -> None:
        line.flush_sent_at = None
        if self._telling.interim is not None:
            self._telling.nothing()
        self._acknowledge()
        if self._finalizes:
            self._flush(line, now)

    def _acknowledge(self) -> None:
        for _ in range(self._acks):
            self._out.append(Tell(messages.simple("session.finalized", self._id)))
        self._finalizes -= self._acks
        self._acks = 0

    def _finish(self, line: Line, now: float) -> None:
        frames: list[Any] = []
        line.finish(FINISH, now, frames)
        if frames:
            self._out.append(Send(line.number, frames))

    def _caught_up(self, line: Line, now: float) -> None:
        """Everything has been sent: what waited for that goes out."""
        if line.unsent or line.finishing:
            return
        if line is self._old or self._closing_by is not None:
            self._finish(line, now)
        elif self._finalizes and line is self._line:
            self._flush(line, now)

    # -- lines

    def _new_line(self, attempt: Attempt, now: float) -> Line:
        line, opening = self._lines.open(attempt, self._kept.rate, self._timeout_s, now)
        self._out.append(opening)
        return line

    def _open_line(self, now: float) -> None:
        self._retry_at = None
        self._line = self._new_line(self._course.left[0], now)
        self._line.unsent = len(self._kept.chunks)
        if self._closing_by is not None:
            self._closing_by = now + self._closing_s(self._line)

    def _opened(self, number: int, now: float) -> None:
        line = self._lines.of(number)
        if line is None:
            return
        frames = line.opened(now)
        if frames:
            self._out.append(Send(number, list(frames)))
        if not line.traits.greets:
            self._ready(line, now)

    def _ready(self, line: Line, now: float) -> None:
        if line.ready:
            return
        line.became_ready(now)
        self._lines.ready(line, now)
        if line.traits.session_s is not None and line is self._line:
            self._renewal.before_age(line.traits.session_s, now)
        if line is self._line:
            line.catching_up = self._kept.seconds > 0.5 and not self._runs_ahead(now)
            self._pump(line, now)
        elif line is self._next:
            self._change_lines(now)

    def _runs_ahead(self, now: float) -> bool:
        """Whether the client sends faster than anybody speaks."""
        if self._first_audio_at is None:
            return False
        return self._kept.end / self._kept.rate - (now - self._first_audio_at) > 2.0

    def _pump(self, line: Line, now: float) -> None:
        frames: list[Any] = []
        line.pump(self._kept, now, frames)
        if frames:
            self._out.append(Send(line.number, frames))
        self._caught_up(line, now)
        if line is self._line:
            self._watch_backlog()

    def _frame(self, number: int, data: Any, now: float) -> None:
        line = self._lines.of(number)
        if line is None:
            return
        line.heard(now)
        for heard in line.recognizer.decode(data):
            if self._over or line not in self._lines:
                return
            self._heard(line, heard, now)

    def _heard(self, line: Line, heard: Heard, now: float) -> None:
        if line is self._line and self._old is not None and not isinstance(heard, Ready | Failed):
            if len(self._held) < HELD_MAX:
                self._held.append((line, heard))
            return
        if line is self._next and not isinstance(heard, Ready | Failed | Expiring):
            return
        telling = self._telling
        match heard:
            case Interim(transcript):
                if transcript.text:
                    self._heard_words(line, now)
                self._tell(telling.hypothesis(line, transcript))
            case FinalHeard(transcript):
                if transcript.text:
                    self._heard_words(line, now)
                self._tell(telling.final(line, transcript))
                self._watch.overdue_before = False
                if transcript.text:  # it has served
                    self._course.served()
            case SpeechStarted(at):
                self._tell(telling.speech_started(line, at))
            case Eager(transcript):
                self._heard_words(line, now)
                self._tell(telling.eager(line, transcript))
            case Resumed():
                self._tell(telling.resumed())
            case Flushed():
                if line is self._line and line.flush_sent_at is not None:
                    self._flushed(line, now)
            case Ready():
                self._ready(line, now)
            case Ended():
                if line is self._line and self._closing_by is not None:
                    self._closed_well()  # it says that this is all
                else:
                    self._line_over(line, now)
            case Expiring(in_s):
                if line is self._line:
                    self._renew(now, now + max(0.0, in_s - 2.0), self._course.left)
            case NotUpdated():
                if line is self._line:
                    self._renew(now, now + UPDATE_WAIT_S, self._course.left)
            case Failed(failure):
                self._failed(line, failure, now)

    def _heard_words(self, line: Line, now: float) -> None:
        line.heard_words(now)
        self._watch.doubt = 1

    def _closed(self, number: int, code: int, reason: str, now: float) -> None:
        line = self._lines.of(number)
        if line is None:
            return
        if line.finishing and code in (1000, 1001, 1005):
            self._line_over(line, now)
        elif line is self._old:
            self._old_over(now)
        else:
            self._failed(line, line.recognizer.closed(code, reason), now)

    def _broke(self, number: int, failure: Failure, now: float) -> None:
        line = self._lines.of(number)
        if line is not None:
            self._failed(line, failure, now)

    def _line_over(self, line: Line, now: float) -> None:
        """A line has ended, perhaps as it was asked to."""
        if line is self._old:
            self._old_over(now)
        elif line is self._line and self._closing_by is not None:
            self._ended(line, now)
        else:
            self._failed(line, Failure(Kind.BROKEN_OFF, "the provider ended the session"), now)

    def _old_over(self, now: float) -> None:
        """The replaced line has no more to say: the new one's words, which waited, come now."""
        assert self._old is not None
        self._tell(self._telling.settle())
        self._out += self._lines.drop(self._old)
        self._old = None
        self._watch.draining = False
        if self._acks:
            self._acknowledge()
        held, self._held = self._held, []
        for line, heard in held:
            if line is self._line and not self._over:
                self._heard(line, heard, now)

    # -- failures

    def _failed(self, line: Line, failure: Failure, now: float) -> None:
        if failure.kind is Kind.BAD_REQUEST:
            # our words to the provider, not the client's to us
            failure = replace(failure, kind=Kind.UPSTREAM_REFUSED)
        failure = replace(failure, provider=line.attempt.provider)
        self._out += self._lines.failed(line, failure, now)
        if line is self._old:
            self._old_over(now)
        elif line is self._next:
            self._next = None
            if self._renewal.failed(failure, now):
                self._next = self._new_line(self._renewal.plan[0], now)
        elif line is self._line:
            self.report.failovers += 1
            self._fall_back(line, failure, now)

    def _fall_back(self, line: Line, failure: Failure, now: float) -> None:
        self._line = None
        if self._old is not None:
            # what it said before may still come; what the failed line said meanwhile is said anew
            self._held.clear()
        if self._next is not None:
            self._take_next(now)
            return
        if line.ready and now - line.ready_at >= SERVED_S:
            self._course.served()
        wait_s = self._course.failed(line.attempt, failure, was_ready=line.ready, now=now)
        if wait_s is None:
            self._give_up(failure, now)
        elif self._sleep_if_muted(now):
            pass
        elif wait_s:
            self._retry_at = now + wait_s
        else:
            self._open_line(now)

    def _sleep_if_muted(self, now: float) -> bool:
        """Whether no line is needed before the caller is heard again."""
        if (
            now - self._audio_at < ASLEEP_S
            or self._telling.interim is not None
            or self._closing_by is not None
            or self._finalizes
            or self._kept.speech() is not None
        ):
            return False
        self._asleep = True
        self._renewal.done()
        return True

    def _give_up(self, failure: Failure, now: float) -> None:
        nothing_lost = self._kept.speech() is None and self._telling.interim is None
        if self._closing_by is not None and (nothing_lost or self._watch.closed_again):
            self._closed_well()
            return
        self._tell(self._telling.settle())
        self._refuse(failure)

    # -- change of lines

    def _renew(self, now: float, by: float, plan: Plan) -> None:
        """Change lines in a calm moment, at last at `by`."""
        self._renewal.wish(now, by, plan)
        if self._next is not None:
            self._out += self._lines.drop(self._next)
            self._next = None
        if self._line is not None and not self._line.ready and not self._line.heard_text:
            # nothing lost: it has heard nothing yet
            self._out += self._lines.drop(self._line)
            self._course.left = plan
            self._renewal.done()
            self._open_line(now)
            return
        self._change_lines(now)

    def _calm(self, now: float) -> bool:
        line, is_open = self._line, self._telling.interim is not None
        return line is not None and is_calm(line, utterance_open=is_open, now=now)

    def _change_lines(self, now: float) -> None:
        """Take the next step of a change of lines, if its time has come."""
        line = self._line
        if not self._renewal.is_due(now) or self._old is not None:
            return
        if line is None or not line.ready or self._closing_by is not None:
            return
        if self._next is None:
            if now - self._audio_at >= ASLEEP_S and self._calm(now):
                self._retire(line, now)
                self._course.left = self._renewal.plan or self._course.left
                self._asleep = True
                return
            self._renewal.plan = self._renewal.plan or self._course.left
            self._next = self._new_line(self._renewal.plan[0], now)
        elif self._next.ready and (self._calm(now) or now >= self._renewal.by):
            self._retire(line, now)
            self._course.left = self._renewal.plan
            self._line, self._next = self._next, None
            if (session_s := self._line.traits.session_s) is not None:
                self._renewal.before_age(session_s, now)

    def _retire(self, line: Line, now: float) -> None:
        """`line` gets no audio of what follows, and is asked for its last finals."""
        self._line = None
        self._old, self._old_by = line, now + DRAIN_S
        self._watch.draining = True
        line.until = self._kept.end
        self._renewal.done()
        self._acks = self._finalizes
        self._pump(line, now)

    def _take_next(self, now: float) -> None:
        """The line has failed while the next one was being opened: it takes over at once."""
        line = self._next
        assert line is not None
        self._line, self._next = line, None
        self._course.left = self._renewal.plan or (line.attempt,)
        self._renewal.done()
        line.unsent = len(self._kept.chunks)
        if line.ready:
            line.catching_up = True
            self._pump(line, now)

    # -- time

    def _tick(self, now: float) -> None:
        if self._asked is None:
            self._refuse(Failure(Kind.IDLE, f"session.create did not come within {CREATE_S:g} s"))
            return
        if now >= self._client_at + self._config.idle_s:
            idle_s = self._config.idle_s
            self._refuse(Failure(Kind.IDLE, f"nothing came from the client for {idle_s:g} s"))
            return
        if self._closing_by is not None and now >= self._closing_by:
            self._ended(self._line, now)
            return
        if self._old is not None:
            if now >= self._old_by:
                self._old_over(now)
            else:
                self._pump(self._old, now)
        if self._next is not None:
            self._check_opening(self._next, now)
        if self._retry_at is not None and now >= self._retry_at:
            self._open_line(now)
        line = self._line
        if line is not None:
            self._check_opening(line, now)
        if line is not None and line is self._line and line.ready:
            self._tend(line, now)
        self._change_lines(now)
        if self._ended_by_silence(now):
            self._closed_well()

    def _check_opening(self, line: Line, now: float) -> None:
        if line.ready or now < self._watch.ready_by(line, self._timeout_s):
            return
        what = "accept the settings" if line.open else "open the connection"
        failure = Failure(Kind.TIMEOUT, f"the provider did not {what} in time")
        self._failed(line, failure, now)

    def _tend(self, line: Line, now: float) -> None:
        """What a line needs as time goes by."""
        self._pump(line, now)
        if self._over or line is not self._line:
            return
        keepalive_at = self._watch.keepalive_at(line)
        if keepalive_at is not None and now >= keepalive_at:
            frames: list[Any] = []
            line.keep_alive(now, frames)
            self._out.append(Send(line.number, frames))
        fill_at = self._watch.fill_at(line)
        if fill_at is not None and now >= fill_at:
            frames = []
            line.fill(FILL_AFTER_S, now, frames)
            self._out.append(Send(line.number, frames))
        flush_at = self._watch.flush_answer_at(line)
        if flush_at is not None and now >= flush_at:
            self._flushed(line, now)
        overdue_at = self._watch.overdue_at(line)
        if overdue_at is not None and now >= overdue_at:
            self._overdue(line, now)
        if line is self._line:
            self._check_stall(line, now)

    def _overdue(self, line: Line, now: float) -> None:
        if line.flush_sent_at is None and not line.finishing:
            self._flush(line, now)
        elif self._watch.overdue_before:
            # a second provider has no final either: what it has told so far must do
            line.flush_sent_at = None
            self._tell(self._telling.settle())
            self._watch.overdue_before = False
            self._acknowledge()
        else:
            self._watch.overdue_before = True
            self._watch.doubted(line)
            self._failed(line, Failure(Kind.TIMEOUT, "a final transcript was overdue"), now)

    def _check_stall(self, line: Line, now: float) -> None:
        if not line.ready or line.finishing:
            return
        stall_at = self._watch.stall_at(line)
        if stall_at is None or now < stall_at:
            return
        if self._watch.proven_by_speech(line):
            self._watch.doubt *= 2
        failure = Failure(Kind.TIMEOUT, "the provider takes audio and says nothing")
        self._failed(line, failure, now)

    def _ended_by_silence(self, now: float) -> bool:
        at = self._end_at()
        return at is not None and now >= at

    def _end_at(self) -> float | None:
        if not self._ends_itself or self._finalized_at is None or self._finalizes:
            return None
        return self._finalized_at + END_S if self._telling.interim is None else None

    def _schedule(self, now: float) -> None:
        """Say when to be woken."""
        if self._over:
            self.deadline = None
            return
        if self._asked is None:
            self.deadline = self._began_at + CREATE_S
            return
        due = [self._client_at + self._config.idle_s]
        line = self._line
        times: list[float | None] = [self._closing_by, self._retry_at, self._end_at()]
        if self._old is not None:
            times.append(self._old_by)
            if self._old.unsent:
                times.append(self._old.next_send_at)
        if self._next is not None and not self._next.ready:
            times.append(self._watch.ready_by(self._next, self._timeout_s))
        if line is not None and not line.ready:
            times.append(self._watch.ready_by(line, self._timeout_s))
        elif line is not None:
            times += [*self._watch.dues(line), self._change_at(line, now)]
        due += [at for at in times if at is not None]
        # what is due was just done; a rule that does not let go may not spin
        self.deadline = max(min(due), now + _EPSILON)

    def _change_at(self, line: Line, now: float) -> float | None:
        if self._old is not None or self._closing_by is not None:
            return None
        is_open = self._telling.interim is not None
        return self._renewal.moment(line, self._next, utterance_open=is_open, now=now)


def _same_place(one: Attempt, other: Attempt) -> bool:
    return (one.provider, one.model) == (other.provider, other.model)


def _told_language(language: str | None) -> str | None:
    """The language that transcripts carry when the provider names none."""
    return None if language == "multi" else language
