"""One request or session, as it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Final

from gateway.telemetry.outcome import NANO, Ended, SpeechUsage
from gateway.upstreams.chat import Usage

TEXT_CHARS_MAX: Final = 256
"""A longer text of a caller's is cut."""


@dataclass(frozen=True, slots=True)
class Record:
    """Times in seconds, `at` (the end) in Unix time; `cost` in `usage.currency`, and exactly in
    billionths of it as `cost_nano`; `audio_s` exactly in `audio_ms`.

    A session that lasts longer than a minute has several records: `part` counts from 0, the last
    one has its outcome and those before it the outcome "running". Each says what was used since the
    one before, so that sums of records are sums of what was used; `duration_s` is since the begin.
    A record with `part` 0 stands for one request. `identity` is the token's `sub`, `tenant` that of
    the key (`quota.tenants`).

    `deployment` is the provider's own name of the model. `attempts` counts every try, `hedges`
    those made beside another. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of
    `completion_tokens`; `audio_prompt_tokens` and `audio_completion_tokens` are the parts of both
    that are audio. `first_token_s` is the time to the first content; of /tts, to the first
    audio of the first utterance that no cache spoke. `first_word_s` and `final_s` are means over a
    session of /stt: seconds of speech to the first word of an utterance, and from the end of speech
    to its final. `standby_s` is the time that second recognisers were kept silent. `estimated` says
    that some tokens were not told by the provider. What a route does not have is 0 or empty.
    """

    at: float
    route: str
    key: str
    request_id: str
    outcome: str
    duration_s: float
    room_id: str = ""
    job_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    model: str = ""
    provider: str = ""
    deployment: str = ""
    attempts: int = 0
    hedges: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    audio_s: float = 0.0
    characters: int = 0
    first_token_s: float | None = None
    cost: float = 0.0
    estimated: bool = False
    part: int = 0
    identity: str = ""
    tenant: str = ""
    cost_nano: int = 0
    audio_ms: int = 0
    first_word_s: float | None = None
    final_s: float | None = None
    standby_s: float = 0.0
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    charges: Mapping[str, int] = field(default_factory=dict)
    """No column: what it adds to the counts of days, months and balances."""


COLUMNS: Final = tuple(one.name for one in fields(Record) if one.name != "charges")
_KINDS: Final = {one.name: str(one.type) for one in fields(Record)}
TOKENS_MAX: Final = (1 << 63) - 1
"""What both stores can hold; a provider that reports more is wrong."""


values_of: Final[Callable[[Record], tuple[Any, ...]]] = attrgetter(*COLUMNS)
"""What stands in COLUMNS."""


_TOKENS: Final = (
    "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens",
    "audio_prompt_tokens", "audio_completion_tokens",
)  # fmt: skip

NO_CHARGES: Final[Mapping[str, int]] = {}


def part_of(whole: Record, before: Record | None, charges: Mapping[str, int]) -> Record:
    """What is to be written of `whole`, the sums of a session, where those of `before` are."""
    if before is None:
        return replace(whole, charges=charges) if charges else whole
    cost, audio_ms = whole.cost_nano - before.cost_nano, whole.audio_ms - before.audio_ms
    return replace(
        whole,
        part=before.part + 1,
        attempts=whole.attempts - before.attempts,
        hedges=whole.hedges - before.hedges,
        characters=whole.characters - before.characters,
        first_token_s=None if before.first_token_s is not None else whole.first_token_s,
        cost=cost / NANO,
        cost_nano=cost,
        audio_s=audio_ms / 1000,
        audio_ms=audio_ms,
        standby_s=whole.standby_s - before.standby_s,
        charges=charges,
        **{name: getattr(whole, name) - getattr(before, name) for name in _TOKENS},
    )


def says_nothing(part: Record) -> bool:
    """Whether a part of a session that goes on would add to no sum."""
    tokens = part.prompt_tokens or part.completion_tokens
    return not (part.audio_ms or part.characters or tokens or part.cost_nano or part.charges)


def record_of(ended: Ended) -> Record:
    """The sums of a request or a session."""
    outcome, ids = ended.outcome, ended.ids
    audio_ms = round(1000 * outcome.speech.audio_s) if outcome.speech is not None else 0
    cost_nano = min(outcome.cost, TOKENS_MAX)
    usage = outcome.usage or Usage(0, 0)
    speech = outcome.speech or SpeechUsage()
    return Record(
        at=ended.at,
        route=ended.route,
        key=ended.key,
        request_id=ended.request_id,
        outcome=outcome.word,
        duration_s=ended.duration_s,
        room_id=_text(ids.room_id),
        job_id=_text(ids.job_id),
        agent_id=_text(ids.agent_id),
        session_id=_text(ids.client_session_id),
        model=_text(outcome.model),
        provider=_text(outcome.provider),
        deployment=_text(outcome.deployment),
        attempts=len(outcome.tries),
        hedges=outcome.hedges,
        prompt_tokens=min(usage.prompt, TOKENS_MAX),
        cached_tokens=min(usage.cached, TOKENS_MAX),
        completion_tokens=min(usage.completion, TOKENS_MAX),
        reasoning_tokens=min(usage.reasoning, TOKENS_MAX),
        audio_s=audio_ms / 1000,
        characters=speech.characters,
        first_token_s=_seconds(outcome.first_s),
        cost=cost_nano / NANO,
        estimated=outcome.estimated,
        identity=_text(ended.identity),
        tenant=_text(ended.tenant),
        cost_nano=cost_nano,
        audio_ms=audio_ms,
        first_word_s=None if outcome.running else _seconds(outcome.latency_s("first_word")),
        final_s=None if outcome.running else _seconds(outcome.latency_s("final")),
        standby_s=round(outcome.standby_s, 2),
        audio_prompt_tokens=min(usage.audio_prompt, TOKENS_MAX),
        audio_completion_tokens=min(usage.audio_completion, TOKENS_MAX),
    )


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _text(text: str | None) -> str:
    """A text of a caller's as a store takes it: not too long, and PostgreSQL's has no NUL."""
    return (text or "")[:TEXT_CHARS_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}")


def sql_type(column: str) -> str:
    """A column's type, in the words that SQLite and PostgreSQL share."""
    kind = _KINDS[column]
    if kind == "int":
        return "bigint NOT NULL DEFAULT 0"
    if kind == "float":
        return "double precision NOT NULL DEFAULT 0"
    if kind == "bool":
        return "boolean NOT NULL DEFAULT FALSE"
    return "text NOT NULL DEFAULT ''" if kind == "str" else "double precision"
