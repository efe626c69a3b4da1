"""What each state of a recogniser makes of what happens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.conversations.stt.actions import Pause, Resume, Send, SendToClient
from gateway.conversations.stt.states import (
    DRAIN_S,
    OPEN_DOUBT_S,
    Asleep,
    Beside,
    CatchingUp,
    Closing,
    Connected,
    Connecting,
    Live,
    Replaced,
    Standby,
    State,
    Waiting,
)
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.stt import (
    Capabilities,
    EagerEndOfTurn,
    Ended,
    Expiring,
    Failed,
    Finish,
    Flush,
    Flushed,
    KeepAlive,
    NotUpdated,
    Ready,
    RecognizerEvent,
    SpeechStarted,
    TurnResumed,
)
from tests.conversations.stt.parts import Parts, buffered, connection, ready, seconds
from tests.conversations.stt.play import ACME, FAST, HUSH, TONE, ZEUS, final, interim, words

LOST = Failure(Kind.CONNECTION_LOST, "lost")
PACED = Capabilities(replay_rate=1.0)


class Desk:
    """An owner that notes what states ask of it, and decides nothing but which one is next."""

    def __init__(self, *audio: bytes, **parts: Any) -> None:
        self.parts = Parts(buffered(*audio), **parts)
        self.context = self.parts.context
        self.is_draining = False
        self.asked: list[Any] = []
        self.state: State = Asleep(self)

    def enter(self, state: State, now: float) -> None:
        self.state.leave()
        self.state = state
        state.enter(now)

    def connect(self, now: float) -> None:
        self.asked.append("connect")

    def connect_instead(self, plan: Plan, now: float) -> None:
        self.asked.append(("connect instead", plan))

    def ready(self, state: Connecting, now: float) -> None:
        self.asked.append("ready")

    def failed(self, state: Connected, failure: Failure, now: float) -> None:
        state.leave()
        self.asked.append(failure.kind)

    def wanted(
        self, plan: Plan, attempt: Attempt, now: float, *, moved: bool
    ) -> tuple[Plan, Attempt | None]:
        return plan, None if moved else plan[0]

    def replace(self, by: float, now: float, plan: Plan = ()) -> None:
        self.asked.append(("replace", by, plan))

    def watch(self, now: float) -> None:
        pass

    def doubted(self, state: Connected, now: float) -> None:
        self.asked.append("doubted")

    def spoke(self, state: Beside, event: RecognizerEvent, now: float) -> None:
        self.asked.append("spoke")

    def unproven(self, state: Beside, now: float) -> None:
        self.asked.append("unproven")

    def drained(self, now: float) -> None:
        self.asked.append("drained")

    def end(self, now: float) -> None:
        self.asked.append("end")

    # -- what happens

    def tick(self, now: float) -> None:
        for act in self.context.timers.due(now):
            act(now)

    def frames(self) -> list[Any]:
        """What was sent to the provider since the last call."""
        return [one for a in self.context.take_actions() if isinstance(a, Send) for one in a.frames]

    def hear(self, event: RecognizerEvent, now: float) -> None:
        assert isinstance(self.state, Connected)
        self.state.connection.heard([event], now)
        self.state.heard(event, now)
        self.state.watch(now)


def live(desk: Desk, traits: Capabilities = FAST) -> Desk:
    """All audio of `desk` has been sent, at time 0."""
    desk.enter(CatchingUp(desk, ready(traits)), 0.0)
    assert isinstance(desk.state, Live)
    desk.frames()
    return desk


def audio(desk: Desk, now: float, pcm: bytes = TONE) -> Sequence[Any]:
    """The user is heard; what goes to the provider."""
    desk.context.buffer.add(pcm)
    actions = desk.state.hear(now)
    return [one for a in actions if isinstance(a, Send) for one in a.frames]


# -- without a connection


def test_a_sleeping_session_connects_when_there_is_something_to_hear() -> None:
    desk = Desk()
    audio(desk, 0.0)
    assert desk.asked == ["connect"]


def test_a_finalize_over_silence_needs_no_connection() -> None:
    desk = Desk(*[HUSH] * 10)
    desk.context.client.finalize(0.0)
    desk.state.finalize(0.0)
    assert desk.asked == []
    assert len(desk.parts.out) == 1
    loud = Desk(*[TONE] * 10)
    loud.state.finalize(0.0)
    assert loud.asked == ["connect"]


def test_a_session_that_sleeps_reads_its_client_again() -> None:
    desk = Desk()
    desk.context.client.slow_down(1.0)
    desk.enter(Asleep(desk), 0.0)
    assert [type(action) for action in desk.parts.out] == [Pause, Resume]


def test_a_pause_between_rounds_ends_at_its_time() -> None:
    desk = Desk(*[TONE] * 10)
    desk.enter(Waiting(desk, 2.0), 0.0)
    desk.tick(1.9)
    assert desk.asked == []
    desk.tick(2.0)
    assert desk.asked == ["connect"]


def test_who_closes_while_nobody_is_connected_and_has_said_nothing_is_let_go() -> None:
    for state in (Asleep, lambda desk: Waiting(desk, 2.0)):
        desk = Desk(*[HUSH] * 10)
        desk.enter(state(desk), 0.0)
        desk.state.close(0.0)
        assert desk.context.client.over


# -- connecting


def test_a_connection_that_opens_is_ready_unless_the_provider_says_so_itself() -> None:
    desk = Desk()
    desk.enter(Connecting(desk, connection()), 0.0)
    desk.state.opened(1.0)  # type: ignore[attr-defined]
    assert desk.asked == ["ready"]
    slow = Desk()
    slow.enter(Connecting(slow, connection(Capabilities(sends_ready=True))), 0.0)
    slow.state.opened(1.0)  # type: ignore[attr-defined]
    assert (slow.asked, slow.frames()) == ([], ["hello"])
    slow.hear(Ready(), 2.0)
    assert slow.asked == ["ready"]


def test_opening_and_accepting_the_settings_have_their_times() -> None:
    desk = Desk()
    desk.enter(Connecting(desk, connection(Capabilities(sends_ready=True))), 0.0)
    desk.tick(OPEN_DOUBT_S)
    assert desk.asked == ["doubted"]
    desk.asked.clear()
    desk.state.opened(1.0)  # type: ignore[attr-defined]
    desk.tick(1.0 + Capabilities().ready_s)
    assert desk.asked[-1] is Kind.TIMEOUT
    assert desk.context.timers.earliest is None


def test_other_settings_while_connecting_mean_another_connection() -> None:
    desk = Desk()
    desk.enter(Connecting(desk, connection()), 0.0)
    desk.state.update((ACME, ZEUS), 1.0, moved=False)
    assert desk.asked == []
    german = replace(ACME, language="de")
    desk.state.update((german, ZEUS), 1.0, moved=False)
    assert desk.asked == [("connect instead", (german, ZEUS))]


def test_a_connection_that_waits_for_its_turn_is_kept_alive() -> None:
    desk = Desk()
    desk.enter(Standby(desk, ready(Capabilities(keepalive_s=4.0))), 0.0)
    desk.tick(4.0)
    assert [type(one) for one in desk.frames()] == [KeepAlive]
    assert desk.context.timers.earliest == 8.0


# -- serving


def test_what_is_kept_is_sent_at_the_providers_pace_and_then_it_is_live() -> None:
    desk = Desk(*[TONE] * 20)
    desk.enter(CatchingUp(desk, ready(PACED)), 0.0)
    sent = seconds(desk.frames())
    while isinstance(desk.state, CatchingUp):
        at = desk.context.timers.earliest
        assert at is not None
        desk.tick(at)
        sent += seconds(desk.frames())
    assert isinstance(desk.state, Live)
    assert sent == pytest.approx(1.0)


def test_a_live_frame_is_one_action_and_moves_no_timer() -> None:
    desk = live(Desk(), Capabilities(keepalive_s=4.0))
    before = desk.context.timers.earliest
    assert seconds(list(audio(desk, 1.0))) == pytest.approx(0.05)
    assert desk.context.timers.earliest == before == 4.0
    desk.tick(4.0)
    assert desk.frames() == []
    assert desk.context.timers.earliest == 5.0


def test_a_client_that_runs_ahead_makes_it_catch_up_again() -> None:
    desk = live(Desk(), PACED)
    for _ in range(20):
        audio(desk, 0.0)
    assert isinstance(desk.state, CatchingUp)


def test_a_finalize_waits_until_all_audio_is_sent() -> None:
    desk = Desk(*[TONE] * 20)
    desk.context.client.finalize(0.0)
    desk.enter(CatchingUp(desk, ready(PACED)), 0.0)
    desk.state.finalize(0.0)
    assert not [one for one in desk.frames() if isinstance(one, Flush)]
    while isinstance(desk.state, CatchingUp):
        desk.tick(desk.context.timers.earliest or 0.0)
    assert [type(one) for one in desk.frames()][-1] is Flush


def test_one_flush_is_under_way_at_a_time() -> None:
    desk = live(Desk())
    for _ in range(2):
        desk.context.client.finalize(0.0)
        desk.state.finalize(0.0)
    assert len(desk.frames()) == 1
    desk.hear(Flushed(), 0.1)
    assert len(desk.frames()) == 1


def test_a_stalled_connection_fails_and_leaves_no_timer() -> None:
    desk = live(Desk(*[TONE] * 102))
    desk.tick(5.0)
    assert desk.asked == ["doubted", Kind.TIMEOUT]
    assert desk.context.timers.earliest is None


def test_an_overdue_final_is_asked_for_and_then_the_connection_fails() -> None:
    desk = live(Desk(*[TONE] * 4))
    desk.hear(interim("he", 0.0, 0.1), 0.0)
    desk.tick(3.0)
    assert [type(one) for one in desk.frames()] == [Flush]
    desk.tick(5.0)
    assert desk.asked == [Kind.TIMEOUT]


def test_an_utterance_that_needs_audio_to_end_gets_silence_but_not_for_an_old_connection() -> None:
    traits = Capabilities(replay_rate=float("inf"), needs_audio_to_end_turn=True)
    for draining, sent_s in ((False, 0.5), (True, 0.0)):
        desk = live(Desk(*[TONE] * 4), traits)
        desk.is_draining = draining
        desk.hear(interim("he", 0.0, 0.1), 0.0)
        desk.frames()
        desk.tick(0.5)
        assert seconds(desk.frames()) == 0.0  # not in the middle of a word
        desk.tick(1.0)
        assert seconds(desk.frames()) == sent_s


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        (Expiring(10.0), ("replace", 9.0, ())),
        (Expiring(0.5), ("replace", 1.0, ())),
        (NotUpdated(), ("replace", 7.0, ())),
        (Failed(LOST), Kind.CONNECTION_LOST),
        (Ended(), Kind.CONNECTION_LOST),
    ],
)
def test_a_live_connection_accepts_what_a_recogniser_says(
    event: RecognizerEvent, asked: object
) -> None:
    desk = live(Desk())
    desk.state.connection.heard([event], 1.0)  # type: ignore[union-attr]
    desk.state.heard(event, 1.0)  # type: ignore[attr-defined]
    assert desk.asked == [asked]


def test_settings_that_the_connection_cannot_take_need_a_new_one() -> None:
    desk = live(Desk())
    german = replace(ACME, language="de")
    desk.state.update((ACME,), 1.0, moved=False)
    assert desk.asked == []
    desk.state.update((german,), 1.0, moved=False)
    desk.state.update((ZEUS,), 1.0, moved=True)
    assert desk.asked == [("replace", 7.0, (german,)), ("replace", 7.0, (ZEUS,))]


# -- the end


def test_closing_sends_the_rest_and_asks_for_the_last_finals() -> None:
    desk = Desk(*[TONE] * 20)
    desk.enter(CatchingUp(desk, ready(PACED)), 0.0)
    desk.state.close(0.0)
    assert isinstance(desk.state, Closing)
    while not desk.state.connection.finishing:
        desk.tick(desk.context.timers.earliest or 0.0)
    frames = desk.frames()
    assert seconds(frames) == pytest.approx(1.0)
    assert isinstance(frames[-1], Finish)


def test_the_last_finals_are_told_and_the_providers_end_is_the_sessions() -> None:
    desk = live(Desk(*[TONE] * 20))
    desk.state.close(0.0)
    desk.hear(final("bye", 0.0, 1.0), 1.0)
    desk.hear(Ended(), 1.0)
    assert desk.context.client.over
    told = [action.text for action in desk.parts.out if isinstance(action, SendToClient)]
    assert "bye" in told[0]
    assert "session.closed" in told[-1]


def test_a_provider_that_hangs_up_after_finish_has_ended_and_before_it_has_failed() -> None:
    desk = live(Desk())
    desk.state.close(0.0)
    desk.state.closed(1000, "", 1.0)  # type: ignore[attr-defined]
    assert desk.asked == ["end"]
    early = Desk(*[TONE] * 40)
    early.enter(Closing(early, ready(PACED)), 0.0)
    early.state.closed(1000, "", 0.1)  # type: ignore[attr-defined]
    assert early.asked == [Kind.CONNECTION_LOST]


def test_a_replaced_connection_is_over_when_it_says_so_hangs_up_or_takes_too_long() -> None:
    for over in ("ended", "closed", "late"):
        desk = Desk()
        desk.enter(Replaced(desk, ready()), 0.0)
        assert [type(one) for one in desk.frames()] == [Finish]
        if over == "ended":
            desk.hear(Ended(), 1.0)
        elif over == "closed":
            desk.state.closed(1006, "", 1.0)  # type: ignore[attr-defined]
        else:
            desk.tick(DRAIN_S)
        assert desk.asked == ["drained"]


# -- what the client is told


def test_all_that_recognisers_hear_is_told() -> None:
    desk = live(Desk(*[TONE] * 20))
    assert isinstance(desk.state, Live)
    for event in (
        SpeechStarted(0.0),
        interim("a"),
        EagerEndOfTurn(words("a b", 0.0, 0.5)),
        TurnResumed(),
        final("a b c"),
    ):
        desk.state.transcribe(event, 1.0, in_use=True)
    told = [a for a in desk.context.take_actions() if isinstance(a, SendToClient)]
    assert [json.loads(one.text)["type"] for one in told] == [
        "start_of_speech",
        "interim_transcript",
        "preflight_transcript",
        "interim_transcript",
        "final_transcript",
    ]
    assert desk.state.connection.activity.has_text


def test_a_final_of_the_connection_in_use_makes_the_budget_whole() -> None:
    for in_use, left in ((True, (ZEUS,)), (False, ())):
        desk = live(Desk())
        assert isinstance(desk.state, Live)
        failover = desk.context.failover
        failover.next(0.0)
        failover.next(0.0)
        desk.state.transcribe(final("x"), 1.0, in_use=in_use)
        assert desk.state.connection.attempt == ACME
        assert failover.left == left
