"""A record is a function of what became of a request."""

from typing import Any

import pytest

from gateway.telemetry.outcome import ClientIds, Ended, Outcome, SpeechUsage, SttLatency, Try
from gateway.telemetry.usage.record import COLUMNS, TOKENS_MAX, record_of, sql_type
from gateway.upstreams.chat import Usage
from gateway.upstreams.errors import Failure, Kind


def ended(outcome: Outcome, ids: ClientIds | None = None) -> Ended:
    return Ended(1.0, "stt", "k", "r", 2.0, outcome, ids or ClientIds())


def test_it_names_who_was_asked_and_what_was_used() -> None:
    failure = Failure(Kind.TIMEOUT, "late")
    outcome = Outcome(
        model="m",
        provider="a,b",
        tries=(Try("a", "x", 0.0, failure=failure), Try("b", "y", 1.0, hedge=True)),
        usage=Usage(7, 3, cached=2, reasoning=1),
        speech=SpeechUsage(12.504, 40),
        first_s=0.123456,
        cost=0.5,
        estimated=True,
    )
    made = record_of(ended(outcome, ClientIds(room_id="RM", client_session_id="S")))
    assert (made.room_id, made.session_id, made.outcome) == ("RM", "S", "ok")
    assert (made.model, made.provider, made.attempts, made.hedges) == ("m", "a,b", 2, 1)
    assert (made.prompt_tokens, made.cached_tokens, made.completion_tokens) == (7, 2, 3)
    assert (made.reasoning_tokens, made.audio_s, made.characters) == (1, 12.5, 40)
    assert (made.first_token_s, made.cost, made.estimated) == (0.1235, 0.5, True)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome(), "ok"),
        (Outcome(left=True), "left"),
        (Outcome(left=True, failure=Failure(Kind.TIMEOUT, "late")), "upstream_timeout"),
    ],
)
def test_it_says_how_the_request_ended(outcome: Outcome, word: str) -> None:
    assert record_of(ended(outcome)).outcome == word


def test_what_a_store_does_not_take_does_not_reach_it() -> None:
    outcome = Outcome(model="m\0" * 9999, usage=Usage(TOKENS_MAX + 1, 0))
    made = record_of(ended(outcome))
    assert len(made.model) == 256
    assert "\0" not in made.model
    assert made.prompt_tokens == TOKENS_MAX


def test_a_misspelt_field_is_refused() -> None:
    misspelt: dict[str, Any] = {"modle": "m"}
    with pytest.raises(TypeError):
        Outcome(**misspelt)


def test_every_column_has_a_type_and_only_an_unknown_time_may_be_empty() -> None:
    nullable = [column for column in COLUMNS if "NOT NULL" not in sql_type(column)]
    assert nullable == ["first_token_s", "first_word_s", "final_s"]


def test_what_a_recogniser_took_is_the_mean_of_the_session() -> None:
    took = tuple(SttLatency("final", "deepgram", "nova-3", seconds) for seconds in (0.2, 0.4))
    made = record_of(ended(Outcome(latencies=took)))
    assert made.final_s == pytest.approx(0.3)
    assert made.first_word_s is None
