"""What became of a request or session, as values. Pure.

Every conversation ends with an `Outcome`. Its line in the log (here), the metrics (`metrics.count`)
and its usage record (`usage.record`) are functions of that and of whose request it was (`Ended`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Final

from gateway.upstreams.bounds import Bound
from gateway.upstreams.chat import Usage
from gateway.upstreams.errors import Blame, Failure, Kind

NANO: Final = 1_000_000_000
"""Money is counted in billionths, as whole numbers: sums are exact. A token for 0.01 a million is
ten of them."""

DEPLOYMENT_CHARS_MAX: Final = 128
"""A longer name of a deployment is cut in the log: callers choose some."""

IDENTITY_CHARS_MAX: Final = 128
"""A longer identity is cut in the log: who signs tokens chooses it."""

FAILURES_CHARS_MAX: Final = 500
"""The list of failures in a line of the log is cut here; a long /stt session has hundreds."""

LATENCIES: Final = ("first_word", "final")
"""Kinds of `SttLatency`."""

LOST, LEFT, OK, RUNNING = "lost", "left", "ok", "running"
STANDBY = "standby"


@dataclass(slots=True)
class Try:
    """What became of one attempt at a deployment. `began`, `ended`: the session's clock.

    `failure` is None while it runs and if it succeeded. `asked`: it did not only wait for its turn
    (chat alone). `hedge`: it was made beside another; `lost`: the other one spoke first; `standby`:
    it was kept connected and never needed; `left`: the client left while it ran; `rests`: with its
    failure the deployment began to rest. `first_s`: until it was connected or first said something.
    `audio_s` were heard or spoken, `characters` given to speak; `replayed_s` of the audio had been
    heard before it took over.
    `upstream_id`: the provider's own name of the request, if it told one.
    """

    provider: str
    model: str
    began: float
    ended: float | None = None
    failure: Failure | None = None
    hedge: bool = False
    lost: bool = False
    standby: bool = False
    left: bool = False
    rests: bool = False
    first_s: float | None = None
    usage: Usage | None = None
    asked: bool = False
    audio_s: float | None = None
    characters: int | None = None
    replayed_s: float | None = None
    upstream_id: str | None = None

    @property
    def word(self) -> str:
        """A kind of failure, "standby", "lost", "left" or "ok"."""
        if self.failure is not None:
            return self.failure.kind.value
        if self.standby:
            return STANDBY
        return LOST if self.lost else LEFT if self.left else OK


RUNS_MAX: Final = 200
"""Runs of engines that one session's outcome lists, its first; for traces."""

SAMPLES_MAX: Final = 1024
"""Durations of one session that quantiles are taken of, the latest."""


@dataclass(frozen=True, slots=True)
class EngineRun:
    """What an engine of ours did for a session, from `began` to `ended` on the session's clock.
    `facts`: what else is known of it, by the names of a span's attributes."""

    engine: str
    began: float
    ended: float
    facts: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    failed: bool = False


def quantiles(seconds: Iterable[float], prefix: str) -> dict[str, float]:
    """Median, 95th percentile and the longest, by names that begin with `prefix`; none of none."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        f"{prefix}_p50_s": ordered[round(0.5 * last)],
        f"{prefix}_p95_s": ordered[round(0.95 * last)],
        f"{prefix}_longest_s": ordered[last],
    }


@dataclass(frozen=True, slots=True)
class SpeechUsage:
    """Speech that was heard or spoken; `characters` of text that was spoken."""

    audio_s: float = 0.0
    characters: int = 0


@dataclass(frozen=True, slots=True)
class SttCounts:
    """Of a /stt session. `interims`: transcriptions of open utterances for which a server that
    takes whole recordings was asked, and the seconds of audio that it was sent for them, beside
    `audio_s`."""

    finals: int
    failovers: int
    interims: int | None = None
    interims_audio_s: float | None = None


@dataclass(frozen=True, slots=True)
class SttLatency:
    """How long a recogniser took: to the `first_word` of an utterance or from the end of speech to
    its `final`. `model` is a label (bounded)."""

    kind: str
    provider: str
    model: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StandbyTime:
    """How long a recogniser was kept connected and silent. `model` is a label (bounded)."""

    provider: str
    model: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TtsCounts:
    """Of a /tts session. `options_left_out`: "deepgram:emotion,rime:emotion", the client's options
    that a provider was not sent."""

    utterances: int
    options_left_out: str | None = None


@dataclass(frozen=True, slots=True)
class BargeinCounts:
    """Of a /bargein session: windows answered, with an interruption, from what was known; times
    that the caller spoke over the agent, and those that were an interruption."""

    windows: int
    detected: int
    stale: int
    overlaps: int = 0
    interruptions: int = 0


@dataclass(frozen=True, slots=True)
class EotCounts:
    """Of an /eot session: predictions, of these "finished", without one, and asked too late."""

    predictions: int
    finished: int
    none: int
    late: int


@dataclass(frozen=True, slots=True)
class RealtimeCounts:
    """Of a /realtime session: responses, of these cancelled, and moves to another provider."""

    responses: int
    cancelled: int
    failovers: int


Counts = SttCounts | TtsCounts | BargeinCounts | EotCounts | RealtimeCounts


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended, and what it took.

    `failure` is what the caller was told; `left`: the client went away before the end. `model` is
    the client's name of it, `label` that of the metrics (bounded). Where a local model stood in,
    `model` is that one's name and `asked` the client's. `provider` and `deployment`
    served, or were asked last; a session that moved names all its providers. `first_s`: until the
    first content (of the first utterance). `estimated`: the provider did not tell all of `usage`.
    `cost` is in billionths of `usage.currency`. `running`: it is not over yet, and this is how it
    stands. `bounds`: those that the caller came to beside that of `failure`.
    """

    failure: Failure | None = None
    left: bool = False
    session_id: str | None = None
    model: str | None = None
    asked: str | None = None
    label: str = "other"
    provider: str | None = None
    deployment: str | None = None
    tries: tuple[Try, ...] = ()
    first_s: float | None = None
    usage: Usage | None = None
    speech: SpeechUsage | None = None
    bytes_out: int = 0
    cost: int = 0
    estimated: bool = False
    running: bool = False
    bounds: tuple[Bound, ...] = ()
    counts: Counts | None = None
    latencies: tuple[SttLatency, ...] = ()
    standbys: tuple[StandbyTime, ...] = ()
    runs: tuple[EngineRun, ...] = ()

    @property
    def word(self) -> str:
        """A kind of failure, "left", "ok" or "running"."""
        if self.running:
            return RUNNING
        if self.failure is not None:
            return self.failure.kind.value
        return LEFT if self.left else OK

    def latency_s(self, kind: str) -> float | None:
        """The mean of the session's latencies of this kind; None: there are none."""
        seconds = [one.seconds for one in self.latencies if one.kind == kind]
        return sum(seconds) / len(seconds) if seconds else None

    @property
    def standby_s(self) -> float:
        """How long recognisers were kept connected and silent."""
        return sum(one.seconds for one in self.standbys)

    @property
    def hedges(self) -> int:
        """Tries that were made beside another."""
        return sum(one.hedge for one in self.tries)


@dataclass(frozen=True, slots=True)
class ClientIds:
    """What a client says of itself in headers, cut; empty: nothing."""

    room_id: str = ""
    job_id: str = ""
    agent_id: str = ""
    client_session_id: str = ""
    user_agent: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended: whose it was, and its outcome. `at`: Unix time of the end.
    `identity`: the token's `sub`. `status`: the HTTP status that was answered, 101 for an upgrade;
    None: the client left before."""

    at: float
    route: str
    key: str
    request_id: str
    duration_s: float
    outcome: Outcome = field(default_factory=Outcome)
    ids: ClientIds = field(default_factory=ClientIds)
    identity: str = ""
    tenant: str = ""
    status: int | None = None


def log_level(failure: Failure | None) -> int:
    """An error where somebody has to be rung: the operator can mend it, or it is a fault of ours.
    What is not served, and what a shutdown ends, is so by the operator's choice."""
    if failure is None:
        return logging.INFO
    ours = failure.kind is Kind.INTERNAL or failure.policy.blame is Blame.OPERATOR
    return logging.ERROR if ours else logging.WARNING


def cut_identity(identity: str) -> str | None:
    """A token's `sub` as a line of the log has it; None stands for none."""
    return identity[:IDENTITY_CHARS_MAX] or None


def log_fields(ended: Ended) -> dict[str, object]:
    """The fields of its line in the log; None stands for a field that is left out."""
    outcome = ended.outcome
    found: dict[str, object] = {
        "route": ended.route,
        "status": ended.status,
        "request_id": ended.request_id,
        "key": ended.key,
        "identity": cut_identity(ended.identity),
        "outcome": outcome.word,
        "duration_s": round(ended.duration_s, 4),
    }
    for one in fields(ended.ids):
        found[one.name] = getattr(ended.ids, one.name) or None
    found["session_id"] = outcome.session_id
    found["model"] = outcome.model
    found["asked_model"] = outcome.asked
    match outcome.counts:
        case SttCounts():
            found["providers"] = outcome.provider
            found["connections"] = len(outcome.tries)
        case TtsCounts():
            found["provider"] = outcome.provider
            found["attempts"] = len(outcome.tries)
        case None | RealtimeCounts() if outcome.tries:
            found["provider"] = outcome.provider
            found["deployment"] = (outcome.deployment or "")[:DEPLOYMENT_CHARS_MAX]
            found["attempts"] = len(outcome.tries)
            found["hedges"] = outcome.hedges or None
    if outcome.counts is not None:
        found.update(asdict(outcome.counts))
    if isinstance(outcome.counts, SttCounts | RealtimeCounts):
        found["failovers"] = outcome.counts.failovers or None
    found["failures"] = _failures(outcome)
    found["said"] = _said(outcome)
    found["upstream_ids"] = _upstream_ids(outcome)
    if outcome.first_s is not None and ended.route != "embeddings":
        name = "first_audio_s" if isinstance(outcome.counts, TtsCounts) else "first_token_s"
        found[name] = round(outcome.first_s, 4)
    for kind in LATENCIES:
        if (seconds := outcome.latency_s(kind)) is not None:
            found[f"{kind}_s"] = round(seconds, 4)
    found["standby_s"] = round(outcome.standby_s, 1) or None
    if (usage := outcome.usage) is not None:
        found["prompt_tokens"] = usage.prompt
        found["cached_tokens"] = usage.cached
        found["completion_tokens"] = usage.completion
        found["reasoning_tokens"] = usage.reasoning
        if isinstance(outcome.counts, RealtimeCounts):
            found["audio_prompt_tokens"] = usage.audio_prompt
            found["audio_completion_tokens"] = usage.audio_completion
    if (speech := outcome.speech) is not None:
        found["audio_s"] = round(speech.audio_s, 2)
        if isinstance(outcome.counts, TtsCounts):
            found["characters"] = speech.characters
    found["estimated"] = outcome.estimated or None
    found["cost"] = outcome.cost / NANO if outcome.cost else None
    if outcome.failure is not None:
        found["error"] = outcome.failure.message
    return found


def _said(outcome: Outcome) -> str | None:
    """What providers that failed said of it, in their own words where callers get others, which
    `error` has: "openai: Rate limit reached for gpt-4o"."""
    told_caller = outcome.failure.message if outcome.failure is not None else None
    texts = (
        f"{one.provider}: {text}"
        for one in outcome.tries
        if one.failure
        and (text := one.failure.upstream_text or one.failure.message)
        and text != told_caller
    )
    return "; ".join(dict.fromkeys(texts))[:FAILURES_CHARS_MAX] or None


def _upstream_ids(outcome: Outcome) -> str | None:
    """How providers call the request, to ask them about it: "openai:req_7a1f,azure:91c0"."""
    told = (
        f"{one.provider}:{one_id}"
        for one in outcome.tries
        if (one_id := one.upstream_id or (one.failure.upstream_id if one.failure else None))
    )
    return ",".join(dict.fromkeys(told))[:FAILURES_CHARS_MAX] or None


def _failures(outcome: Outcome) -> str | None:
    """Who failed, why and when: "openai:upstream_timeout@1.5,azure:upstream_error@1.9", in seconds
    since the first try."""
    if not outcome.tries:
        return None
    first = outcome.tries[0].began
    named = (
        f"{one.provider}:{one.failure.kind.value}@{(one.ended or one.began) - first:.3g}"
        for one in outcome.tries
        if one.failure
    )
    return ",".join(named)[:FAILURES_CHARS_MAX] or None
