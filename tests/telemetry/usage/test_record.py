"""A record is a function of what became of a request."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.telemetry.outcome import ClientIds, Ended, Outcome, SpeechUsage, SttLatency, Try
from gateway.telemetry.usage.record import (
    COLUMNS,
    TOKENS_MAX,
    part_of,
    record_of,
    says_nothing,
    sql_type,
    values_of,
)
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
        cost=500_000_001,
        estimated=True,
    )
    made = record_of(ended(outcome, ClientIds(room_id="RM", client_session_id="S")))
    assert (made.room_id, made.session_id, made.outcome) == ("RM", "S", "ok")
    assert (made.model, made.provider, made.attempts, made.hedges) == ("m", "a,b", 2, 1)
    assert (made.prompt_tokens, made.cached_tokens, made.completion_tokens) == (7, 2, 3)
    assert (made.reasoning_tokens, made.audio_s, made.characters) == (1, 12.504, 40)
    assert (made.first_token_s, made.cost, made.estimated) == (0.1235, 0.500000001, True)
    assert (made.cost_nano, made.audio_ms) == (500_000_001, 12_504)


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


def test_parts_of_a_session_add_up_to_it_whatever_is_rounded() -> None:
    parts, before = [], None
    for i in range(1, 8):
        sums = Outcome(
            provider="a",
            tries=(Try("a", "x", 0.0),) * (1 + i // 3),
            speech=SpeechUsage(10.0333 * i, 7 * i),
            first_s=0.5,
            cost=333_333_333 * i,
            running=i < 7,
        )
        whole = record_of(ended(sums))
        parts.append(part_of(whole, before, {"balance": i}))
        before = replace(whole, part=parts[-1].part)
    assert [one.part for one in parts] == list(range(7))
    assert [one.outcome for one in parts] == ["running"] * 6 + ["ok"]
    assert sum(one.cost_nano for one in parts) == 7 * 333_333_333
    assert sum(one.audio_ms for one in parts) == round(1000 * 10.0333 * 7)
    assert sum(one.characters for one in parts) == 49
    assert sum(one.attempts for one in parts) == 3
    assert [one.first_token_s for one in parts] == [0.5] + [None] * 6
    assert parts[3].charges == {"balance": 4}


def test_a_part_without_anything_new_is_not_worth_a_row() -> None:
    whole = record_of(ended(Outcome(speech=SpeechUsage(10.0), running=True)))
    assert says_nothing(part_of(whole, whole, {}))
    assert not says_nothing(part_of(whole, whole, {"balance": 1}))
    assert not says_nothing(part_of(whole, None, {}))


def test_what_a_record_charges_is_no_column() -> None:
    whole = part_of(record_of(ended(Outcome())), None, {"balance": 1})
    assert len(values_of(whole)) == len(COLUMNS)
    assert "charges" not in COLUMNS


def test_tokens_of_a_session_are_told_part_by_part() -> None:
    parts, before = [], None
    for i in range(1, 4):
        usage = Usage(10 * i, 5 * i, cached=i, audio_prompt=4 * i, audio_completion=3 * i)
        whole = record_of(ended(Outcome(usage=usage, running=i < 3)))
        parts.append(part_of(whole, before, {}))
        before = replace(whole, part=parts[-1].part)
    for name, total in (
        ("prompt_tokens", 30), ("completion_tokens", 15), ("cached_tokens", 3),
        ("audio_prompt_tokens", 12), ("audio_completion_tokens", 9),
    ):  # fmt: skip
        assert sum(getattr(part, name) for part in parts) == total
    assert not says_nothing(parts[1])
