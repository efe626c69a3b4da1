"""Whatever happens in whichever order: what always holds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.conversations.stt.recognition import CLOSING_S_MAX
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import (
    Capabilities,
    EagerEndOfTurn,
    Ended,
    Expiring,
    Failed,
    FinalTranscript,
    Flushed,
    NotUpdated,
    Ready,
    RecognizerEvent,
    SpeechStarted,
    Transcript,
    TurnResumed,
)
from tests.conversations.stt.play import TONE, Play, final, interim, words

KINDS = (
    Kind.UNREACHABLE, Kind.CONNECTION_LOST, Kind.TIMEOUT, Kind.UPSTREAM_AUTH, Kind.RATE_LIMITED,
    Kind.INTERNAL,
)  # fmt: skip
UPDATES: tuple[dict[str, Any], ...] = (
    {"language": "de"}, {"extra": {"keyterm": ["x"]}}, {"model": "zeus/ear-2"}, {},
)  # fmt: skip
STEPS = 60


def capabilities(choice: random.Random) -> Capabilities:
    return Capabilities(
        sends_ready=choice.random() < 0.3,
        replay_rate=choice.choice([float("inf"), 1.0, 1.25, 4.0]),
        keepalive_s=choice.choice([None, 4.0]),
        keepalive_by=choice.choice(["message", "silence"]),
        first_audio=choice.random() < 0.2,
        needs_audio_to_end_turn=choice.random() < 0.3,
        flush_by=choice.choice(["message", "silence"]),
        flush_is_answered=choice.random() < 0.4,
        heartbeat_s=choice.choice([None, 6.0]),
        session_s=choice.choice([None, 60.0]),
        frame_s_min=choice.choice([0.0, 0.1]),
    )


def something_heard(choice: random.Random, end: float) -> RecognizerEvent:
    """By a recogniser that was sent `end` seconds."""
    start, text = max(0.0, end - 1.0), f"word{choice.randrange(10**6)}"
    events = (
        interim(text, start, end),
        final(text, start, end),
        SpeechStarted(None),
        EagerEndOfTurn(words(text, start, end)),
        FinalTranscript(Transcript("")),
        FinalTranscript(Transcript(text)),
        TurnResumed(),
        Flushed(),
        Ready(),
        Ended(),
        NotUpdated(),
        Expiring(10.0 * choice.random()),
        Failed(Failure(choice.choice(KINDS), "no")),
    )
    return choice.choices(events, [6, 6, 3, 2, 2, 2, 2, 4, 1, 1, 1, 1, 1])[0]


def step(play: Play, choice: random.Random) -> None:
    """One thing happens; time never stands still for long in `Play`, which sees a session spin."""
    running = [one.number for one in play.opened if one.number not in play.dropped]
    number = choice.choice(running) if running else None
    what = choice.choices(range(10), [25, 12, 8, 12, 24, 4, 2, 3, 2, 1])[0]
    if what == 0:
        play.speak(3 * choice.random())
    elif what == 1:
        play.hush(4 * choice.random())
    elif what == 2:
        play.wait(8 * choice.random())
    elif what == 5:
        play.say({"type": "session.finalize"})
    elif what == 6:
        play.say({"type": "session.update", "settings": choice.choice(UPDATES)})
    elif what == 9:
        for _ in range(200):
            if not play.paused and play.ended is None:
                play.audio(TONE)
    elif number is not None:
        if what == 3:
            play.accept(number)
            play.hear(Ready(), number=number)
        elif what == 4 and play.audio_s(number):
            play.hear(something_heard(choice, play.audio_s(number)), number=number)
        elif what == 7:
            play.fail(choice.choice(KINDS), number)
        elif what == 8:
            play.close_upstream(choice.choice([1000, 1006, 1011]), number)


@pytest.mark.parametrize("seed", range(80))
def test_a_session_never_spins_and_ends_with_every_answer_and_no_connection(seed: int) -> None:
    choice = random.Random(seed)
    play = Play(
        traits={"acme": capabilities(choice), "zeus": capabilities(choice)},
        config=SttConfig(replay_s=choice.choice([10, 30])),
        lively=choice.random() < 0.5,
        connection={"retries": choice.choice([0, 1, 3])},
    )
    play.say(play.create)
    finalizes = 0
    for _ in range(STEPS):
        if play.ended is not None:
            break
        step(play, choice)
    finalizes = play.types().count("session.finalized")
    if play.ended is None:
        play.say({"type": "session.close"})
        play.wait(CLOSING_S_MAX + 1.0)

    assert play.ended is not None
    assert play.session.deadline is None
    assert sorted(play.dropped) == [one.number for one in play.opened]
    assert play.types()[-1] in ("session.closed", "error")
    assert finalizes <= play.types().count("session.finalized")
    texts = play.finals()
    assert all(texts)
    assert len(texts) == play.session.report.finals
