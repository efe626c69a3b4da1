"""Every metric and its labels, in one place. The table in README.md is made from this file.

Label values are bounded: `route` is one of ROUTES, `provider` and `model` come from the
configuration or the built-in names (anything else is "other"), `kind` from errors.Kind, and `key`,
in the costs alone, from the configuration, KEYS_NAMED_MAX of them.

Every series is there from the start, with 0, where its labels are known then: rates and alerts see
the first event. Those of providers, keys and the models that `models:` names come with the
configuration (`Metrics.expect`); of other models a series begins with the first use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from gateway import __version__
from gateway.telemetry.outcome import LATENCIES, NANO, BargeinCounts, Ended, Outcome
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Kind

ROUTES: Final = (
    "chat", "models", "embeddings", "stt", "tts", "realtime", "duplex", "avatar", "bargein",
    "eot", "eot_multi",
)  # fmt: skip
"""Values of the label `route`."""

SERVED_BY_PROVIDERS: Final = (
    "chat", "embeddings", "stt", "tts", "realtime", "duplex", "avatar",
)  # fmt: skip
"""Routes that ask providers."""

KEYS_NAMED_MAX: Final = 100
"""Keys that the costs name, the first of the configuration; further ones are "other", and callers
without a token "anonymous"."""

MODELS_EXPECTED_MAX: Final = 50
"""Names of `models:` whose series are there from the start, for each route; and COSTS_EXPECTED_MAX
pairs of a key and a model."""

COSTS_EXPECTED_MAX: Final = 1000

ENGINE_LATE_S: Final[Mapping[str, float]] = {
    "interruption": 0.7,
    "interruption_other": 0.7,
    "turn": 0.7,
    "turn_text": 1.5,
}
"""After so long an answer of an engine is of no use: the client of /bargein does without this
server for the rest of the call, those of /eot were told that there is no prediction."""

_OF_PROVIDERS: Final = tuple(
    kind for kind in Kind if kind.value.startswith(("upstream_", "rate_", "stream_", "no_prov"))
)
"""Kinds of failure that only a route with providers has."""

_REFUSALS: Final = (
    Kind.UNAUTHENTICATED,
    Kind.FORBIDDEN,
    Kind.BAD_REQUEST,
    Kind.TOO_MANY_SESSIONS,
    Kind.TOO_MANY_CONNECTIONS,
    Kind.SHUTTING_DOWN,
)
"""Why `server/admission.py` refuses somebody."""

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_DURATION_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
_ENGINE_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)


disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series, for nobody


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Info("parley_build", "Version of this server.", registry=registry).info(
            {"version": __version__}
        )
        self.requests = Counter(
            "parley_requests",
            "Requests and WebSocket sessions that ended; outcome: ok, left (the client went "
            "away) or a kind of error.",
            ["route", "outcome"],
            registry=registry,
        )
        self.errors = Counter(
            "parley_errors",
            "Failures that callers saw. What an upstream caused stands in the attempts as well.",
            ["route", "kind"],
            registry=registry,
        )
        self.refusals = Counter(
            "parley_refusals",
            "Requests refused before any work: token, limits, shutting down; route `any`: a "
            "connection too many of its address.",
            ["route", "kind"],
            registry=registry,
        )
        self.bounds = Counter(
            "parley_bound_reached",
            "Times that a caller came to a bound, and was refused, closed or slowed down; "
            "deploy/security.md lists them.",
            ["bound"],
            registry=registry,
        )
        self.open_sessions = Gauge(
            "parley_open_sessions",
            "Requests and WebSocket sessions open now.",
            ["route"],
            registry=registry,
        )
        self.draining = Gauge(
            "parley_draining",
            "1 while this server is shutting down: it is not ready, and what is open goes on.",
            registry=registry,
        )
        self.drain_ends = Gauge(
            "parley_drain_ends_timestamp_seconds",
            "When this server ends at the latest, in Unix seconds; 0: it is not shutting down.",
            registry=registry,
        )
        self.duration = Histogram(
            "parley_duration_seconds",
            "From request to end of answer, or the life of a WebSocket session.",
            ["route"],
            buckets=_DURATION_S,
            registry=registry,
        )
        self.first_byte = Histogram(
            "parley_time_to_first_byte_seconds",
            "From request to the first content sent to the caller (chat: first token; embeddings: "
            "the answer; tts: first audio of an utterance, provider and model `cache` where it "
            "came from there; realtime: from the end of the caller's first turn). Model: other "
            "where no catalogue or configuration names it.",
            ["route", "provider", "model"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.voice_first_audio = Histogram(
            "parley_tts_first_audio_seconds",
            "From the start of a try at a voice to its first audio.",
            ["provider", "model"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.chat_first_token = Histogram(
            "parley_chat_first_token_seconds",
            "From request to the first token sent to the caller. Model: other where no "
            "catalogue or configuration names it.",
            ["provider", "model"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.loop_lag = Histogram(
            "parley_event_loop_lag_seconds",
            "How late the event loop came to a task that was due, ten times a second: what holds "
            "it up holds up every call.",
            buckets=_LAG_S,
            registry=registry,
        )
        self.tasks = Gauge(
            "parley_tasks",
            "Tasks of the event loop now. They go with the calls: what stays is a leak.",
            registry=registry,
        )
        self.overlaps = Counter(
            "parley_bargein_overlaps",
            "Times that a caller spoke over the agent, in WebSocket sessions that ended; outcome: "
            "interruption or held (the agent went on).",
            ["outcome"],
            registry=registry,
        )
        self.decision = Histogram(
            "parley_bargein_decision_seconds",
            "From the first window of an overlap to the answer that it is an interruption.",
            buckets=_LATENCY_S,
            registry=registry,
        )
        for outcome in ("interruption", "held"):
            self.overlaps.labels(outcome)
        self.bargein_version_overlaps = Counter(
            "parley_bargein_version_overlaps",
            "The same by the version of the interruption model that served the call "
            "(`bargein.models`).",
            ["version", "outcome"],
            registry=registry,
        )
        self.bargein_version_decision = Histogram(
            "parley_bargein_version_decision_seconds",
            "The same by the version of the interruption model that served the call.",
            ["version"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.bargein_followed = Counter(
            "parley_bargein_followed",
            "Overlaps of calls that may be learnt from, by what followed in the call; outcome: "
            "agreed, cut (it was an interruption to the model alone), missed (the other way) or "
            "unknown.",
            ["version", "outcome"],
            registry=registry,
        )
        self.bargein_kept = Counter(
            "parley_bargein_windows",
            "Windows to learn from (`bargein.learn`); outcome: kept, dropped (the disk is slow) or "
            "failed (it cannot be written).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("kept", "dropped", "failed"):
            self.bargein_kept.labels(outcome)
        self.agreement = Counter(
            "parley_bargein_agreement",
            "Decided overlaps of calls that also have a /stt session here, by what that heard from "
            "the overlap's start until 5 s after its end; decision: interruption or held; "
            "followed: sentence (four words or more), words (fewer) or nothing.",
            ["decision", "followed"],
            registry=registry,
        )
        self.stt_latency = Histogram(
            "parley_stt_latency_seconds",
            "What recognisers take; kind: first_word (seconds of speech to the first word of an "
            "utterance) or final (from the end of speech to the final). Model: other where no "
            "catalogue or configuration names it.",
            ["kind", "provider", "model"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.stt_standby = Counter(
            "parley_stt_standby_seconds",
            "Time that second recognisers were kept connected and silent (stt.standby).",
            ["provider", "model"],
            registry=registry,
        )
        self.attempts = Counter(
            "parley_upstream_attempts",
            "Tries at a provider; outcome: ok, lost (a hedge or its rival spoke first), left (the "
            "client went away), standby (kept connected, never needed) or a kind of error.",
            ["route", "provider", "outcome"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "parley_fallbacks",
            "Moves to the next provider after the labelled one failed.",
            ["route", "provider"],
            registry=registry,
        )
        self.resting = Gauge(
            "parley_provider_resting",
            "1 while a provider or a known deployment of it is asked last, because it failed.",
            ["provider"],
            registry=registry,
        )
        self.hedges = Counter(
            "parley_hedges",
            "Requests asked of a second deployment while the first was silent; outcome: won "
            "(it served, or the first failed) or lost.",
            ["provider", "outcome"],
            registry=registry,
        )
        self.upstream_sockets = Gauge(
            "parley_upstream_sockets",
            "WebSockets to providers that are open now: recognisers, and voices that are kept.",
            registry=registry,
        )
        self.cost = Counter(
            "parley_cost",
            "What was used costs, in usage.currency, by the prices that are known; of running "
            "sessions once a minute. Key: the first 100 of the configuration, else other, or "
            "anonymous. Model: other where no catalogue or configuration names it.",
            ["key", "model"],
            registry=registry,
        )
        self.tokens = Counter(
            "parley_tokens",
            "Tokens as the provider counted them; kind: prompt, cached, completion, reasoning, and "
            "of /realtime audio_prompt, audio_completion (parts of prompt and completion).",
            ["provider", "model", "kind"],
            registry=registry,
        )
        self.bytes = Counter(
            "parley_bytes",
            "Payload bytes; direction: in (from callers) or out (to callers).",
            ["route", "direction"],
            registry=registry,
        )
        self.audio_seconds = Counter(
            "parley_audio_seconds",
            "Seconds of audio; direction: in (from callers) or out (to callers).",
            ["route", "direction"],
            registry=registry,
        )
        self.quota_store_failures = Counter(
            "parley_quota_store_failures",
            "Times that Redis did not answer; meanwhile this server counts quotas and sessions for "
            "itself.",
            registry=registry,
        )
        self.budgets_reached = Counter(
            "parley_budgets_reached",
            "Budgets of a day or month, and balances, that came to `quota.warn_at` (state soft) or "
            "to their end (hard); dimension: requests, tokens, audio, characters or cost. The log "
            "names them.",
            ["dimension", "window", "state"],
            registry=registry,
        )
        for dimension in ("requests", "tokens", "audio", "characters", "cost"):
            for window in ("day", "month", "balance"):
                for state in ("soft", "hard"):
                    self.budgets_reached.labels(dimension, window, state)
        self.certificate = Gauge(
            "parley_certificate_expires_timestamp_seconds",
            "When the certificate in use (server.tls) expires, in Unix seconds; 0: there is none.",
            registry=registry,
        )
        self.worker_restarts = Counter(
            "parley_worker_restarts",
            "Workers that died and were replaced (`server.workers`); their sessions were cut off.",
            registry=registry,
        )
        self.reloads = Counter(
            "parley_config_reloads",
            "Times that the configuration was read again; outcome: applied, or refused (it has "
            "mistakes, and nothing was changed).",
            ["outcome"],
            registry=registry,
        )
        self.config_taken = Gauge(
            "parley_config_taken_timestamp_seconds",
            "When the configuration was read that is in use, in Unix seconds.",
            registry=registry,
        )
        self.usage_records = Counter(
            "parley_usage_records",
            "Usage records; outcome: written, retried (the store did not take them then), spilt "
            "(to the spill file, to be written later), refused (for what they hold; they are set "
            "aside in a file) or lost.",
            ["outcome"],
            registry=registry,
        )
        self.tts_cache = Counter(
            "parley_tts_cache",
            "Texts of /tts looked up in its cache; outcome: hit or miss.",
            ["outcome"],
            registry=registry,
        )
        self.detections = Counter(
            "parley_bargein_answers",
            "Answers of /bargein; verdict: interruption, none, or stale (overtaken by a newer "
            "window and answered from what was known).",
            ["verdict"],
            registry=registry,
        )
        self.turn_answers = Counter(
            "parley_eot_answers",
            "Answers of /eot and /eot/multi; input: audio or text; verdict: finished, unfinished "
            "(by the default threshold), or none (no prediction: overtaken, overloaded, no audio, "
            "or no model).",
            ["input", "verdict"],
            registry=registry,
        )
        self.engine_queue = Histogram(
            "parley_engine_queue_seconds",
            "From the arrival of a window to the start of its batch.",
            ["model"],
            buckets=_ENGINE_S,
            registry=registry,
        )
        self.engine_run = Histogram(
            "parley_engine_inference_seconds",
            "One run of a batch.",
            ["model"],
            buckets=_ENGINE_S,
            registry=registry,
        )
        self.engine_batch = Histogram(
            "parley_engine_batch_size",
            "Windows in one run.",
            ["model"],
            buckets=_BATCH,
            registry=registry,
        )
        self.engine_waiting = Gauge(
            "parley_engine_waiting",
            "Windows that wait for the engine now.",
            ["model"],
            registry=registry,
        )
        self.engine_late = Counter(
            "parley_engine_late",
            "Answers of the engine that came too late to be of use: after more than 0.7 s "
            "(interruption, turn) or 1.5 s (turn_text).",
            ["model"],
            registry=registry,
        )
        self._keys: Collection[str] = ()
        self._begin()

    def _begin(self) -> None:
        """The series whose labels are the same everywhere."""
        for route in ROUTES:
            kinds = [
                kind for kind in Kind if route in SERVED_BY_PROVIDERS or kind not in _OF_PROVIDERS
            ]
            for kind in kinds:
                self.errors.labels(route, kind.value)
            for outcome in ("ok", "left", *(kind.value for kind in kinds)):
                self.requests.labels(route, outcome)
            for kind in _REFUSALS:
                self.refusals.labels(route, kind.value)
            self.open_sessions.labels(route)
            self.duration.labels(route)
        self.refusals.labels("any", Kind.TOO_MANY_CONNECTIONS.value)
        for bound in Bound:
            self.bounds.labels(bound.value)
        for route, direction in _PAYLOAD:
            self.bytes.labels(route, direction)
        for route, direction in _AUDIO:
            self.audio_seconds.labels(route, direction)
        for outcome in ("interruption", "held"):
            self.overlaps.labels(outcome)
            for followed in ("sentence", "words", "nothing"):
                self.agreement.labels(outcome, followed)
        for outcome in ("applied", "refused"):
            self.reloads.labels(outcome)
        for outcome in ("written", "retried", "spilt", "refused", "lost"):
            self.usage_records.labels(outcome)
        for outcome in ("hit", "miss"):
            self.tts_cache.labels(outcome)
        for verdict in ("interruption", "none", "stale"):
            self.detections.labels(verdict)
        for source in ("audio", "text"):
            for verdict in ("finished", "unfinished", "none"):
                self.turn_answers.labels(source, verdict)
        for model in ENGINE_LATE_S:
            self.engine_late.labels(model)

    def expect(self, keys: Iterable[str], deployments: Mapping[str, Iterable[Expected]]) -> None:
        """A configuration is in use with these API keys, and `deployments` for each modality (of
        `models:`, with the name there as label, and one of each provider): their series begin."""
        self._keys = frozenset(tuple(keys)[:KEYS_NAMED_MAX])
        models: dict[str, None] = {}
        for modality, found in deployments.items():
            routes = ("chat", "embeddings") if modality == "chat" else (modality,)
            named = 0
            for provider, model, label in found:
                for route in routes:
                    self._expect_provider(route, provider)
                if label is None or named >= MODELS_EXPECTED_MAX:
                    continue
                named += 1
                models[label] = None
                self._expect_model(modality, provider, model, label)
        pairs = [(key, model) for key in sorted(self._keys) for model in models]
        for key, model in pairs[:COSTS_EXPECTED_MAX]:
            self.cost.labels(key, model)
        for key in (*self._keys, ANONYMOUS):
            self.cost.labels(key, OTHER)

    def _expect_provider(self, route: str, provider: str) -> None:
        self.fallbacks.labels(route, provider)
        for outcome in ("ok", "left", *(kind.value for kind in _OF_PROVIDERS)):
            self.attempts.labels(route, provider, outcome)
        if route in ("chat", "stt", "tts"):
            self.attempts.labels(route, provider, "lost")
        if route == "stt":
            self.attempts.labels(route, provider, "standby")
        if route in ("chat", "stt"):
            for outcome in ("won", "lost"):
                self.hedges.labels(provider, outcome)

    def _expect_model(self, modality: str, provider: str, model: str, label: str) -> None:
        match modality:
            case "chat":
                self.first_byte.labels("chat", provider, label)
                self.chat_first_token.labels(provider, label)
                for kind in ("prompt", "cached", "completion", "reasoning"):
                    self.tokens.labels(provider, label, kind)
            case "stt":
                self.stt_standby.labels(provider, model)
                for kind in LATENCIES:
                    self.stt_latency.labels(kind, provider, model)
            case "tts":
                self.first_byte.labels("tts", provider, model)
                self.voice_first_audio.labels(provider, model)

    def reached(self, bound: Bound) -> None:
        """A caller has come to `bound`."""
        self.bounds.labels(bound.value).inc()

    def connection_reached(self, bound: Bound) -> None:
        """A connection has, before there is a request."""
        self.reached(bound)
        if bound is Bound.CONNECTIONS_PER_ADDRESS:
            self.refusals.labels("any", Kind.TOO_MANY_CONNECTIONS.value).inc()

    def key_label(self, key: str) -> str:
        """`key` as a label: see KEYS_NAMED_MAX."""
        if not key:
            return ANONYMOUS
        return key if key in self._keys else OTHER


class Expected(NamedTuple):
    """A deployment, and `label`, the name that metrics of chat and costs have for it; None: nobody
    has named it."""

    provider: str
    model: str
    label: str | None = None


OTHER: Final = "other"

ANONYMOUS: Final = "anonymous"

_PAYLOAD: Final = (("chat", "in"), ("chat", "out"), ("embeddings", "out"), ("tts", "out"))

_AUDIO: Final = (("stt", "in"), ("bargein", "in"), ("eot", "in"), ("tts", "out"))


COUNTED_LIVE: Final = frozenset({"tts"})
"""Routes that count tries and audio as they happen: their sessions live as long as a call."""


def count_bounds(metrics: Metrics, outcome: Outcome) -> None:
    """Count the bounds that a caller came to."""
    if outcome.failure is not None and outcome.failure.bound is not None:
        metrics.reached(outcome.failure.bound)
    for bound in outcome.bounds:
        metrics.reached(bound)


def count(metrics: Metrics, ended: Ended) -> None:
    """Count a request or session that has ended."""
    route, outcome = ended.route, ended.outcome
    metrics.requests.labels(route, outcome.word).inc()
    metrics.duration.labels(route).observe(ended.duration_s)
    if outcome.failure is not None:
        metrics.errors.labels(route, outcome.word).inc()
    if route in COUNTED_LIVE:
        return
    for i, one in enumerate(outcome.tries):
        metrics.attempts.labels(route, one.provider, one.word).inc()
        if one.hedge:
            metrics.hedges.labels(one.provider, "lost" if one.lost else "won").inc()
        if one.failure is not None and not one.standby and i + 1 < len(outcome.tries):
            metrics.fallbacks.labels(route, one.provider).inc()
    if outcome.bytes_out:
        metrics.bytes.labels(route, "out").inc(outcome.bytes_out)
    if outcome.speech is not None:
        metrics.audio_seconds.labels(route, "in").inc(outcome.speech.audio_s)
    for took in outcome.latencies:
        metrics.stt_latency.labels(took.kind, took.provider, took.model).observe(took.seconds)
    if isinstance(counts := outcome.counts, BargeinCounts) and counts.overlaps:
        metrics.overlaps.labels("interruption").inc(counts.interruptions)
        metrics.overlaps.labels("held").inc(counts.overlaps - counts.interruptions)
    for kept in outcome.standbys:
        metrics.stt_standby.labels(kept.provider, kept.model).inc(kept.seconds)
    if outcome.provider is None:
        return
    if outcome.first_s is not None and route == "chat":
        metrics.chat_first_token.labels(outcome.provider, outcome.label).observe(outcome.first_s)
    if outcome.first_s is not None:
        labels = (route, outcome.provider, outcome.label)
        metrics.first_byte.labels(*labels).observe(outcome.first_s)
    if (usage := outcome.usage) is not None:
        for kind, tokens in (
            ("prompt", usage.prompt),
            ("cached", usage.cached),
            ("completion", usage.completion),
            ("reasoning", usage.reasoning),
            ("audio_prompt", usage.audio_prompt),
            ("audio_completion", usage.audio_completion),
        ):
            if tokens:
                metrics.tokens.labels(outcome.provider, outcome.label, kind).inc(tokens)


def count_cost(metrics: Metrics, ended: Ended, counted: int) -> int:
    """Count what a request or session has cost until now, in billionths, beyond what was
    `counted`; returns all of it."""
    cost = ended.outcome.cost
    if cost > counted:
        labels = (metrics.key_label(ended.key), ended.outcome.label)
        metrics.cost.labels(*labels).inc((cost - counted) / NANO)
    return max(cost, counted)


class BatchMetrics:
    """Tells the metrics of every batch of one model (see inference.batcher.Observer)."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._queue = metrics.engine_queue.labels(model)
        self._run = metrics.engine_run.labels(model)
        self._batch = metrics.engine_batch.labels(model)
        self._waiting = metrics.engine_waiting.labels(model)
        self._late = metrics.engine_late.labels(model)
        self._late_s = ENGINE_LATE_S[model]

    def ran(self, queued_s: Sequence[float], run_s: float) -> None:
        for wait_s in queued_s:
            self._queue.observe(wait_s)
            if wait_s + run_s > self._late_s:
                self._late.inc()
        self._run.observe(run_s)
        self._batch.observe(len(queued_s))

    def waiting(self, count: int) -> None:
        self._waiting.set(count)
