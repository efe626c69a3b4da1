"""Servers with OpenAI's transcription of recordings: the request, and each form of the answer."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from gateway.providers._openai.stt import TranscriptionRequest, Transcriptions
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.stt import LocalTarget, Transcript, Word

ACCOUNT = Account("up", "openai-compatible", "http://h/v1", "key", settings=ProviderSettings())
JSON = {"content-type": "application/json"}


def asking(model: str = "whisper-1", language: str | None = "en", **given: Any) -> Any:
    return TranscriptionRequest(ACCOUNT, Attempt("up", model, language=language), given)


def fields(body: bytes) -> dict[str, bytes]:
    """The parts of a multipart body by their names."""
    boundary = body.split(b"\r\n", 1)[0]
    found = {}
    for part in body.split(boundary)[1:-1]:
        head, value = part.strip(b"\r\n").split(b"\r\n\r\n", 1)
        found[head.split(b'name="')[1].split(b'"')[0].decode()] = value
    return found


def read(answer: Any, one: Any = None, **headers: str) -> Transcript:
    transcript = (one or asking()).read(200, JSON | headers, orjson.dumps(answer))
    assert isinstance(transcript, Transcript)
    return transcript


def test_a_prompt_cannot_go_on_with_fields_of_its_own() -> None:
    boundary = asking().request(b"", "").body.split(b"\r\n", 1)[0].decode()
    forged = f'\r\n{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\ndear'
    dial = asking(keywords=[forged]).request(b"", "")
    assert fields(dial.body)["model"] == b"whisper-1"
    assert fields(dial.body)["prompt"].endswith(b"dear")
    assert dial.headers["content-type"].endswith(dial.body.split(b"\r\n", 1)[0][2:].decode())


def test_a_recording_is_posted_as_a_wav_file_with_what_is_known_of_it() -> None:
    dial = asking("m", "pt-BR", keywords=["Parley"], temperature=0.5).request(b"\1\2", "before")
    assert dial.url == "http://h/v1/audio/transcriptions"
    assert dial.headers["authorization"] == "Bearer key"
    sent = fields(dial.body)
    assert sent["file"].startswith(b"RIFF")
    assert sent["file"].endswith(b"\1\2")
    assert (sent["model"], sent["language"]) == (b"m", b"pt")
    assert (sent["prompt"], sent["temperature"]) == (b"Parley before", b"0.5")
    assert sent["response_format"] == b"verbose_json"


def test_several_languages_are_left_to_the_server() -> None:
    assert "language" not in fields(asking(language="multi").request(b"", "").body)


def test_models_without_segments_are_asked_for_the_text_alone() -> None:
    assert fields(asking("gpt-4o-transcribe").request(b"", "").body)["response_format"] == b"json"


def test_a_server_that_refuses_the_long_form_is_asked_once_more_for_the_short_one() -> None:
    one = asking()
    assert one.read(400, JSON, b"{}") is None
    assert fields(one.request(b"", "").body)["response_format"] == b"json"
    refused = one.read(400, JSON, b'{"error": {"message": "no"}}')
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.message) == (Kind.UPSTREAM_REFUSED, "no")


def test_a_long_answer_has_words_confidence_and_a_language_by_its_code() -> None:
    heard = read(
        {
            "text": " I need. ", "language": "english",
            "words": [{"word": " I", "start": 0.1, "end": 0.2}, {"word": "need"}],
            "segments": [{"avg_logprob": -0.2}, {"avg_logprob": -0.4}],
        },
        **{"x-request-id": "r"},
    )  # fmt: skip
    assert (heard.text, heard.language, heard.request_id) == ("I need.", "en", "r")
    assert heard.words == (Word("I", 0.1, 0.2),)
    assert heard.confidence == pytest.approx(math.exp(-0.3))


def test_words_may_be_inside_the_segments_under_another_name() -> None:
    segment = {"words": [{"text": "I", "start": 0.1, "end": 0.2}], "speaker": "S1"}
    heard = read({"text": "I", "segments": [segment]})
    assert (heard.words, heard.speaker) == ((Word("I", 0.1, 0.2),), "S1")


def test_what_is_probably_invented_was_not_said() -> None:
    silence = {"no_speech_prob": 0.9, "avg_logprob": -1.5}
    assert read({"text": "Thank you.", "segments": [silence]}).text == ""
    assert read({"text": "Yes.", "segments": [silence, {"no_speech_prob": 0.1}]}).text == "Yes."


@pytest.mark.parametrize(("language", "code"), [("de", "de"), ("klingon", None), (None, None)])
def test_a_language_without_a_code_is_left_out(language: str | None, code: str | None) -> None:
    assert read({"text": "x", "language": language}).language == code


def test_an_answer_of_plain_text_is_the_text_unless_it_is_a_page() -> None:
    plain = {"content-type": "text/plain"}
    assert asking().read(200, plain, b" Hello. \n") == Transcript("Hello.")
    assert asking().read(200, {"content-type": "text/html"}, b"<html>") == Transcript("")


def test_an_answer_without_a_text_is_no_answer() -> None:
    failure = asking().read(200, JSON, b"{}")
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"error": {"message": "bad key"}}, Kind.UPSTREAM_AUTH, "bad key"),
        (404, {"detail": "no model"}, Kind.UPSTREAM_NOT_FOUND, "no model"),
        (429, {"error": "slow"}, Kind.RATE_LIMITED, "slow"),
        (500, [], Kind.UPSTREAM_ERROR, "the provider gave no reason"),
    ],
)
def test_errors_of_every_server_are_read(status: int, body: Any, kind: Kind, message: str) -> None:
    failure = asking().read(status, JSON, orjson.dumps(body))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message) == (kind, message)


def test_the_adapter_leaves_the_cutting_to_us() -> None:
    upstream = Transcriptions(ACCOUNT)
    attempt = Attempt("up", "m", {"silence_ms": 700, "prompt": "a hotel"})
    target = upstream.recognizer(attempt, 48_000).dial()
    assert isinstance(target, LocalTarget)
    assert (target.cutting.silence_s, target.prompt) == (0.7, "a hotel")
    assert upstream.check({"silence_ms": 1}) is not None
    assert upstream.translate({"keyterm": ["a"]})["keywords"] == ["a"]
