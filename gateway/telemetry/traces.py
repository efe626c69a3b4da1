"""Outcomes as OpenTelemetry spans: one for the request or session, in it one for each try and for
each run of an engine of ours (/bargein asks too often for that: one for its session).

They are made when the request has ended, from its outcome, with the times that it had: nothing is
done on a caller's way. Names of attributes are those of OpenTelemetry's conventions for generative
AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/) where they have one. Clients send no
`traceparent` of their own, so the parts of one call are joined by its job and its room:
`livekit.job.id`, `livekit.room.id`, and `session.id`, by which Langfuse groups traces.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol

from gateway.settings.traces import TracesConfig
from gateway.telemetry.outcome import (
    DEPLOYMENT_CHARS_MAX,
    NANO,
    BargeinCounts,
    Ended,
    Outcome,
    RealtimeCounts,
    SttCounts,
    Try,
    TtsCounts,
)

SPANS_WAITING_MAX: Final = 2048
"""Spans that wait to be sent; later ones are dropped."""

SEND_TIMEOUT_S: Final = 10

CLOSE_S: Final = 5.0
"""At the end of the server: how long what waits may take to be sent."""

OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "embeddings": "embeddings",
    "stt": "transcription",
    "tts": "text_to_speech",
    "realtime": "realtime",
    "duplex": "duplex",
    "avatar": "avatar",
}
"""`gen_ai.operation.name` by route; the last five have no name in the conventions."""

Value = str | bool | int | float


def request_attributes(ended: Ended) -> dict[str, Value]:
    """Of the span of a request or session."""
    outcome, ids = ended.outcome, ended.ids
    found: dict[str, Value | None] = {
        "parley.route": ended.route,
        "parley.key": ended.key,
        "parley.request.id": ended.request_id,
        "parley.outcome": outcome.word,
        "http.response.status_code": ended.status,
        "session.id": ids.job_id or ids.room_id or None,
        "livekit.job.id": ids.job_id or None,
        "livekit.room.id": ids.room_id or None,
        "livekit.agent.id": ids.agent_id or None,
        "user_agent.original": ids.user_agent or None,
        "gen_ai.operation.name": OPERATIONS.get(ended.route),
        "gen_ai.request.model": outcome.asked or outcome.model,
        "gen_ai.response.model": outcome.deployment and outcome.deployment[:DEPLOYMENT_CHARS_MAX],
        "gen_ai.provider.name": outcome.provider,
        "error.type": outcome.failure.kind.value if outcome.failure is not None else None,
        "parley.cost": outcome.cost / NANO if outcome.cost else None,
        "parley.first_output_s": outcome.first_s,
        **_used(outcome),
        **_counted(outcome),
    }
    return {name: value for name, value in found.items() if value is not None}


def _used(outcome: Outcome) -> dict[str, Value | None]:
    found: dict[str, Value | None] = {}
    if (usage := outcome.usage) is not None:
        found["gen_ai.usage.input_tokens"] = usage.prompt
        found["gen_ai.usage.output_tokens"] = usage.completion
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached or None
    if (speech := outcome.speech) is not None:
        found["parley.audio_s"] = round(speech.audio_s, 3)
        found["parley.characters"] = speech.characters or None
    return found


def _counted(outcome: Outcome) -> dict[str, Value | None]:
    match outcome.counts:
        case SttCounts(finals=finals, failovers=failovers):
            slowest = max((one.seconds for one in outcome.latencies), default=None)
            return {
                "parley.stt.finals": finals,
                "parley.stt.failovers": failovers,
                "parley.stt.slowest_s": slowest,
            }
        case TtsCounts(utterances=utterances):
            return {"parley.tts.utterances": utterances}
        case RealtimeCounts(responses=responses, failovers=failovers):
            return {
                "parley.realtime.responses": responses,
                "parley.realtime.failovers": failovers,
            }
        case BargeinCounts() as counts:
            return {
                "parley.bargein.overlaps": counts.overlaps,
                "parley.bargein.interruptions": counts.interruptions,
                "parley.bargein.stale": counts.stale,
            }
    return {}


def try_attributes(one: Try) -> dict[str, Value]:
    """Of the span of one try."""
    found: dict[str, Value | None] = {
        "gen_ai.provider.name": one.provider,
        "gen_ai.request.model": one.model[:DEPLOYMENT_CHARS_MAX],
        "parley.outcome": one.word,
        "parley.hedge": one.hedge or None,
        "parley.rests": one.rests or None,
        "parley.first_output_s": one.first_s,
        "parley.audio_s": _rounded(one.audio_s),
        "parley.replayed_s": _rounded(one.replayed_s),
        "parley.characters": one.characters,
        "error.type": one.failure.kind.value if one.failure is not None else None,
        "http.response.status_code": one.failure.upstream_status if one.failure else None,
    }
    if (usage := one.usage) is not None:
        found["gen_ai.usage.input_tokens"] = usage.prompt
        found["gen_ai.usage.output_tokens"] = usage.completion
    return {name: value for name, value in found.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def span_name(ended: Ended) -> str:
    """ "chat openai/gpt-4.1": the operation, and the model by its label, which is bounded."""
    label = ended.outcome.label
    return ended.route if label == "other" else f"{ended.route} {label}"


class Tracer(Protocol):
    """Takes what has ended."""

    def ended(self, ended: Ended, traceparent: str, clock: float) -> None:
        """`traceparent`: the caller's, or "". `clock`: the session's clock at `ended.at`."""

    def close(self) -> None:
        """Send what waits."""


class OtlpTracer:
    """Sends spans to a collector, in batches, from a thread of its own."""

    def __init__(self, config: TracesConfig, version: str) -> None:
        """Needs the extra `otel`, which the settings have checked."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.share)),
            resource=Resource.create({"service.name": "parley", "service.version": version}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(
            endpoint=config.endpoint,
            headers={name: value.get_secret_value() for name, value in config.headers.items()},
            timeout=SEND_TIMEOUT_S,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=SPANS_WAITING_MAX)
        )
        self._tracer = self._provider.get_tracer("gateway", version)

    def ended(self, ended: Ended, traceparent: str, clock: float) -> None:
        write(self._tracer, ended, traceparent, clock)

    def close(self) -> None:
        # it tries a dead collector again and again: the end of the server does not wait for that
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_S)


def write(tracer: Any, ended: Ended, traceparent: str, clock: float) -> None:
    """Tell an OpenTelemetry tracer of a request and its tries."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": traceparent} if traceparent else {}
    parent = TraceContextTextMapPropagator().extract(carrier)
    outcome = ended.outcome
    span = tracer.start_span(
        span_name(ended),
        parent,
        trace.SpanKind.SERVER,
        request_attributes(ended),
        start_time=_ns(ended.at - ended.duration_s),
    )
    if not span.is_recording():
        span.end()
        return
    inside = trace.set_span_in_context(span, parent)
    for one in outcome.tries:
        until = one.ended if one.ended is not None else clock
        tried = tracer.start_span(
            f"try {one.provider}",
            inside,
            trace.SpanKind.CLIENT,
            try_attributes(one),
            start_time=_ns(ended.at - (clock - one.began)),
        )
        if one.first_s is not None:
            tried.add_event(
                "first output", timestamp=_ns(ended.at - (clock - one.began) + one.first_s)
            )
        if one.failure is not None:
            tried.set_status(trace.StatusCode.ERROR, one.failure.message)
        tried.end(_ns(ended.at - (clock - until)))
    for run in outcome.runs:
        made = tracer.start_span(
            f"run {run.engine}",
            inside,
            trace.SpanKind.INTERNAL,
            {"parley.engine": run.engine}
            | {f"parley.engine.{name}": value for name, value in run.facts.items()},
            start_time=_ns(ended.at - (clock - run.began)),
        )
        if run.failed:
            made.set_status(trace.StatusCode.ERROR)
        made.end(_ns(ended.at - (clock - run.ended)))
    if outcome.failure is not None:
        span.set_status(trace.StatusCode.ERROR, outcome.failure.message)
    span.end(_ns(ended.at))


def _ns(unix_s: float) -> int:
    return int(unix_s * 1e9)
