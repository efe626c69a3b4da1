"""One request or session, as it is kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from gateway.telemetry.outcome import Ended, SpeechUsage
from gateway.upstreams.chat import Usage

TEXT_CHARS_MAX: Final = 256
"""A longer text of a caller's is cut."""


@dataclass(frozen=True, slots=True)
class Record:
    """Times in seconds, `at` (the end) in Unix time; `cost` in the currency of `prices`.

    `deployment` is the provider's own name of the model. `attempts` counts every try, `hedges`
    those made beside another. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of
    `completion_tokens`. `first_token_s` is the time to the first content; of /tts, to the first
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
    first_word_s: float | None = None
    final_s: float | None = None
    standby_s: float = 0.0


COLUMNS: Final = tuple(field.name for field in fields(Record))
_KINDS: Final = {field.name: str(field.type) for field in fields(Record)}
TOKENS_MAX: Final = (1 << 63) - 1
"""What both stores can hold; a provider that reports more is wrong."""


def record_of(ended: Ended) -> Record:
    """The record of a request. What its speech costs is reckoned later."""
    outcome, ids = ended.outcome, ended.ids
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
        audio_s=round(speech.audio_s, 2),
        characters=speech.characters,
        first_token_s=_seconds(outcome.first_s),
        cost=outcome.cost,
        estimated=outcome.estimated,
        first_word_s=_seconds(outcome.latency_s("first_word")),
        final_s=_seconds(outcome.latency_s("final")),
        standby_s=round(outcome.standby_s, 2),
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
