from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.conversations.realtime.cascade import protocol
from gateway.conversations.realtime.cascade.protocol import (
    AUDIO_BYTES_MAX,
    SemanticVad,
    Settings,
    UpdateSession,
    read_event,
    samples,
    session_told,
)
from gateway.upstreams.errors import Failure, Kind

BEFORE = Settings("cascade/x", instructions="Be brief.")


def written(event: dict[str, Any]) -> str:
    return json.dumps(event)


def updated(**session: Any) -> Settings:
    event = read_event(written({"type": "session.update", "session": session}))
    assert isinstance(event, UpdateSession), event
    return BEFORE.updated(event.session)


def test_null_turns_detection_off_and_silence_leaves_it() -> None:
    assert updated(audio={"input": {"turn_detection": None}}).turns is None
    assert updated(turn_detection=None).turns is None
    assert updated(audio={"input": {}}).turns is not None
    changed = updated(audio={"input": {"turn_detection": {"type": "semantic_vad"}}})
    assert isinstance(changed.turns, SemanticVad)
    assert changed.creates
    assert changed.interrupts


def test_null_turns_transcription_off() -> None:
    heard = updated(audio={"input": {"transcription": {"language": "de"}}})
    assert heard.transcription is not None
    assert heard.transcription.language == "de"
    assert updated(audio={"input": {"transcription": None}}).transcription is None


def test_a_voice_may_be_named_by_an_object() -> None:
    assert updated(audio={"output": {"voice": {"id": "v1"}}}).own_voice == "v1"
    assert updated(voice="marin").own_voice is None


def test_what_means_nothing_here_is_told_back() -> None:
    changed = updated(
        audio={"input": {"noise_reduction": {"type": "near_field"}}, "output": {"speed": 1.2}},
        truncation="auto",
    )
    told = session_told(changed, "sess_1")
    assert told["audio"]["input"]["noise_reduction"] == {"type": "near_field"}
    assert told["audio"]["output"]["speed"] == 1.2
    assert told["instructions"] == "Be brief."


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"output_modalities": []}, "session.output_modalities"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"tool_choice": "some"}, "session.tool_choice"),
        ({"temperature": 3}, "session.temperature"),
        ({"tools": [{"type": "function"}]}, "session.tools.0.name"),
        ({"turn_detection": {"type": "server_vad", "threshold": 2}}, "session.turn_detection"),
    ],
)
def test_a_wrong_option_is_named(session: dict[str, Any], param: str) -> None:
    failure = read_event(written({"type": "session.update", "session": session}))
    assert isinstance(failure, Failure)
    assert (failure.param or "").startswith(param)


def test_too_much_audio_in_one_event_is_refused() -> None:
    failure = samples("A" * (AUDIO_BYTES_MAX * 4 // 3 + 8), "audio/pcm")
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.TOO_LARGE


def test_telephone_audio_is_decoded() -> None:
    audio = base64.b64encode(b"\xff\xff").decode()
    assert samples(audio, "audio/pcmu") == bytes(4)
    assert samples(audio, "audio/pcm") == b"\xff\xff"


def test_the_id_of_an_event_that_cannot_be_read_is_found() -> None:
    assert protocol.event_id('{"type": "nothing", "event_id": "mine"}') == "mine"
    assert protocol.event_id("{") is None
