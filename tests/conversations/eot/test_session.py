"""One /eot socket: it hears continuously, and every request gets exactly one answer."""

from __future__ import annotations

import pytest
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.conversations.eot.session import (
    ANSWER_S_MAX,
    PENDING_MAX,
    Action,
    Ask,
    Claimed,
    Close,
    EotSession,
    Predicted,
    SendToClient,
)
from gateway.engines.types import Prediction, Thresholds
from gateway.upstreams.events import DEADLINE_PASSED, Binary, ClientLeft, Text

THRESHOLDS = Thresholds(default=0.5, languages={"en": 0.4, "de": 0.3})
WINDOW_BYTES = 32000  # 1 s
SERVER_CLOCK_NS = 1_000_000_000_000  # what the wall clock says at now=0


def wall_ns(now: float) -> int:
    return SERVER_CLOCK_NS + round(now * 1e9)


def a_session() -> EotSession:
    return EotSession(THRESHOLDS, WINDOW_BYTES, 60.0, 0.0, wall_ns)


def message(created_s: float = 0.0, **said: object) -> Binary:
    found = pb.ClientMessage(**said)  # type: ignore[arg-type]
    found.created_at.FromNanoseconds(round(created_s * 1e9))
    return Binary(found.SerializeToString())


def create(**settings: object) -> Binary:
    given = {"sample_rate": 16000, "encoding": pb.AUDIO_ENCODING_PCM_S16LE, **settings}
    return message(session_create=pb.SessionCreate(settings=pb.SessionSettings(**given)))  # type: ignore[arg-type]


def audio(samples: bytes = b"\1\0" * 1600, recorded_s: float = 0.0) -> Binary:
    told = pb.InputAudio(audio=samples, num_samples=len(samples) // 2)
    told.created_at.FromNanoseconds(round(recorded_s * 1e9))
    return message(input_audio=told)


def start(request_id: str = "r1", created_s: float = 0.0) -> Binary:
    return message(created_s, inference_start=pb.InferenceStart(request_id=request_id))


def opened() -> EotSession:
    session = a_session()
    session.handle(create(), 0.0)
    return session


def said(actions: list[Action]) -> list[pb.ServerMessage]:
    return [pb.ServerMessage.FromString(a.data) for a in actions if isinstance(a, SendToClient)]


def predicted(number: int = 1, probability: float = 0.75) -> Predicted:
    return Predicted(number, Prediction(probability, preprocess_s=0.002, inference_s=0.03))


def test_a_session_is_created_with_the_thresholds_of_every_language() -> None:
    (told,) = said(a_session().handle(create(), 2.0))

    assert told.WhichOneof("message") == "session_created"
    assert told.session_created.default_threshold == pytest.approx(0.5)
    assert dict(told.session_created.default_thresholds) == pytest.approx({"en": 0.4, "de": 0.3})
    assert told.session_created.default_backchannel_threshold == 0
    assert dict(told.session_created.default_backchannel_thresholds) == {}
    assert told.server_created_at.ToNanoseconds() == wall_ns(2.0)


def test_a_client_is_told_of_a_language_even_where_all_have_one_threshold() -> None:
    # it takes a session without any for broken
    session = EotSession(Thresholds(0.5, {}), WINDOW_BYTES, 60.0, 0.0, wall_ns)

    (told,) = said(session.handle(create(), 0.0))

    assert dict(told.session_created.default_thresholds) == {"en": 0.5}


def test_a_request_asks_about_all_audio_so_far_and_is_answered_by_its_id() -> None:
    session = opened()
    session.handle(audio(b"\1\0" * 100), 0.1)
    session.handle(audio(b"\2\0" * 100), 0.2)

    assert session.handle(start("turn_request_7"), 0.3) == [Ask(1, b"\1\0" * 100 + b"\2\0" * 100)]
    (told,) = said(session.handle(predicted(), 0.35))
    assert told.request_id == "turn_request_7"
    assert told.eot_prediction.probability == pytest.approx(0.75)


def test_of_more_than_a_window_of_audio_the_newest_is_asked_about() -> None:
    session = opened()
    session.handle(audio(b"\1\0" * 16000), 0.1)
    session.handle(audio(b"\2\0" * 100), 0.2)

    (ask,) = session.handle(start(), 0.3)

    assert isinstance(ask, Ask)
    assert ask.samples == b"\1\0" * 15900 + b"\2\0" * 100


def test_a_flush_forgets_the_turn_before() -> None:
    session = opened()
    session.handle(audio(b"\1\0" * 100), 0.1)
    session.handle(message(session_flush=pb.SessionFlush()), 0.2)
    session.handle(audio(b"\2\0" * 100), 0.3)

    assert session.handle(start(), 0.4) == [Ask(1, b"\2\0" * 100)]


def test_statistics_tell_the_clients_times_and_ours() -> None:
    session = opened()
    session.handle(audio(recorded_s=500.0), 0.1)
    session.handle(audio(recorded_s=500.1), 0.2)
    session.handle(start(created_s=500.3), 0.4)

    (told,) = said(session.handle(predicted(), 0.45))

    stats = told.eot_prediction.inference_stats
    assert stats.earliest_client_created_at.ToNanoseconds() == 500_000_000_000
    assert stats.latest_client_created_at.ToNanoseconds() == 500_100_000_000
    assert stats.server_e2e_latency.ToNanoseconds() == pytest.approx(0.05e9)
    # 0.3 s by the client's clock until it asked, 0.05 s by ours since
    assert stats.client_e2e_latency.ToNanoseconds() == pytest.approx(0.35e9)
    assert stats.preprocessing_duration.ToNanoseconds() == 2_000_000
    assert stats.inference_duration.ToNanoseconds() == 30_000_000
    assert told.client_created_at.ToNanoseconds() == 500_300_000_000
    assert told.server_created_at.ToNanoseconds() == wall_ns(0.45)


def test_the_earliest_time_is_that_of_the_oldest_audio_still_kept() -> None:
    session = opened()
    for i in range(30):
        session.handle(audio(b"\1\0" * 1600, recorded_s=500 + i / 10), i / 10)
    session.handle(start(created_s=503.0), 3.0)

    (told,) = said(session.handle(predicted(), 3.1))

    earliest = told.eot_prediction.inference_stats.earliest_client_created_at
    assert earliest.ToNanoseconds() == 502_000_000_000


def test_a_client_without_clock_gets_statistics_without_its_times() -> None:
    session = opened()
    session.handle(audio(), 0.1)
    session.handle(start(), 0.2)

    (told,) = said(session.handle(predicted(), 0.3))

    stats = told.eot_prediction.inference_stats
    assert stats.client_e2e_latency.ToNanoseconds() == pytest.approx(0.1e9)


def test_an_overtaken_request_is_told_that_the_turn_is_over_as_clients_assume_themselves() -> None:
    session = opened()
    session.handle(audio(), 0.1)
    session.handle(start("old"), 0.2)
    session.handle(start("new"), 0.3)

    (told,) = said(session.handle(Predicted(1, None), 0.3))

    assert told.request_id == "old"
    assert told.eot_prediction.probability == 1.0
    assert session.handle(predicted(2), 0.4) != []
    assert (session.report.predictions, session.report.none) == (2, 1)


def test_a_request_without_any_audio_is_answered_at_once() -> None:
    (told,) = said(opened().handle(start(), 0.1))

    assert told.eot_prediction.probability == 1.0


def test_a_request_is_answered_in_time_whatever_the_engine_does() -> None:
    session = opened()
    session.handle(audio(), 1.0)
    session.handle(start("slow"), 2.0)
    session.handle(start("newer"), 2.4)

    assert session.deadline == pytest.approx(2.0 + ANSWER_S_MAX)
    (told,) = said(session.handle(DEADLINE_PASSED, 2.0 + ANSWER_S_MAX))
    assert told.request_id == "slow"
    assert told.eot_prediction.probability == 1.0
    assert session.deadline == pytest.approx(2.4 + ANSWER_S_MAX)
    assert session.handle(predicted(1), 2.8) == []  # too late
    (told,) = said(session.handle(predicted(2), 2.9))
    assert told.request_id == "newer"
    assert told.eot_prediction.probability == pytest.approx(0.75)
    assert session.deadline == pytest.approx(62.4)
    assert session.report.late == 1


def test_a_client_that_asks_without_end_is_answered_without_the_engine() -> None:
    session = opened()
    session.handle(audio(), 0.1)
    for i in range(PENDING_MAX):
        (action,) = session.handle(start(str(i)), 0.2)
        assert isinstance(action, Ask)

    (told,) = said(session.handle(start("one too many"), 0.2))

    assert told.request_id == "one too many"


def test_an_answer_nobody_waits_for_is_dropped() -> None:
    session = opened()
    session.handle(audio(), 0.1)
    session.handle(start(), 0.2)
    session.handle(predicted(), 0.3)

    assert session.handle(predicted(), 0.4) == []
    assert session.handle(predicted(9), 0.4) == []


def test_a_stopped_request_is_not_answered() -> None:
    session = opened()
    session.handle(audio(), 0.1)
    session.handle(start("r1"), 0.2)

    (told,) = said(session.handle(message(inference_stop=pb.InferenceStop(request_id="r1")), 0.3))

    assert told.WhichOneof("message") == "inference_stopped"
    assert session.handle(predicted(), 0.4) == []


def test_words_that_claim_the_floor_are_no_backchannel() -> None:
    session = opened()
    session.handle(audio(), 0.1)
    session.handle(start(), 0.2)
    session.handle(Claimed(1, 0.9), 0.21)

    (told,) = said(session.handle(predicted(), 0.3))

    assert told.eot_prediction.backchannel_probability == pytest.approx(0.1)


@pytest.mark.parametrize("claim", [None, Claimed(1, None), Claimed(7, 0.2)])
def test_the_interruption_model_is_not_waited_for(claim: Claimed | None) -> None:
    session = opened()
    session.handle(audio(), 0.1)
    session.handle(start(), 0.2)
    if claim is not None:
        session.handle(claim, 0.21)

    (told,) = said(session.handle(predicted(), 0.3))

    assert told.eot_prediction.backchannel_probability == 0
    assert session.handle(Claimed(1, 0.2), 0.4) == []


def test_what_newer_clients_say_and_chat_context_are_passed_over() -> None:
    session = opened()

    context = message(eot_input_chat_context=pb.EotInputChatContext())
    assert session.handle(context, 0.1) == []
    assert session.handle(message(), 0.1) == []


def test_a_session_that_is_closed_says_so() -> None:
    session = opened()

    actions = session.handle(message(session_close=pb.SessionClose()), 0.1)

    assert said(actions)[0].WhichOneof("message") == "session_closed"
    assert actions[-1] == Close(1000)
    assert session.handle(start(), 0.2) == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (Binary(b"\xff\xff\xff"), "the message is not a livekit.agent.ClientMessage"),
        (Text("{}"), "a text message: expected binary livekit.agent.ClientMessage"),
        (create(), "session_create was sent before"),
        (audio(b"\1\0\1"), "input_audio.audio has 3 bytes: s16le samples have two each"),
        (start("x" * 300), "inference_start.request_id: expected at most 256 characters"),
    ],
    ids=["noise", "text", "twice", "half a sample", "long id"],
)
def test_what_breaks_the_protocol_ends_the_session(wrong: Binary | Text, expected: str) -> None:
    session = opened()

    actions = session.handle(wrong, 0.1)

    (told,) = said(actions)
    assert (told.error.message, told.error.code) == (expected, 400)
    assert actions[-1] == Close(1008, expected)
    assert session.report.failure is not None


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sample_rate": 8000}, "session_create.settings.sample_rate is 8000: expected 16000"),
        (
            {"encoding": pb.AUDIO_ENCODING_OPUS},
            "session_create.settings.encoding: expected AUDIO_ENCODING_PCM_S16LE",
        ),
    ],
)
def test_audio_in_another_form_is_refused(settings: dict[str, object], field: str) -> None:
    (told,) = said(a_session().handle(create(**settings), 0.1))

    assert told.error.message == field


@pytest.mark.parametrize("first", [audio(), start(), message(session_flush=pb.SessionFlush())])
def test_a_session_begins_with_session_create(first: Binary) -> None:
    (told,) = said(a_session().handle(first, 0.1))

    assert told.error.message == "the first message: expected session_create"


def test_a_client_that_says_nothing_for_long_is_closed() -> None:
    session = opened()
    session.handle(audio(), 30.0)

    assert session.deadline == 90.0
    actions = session.handle(DEADLINE_PASSED, 90.0)
    assert said(actions)[0].error.code == 408
    assert isinstance(actions[-1], Close)


@pytest.mark.parametrize(("code", "left"), [(1000, False), (1005, False), (1006, True)])
def test_a_client_that_leaves_ends_the_session(code: int, left: bool) -> None:
    session = opened()

    assert session.handle(ClientLeft(code), 0.1) == [Close(1000)]
    assert session.report.left is left
