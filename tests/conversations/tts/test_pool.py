"""The pool of sockets: which synthesis goes over which, and when they open and close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.conversations.tts.pool import (
    FORGET_S,
    OPEN_FAILED_REST_S,
    RELEASE_S,
    UNASKED_MAX,
    UNRESERVED_MAX,
    CloseSocket,
    Deliver,
    OpenSocket,
    PauseReading,
    PoolAction,
    PoolEvent,
    ReceiverFull,
    ReceiverReady,
    ReservationReleased,
    ReservationTaken,
    ResumeReading,
    SendFrames,
    SynthesisCancelled,
    SynthesisWanted,
    TextFinished,
    TextSaid,
    VoiceEnded,
    VoicePool,
)
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    DEADLINE_PASSED,
    ConnectionFailed,
    SocketClosed,
    SocketFrame,
    SocketOpened,
)
from gateway.upstreams.tts import (
    Audio,
    CancelMode,
    Capabilities,
    Failed,
    Finished,
    Released,
    Retried,
    SpeechRequest,
    SynthesisEvent,
)

TRAITS = Capabilities(rates=(24000,), text_chars_max=400, cancel=CancelMode.AT_ONCE)
REQUEST = SpeechRequest("m", "ann", None, 24000)
BOB = replace(REQUEST, voice="bob")
BROKEN = Failure(Kind.CONNECTION_LOST, "broke off")


class Voice:
    """A protocol of words: `context:what`."""

    def __init__(self, **traits: object) -> None:
        self.traits = replace(TRAITS, **traits)  # type: ignore[arg-type]

    def dial(self, request: SpeechRequest) -> Dial:
        return Dial(f"wss://voice/{request.voice}")

    def dialogue(self) -> Voice:
        return self

    def begin(self, context: str, request: SpeechRequest) -> Sequence[str]:
        return (f"{context}:begin",)

    def say(self, context: str, text: str) -> Sequence[str]:
        return (f"{context}:{text}",)

    def finish(self, context: str) -> Sequence[str]:
        return (f"{context}:finish",)

    def cancel(self, context: str) -> Sequence[str]:
        return (f"{context}:cancel",)

    def decode(self, frame: str | bytes) -> Sequence[tuple[str | None, SynthesisEvent]]:
        context, _, what = str(frame).partition(":")
        known: dict[str, SynthesisEvent] = {
            "done": Finished(),
            "released": Released(),
            "failed": Failed(BROKEN),
        }
        heard = known.get(what) or Audio(what.encode())
        return ((context or None, heard),)

    def closed(self, code: int, reason: str) -> Failure:
        return BROKEN


class Pool:
    """A pool, a clock, and what it has done."""

    def __init__(self, voice: Voice | None = None, spare_max: int = 4) -> None:
        self.core = VoicePool(spare_max)
        self.voice = voice or Voice()
        self.now = 0.0
        self.opened: list[Dial] = []
        self.closed: list[int] = []
        self.sent: dict[int, list[str | bytes]] = {}
        self.heard: dict[str, list[SynthesisEvent]] = {}
        self._synthesis = 0

    def handle(self, event: PoolEvent) -> list[PoolAction]:
        actions = self.core.handle(event, self.now)
        for action in actions:
            match action:
                case OpenSocket(number, dial):
                    self.opened.append(dial)
                    assert number == len(self.opened)
                case SendFrames(number, frames):
                    self.sent.setdefault(number, []).extend(frames)
                case CloseSocket(number):
                    self.closed.append(number)
                case Deliver(context, heard):
                    self.heard.setdefault(context, []).append(heard)
        return actions

    def open(self, number: int) -> list[PoolAction]:
        return self.handle(SocketOpened(number))

    def want(self, request: SpeechRequest = REQUEST, voice: Voice | None = None) -> str:
        """Want a synthesis; a socket that is opened for it opens at once."""
        self._synthesis += 1
        context = f"u{self._synthesis}"
        self.heard[context] = []
        known = len(self.opened)
        self.handle(SynthesisWanted(context, "acme", voice or self.voice, request))
        if len(self.opened) > known:
            self.open(len(self.opened))
        return context

    def frame(self, number: int, frame: str) -> list[PoolAction]:
        return self.handle(SocketFrame(number, frame))

    def done(self, number: int, context: str) -> None:
        self.frame(number, f"{context}:done")

    def cancel(self, context: str, *, suspect: bool = False) -> list[PoolAction]:
        return self.handle(SynthesisCancelled(context, suspect))

    def reserve(self, reservation: int = 1, request: SpeechRequest = REQUEST) -> list[PoolAction]:
        return self.handle(ReservationTaken(reservation, "acme", self.voice, request))

    def wait(self) -> list[PoolAction]:
        """Until the deadline."""
        assert self.core.deadline is not None
        self.now = max(self.now, self.core.deadline)
        return self.handle(DEADLINE_PASSED)

    def audio(self, context: str) -> bytes:
        return b"".join(h.pcm for h in self.heard[context] if isinstance(h, Audio))


# What is said


def test_what_is_said_before_the_socket_is_open_is_sent_in_order() -> None:
    pool = Pool()
    pool.handle(SynthesisWanted("u", "acme", pool.voice, REQUEST))
    pool.handle(TextSaid("u", "one"))
    pool.handle(TextFinished("u"))
    assert pool.sent == {}
    assert pool.open(1) == [SendFrames(1, ["u:begin", "u:one", "u:finish"])]


def test_what_is_said_on_an_open_socket_is_sent_at_once() -> None:
    pool = Pool()
    context = pool.want()
    assert pool.handle(TextSaid(context, "one")) == [SendFrames(1, (f"{context}:one",))]
    assert pool.handle(TextFinished(context)) == [SendFrames(1, (f"{context}:finish",))]


def test_what_is_said_after_the_end_goes_nowhere() -> None:
    pool = Pool()
    context = pool.want()
    pool.done(1, context)
    assert pool.handle(TextSaid(context, "one")) == []
    assert pool.handle(TextFinished(context)) == []
    assert pool.cancel(context) == []


def test_a_late_event_of_a_socket_that_is_gone_is_ignored() -> None:
    pool = Pool()
    pool.want()
    pool.handle(ConnectionFailed(1, BROKEN))
    for event in (
        SocketFrame(1, "u1:pcm"),
        SocketOpened(1),
        SocketClosed(1, 1000, ""),
        ConnectionFailed(1, BROKEN),
    ):
        assert pool.handle(event) == []


# Placement


def test_a_reserved_socket_is_open_before_it_is_needed_and_then_used() -> None:
    pool = Pool()
    pool.reserve()
    assert len(pool.opened) == 1
    pool.want()
    assert len(pool.opened) == 1


def test_as_many_sockets_are_kept_ready_as_sessions_wait_within_the_bound() -> None:
    pool = Pool(spare_max=2)
    for number in range(5):
        pool.reserve(number)
    assert len(pool.opened) == 2


def test_a_reservation_that_was_released_keeps_no_socket_ready() -> None:
    pool = Pool()
    pool.reserve(1)
    pool.handle(ReservationReleased(1))
    pool.handle(ReservationReleased(1))
    assert pool.reserve(2) == [], "one is ready already, and one session waits"
    assert len(pool.reserve(3)) == 1


def test_a_session_that_tries_many_voices_leaves_few_sockets_behind() -> None:
    pool = Pool()
    kept = pool.reserve(1, replace(REQUEST, voice="of another session"))
    assert len(kept) == 1
    for i in range(2, 400):
        pool.reserve(i, replace(REQUEST, voice=f"v{i}"))
        pool.open(len(pool.opened))
        pool.handle(ReservationReleased(i))
        assert pool.core.sockets <= UNRESERVED_MAX + 2
    assert 1 not in pool.closed
    assert pool.core.sockets == UNRESERVED_MAX + 1


def test_the_sockets_of_a_voice_that_ended_are_closed_after_their_last_word() -> None:
    pool = Pool()
    busy, idle = pool.want(), pool.want()
    pool.done(2, idle)
    pool.handle(VoiceEnded(Voice()))
    assert pool.closed == []
    pool.handle(VoiceEnded(pool.voice))
    assert pool.closed == [2]
    pool.frame(1, f"{busy}:pcm")
    pool.done(1, busy)
    assert pool.audio(busy) == b"pcm"
    assert pool.closed == [2, 1]
    assert pool.core.sockets == 0


def test_a_socket_serves_one_synthesis_after_the_other() -> None:
    pool = Pool()
    for _ in range(3):
        context = pool.want()
        pool.frame(1, f"{context}:pcm")
        pool.done(1, context)
        assert pool.audio(context) == b"pcm"
    assert len(pool.opened) == 1


def test_the_socket_that_has_shown_life_last_is_used_first() -> None:
    pool = Pool()
    first, second = pool.want(), pool.want()
    pool.now = 1.0
    pool.done(2, second)
    pool.now = 2.0
    pool.done(1, first)
    third = pool.want()
    assert pool.sent[1][-1] == f"{third}:begin"


def test_what_the_url_fixes_has_a_socket_of_its_own() -> None:
    pool = Pool()
    pool.want()
    pool.want(BOB)
    assert [dial.url for dial in pool.opened] == ["wss://voice/ann", "wss://voice/bob"]


def test_syntheses_at_the_same_time_share_a_socket_only_when_they_must() -> None:
    pool = Pool(Voice(contexts=2, lines_max=2))
    contexts = [pool.want() for _ in range(5)]
    assert len(pool.opened) == 2
    (failed,) = pool.heard[contexts[4]]
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.OVERLOADED
    for i in range(4):
        pool.frame(1 + i % 2, f"{contexts[i]}:{i}")
    assert [pool.audio(context) for context in contexts[:4]] == [b"0", b"1", b"2", b"3"]


def test_an_idle_socket_of_another_voice_makes_room() -> None:
    pool = Pool(Voice(lines_max=1))
    pool.done(1, pool.want())
    pool.want(BOB)
    assert pool.closed == [1]
    assert len(pool.opened) == 2


def test_a_socket_for_one_synthesis_is_closed_after_it() -> None:
    pool = Pool(Voice(reusable=False))
    pool.done(1, pool.want())
    assert pool.closed == [1]
    pool.want()
    assert len(pool.opened) == 2


def test_a_socket_for_one_synthesis_that_was_cancelled_unsent_serves_the_next() -> None:
    pool = Pool(Voice(reusable=False))
    pool.handle(SynthesisWanted("gone", "acme", pool.voice, REQUEST))
    pool.cancel("gone")
    pool.open(1)
    context = pool.want()
    assert pool.sent == {1: [f"{context}:begin"]}


# Ages


def test_an_idle_socket_is_closed_in_time_and_one_in_use_is_not() -> None:
    pool = Pool(Voice(idle_s=60.0))
    context = pool.want()
    assert pool.core.deadline is None
    pool.now = 10.0
    pool.done(1, context)
    assert pool.core.deadline == pytest.approx(70.0)
    pool.now = 20.0
    context = pool.want()
    assert pool.core.deadline is None
    pool.done(1, context)
    assert pool.wait() == [CloseSocket(1)]
    assert pool.now == pytest.approx(80.0)
    assert pool.core.sockets == 0


def test_a_socket_past_its_life_takes_no_more_and_is_closed_after_its_last() -> None:
    pool = Pool(Voice(life_s=100.0, idle_s=1000.0, contexts=2, lines_max=2))
    context = pool.want()
    pool.now = 100.0
    pool.want()
    assert len(pool.opened) == 2
    pool.done(1, context)
    assert pool.closed == [1]


def test_many_short_uses_leave_one_timer() -> None:
    pool = Pool(Voice(idle_s=60.0))
    for i in range(1000):
        pool.now = float(i)
        pool.done(1, pool.want())
    assert pool.core.deadline == pytest.approx(999.0 + 60.0)
    assert len(pool.core._timers._heap) < 100


# Cancelling


def test_a_cancelled_synthesis_is_told_at_once_and_its_late_words_are_dropped() -> None:
    pool = Pool()
    context = pool.want()
    pool.cancel(context)
    assert pool.sent[1][-1] == f"{context}:cancel"
    pool.frame(1, f"{context}:late")
    assert pool.heard[context] == []
    pool.want()
    assert len(pool.opened) == 1


def test_a_socket_without_names_is_used_again_only_once_the_cancellation_is_confirmed() -> None:
    pool = Pool(Voice(cancel=CancelMode.ACKNOWLEDGED))
    first = pool.want()
    pool.cancel(first)
    pool.want()
    assert len(pool.opened) == 2
    pool.frame(1, ":late")
    pool.frame(1, ":released")
    third = pool.want()
    assert len(pool.opened) == 2
    pool.frame(1, ":mine")
    assert pool.audio(third) == b"mine"


def test_a_cancellation_that_is_not_confirmed_in_time_costs_the_socket() -> None:
    pool = Pool(Voice(cancel=CancelMode.ACKNOWLEDGED))
    pool.cancel(pool.want())
    assert pool.wait() == [CloseSocket(1)]
    assert pool.now == pytest.approx(RELEASE_S)


def test_on_a_shared_socket_it_costs_a_place_for_a_while() -> None:
    pool = Pool(Voice(cancel=CancelMode.ACKNOWLEDGED, contexts=2, lines_max=1))
    first, second = pool.want(), pool.want()
    pool.cancel(first)
    assert isinstance(pool.heard[pool.want()][0], Failed), "both places are taken"
    assert pool.wait() == []
    assert pool.now == pytest.approx(FORGET_S)
    fourth = pool.want()
    pool.frame(1, f"{fourth}:pcm")
    pool.frame(1, f"{second}:pcm")
    assert pool.audio(fourth) == pool.audio(second) == b"pcm"


def test_where_nothing_else_stops_a_synthesis_its_socket_is_closed() -> None:
    pool = Pool(Voice(cancel=CancelMode.CLOSE))
    assert pool.cancel(pool.want()) == [CloseSocket(1)]
    assert pool.core.sockets == 0


def test_a_socket_that_is_still_being_opened_goes_on_to_serve_another() -> None:
    pool = Pool(Voice(cancel=CancelMode.CLOSE))
    pool.handle(SynthesisWanted("gone", "acme", pool.voice, REQUEST))
    pool.handle(TextSaid("gone", "one"))
    pool.cancel("gone")
    context = pool.want()
    assert len(pool.opened) == 1
    assert pool.open(1) == [SendFrames(1, [f"{context}:begin"])]


def test_a_cancellation_before_the_opening_leaves_the_others_on_that_socket_alone() -> None:
    pool = Pool(Voice(contexts=2, lines_max=1))
    for context in ("a", "b"):
        pool.handle(SynthesisWanted(context, "acme", pool.voice, REQUEST))
        pool.handle(TextSaid(context, "one"))
    pool.cancel("a")
    pool.open(1)
    assert pool.sent[1] == ["b:begin", "b:one"]


def test_a_socket_that_let_a_synthesis_time_out_is_closed() -> None:
    pool = Pool()
    assert pool.cancel(pool.want(), suspect=True) == [CloseSocket(1)]
    pool.want()
    assert len(pool.opened) == 2


def test_a_shared_one_takes_no_more_and_is_closed_after_its_last() -> None:
    pool = Pool(Voice(contexts=2, lines_max=2))
    first, second, third = pool.want(), pool.want(), pool.want()
    assert len(pool.opened) == 2
    pool.cancel(first, suspect=True)
    assert pool.closed == []
    pool.done(2, second)
    fourth = pool.want()
    assert pool.sent[2][-1] == f"{fourth}:begin"
    pool.frame(1, f"{third}:pcm")
    assert pool.audio(third) == b"pcm"
    pool.done(1, third)
    assert pool.closed == [1]


def test_a_socket_on_which_nothing_was_heard_before_a_cancellation_is_the_last_choice() -> None:
    pool = Pool()
    first, second = pool.want(), pool.want()
    pool.now = 1.0
    pool.frame(1, f"{first}:pcm")
    pool.done(1, first)
    pool.now = 2.0
    pool.cancel(second)
    third = pool.want()
    assert pool.sent[1][-1] == f"{third}:begin"


# Failures


def test_a_socket_that_died_unnoticed_is_replaced_and_the_listener_hears_of_it() -> None:
    pool = Pool()
    pool.done(1, pool.want())
    second = pool.want()
    pool.handle(TextSaid(second, "one"))
    pool.handle(ConnectionFailed(1, BROKEN))
    assert pool.heard[second] == [Retried(BROKEN)]
    pool.open(2)
    assert pool.sent[2] == [f"{second}:begin", f"{second}:one"]


def test_it_is_said_again_on_a_fresh_socket_even_where_another_is_idle() -> None:
    pool = Pool()
    first, second = pool.want(), pool.want()
    pool.done(1, first)
    pool.done(2, second)
    pool.want()
    pool.handle(ConnectionFailed(1, BROKEN))
    assert len(pool.opened) == 3


def test_a_synthesis_is_said_again_only_once() -> None:
    pool = Pool(Voice(contexts=2, lines_max=2))
    for number, context in ((1, pool.want()), (2, pool.want())):
        pool.done(number, context)
    third = pool.want()
    number = 1 if pool.sent[1][-1] == f"{third}:begin" else 2
    pool.handle(ConnectionFailed(number, BROKEN))
    pool.open(3)
    pool.handle(SocketClosed(3, 1011, "again"))
    assert pool.heard[third] == [Retried(BROKEN), Failed(BROKEN)]


def test_a_fresh_socket_that_breaks_fails_its_synthesis() -> None:
    pool = Pool()
    context = pool.want()
    pool.handle(SocketClosed(1, 1011, "no"))
    assert pool.heard[context] == [Failed(BROKEN)]


def test_a_socket_that_breaks_in_the_middle_fails_its_syntheses() -> None:
    pool = Pool()
    pool.done(1, pool.want())
    context = pool.want()
    pool.frame(1, f"{context}:pcm")
    pool.handle(ConnectionFailed(1, BROKEN))
    assert pool.heard[context] == [Audio(b"pcm"), Failed(BROKEN)]
    assert pool.core.sockets == 0


def test_a_failure_of_one_synthesis_closes_a_socket_that_was_its_own() -> None:
    pool = Pool()
    context = pool.want()
    pool.frame(1, f"{context}:failed")
    assert pool.heard[context] == [Failed(BROKEN)]
    assert pool.closed == [1]


def test_a_failure_of_one_synthesis_leaves_a_shared_socket_open() -> None:
    pool = Pool(Voice(contexts=2))
    pool.frame(1, f"{pool.want()}:failed")
    assert pool.closed == []


def test_a_failure_without_a_name_is_everybodys_on_that_socket() -> None:
    pool = Pool(Voice(contexts=2, lines_max=1))
    contexts = [pool.want(), pool.want()]
    pool.frame(1, ":failed")
    assert [pool.heard[context] for context in contexts] == [[Failed(BROKEN)], [Failed(BROKEN)]]
    assert pool.closed == [1]


def test_a_frame_without_a_name_on_an_idle_socket_means_nothing() -> None:
    pool = Pool()
    pool.done(1, pool.want())
    assert pool.frame(1, ":pcm") == []


def test_a_socket_that_goes_on_while_nobody_uses_it_is_closed() -> None:
    pool = Pool(Voice(contexts=2))
    for _ in range(2):  # what comes while it is used does not count
        pool.done(1, pool.want())
        for _ in range(UNASKED_MAX - 1):
            pool.frame(1, ":pcm")
    assert pool.closed == []
    pool.frame(1, ":pcm")
    assert pool.closed == []
    pool.frame(1, ":pcm")
    assert pool.closed == [1]


def test_a_provider_that_is_not_there_fails_the_synthesis_and_is_not_dialled_ahead() -> None:
    pool = Pool()
    failure = Failure(Kind.UNREACHABLE, "not there")
    pool.handle(SynthesisWanted("u", "acme", pool.voice, REQUEST))
    pool.handle(ConnectionFailed(1, failure))
    assert pool.heard["u"] == [Failed(failure)]
    assert pool.reserve(1) == []
    pool.now = OPEN_FAILED_REST_S
    assert len(pool.reserve(2)) == 1


def test_a_path_that_is_not_there_is_told_as_what_it_is() -> None:
    pool = Pool()
    pool.handle(SynthesisWanted("u", "acme", pool.voice, REQUEST))
    pool.handle(ConnectionFailed(1, Failure(Kind.UPSTREAM_NOT_FOUND, "refused with 404")))
    (failed,) = pool.heard["u"]
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.UPSTREAM_NOT_FOUND


# Back-pressure


def test_a_socket_for_one_synthesis_is_read_no_further_while_its_listener_has_enough() -> None:
    pool = Pool()
    context = pool.want()
    assert pool.handle(ReceiverFull(context)) == [PauseReading(1)]
    assert pool.handle(ReceiverReady(context)) == [ResumeReading(1)]
    assert pool.handle(ReceiverReady(context)) == []


def test_a_socket_that_serves_others_waits_for_nobody() -> None:
    pool = Pool(Voice(contexts=2, lines_max=1))
    first, _ = pool.want(), pool.want()
    assert pool.handle(ReceiverFull(first)) == []


def test_reading_goes_on_when_another_synthesis_joins() -> None:
    pool = Pool(Voice(contexts=2, lines_max=1))
    pool.handle(ReceiverFull(pool.want()))
    actions = pool.handle(SynthesisWanted("second", "acme", pool.voice, REQUEST))
    assert actions[-1] == ResumeReading(1)


def test_reading_goes_on_when_the_slow_one_is_cancelled() -> None:
    pool = Pool(Voice(cancel=CancelMode.ACKNOWLEDGED))
    context = pool.want()
    pool.handle(ReceiverFull(context))
    assert ResumeReading(1) in pool.cancel(context)
    pool.frame(1, ":released")
    pool.want()
    assert len(pool.opened) == 1
