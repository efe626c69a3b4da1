"""What the operator's page remembers of requests."""

from __future__ import annotations

from typing import Any

from gateway.telemetry.outcome import ClientIds, Ended, Outcome, SttLatency, Try, TtsCounts
from gateway.telemetry.watch import (
    CALLS_SHOWN_MAX,
    FAILURES_MAX,
    KINDS_MAX,
    Call,
    Wanted,
    Watch,
    percentiles,
    together,
)
from gateway.upstreams.errors import Failure, Kind

ALL = Wanted()


def call(route: str = "stt", key: str = "k", room: str = "r") -> Call:
    return Call(route, key, "agent", "req_1", "10.0.0.1", room, "job", "m", 100.0)


def ended(outcome: Outcome, route: str = "chat", room: str = "r") -> Ended:
    return Ended(200.0, route, "k", "req_1", 1.5, outcome, ClientIds(room_id=room))


def latencies(watch: Watch, wanted: Wanted = ALL) -> list[dict[str, Any]]:
    return list(together([watch.told(wanted)])["latencies"])


FAILURE = Failure(Kind.TIMEOUT, "it took too long")


def test_a_call_is_there_until_it_ends() -> None:
    watch = Watch()
    watch.began(1, call())
    watch.began(2, call("tts", key="other"))
    assert watch.told(ALL)["open"] == {"stt": 1, "tts": 1}
    assert [one["key"] for one in watch.told(Wanted(key="oth"))["calls"]] == ["other"]
    watch.ended(1, ended(Outcome()))
    assert watch.told(ALL)["open"] == {"tts": 1}
    assert watch.served == 1


def test_a_failure_says_who_why_and_which() -> None:
    watch = Watch()
    watch.began(1, call("chat"))
    tries = (Try("openai", "gpt", 0.0, 1.0, FAILURE),)
    watch.ended(1, ended(Outcome(failure=FAILURE, provider="openai", tries=tries)))
    (found,) = watch.told(ALL)["failures"]
    assert found["outcome"] == "upstream_timeout"
    assert found["message"] == "it took too long"
    assert found["tries"] == "openai gpt: upstream_timeout"
    assert (found["request_id"], found["address"], found["room"]) == ("req_1", "10.0.0.1", "r")


def test_a_request_that_another_provider_served_is_told_too() -> None:
    watch = Watch()
    tries = (Try("openai", "gpt", 0.0, 1.0, FAILURE), Try("azure", "gpt", 1.0, 2.0))
    watch.ended(1, ended(Outcome(provider="azure", tries=tries)))
    watch.ended(2, ended(Outcome(provider="azure")))
    assert [one["outcome"] for one in watch.told(Wanted(provider="openai"))["failures"]] == ["ok"]
    assert watch.told(Wanted(provider="groq"))["failures"] == []


def test_the_newest_failures_come_first_and_are_bounded() -> None:
    watch = Watch()
    for number in range(FAILURES_MAX + 5):
        watch.ended(number, ended(Outcome(failure=FAILURE), room=str(number)))
    rooms = [one["room"] for one in watch.told(ALL)["failures"]]
    assert len(rooms) == FAILURES_MAX
    assert rooms[0] == str(FAILURES_MAX + 4)


def test_durations_are_kept_by_route_provider_and_model() -> None:
    watch = Watch()
    for first_s in (0.1, 0.2, 0.9):
        watch.ended(1, ended(Outcome(provider="openai", label="gpt", first_s=first_s)))
    spoken = Outcome(provider="rime", label="coda", first_s=0.3, counts=TtsCounts(1))
    watch.ended(2, ended(spoken, "tts"))
    heard = Outcome(latencies=(SttLatency("first_word", "deepgram", "nova-3", 0.4),))
    watch.ended(3, ended(heard, "stt"))
    found = {(one["route"], one["what"]): one for one in latencies(watch)}
    assert found["chat", "first token"]["p50"] == 0.2
    assert found["chat", "first token"]["p99"] == 0.9
    assert found["tts", "first audio"]["model"] == "coda"
    assert found["stt", "first word"]["count"] == 1
    assert [one["provider"] for one in latencies(watch, Wanted(provider="rime"))] == ["rime"]


def test_kinds_of_durations_are_bounded() -> None:
    watch = Watch()
    for number in range(KINDS_MAX + 3):
        watch.ended(1, ended(Outcome(provider=f"p{number}", label="m", first_s=0.1)))
    assert len(latencies(watch)) == KINDS_MAX


def test_a_percentile_is_one_of_the_samples() -> None:
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0}
    assert percentiles([float(i) for i in range(1, 101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_several_processes_are_one() -> None:
    one, other = Watch(), Watch()
    for number, watch in enumerate((one, other, other)):
        watch.began(number, call())
        watch.ended(9, ended(Outcome(provider="openai", label="gpt", first_s=0.1 + number)))
    other.ended(9, ended(Outcome(failure=FAILURE)))
    shown = together([one.told(ALL), other.told(ALL)])
    assert shown["open"] == {"stt": 3}
    assert len(shown["calls"]) == 3
    assert shown["served"] == 4
    assert [failed["outcome"] for failed in shown["failures"]] == ["upstream_timeout"]
    (latency,) = shown["latencies"]
    assert (latency["count"], latency["p50"], latency["p99"]) == (3, 1.1, 2.1)


def test_what_is_shown_of_several_is_bounded_too() -> None:
    watch = Watch()
    for number in range(CALLS_SHOWN_MAX):
        watch.began(number, call())
    for number in range(FAILURES_MAX):
        watch.ended(-number - 1, ended(Outcome(failure=FAILURE)))
    shown = together([watch.told(ALL)] * 2)
    assert shown["open"] == {"stt": 2 * CALLS_SHOWN_MAX}
    assert len(shown["calls"]) == CALLS_SHOWN_MAX
    assert len(shown["failures"]) == FAILURES_MAX
