"""Outcomes as spans."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from gateway.settings.traces import TracesConfig
from gateway.telemetry.outcome import (
    BargeinCounts,
    ClientIds,
    Counts,
    Ended,
    EngineRun,
    Outcome,
    RealtimeCounts,
    SpeechUsage,
    SttCounts,
    Try,
    TtsCounts,
)
from gateway.telemetry.traces import OtlpTracer, request_attributes, span_name, write
from gateway.upstreams.chat import Usage
from gateway.upstreams.errors import Failure, Kind

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FAILURE = Failure(Kind.TIMEOUT, "it took too long", upstream_status=504)


def ended(outcome: Outcome, route: str = "chat") -> Ended:
    ids = ClientIds(room_id="RM_1", job_id="AJ_1")
    return Ended(1000.0, route, "key", "req_1", 2.0, outcome, ids)


def spans(one: Ended, traceparent: str = "", clock: float = 50.0) -> dict[str, ReadableSpan]:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    write(provider.get_tracer("t"), one, traceparent, clock)
    return {span.name: span for span in kept.get_finished_spans()}


REPLY = Outcome(
    model="openai/gpt-4.1",
    label="openai/gpt-4.1",
    provider="azure",
    deployment="gpt-4.1-eu",
    tries=(
        Try("openai", "gpt-4.1", 48.0, 49.0, FAILURE),
        Try("azure", "gpt-4.1-eu", 49.0, 50.0, first_s=0.25, hedge=True),
    ),
    first_s=1.25,
    usage=Usage(10, 5, 4),
    cost=1_000_000,
)


def test_every_try_is_a_span_inside_the_requests_with_the_times_that_it_had() -> None:
    found = spans(ended(REPLY))
    request = found["chat openai/gpt-4.1"]
    assert request.kind is SpanKind.SERVER
    assert (request.start_time, request.end_time) == (998 * 10**9, 1000 * 10**9)
    failed, served = found["try openai"], found["try azure"]
    for one in (failed, served):
        assert one.parent is not None
        assert one.parent.span_id == request.context.span_id
        assert one.kind is SpanKind.CLIENT
    assert (failed.start_time, failed.end_time) == (998 * 10**9, 999 * 10**9)
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "upstream_timeout"
    assert failed.attributes["http.response.status_code"] == 504
    assert served.status.status_code is StatusCode.UNSET
    assert served.events[0].timestamp == int(999.25 * 1e9)


def test_a_request_has_the_conventions_names() -> None:
    found = request_attributes(ended(REPLY))
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "azure"
    assert found["gen_ai.request.model"] == "openai/gpt-4.1"
    assert found["gen_ai.response.model"] == "gpt-4.1-eu"
    assert found["gen_ai.usage.input_tokens"] == 10
    assert found["gen_ai.usage.output_tokens"] == REPLY.usage.completion  # type: ignore[union-attr]
    assert found["livekit.job.id"] == found["session.id"] == "AJ_1"
    assert found["livekit.room.id"] == "RM_1"
    assert found["parley.cost"] == 0.001


def test_a_trace_that_the_caller_has_begun_goes_on() -> None:
    found = spans(ended(Outcome()), f"00-{TRACE}-{CALLER}-01")
    (request,) = found.values()
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == CALLER


def test_a_try_that_still_runs_ends_with_the_request() -> None:
    outcome = Outcome(tries=(Try("deepgram", "nova-3", 49.0),))
    assert spans(ended(outcome, "stt"))["try deepgram"].end_time == 1000 * 10**9


def test_a_collector_that_never_answers_does_not_hold_the_end_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.telemetry.traces.CLOSE_S", 0.05)
    tracer = OtlpTracer(TracesConfig(endpoint="http://127.0.0.1:9/v1/traces"), "1")
    hangs, released = threading.Event(), threading.Event()

    def shutdown() -> None:
        hangs.set()
        released.wait(60)

    monkeypatch.setattr(tracer._provider, "shutdown", shutdown)
    tracer.close()
    assert hangs.wait(60)
    assert not released.is_set()  # it came back all the same
    released.set()


def test_what_is_not_sampled_is_not_written() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    write(provider.get_tracer("t"), ended(REPLY), "", 50.0)
    assert kept.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("route", "counts", "name", "value"),
    [
        ("stt", SttCounts(3, 1), "parley.stt.failovers", 1),
        ("tts", TtsCounts(4), "parley.tts.utterances", 4),
        ("realtime", RealtimeCounts(3, 1, 0), "parley.realtime.responses", 3),
        ("bargein", BargeinCounts(9, 2, 0, 3, 1), "parley.bargein.overlaps", 3),
    ],
)
def test_speech_has_its_counts(route: str, counts: Counts, name: str, value: int) -> None:
    outcome = Outcome(counts=counts, speech=SpeechUsage(2.5), failure=FAILURE)
    found = request_attributes(ended(outcome, route))
    assert found[name] == value
    assert found["parley.audio_s"] == 2.5
    assert found["error.type"] == "upstream_timeout"


def test_a_name_that_callers_invent_is_no_name_of_a_span() -> None:
    assert span_name(ended(Outcome(model="invented/by-me"))) == "chat"


def test_a_try_tells_its_tokens_its_audio_and_what_was_replayed() -> None:
    replay = Try("deepgram", "nova-3", 48.0, 50.0, audio_s=12.3456, replayed_s=2.0)
    reply = Try("openai", "gpt", 48.0, 49.0, usage=Usage(10, 5))
    said = Try("rime", "coda", 48.0, 49.0, audio_s=1.5, characters=20)
    found = spans(ended(Outcome(tries=(replay, reply, said))))
    replayed = found["try deepgram"].attributes or {}
    assert (replayed["parley.audio_s"], replayed["parley.replayed_s"]) == (12.346, 2.0)
    assert (found["try openai"].attributes or {})["gen_ai.usage.output_tokens"] == 5
    assert (found["try rime"].attributes or {})["parley.characters"] == 20


def test_a_run_of_an_engine_of_ours_is_a_span_inside_the_sessions() -> None:
    run = EngineRun("whisper", 48.5, 49.0, {"audio_s": 2.0, "interim": False})
    broken = EngineRun("kokoro", 49.0, 50.0, failed=True)
    found = spans(ended(Outcome(label="local/whisper", runs=(run, broken)), "stt"))
    made = found["run whisper"]
    assert made.parent is not None
    assert made.parent.span_id == found["stt local/whisper"].context.span_id
    assert made.kind is SpanKind.INTERNAL
    assert (made.start_time, made.end_time) == (int(998.5 * 1e9), 999 * 10**9)
    assert made.attributes == {
        "parley.engine": "whisper",
        "parley.engine.audio_s": 2.0,
        "parley.engine.interim": False,
    }
    assert found["run kokoro"].status.status_code is StatusCode.ERROR
