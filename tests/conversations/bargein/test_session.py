"""One /bargein socket: every window gets exactly one answer."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from gateway.conversations.bargein.session import (
    BAD_WINDOWS_MAX,
    CALM_S,
    Action,
    Answered,
    Ask,
    BargeinSession,
    Close,
    Event,
    Overlap,
    SendToClient,
)
from gateway.engines.types import Floats, FrameModelCard
from gateway.upstreams.events import DEADLINE_PASSED, Binary, ClientLeft, Text

CARD = FrameModelCard("m", "1", 16000, 400, 0.6)
SETTINGS = {
    "sample_rate": 16000,
    "num_channels": 1,
    "threshold": 0.5,
    "min_frames": 2,
    "encoding": "s16le",
}


def a_session() -> BargeinSession:
    return BargeinSession(CARD, CARD.default_threshold, "bargein_1", idle_s=60, now=0.0)


def create(**changes: object) -> Text:
    settings = {n: v for n, v in {**SETTINGS, **changes}.items() if v is not None}
    return Text(json.dumps({"type": "session.create", "settings": settings}))


def opened(**changes: object) -> BargeinSession:
    session = a_session()
    session.handle(create(**changes), 0.0)
    return session


def window(created_at: int = 7, samples: int = 1600) -> Binary:
    return Binary(struct.pack("<Q", created_at) + b"\1\0" * samples)


def told(action: Action) -> dict[str, Any]:
    assert isinstance(action, SendToClient)
    message: dict[str, Any] = json.loads(action.text)
    return message


def said(actions: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(action.text) for action in actions if isinstance(action, SendToClient)]


def probabilities(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_a_session_is_created_with_the_models_threshold() -> None:
    assert said(a_session().handle(create(threshold=None), 0.0)) == [
        {"type": "session.created", "default_threshold": 0.6}
    ]


def test_a_window_is_asked_about_and_answered_with_its_key() -> None:
    session = opened()
    created_at = 2**64 - 1
    assert session.handle(window(created_at), 0.1) == [Ask(created_at, b"\1\0" * 1600)]
    (answer,) = said(session.handle(Answered(created_at, probabilities(0.1, 0.2), 0.004), 0.2))
    assert answer == {
        "type": "inference_done",
        "created_at": created_at,
        "prediction_duration": 0.004,
        "probabilities": [0.1, 0.2],
    }


@pytest.mark.parametrize(
    ("changes", "values", "kind"),
    [
        ({}, (0.5, 0.5), "bargein_detected"),
        ({}, (0.9, 0.1, 0.9), "inference_done"),
        ({"min_frames": 1}, (0.9, 0.1), "bargein_detected"),
        ({"min_frames": 3}, (0.9, 0.9), "inference_done"),
        ({"threshold": 0.95}, (0.9, 0.9), "inference_done"),
        ({"threshold": None}, (0.55, 0.55), "inference_done"),
        ({"threshold": None}, (0.6, 0.7), "bargein_detected"),
    ],
)
def test_the_clients_threshold_and_frames_decide(
    changes: dict[str, Any], values: tuple[Any, ...], kind: str
) -> None:
    session = opened(**changes)
    session.handle(window(), 0.1)
    (answer,) = said(session.handle(Answered(7, probabilities(*values), 0.004), 0.2))
    assert answer["type"] == kind


def test_a_window_that_was_overtaken_is_answered_with_what_is_known() -> None:
    session = opened()
    (first,) = said(session.handle(Answered(1, None), 0.1))
    assert first == {
        "type": "inference_done",
        "created_at": 1,
        "prediction_duration": 0.0,
        "probabilities": [],
    }
    session.handle(Answered(2, probabilities(0.9, 0.9), 0.01), 0.2)
    (stale,) = said(session.handle(Answered(3, None), 0.3))
    assert stale["type"] == "bargein_detected"
    assert stale["created_at"] == 3
    assert stale["probabilities"] == [0.9, 0.9]
    assert session.report.stale == 2


def test_what_is_known_of_one_overlap_says_nothing_of_the_next() -> None:
    session = opened()
    session.handle(window(1), 0.1)
    session.handle(Answered(1, probabilities(0.9, 0.9), 0.01), 0.2)
    session.handle(window(2), 0.1 + CALM_S)

    (stale,) = said(session.handle(Answered(2, None), 0.3 + CALM_S))

    assert (stale["type"], stale["probabilities"]) == ("inference_done", [])


def test_a_session_is_closed_as_asked() -> None:
    tell, close = opened().handle(Text('{"type": "session.close"}'), 1.0)
    assert told(tell) == {"type": "session.closed"}
    assert close == Close(1000)


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (Text("no json"), "JSON"),
        (Text("[]"), "object"),
        (Text("{}"), "type"),
        (Text('{"type": "session.create"}'), "settings"),
        (Text('{"type": "session.create", "settings": []}'), "settings"),
        (create(sample_rate=8000), "sample_rate: expected 16000"),
        (create(sample_rate=[1]), "sample_rate: expected 16000"),
        (create(num_channels=2), "num_channels: expected 1"),
        (create(num_channels=True), "num_channels: expected 1"),
        (create(encoding="opus"), "encoding: expected s16le"),
        (create(threshold=1.5), "threshold"),
        (create(threshold="high"), "threshold"),
        (create(min_frames=1.5), "min_frames"),
        (window(), "before session.create"),
    ],
)
def test_a_bad_beginning_is_told_and_closed(event: Event, named: str) -> None:
    tell, close = a_session().handle(event, 0.0)
    error = told(tell)
    assert error["type"] == "error"
    assert error["code"] == 400
    assert error["session_id"] == "bargein_1"
    assert named in error["message"]
    assert isinstance(close, Close)
    assert close.code == 1008


def test_its_last_words_have_all_that_clients_need_and_are_no_mistake_of_theirs() -> None:
    message = json.loads(a_session().last_words)

    assert message["type"] == "error"
    # with a 4xx a client would not connect again
    assert message["code"] == 503
    assert message["session_id"] == "bargein_1"


def test_a_second_create_is_an_error() -> None:
    tell, close = opened().handle(create(), 0.1)
    assert "before" in told(tell)["message"]
    assert isinstance(close, Close)
    assert close.code == 1008


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "8 bytes of created_at"),
        (b"1234567", "8 bytes of created_at"),
        (b"12345678", "empty"),
        (b"12345678" + b"x" * 3201, "two bytes each"),
        (b"12345678" + b"x" * 96002, "at most 3 s"),
    ],
)
def test_a_bad_window_is_told_and_the_session_goes_on(data: bytes, named: str) -> None:
    session = opened()
    (error,) = said(session.handle(Binary(data), 0.1))
    assert error["type"] == "error"
    assert error["code"] == 400
    assert named in error["message"]
    assert session.handle(window(), 0.2) == [Ask(7, b"\1\0" * 1600)]


def test_a_client_that_sends_nothing_but_bad_windows_is_closed() -> None:
    session = opened()
    for _ in range(BAD_WINDOWS_MAX - 1):
        assert len(session.handle(Binary(b""), 0.1)) == 1
    assert isinstance(session.handle(Binary(b""), 0.1)[-1], Close)


def test_the_longest_window_is_three_seconds() -> None:
    assert opened().handle(window(samples=48000), 0.1) == [Ask(7, b"\1\0" * 48000)]


def test_a_session_on_which_nothing_moves_ends_with_its_reason() -> None:
    session = opened()
    session.handle(window(), 30.0)
    assert session.deadline == 30.0 + CALM_S
    assert session.handle(DEADLINE_PASSED, 30.0 + CALM_S) == [Overlap(30.0, 30.0, "held")]
    assert session.deadline == 90.0
    tell, close = session.handle(DEADLINE_PASSED, 90.0)
    assert told(tell)["code"] == 408
    assert isinstance(close, Close)


def test_nothing_is_said_after_the_client_left() -> None:
    session = opened()
    assert session.handle(ClientLeft(1006), 0.1) == [Close(1000)]
    assert session.handle(Answered(7, probabilities(0.1), 0.1), 0.2) == []


def test_it_may_end_while_no_overlap_goes_on() -> None:
    session = opened()
    assert session.may_end(0.0)
    session.handle(window(), 10.0)
    assert not session.may_end(10.0 + CALM_S - 0.1)
    assert session.may_end(10.0 + CALM_S)


HIGH, LOW = np.full(4, 0.9, np.float32), np.full(4, 0.1, np.float32)


def answer(session: BargeinSession, floats: Floats, now: float) -> SendToClient:
    said = session.handle(Answered(7, floats, 0.001), now)[0]
    assert isinstance(said, SendToClient)
    return said


def test_the_first_interruption_of_an_overlap_says_how_long_it_took() -> None:
    session = opened()
    session.handle(window(), 10.0)
    assert answer(session, LOW, 10.1).decided_s is None
    session.handle(window(), 10.2)
    assert answer(session, HIGH, 10.3).decided_s == pytest.approx(0.3)
    session.handle(window(), 10.4)
    assert answer(session, HIGH, 10.5).decided_s is None
    assert (session.report.overlaps, session.report.interruptions) == (1, 1)


def test_a_pause_ends_an_overlap() -> None:
    session = opened()
    session.handle(window(), 10.0)
    answer(session, HIGH, 10.1)
    session.handle(window(), 10.1 + CALM_S)
    answer(session, LOW, 10.2 + CALM_S)
    assert (session.report.overlaps, session.report.interruptions) == (2, 1)


def overlaps(actions: list[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, Overlap)]


def test_an_overlap_is_told_when_it_is_decided_and_one_that_was_held_when_it_is_over() -> None:
    session = opened()
    session.handle(window(), 10.0)
    decided = session.handle(Answered(7, HIGH, 0.001), 10.1)
    assert overlaps(decided) == [Overlap(10.0, 10.1, "interruption")]
    assert overlaps(session.handle(Answered(7, HIGH, 0.001), 10.2)) == []
    session.handle(window(), 20.0)
    session.handle(window(), 20.5)
    assert session.handle(Answered(7, LOW, 0.001), 20.6)[1:] == []
    assert session.handle(DEADLINE_PASSED, 21.0) == []  # it goes on
    begun = session.handle(window(), 30.0)
    assert overlaps(begun) == [Overlap(20.0, 20.5, "held")]
    assert overlaps(session.handle(ClientLeft(1000), 31.0)) == [Overlap(30.0, 30.0, "held")]
