"""Deepgram's recognisers, Nova and Flux: what is sent, and what each message of theirs means."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.providers.deepgram.settings import DeepgramSettings
from gateway.providers.deepgram.stt import Nova
from gateway.upstreams.errors import Kind
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import (
    FINISH,
    FLUSH,
    KEEP_ALIVE,
    Audio,
    Recognizer,
    SpeechStarted,
    Word,
)
from tests.providers.recognizers import (
    KEY,
    attempt,
    dial,
    failed,
    final,
    hear,
    interim,
    kinds,
    recognizer,
)


def nova(model: str = "nova-3", language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("deepgram", model, language, **extra)


def flux(model: str = "flux-general-en", language: str | None = "en", **extra: Any) -> Recognizer:
    return recognizer("deepgram", model, language, **extra)


def query(one: Recognizer) -> dict[str, list[str]]:
    return parse_qs(urlsplit(dial(one).url).query)


# -- Nova


def results(text: str, **more: Any) -> dict[str, Any]:
    words = [
        {"word": word.lower(), "punctuated_word": word, "start": 2.0 + i, "end": 2.5 + i,
         "confidence": 0.9, "speaker": 0}
        for i, word in enumerate(text.split())
    ]  # fmt: skip
    return {
        "type": "Results", "start": 1.5, "duration": 2.5, "is_final": True, "speech_final": True,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.97, "words": words}]},
        "metadata": {"request_id": "r"}, "from_finalize": False, **more,
    }  # fmt: skip


def test_nova_is_dialled_with_its_settings_and_livekits_defaults_in_the_address() -> None:
    one = nova()
    assert dial(one).url.startswith("wss://api.deepgram.com/v1/listen?model=nova-3&")
    assert dial(one).headers["authorization"] == f"Token {KEY}"
    assert query(one)["encoding"] == ["linear16"]
    assert query(one)["endpointing"] == ["25"]
    assert query(one)["interim_results"] == ["true"]
    assert one.opening() == ()


def test_nova_has_a_message_for_each_request() -> None:
    one = nova()
    assert one.encode(Audio(b"\1\2")) == (b"\1\2",)
    assert one.encode(FLUSH) == ('{"type":"Finalize"}',)
    assert one.encode(KEEP_ALIVE) == ('{"type":"KeepAlive"}',)
    assert one.encode(FINISH) == ('{"type":"CloseStream"}',)


def test_key_terms_are_keywords_for_models_before_nova_3() -> None:
    assert query(nova("nova-2", keyterm=["Parley"]))["keywords"] == ["Parley"]
    assert "keywords" not in query(nova("nova-3", keywords=["Parley"]))


def test_keywords_are_key_terms_for_nova_3_which_knows_no_others() -> None:
    asked = nova(keywords=["Parley", ["LiveKit", 2]], keyterm=["Parley", "barge-in"])
    assert query(asked)["keyterm"] == ["Parley", "barge-in", "LiveKit"]
    assert "keywords" not in query(asked)


def test_nobody_trains_on_what_is_heard() -> None:
    for one in (nova(), flux(), nova(mip_opt_out=False)):
        assert query(one)["mip_opt_out"] == ["true"]


def test_key_terms_stay_within_what_the_service_takes() -> None:
    assert len(query(nova(keyterm=[f"t{i}" for i in range(200)]))["keyterm"]) == 100
    assert query(nova(keyterm=["x" * 1500, "y" * 1500]))["keyterm"] == ["x" * 1500]


def test_a_final_of_nova_has_words_times_speaker_and_the_services_id() -> None:
    heard = final(hear(nova(), results("Send it.")))
    assert heard.text == "Send it."
    assert heard.words[0] == Word("Send", 2.0, 2.5, 0.9, "S0")
    assert (heard.start, heard.end) == (2.0, 4.0)  # the first word's, and the segment's
    assert (heard.confidence, heard.speaker, heard.request_id) == (0.97, "S0", "r")
    assert heard.extra == {"speech_final": True}


def test_an_interim_of_nova_has_no_speakers_because_they_are_unreliable() -> None:
    heard = interim(hear(nova(), results("Send it", is_final=False)))
    assert [word.speaker for word in heard.words] == [None, None]


def test_the_most_frequent_of_several_languages_is_that_of_the_transcript() -> None:
    message = results("Hola.")
    message["channel"]["alternatives"][0]["languages"] = ["es", "en"]
    heard = final(hear(nova(language="multi"), message))
    assert heard.language == "es"
    assert heard.extra is not None
    assert heard.extra["languages"] == ["es", "en"]


def test_empty_results_say_how_far_the_audio_is_done_with() -> None:
    heard = final(hear(nova(), results("")))
    assert (heard.text, heard.start, heard.end) == ("", 1.5, 4.0)
    assert hear(nova(), results("", is_final=False)) == []


def test_only_the_result_that_says_so_answers_a_flush() -> None:
    one = nova()
    one.encode(FLUSH)
    assert kinds(hear(one, results("a"))) == ["FinalTranscript"]
    assert kinds(hear(one, results("b", from_finalize=True))) == ["FinalTranscript", "Flushed"]
    assert kinds(hear(one, results("c", from_finalize=True))) == ["FinalTranscript"]


def test_other_messages_of_nova() -> None:
    one = nova()
    assert hear(one, {"type": "SpeechStarted", "timestamp": 2.03}) == [SpeechStarted(2.03)]
    assert kinds(hear(one, {"type": "ConfigureFailure", "code": "X"})) == ["NotUpdated"]
    for ignored in ("UtteranceEnd", "ConfigureSuccess", "Error", "New"):
        assert hear(one, {"type": ignored}) == []


def test_metadata_is_the_end_where_it_was_asked_for() -> None:
    one = nova()
    one.encode(FINISH)
    assert kinds(hear(one, {"type": "Metadata", "duration": 12.4})) == ["Ended"]


def test_a_server_that_begins_with_metadata_is_not_asked_to_finalize() -> None:
    one = nova()
    assert hear(one, {"type": "Metadata", "duration": 0, "models": ["whisper"]}) == []
    assert one.encode(FLUSH) == ()
    assert kinds(hear(one, results("hello"))) == ["FinalTranscript"]


def test_only_deepgrams_own_service_is_expected_to_speak_all_the_time() -> None:
    assert nova().traits.heartbeat_s == 8.0
    settings = DeepgramSettings(type="deepgram")
    for url, heartbeat_s in (("https://api.eu.deepgram.com", 8.0), ("http://rack:8000", None)):
        account = Account("rack", "deepgram", url, settings=settings)
        one = Nova(account, attempt("deepgram", "nova-3"), 16_000)
        assert one.traits.heartbeat_s == heartbeat_s
        assert one.traits.replay_rate == 1.25


def test_nova_3_changes_terms_and_numerals_on_the_open_connection() -> None:
    one = nova()
    (frame,) = one.update(attempt("deepgram", "nova-3", keyterm=["Parley"], numerals=True)) or ()
    assert json.loads(frame) == {
        "type": "Configure",
        "keyterms": ["Parley"],
        "features": {"numerals": True},
    }
    assert one.update(attempt("deepgram", "nova-3", keyterm=["Parley"], numerals=True)) == ()
    assert one.update(attempt("deepgram", "nova-3", endpointing=300)) is None
    assert nova("nova-2").update(attempt("deepgram", "nova-2", keyterm=["Parley"])) is None


# -- Flux


def turn(event: str, text: str = "", **more: Any) -> dict[str, Any]:
    words = [
        {"word": word, "confidence": 0.5 + 0.5 * (i % 2), "start": 0.6 + i, "end": 1.0 + i}
        for i, word in enumerate(text.split())
    ]
    return {
        "type": "TurnInfo", "request_id": "r", "event": event, "turn_index": 0,
        "audio_window_start": 0.5, "audio_window_end": 3.0, "transcript": text, "words": words,
        "end_of_turn_confidence": 0.1, **more,
    }  # fmt: skip


def test_flux_is_dialled_at_its_own_endpoint_with_an_eager_end_of_turn() -> None:
    one = flux()
    assert dial(one).url.startswith("wss://api.deepgram.com/v2/listen?model=flux-general-en&")
    assert query(one)["eager_eot_threshold"] == ["0.5"]
    assert one.opening() == ()


def test_livekits_name_for_flux_means_the_model_of_the_language() -> None:
    assert query(flux("flux-general", "en-GB"))["model"] == ["flux-general-en"]
    german = query(flux("flux-general", "de"))
    assert (german["model"], german["language_hint"]) == (["flux-general-multi"], ["de"])


def test_hints_at_other_languages_need_the_model_that_speaks_them() -> None:
    asked = query(flux("flux-general", "en", language_hint=["en", "es"]))
    assert asked["model"] == ["flux-general-multi"]
    assert asked["language_hint"] == ["en", "es"]


def test_the_eager_threshold_is_never_above_the_last_one() -> None:
    assert query(flux(eager_eot_threshold=0.8, eot_threshold=0.6))["eager_eot_threshold"] == ["0.6"]


def test_flux_ends_an_open_turn_before_it_closes() -> None:
    one = flux()
    assert one.encode(Audio(b"\1\2")) == (b"\1\2",)
    assert one.encode(KEEP_ALIVE) == ()
    assert one.encode(FINISH) == ('{"type":"CloseStream"}',)
    hear(one, turn("StartOfTurn"))
    assert one.encode(FINISH) == ('{"type":"ForceEndTurn"}', '{"type":"CloseStream"}')


def test_a_turn_of_flux_is_heard_from_its_start_to_its_end() -> None:
    one = flux()
    assert kinds(hear(one, {"type": "Connected", "request_id": "r"})) == ["Ready"]
    assert hear(one, turn("Update")) == []  # in the silence before a turn
    assert hear(one, turn("StartOfTurn")) == [SpeechStarted(0.5)]
    assert interim(hear(one, turn("Update", "I need"))).text == "I need"
    assert kinds(hear(one, turn("EagerEndOfTurn", "I need it."))) == ["EagerEndOfTurn"]
    assert kinds(hear(one, turn("TurnResumed", "I need it"))) == [
        "TurnResumed",
        "InterimTranscript",
    ]
    heard = final(hear(one, turn("EndOfTurn", "I need it now.", trigger="model")))
    assert (heard.start, heard.end, heard.language, heard.request_id) == (0.6, 3.0, "en", "r")
    assert heard.confidence == pytest.approx(0.75)
    assert heard.extra == {"end_of_turn_confidence": 0.1, "turn_index": 0, "trigger": "model"}
    assert hear(one, turn("Update", "I need it now.")) == []  # the turn is over


def test_a_start_with_words_is_an_interim_as_well() -> None:
    assert kinds(hear(flux(), turn("StartOfTurn", "I"))) == ["SpeechStarted", "InterimTranscript"]


def test_words_of_which_one_has_no_times_are_left_out() -> None:
    message = turn("EndOfTurn", "I need")
    del message["words"][1]["start"]
    assert final(hear(flux(), message)).words == ()


def test_the_end_of_the_turn_answers_a_flush_of_flux() -> None:
    one = flux()
    assert one.encode(FLUSH) == ('{"type":"ForceEndTurn"}',)
    assert kinds(hear(one, turn("EndOfTurn", "Yes."))) == ["FinalTranscript", "Flushed"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INTERNAL_SERVER_ERROR", Kind.UPSTREAM_ERROR),
        ("UNPARSABLE_CLIENT_MESSAGE", Kind.UPSTREAM_REFUSED),
    ],
)
def test_errors_of_flux_are_the_end(code: str, kind: Kind) -> None:
    failure = failed(hear(flux(), {"type": "Error", "code": code}))
    assert (failure.kind, failure.message) == (kind, code)


def test_other_messages_of_flux() -> None:
    one = flux()
    assert kinds(hear(one, {"type": "ConfigureFailure", "error_code": "X"})) == ["NotUpdated"]
    for ignored in ("ConfigureSuccess", "Warning", "New"):
        assert hear(one, {"type": ignored}) == []
    assert hear(one, turn("NewEvent", "x")) == []


def test_flux_changes_thresholds_terms_and_hints_on_the_open_connection() -> None:
    one = flux("flux-general-multi", "de")
    after = attempt(
        "deepgram", "flux-general-multi", "fr", eot_threshold=0.8, keyterm=["Parley"], numerals=True
    )
    (frame,) = one.update(after) or ()
    assert json.loads(frame) == {
        "type": "Configure",
        "thresholds": {"eot_threshold": 0.8},
        "keyterms": ["Parley"],
        "language_hints": ["fr"],
        "numerals": True,
    }
    assert one.update(after) == ()
    assert one.update(attempt("deepgram", "flux-general-multi", "fr", redact=["pci"])) is None


# -- both


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1008, "DATA-0000", Kind.UPSTREAM_REFUSED),
        (1011, "NET-0001: no audio", Kind.SESSION_LIMIT),
        (
            1011,
            "Deepgram did not receive audio data or a text message within the timeout window. "
            "See https://dpgr.am/net0001",
            Kind.SESSION_LIMIT,
        ),
        (1011, "NET-0000", Kind.CONNECTION_LOST),
        (1006, "", Kind.CONNECTION_LOST),
    ],
)
def test_a_close_says_why(code: int, reason: str, kind: Kind) -> None:
    for one in (nova(), flux()):
        assert one.closed(code, reason).kind is kind
