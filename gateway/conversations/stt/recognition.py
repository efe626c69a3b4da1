"""The recognisers that serve a session: who hears its audio, who takes over, and when. Pure.

There is a line to the recogniser that serves; while lines change there may be two more: `_next`,
which is being opened to take over, and `_old`, which gives its last finals. The audio since the
last final is kept, so that a line which fails is followed by one that hears it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gateway.conversations.stt.actions import Drop, Send
from gateway.conversations.stt.client_state import ClientState
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.connections import RecognizerConnections
from gateway.conversations.stt.course import SERVED_S, Course
from gateway.conversations.stt.handover import Handover, is_calm
from gateway.conversations.stt.replay_buffer import ReplayBuffer
from gateway.conversations.stt.stall_detector import FILL_AFTER_S, StallDetector
from gateway.conversations.stt.transcripts import TranscriptAssembler
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    ConnectionFailed,
    SocketClosed,
    SocketEvent,
    SocketFrame,
    SocketOpened,
)
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.stt import (
    FINISH,
    EagerEndOfTurn,
    Ended,
    Expiring,
    Failed,
    Flushed,
    InterimTranscript,
    NotUpdated,
    Ready,
    RecognizerEvent,
    SpeechStarted,
    TurnResumed,
)
from gateway.upstreams.stt import (
    FinalTranscript as FinalHeard,
)

UPDATE_WAIT_S: Final = 6.0
"""A change of settings waits so long for a calm moment."""

DRAIN_S: Final = 3.0
"""How long the last finals of a replaced line are waited for; the new line's wait meanwhile."""

HELD_MAX: Final = 256
"""Words of the new line that wait for the old one's end."""


class Recognition:
    """Passes a caller's audio to recognisers, one after the other, and tells it what they hear."""

    def __init__(
        self,
        config: SttConfig,
        caller: ClientState,
        lines: RecognizerConnections,
        course: Course,
        kept: ReplayBuffer,
        telling: TranscriptAssembler,
        timeout_s: float,
    ) -> None:
        self._config = config
        self._caller = caller
        self._lines = lines
        self._course = course
        self._kept = kept
        self._telling = telling
        self._timeout_s = timeout_s
        self._watch = StallDetector(config, kept, telling)
        self._renewal = Handover()
        self._line: RecognizerConnection | None = None
        self._next: RecognizerConnection | None = None
        self._old: RecognizerConnection | None = None
        self._old_by = 0.0
        self._held: list[tuple[RecognizerConnection, RecognizerEvent]] = []
        self._retry_at: float | None = None
        self._asleep = False

    # -- for the client's side

    def hear(self, pcm: bytes, now: float) -> bool:
        """Keep the audio and pass it on; whether it was a frame like all others."""
        caller, kept = self._caller, self._kept
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
                    caller.out.append(Send(line.number, frames))
                if live and not line.unsent and caller.finalized_at is None:
                    return line.unheard_s < self._config.stall_s and self._renewal.at is None
                self._caught_up(line, now)
            self._check_stall(line, now)
        elif self._asleep:
            self._asleep = False
            self.open_line(now)
        caller.finalized_at = None
        self._watch_backlog()
        return False

    def finalize(self, now: float) -> None:
        """The client wants finals for what it has said."""
        self._caller.finalize(now)
        line = self._line
        if line is None and self._asleep:
            if self._kept.speech() is None:
                self._caller.acks = self._caller.finalizes
                self._caller.acknowledge()
            else:
                self._asleep = False
                self.open_line(now)
        elif line is not None and line.ready and not line.unsent:
            self._flush(line, now)

    def close(self, now: float) -> None:
        """The client wants the last finals and the end."""
        line = self._line
        self._caller.closing_by = now + self._closing_s(line)
        nothing_said = self._kept.speech() is None and self._telling.interim is None
        if line is None or not line.ready:
            if nothing_said:
                self.close_well()
            elif line is None and self._asleep:
                self._asleep = False
                self.open_line(now)
        elif not line.unsent:
            self._finish(line, now)

    def change(self, plan: Plan, *, moved: bool, now: float) -> None:
        """Go by this plan, with the line in use if that can be; `moved`: the client wants another
        model."""
        self._course.replan(plan)
        line = self._line
        if line is None:
            self._course.left = self._course.ordered(plan, now)
            return
        same = next((attempt for attempt in plan if _same_place(attempt, line.attempt)), None)
        moved = moved and not _same_place(plan[0], line.attempt)
        if same is not None and not moved:
            self._course.left = (same, *(attempt for attempt in plan if attempt is not same))
            if same == line.attempt:
                return
            if line.ready and (frames := line.recognizer.update(same)) is not None:
                line.attempt = same
                if frames:
                    self._caller.out.append(Send(line.number, list(frames)))
                return
        else:
            self._course.left = (line.attempt, *self._course.ordered(plan, now))
        wanted = plan if same is None or moved else self._course.left
        self._renew(now, now + UPDATE_WAIT_S, wanted)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._caller.closing_by is not None and now >= self._caller.closing_by:
            self._end(self._line, now)
            return
        if self._old is not None:
            if now >= self._old_by:
                self._old_over(now)
            else:
                self._pump(self._old, now)
        if self._next is not None:
            self._check_opening(self._next, now)
        if self._retry_at is not None and now >= self._retry_at:
            self.open_line(now)
        line = self._line
        if line is not None:
            self._check_opening(line, now)
        if line is not None and line is self._line and line.ready:
            self._tend(line, now)
        self._change_lines(now)
        end_at = self._end_at()
        if end_at is not None and now >= end_at:
            self.close_well()

    def dues(self, now: float) -> list[float | None]:
        """When something is to be done."""
        line = self._line
        times: list[float | None] = [self._caller.closing_by, self._retry_at, self._end_at()]
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
        return times

    def _end_at(self) -> float | None:
        """When a client that does not say so is done."""
        return self._caller.end_at(utterance_open=self._telling.interim is not None)

    def _watch_backlog(self) -> None:
        """Slow down a client that is ahead of what can be sent."""
        line, kept = self._line, self._kept
        unsent = len(kept.chunks) if line is None else line.unsent
        share = kept.seconds_of(unsent) / self._config.replay_s
        self._caller.slow_down(share, asleep=self._asleep)

    def let_go(self) -> list[Drop]:
        """Of all lines: the session is over."""
        report = self._caller.report
        report.audio_s = self._kept.end / self._kept.rate
        report.finals = self._telling.finals
        return self._lines.drop_all()

    def happened(self, event: SocketEvent, now: float) -> None:
        """Something on a line."""
        line = self._lines.of(event.attempt)
        if line is None:
            return
        match event:
            case SocketFrame(_, data):
                self._frame(line, data, now)
            case SocketOpened():
                self._opened(line, now)
            case SocketClosed(_, code, reason):
                self._closed(line, code, reason, now)
            case ConnectionFailed(_, failure):
                self._failed(line, failure, now)

    # -- lines

    def _closing_s(self, line: RecognizerConnection | None) -> float:
        """How long the last finals are waited for: the audio that is unsent has to go out first."""
        close_s = self._config.close_s
        if line is None:
            return close_s + self._kept.seconds
        if line.traits.flush_is_answered:
            close_s = max(close_s, line.traits.final_within_s)
        return close_s + self._kept.seconds_of(line.unsent) / line.traits.replay_rate

    def _flush(self, line: RecognizerConnection, now: float) -> None:
        if line.flush_sent_at is not None:
            return  # the next one goes out when this one is answered
        self._caller.acks = self._caller.finalizes
        frames: list[Any] = []
        line.flush(now, frames)
        self._caller.out.append(Send(line.number, frames))

    def _flushed(self, line: RecognizerConnection, now: float) -> None:
        line.flush_sent_at = None
        if self._telling.interim is not None:
            self._telling.nothing()
        self._caller.acknowledge()
        if self._caller.finalizes:
            self._flush(line, now)

    def _finish(self, line: RecognizerConnection, now: float) -> None:
        frames: list[Any] = []
        line.finish(FINISH, now, frames)
        if frames:
            self._caller.out.append(Send(line.number, frames))

    def _caught_up(self, line: RecognizerConnection, now: float) -> None:
        """Everything has been sent: what waited for that goes out."""
        if line.unsent or line.finishing:
            return
        if line is self._old or self._caller.closing_by is not None:
            self._finish(line, now)
        elif self._caller.finalizes and line is self._line:
            self._flush(line, now)

    def _end(self, line: RecognizerConnection | None, now: float) -> None:
        """The last line is through, or its time is."""
        if line is None and self._retry_at is not None and self._watch.owes_all():
            self._watch.closed_again += 1
            self._caller.closing_by = self._retry_at + self._closing_s(None)
            return
        if line is None or not self._watch.owes_end(line):
            self.close_well()
            return
        self._watch.closed_again += 1
        self._watch.doubted(line)
        self._failed(line, Failure(Kind.TIMEOUT, "the last transcripts did not come"), now)

    def close_well(self) -> None:
        """The client has all that it will get."""
        self._caller.tell(self._telling.settle())
        self._caller.close_well()

    def _new_line(self, attempt: Attempt, now: float) -> RecognizerConnection:
        line, opening = self._lines.open(attempt, self._kept.rate, self._timeout_s, now)
        self._caller.out.append(opening)
        return line

    def open_line(self, now: float) -> None:
        self._retry_at = None
        self._line = self._new_line(self._course.left[0], now)
        self._line.unsent = len(self._kept.chunks)
        if self._caller.closing_by is not None:
            self._caller.closing_by = now + self._closing_s(self._line)

    # -- what a line says

    def _opened(self, line: RecognizerConnection, now: float) -> None:
        frames = line.opened(now)
        if frames:
            self._caller.out.append(Send(line.number, list(frames)))
        if not line.traits.sends_ready:
            self._ready(line, now)

    def _ready(self, line: RecognizerConnection, now: float) -> None:
        if line.ready:
            return
        line.became_ready(now)
        self._lines.ready(line, now)
        if line.traits.session_s is not None and line is self._line:
            self._renewal.before_age(line.traits.session_s, now)
        if line is self._line:
            line.catching_up = self._kept.seconds > 0.5 and not self._caller.runs_ahead(
                self._kept.end / self._kept.rate, now
            )
            self._pump(line, now)
        elif line is self._next:
            self._change_lines(now)

    def _pump(self, line: RecognizerConnection, now: float) -> None:
        frames: list[Any] = []
        line.pump(self._kept, now, frames)
        if frames:
            self._caller.out.append(Send(line.number, frames))
        self._caught_up(line, now)
        if line is self._line:
            self._watch_backlog()

    def _frame(self, line: RecognizerConnection, data: Any, now: float) -> None:
        line.heard(now)
        for heard in line.recognizer.decode(data):
            if self._caller.over or line not in self._lines:
                return
            self._heard(line, heard, now)

    def _heard(self, line: RecognizerConnection, heard: RecognizerEvent, now: float) -> None:
        if line is self._line and self._old is not None and not isinstance(heard, Ready | Failed):
            if len(self._held) < HELD_MAX:
                self._held.append((line, heard))
            return
        if line is self._next and not isinstance(heard, Ready | Failed | Expiring):
            return
        telling = self._telling
        match heard:
            case InterimTranscript(transcript):
                if transcript.text:
                    self._heard_words(line, now)
                self._caller.tell(telling.hypothesis(line, transcript))
            case FinalHeard(transcript):
                if transcript.text:
                    self._heard_words(line, now)
                self._caller.tell(telling.final(line, transcript))
                self._watch.overdue_before = False
                if transcript.text:  # it has served
                    self._course.served()
            case SpeechStarted(at):
                self._caller.tell(telling.speech_started(line, at))
            case EagerEndOfTurn(transcript):
                self._heard_words(line, now)
                self._caller.tell(telling.eager(line, transcript))
            case TurnResumed():
                self._caller.tell(telling.resumed())
            case Flushed():
                if line is self._line and line.flush_sent_at is not None:
                    self._flushed(line, now)
            case Ready():
                self._ready(line, now)
            case Ended():
                if line is self._line and self._caller.closing_by is not None:
                    self.close_well()  # it says that this is all
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

    def _heard_words(self, line: RecognizerConnection, now: float) -> None:
        line.heard_words(now)
        self._watch.doubt = 1

    def _closed(self, line: RecognizerConnection, code: int, reason: str, now: float) -> None:
        if line.finishing and code in (1000, 1001, 1005):
            self._line_over(line, now)
        elif line is self._old:
            self._old_over(now)
        else:
            self._failed(line, line.recognizer.closed(code, reason), now)

    def _line_over(self, line: RecognizerConnection, now: float) -> None:
        """A line has ended, perhaps as it was asked to."""
        if line is self._old:
            self._old_over(now)
        elif line is self._line and self._caller.closing_by is not None:
            self._end(line, now)
        else:
            self._failed(line, Failure(Kind.CONNECTION_LOST, "the provider ended the session"), now)

    def _old_over(self, now: float) -> None:
        """The replaced line has no more to say: the new one's words, which waited, come now."""
        assert self._old is not None
        self._caller.tell(self._telling.settle())
        self._caller.out += self._lines.drop(self._old)
        self._old = None
        self._watch.draining = False
        if self._caller.acks:
            self._caller.acknowledge()
        held, self._held = self._held, []
        for line, heard in held:
            if line is self._line and not self._caller.over:
                self._heard(line, heard, now)

    # -- failures

    def _failed(self, line: RecognizerConnection, failure: Failure, now: float) -> None:
        failure = replace(failure, provider=line.attempt.provider)
        self._caller.out += self._lines.failed(line, failure, now)
        if line is self._old:
            self._old_over(now)
        elif line is self._next:
            self._next = None
            if self._renewal.failed(failure, now):
                self._next = self._new_line(self._renewal.plan[0], now)
        elif line is self._line:
            self._caller.report.failovers += 1
            self._fall_back(line, failure, now)

    def _fall_back(self, line: RecognizerConnection, failure: Failure, now: float) -> None:
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
            self.open_line(now)

    def _sleep_if_muted(self, now: float) -> bool:
        """Whether no line is needed before the caller is heard again."""
        if (
            not self._caller.is_muted(now)
            or self._telling.interim is not None
            or self._caller.closing_by is not None
            or self._caller.finalizes
            or self._kept.speech() is not None
        ):
            return False
        self._asleep = True
        self._renewal.done()
        return True

    def _give_up(self, failure: Failure, now: float) -> None:
        nothing_lost = self._kept.speech() is None and self._telling.interim is None
        if self._caller.closing_by is not None and (nothing_lost or self._watch.closed_again):
            self.close_well()
            return
        self._caller.tell(self._telling.settle())
        self._caller.refuse(failure)

    # -- change of lines

    def _renew(self, now: float, by: float, plan: Plan) -> None:
        """Change lines in a calm moment, at last at `by`."""
        self._renewal.wish(now, by, plan)
        if self._next is not None:
            self._caller.out += self._lines.drop(self._next)
            self._next = None
        if self._line is not None and not self._line.ready and not self._line.heard_text:
            # nothing lost: it has heard nothing yet
            self._caller.out += self._lines.drop(self._line)
            self._course.left = plan
            self._renewal.done()
            self.open_line(now)
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
        if line is None or not line.ready or self._caller.closing_by is not None:
            return
        if self._next is None:
            if self._caller.is_muted(now) and self._calm(now):
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

    def _retire(self, line: RecognizerConnection, now: float) -> None:
        """`line` gets no audio of what follows, and is asked for its last finals."""
        self._line = None
        self._old, self._old_by = line, now + DRAIN_S
        self._watch.draining = True
        line.until = self._kept.end
        self._renewal.done()
        self._caller.acks = self._caller.finalizes
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

    def _check_opening(self, line: RecognizerConnection, now: float) -> None:
        if line.ready or now < self._watch.ready_by(line, self._timeout_s):
            return
        what = "accept the settings" if line.open else "open the connection"
        failure = Failure(Kind.TIMEOUT, f"the provider did not {what} in time")
        self._failed(line, failure, now)

    def _tend(self, line: RecognizerConnection, now: float) -> None:
        """What a line needs as time goes by."""
        self._pump(line, now)
        if self._caller.over or line is not self._line:
            return
        keepalive_at = self._watch.keepalive_at(line)
        if keepalive_at is not None and now >= keepalive_at:
            frames: list[Any] = []
            line.keep_alive(now, frames)
            self._caller.out.append(Send(line.number, frames))
        fill_at = self._watch.fill_at(line)
        if fill_at is not None and now >= fill_at:
            frames = []
            line.fill(FILL_AFTER_S, now, frames)
            self._caller.out.append(Send(line.number, frames))
        flush_at = self._watch.flush_answer_at(line)
        if flush_at is not None and now >= flush_at:
            self._flushed(line, now)
        overdue_at = self._watch.overdue_at(line)
        if overdue_at is not None and now >= overdue_at:
            self._overdue(line, now)
        if line is self._line:
            self._check_stall(line, now)

    def _overdue(self, line: RecognizerConnection, now: float) -> None:
        if line.flush_sent_at is None and not line.finishing:
            self._flush(line, now)
        elif self._watch.overdue_before:
            # a second provider has no final either: what it has told so far must do
            line.flush_sent_at = None
            self._caller.tell(self._telling.settle())
            self._watch.overdue_before = False
            self._caller.acknowledge()
        else:
            self._watch.overdue_before = True
            self._watch.doubted(line)
            self._failed(line, Failure(Kind.TIMEOUT, "a final transcript was overdue"), now)

    def _check_stall(self, line: RecognizerConnection, now: float) -> None:
        if not line.ready or line.finishing:
            return
        stall_at = self._watch.stall_at(line)
        if stall_at is None or now < stall_at:
            return
        if self._watch.proven_by_speech(line):
            self._watch.doubt *= 2
        failure = Failure(Kind.TIMEOUT, "the provider takes audio and says nothing")
        self._failed(line, failure, now)

    def _change_at(self, line: RecognizerConnection, now: float) -> float | None:
        if self._old is not None or self._caller.closing_by is not None:
            return None
        is_open = self._telling.interim is not None
        return self._renewal.moment(line, self._next, utterance_open=is_open, now=now)


def _same_place(one: Attempt, other: Attempt) -> bool:
    return (one.provider, one.model) == (other.provider, other.model)
