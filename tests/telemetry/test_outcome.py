"""The line in the log and the metrics are functions of what became of a request."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.telemetry.metrics import Metrics, count
from gateway.telemetry.outcome import (
    IDENTITY_CHARS_MAX,
    BargeinCounts,
    ClientIds,
    Ended,
    EotCounts,
    Outcome,
    RealtimeCounts,
    SpeechUsage,
    SttCounts,
    SttLatency,
    Try,
    TtsCounts,
    log_fields,
    log_level,
    quantiles,
)
from gateway.telemetry.rests import LoggingBreaker
from gateway.upstreams.chat import Usage
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt

LATE = Failure(Kind.TIMEOUT, "late")
REFUSED = Failure(Kind.UPSTREAM_AUTH, "no")

REPLY = Outcome(
    model="m",
    label="m",
    provider="b",
    deployment="y",
    tries=(
        Try("a", "x", 0.0, ended=1.5, failure=LATE),
        Try("c", "z", 1.0, hedge=True, lost=True),
        Try("b", "y", 1.0),
    ),
    first_s=0.5,
    usage=Usage(7, 3, cached=2),
    bytes_out=100,
    cost=250_000_000,
)


def ended(route: str, outcome: Outcome, ids: ClientIds | None = None) -> Ended:
    return Ended(0.0, route, "key", "req_1", 1.23456, outcome, ids or ClientIds())


def line(route: str, outcome: Outcome) -> dict[str, object]:
    """What is written, but for what every line has."""
    found = log_fields(ended(route, outcome))
    common = ("route", "request_id", "key", "outcome", "duration_s")
    return {k: v for k, v in found.items() if v is not None and k not in common}


def test_every_line_says_whose_request_it_was_and_how_it_ended() -> None:
    ids = ClientIds(room_id="RM", user_agent="x", trace_id="4bf9")
    ending = ended("chat", Outcome(left=True), ids)
    found = log_fields(replace(ending, identity="agent", status=200))
    assert {name: value for name, value in found.items() if value is not None} == {
        "route": "chat",
        "status": 200,
        "request_id": "req_1",
        "key": "key",
        "identity": "agent",
        "outcome": "left",
        "duration_s": 1.2346,
        "room_id": "RM",
        "user_agent": "x",
        "trace_id": "4bf9",
    }


def test_a_long_identity_is_cut() -> None:
    found = log_fields(replace(ended("chat", Outcome()), identity="x" * 1000))
    assert found["identity"] == "x" * IDENTITY_CHARS_MAX


def test_the_line_of_a_reply_names_who_served_and_who_failed_and_why() -> None:
    assert line("chat", REPLY) == {
        "model": "m",
        "provider": "b",
        "deployment": "y",
        "attempts": 3,
        "hedges": 1,
        "failures": "a:upstream_timeout@1.5",
        "said": "a: late",
        "first_token_s": 0.5,
        "prompt_tokens": 7,
        "cached_tokens": 2,
        "completion_tokens": 3,
        "reasoning_tokens": 0,
        "cost": 0.25,
    }


@pytest.mark.parametrize(
    ("route", "outcome", "expected"),
    [
        (
            "stt",
            Outcome(
                failure=REFUSED,
                session_id="s",
                model="auto",
                provider="a,b",
                tries=(Try("a", "x", 0.0, failure=REFUSED), Try("b", "y", 1.0)),
                speech=SpeechUsage(1.234),
                counts=SttCounts(finals=3, failovers=0),
                latencies=(
                    SttLatency("final", "a", "x", 0.2),
                    SttLatency("final", "b", "y", 0.4),
                    SttLatency("first_word", "b", "y", 0.9),
                ),
            ),
            {
                "session_id": "s",
                "model": "auto",
                "providers": "a,b",
                "connections": 2,
                "finals": 3,
                "failures": "a:upstream_auth@0",
                "audio_s": 1.23,
                "first_word_s": 0.9,
                "final_s": 0.3,
                "error": "no",
            },
        ),
        (
            "tts",
            Outcome(
                session_id="s",
                model="m",
                provider="a",
                speech=SpeechUsage(2.0, 0),
                counts=TtsCounts(1),
            ),
            {
                "session_id": "s",
                "model": "m",
                "provider": "a",
                "attempts": 0,
                "utterances": 1,
                "audio_s": 2.0,
                "characters": 0,
            },
        ),
        (
            "bargein",
            Outcome(speech=SpeechUsage(2.0), counts=BargeinCounts(3, 1, 0, 2, 1)),
            {
                "windows": 3,
                "detected": 1,
                "stale": 0,
                "overlaps": 2,
                "interruptions": 1,
                "audio_s": 2.0,
            },
        ),
        (
            "eot",
            Outcome(counts=EotCounts(4, 2, 1, 0)),
            {"predictions": 4, "finished": 2, "none": 1, "late": 0},
        ),
        ("models", Outcome(), {}),
    ],
)
def test_the_line_of_a_session_has_its_counts(
    route: str, outcome: Outcome, expected: dict[str, object]
) -> None:
    assert line(route, outcome) == expected


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (None, logging.INFO),
        (Kind.BAD_REQUEST, logging.WARNING),
        (Kind.TIMEOUT, logging.WARNING),
        (Kind.SHUTTING_DOWN, logging.WARNING),
        (Kind.NOT_SERVED, logging.WARNING),
        (Kind.UPSTREAM_AUTH, logging.ERROR),
        (Kind.NO_ROUTE, logging.ERROR),
        (Kind.INTERNAL, logging.ERROR),
    ],
)
def test_who_can_mend_a_failure_decides_how_loud_it_is(kind: Kind | None, level: int) -> None:
    assert log_level(None if kind is None else Failure(kind, "x")) == level


def counted(route: str, outcome: Outcome) -> dict[tuple[Any, ...], float]:
    """Every counter that was raised, by its name and the values of its labels."""
    metrics = Metrics()
    count(metrics, ended(route, outcome))
    return {
        (sample.name.removeprefix("parley_"), *sample.labels.values()): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if metric.name.startswith("parley_")
        and sample.name.endswith(("_total", "_seconds_count"))
        and sample.value
    }


def test_a_reply_is_counted_with_all_its_tries_and_tokens() -> None:
    assert counted("chat", REPLY) == {
        ("requests_total", "chat", "ok"): 1,
        ("duration_seconds_count", "chat"): 1,
        ("chat_first_token_seconds_count", "b", "m"): 1,
        ("upstream_attempts_total", "chat", "a", "upstream_timeout"): 1,
        ("upstream_attempts_total", "chat", "c", "lost"): 1,
        ("upstream_attempts_total", "chat", "b", "ok"): 1,
        ("hedges_total", "c", "lost"): 1,
        ("fallbacks_total", "chat", "a"): 1,
        ("bytes_total", "chat", "out"): 100,
        ("time_to_first_byte_seconds_count", "chat", "b", "m"): 1,
        ("tokens_total", "b", "m", "prompt"): 7,
        ("tokens_total", "b", "m", "cached"): 2,
        ("tokens_total", "b", "m", "completion"): 3,
    }


def test_a_session_of_speech_that_failed_is_counted() -> None:
    outcome = Outcome(
        failure=LATE,
        provider="a",
        tries=(Try("a", "x", 0.0, failure=LATE),),
        speech=SpeechUsage(2.0),
    )
    assert counted("stt", outcome) == {
        ("requests_total", "stt", "upstream_timeout"): 1,
        ("errors_total", "stt", "upstream_timeout"): 1,
        ("duration_seconds_count", "stt"): 1,
        ("upstream_attempts_total", "stt", "a", "upstream_timeout"): 1,
        ("audio_seconds_total", "stt", "in"): 2,
    }


def test_a_route_that_counts_as_it_goes_is_not_counted_twice() -> None:
    outcome = Outcome(tries=(Try("a", "x", 0.0),), speech=SpeechUsage(2.0))
    assert counted("tts", outcome) == {
        ("requests_total", "tts", "ok"): 1,
        ("duration_seconds_count", "tts"): 1,
    }


def test_a_deployment_that_begins_to_rest_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    breaker = LoggingBreaker()
    for now in (0.0, 1.0):
        breaker.failed(Attempt("openai", "gpt"), REFUSED, now)
    breaker.failed(Attempt("openai", "gpt"), Failure(Kind.BAD_REQUEST, "x"), 2.0)
    (told,) = caplog.records
    assert told.levelno == logging.ERROR
    assert told.message == "a deployment rests"
    assert (told.provider, told.model, told.kind) == ("openai", "gpt", "upstream_auth")  # type: ignore[attr-defined]


def test_quantiles_are_samples_and_of_none_there_are_none() -> None:
    assert quantiles([], "answer") == {}
    tenths = [i / 10 for i in range(101)]
    assert quantiles(reversed(tenths), "answer") == {
        "answer_p50_s": 5.0,
        "answer_p95_s": 9.5,
        "answer_longest_s": 10.0,
    }


def test_the_line_has_the_providers_words_where_the_caller_was_told_others() -> None:
    hidden = Failure(Kind.UPSTREAM_AUTH, "the provider refuses us", upstream_text="key expired")
    plain = Failure(Kind.UPSTREAM_ERROR, "out of memory")
    tries = (
        Try("a", "x", 0.0, failure=hidden),
        Try("a", "x", 1.0, failure=hidden),
        Try("b", "y", 2.0, failure=plain),
    )
    found = line("chat", Outcome(failure=plain, tries=tries))
    assert (found["said"], found["error"]) == ("a: key expired", "out of memory")
    long = Failure(Kind.UPSTREAM_ERROR, "x", upstream_text="y" * 5000)
    found = line("chat", Outcome(tries=(Try("a", "x", 0.0, failure=long),)))
    assert len(str(found["said"])) == 500


def test_the_line_says_how_providers_call_the_request_also_where_they_refused_it() -> None:
    late = Failure(Kind.TIMEOUT, "late", upstream_id="of-the-failure")
    told = Outcome(
        tries=(
            Try("a", "x", 0.0, failure=late),
            Try("b", "y", 1.0, upstream_id="req_b"),
            Try("b", "y", 2.0, upstream_id="req_b"),
            Try("c", "z", 3.0),
        )
    )
    assert line("chat", told)["upstream_ids"] == "a:of-the-failure,b:req_b"
    many = Outcome(tries=tuple(Try("a", "x", 0.0, upstream_id=f"{i:0128}") for i in range(50)))
    assert len(str(line("chat", many)["upstream_ids"])) <= 500


def test_a_session_of_speech_to_speech_tells_tokens_of_audio() -> None:
    usage = Usage(30, 20, cached=8, audio_prompt=10, audio_completion=15)
    outcome = Outcome(
        label="m", provider="b", deployment="y", tries=(Try("b", "y", 0.0),), usage=usage,
        speech=SpeechUsage(2.5), counts=RealtimeCounts(2, 1, 0),
    )  # fmt: skip
    found = log_fields(Ended(1.0, "realtime", "k", "r", 2.0, outcome))
    assert (found["responses"], found["cancelled"], found["failovers"]) == (2, 1, None)
    assert (found["provider"], found["attempts"], found["audio_s"]) == ("b", 1, 2.5)
    assert (found["audio_prompt_tokens"], found["audio_completion_tokens"]) == (10, 15)
    metrics = Metrics()
    count(metrics, Ended(1.0, "realtime", "k", "r", 2.0, outcome))
    told = metrics.tokens.labels("b", "m", "audio_completion")
    assert told._value.get() == 15
