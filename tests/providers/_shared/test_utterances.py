"""Recognisers that hear whole utterances, cut by our own voice detector."""

from __future__ import annotations

from gateway.providers._shared.utterances import UtteranceRecognizer, cutting
from gateway.upstreams.errors import Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.stt import FLUSH, LocalModel, LocalTarget, Ready

ENGINE = LocalTarget(LocalModel("base", "/model"))


def test_a_client_says_how_its_audio_is_cut() -> None:
    wanted = cutting({"silence_ms": 700, "interim_ms": 500, "vad_threshold": 0.7})
    assert (wanted.silence_s, wanted.interim_s, wanted.threshold) == (0.7, 0.5, 0.7)
    assert cutting({"interim_results": False}).interim_s is None
    assert cutting({}).silence_s == 0.45


def test_requests_and_events_go_through_as_they_are() -> None:
    one = UtteranceRecognizer(Attempt("a", "m"), ENGINE)
    event = Ready()
    assert one.dial() is ENGINE
    assert one.opening() == ()
    assert one.encode(FLUSH) == (FLUSH,)
    assert one.decode([event]) == (event,)
    assert one.closed(1000, "").kind is Kind.CONNECTION_LOST


def test_every_change_needs_another_connection() -> None:
    one = UtteranceRecognizer(Attempt("a", "m"), ENGINE)
    assert one.update(Attempt("a", "m")) == ()
    assert one.update(Attempt("a", "m", language="de")) is None
