"""One request or session, as it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

TEXT_CHARS_MAX: Final = 256
"""A longer text of a caller's is cut."""


@dataclass(frozen=True, slots=True)
class Record:
    """Times in seconds, `at` (the end) in Unix time; `cost` in the currency of `prices`.

    `deployment` is the provider's own name of the model. `attempts` counts every try, `hedges`
    those made beside another. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of
    `completion_tokens`. `estimated` says that some tokens were not told by the provider. What a
    route does not have is 0 or empty.
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


COLUMNS: Final = tuple(field.name for field in fields(Record))
_KINDS: Final = {field.name: str(field.type) for field in fields(Record)}
_NOTED: Final = frozenset(
    "model provider deployment attempts hedges prompt_tokens cached_tokens completion_tokens "
    "reasoning_tokens audio_s characters first_token_s cost estimated".split()
)
"""What a visit's notes may say about its use."""


def record_of(
    *,
    at: float,
    route: str,
    key: str,
    request_id: str,
    outcome: str,
    duration_s: float,
    ids: Mapping[str, str],
    notes: Mapping[str, object],
) -> Record:
    """The record of a visit, from what its log line says."""
    noted: dict[str, Any] = {}
    for name in _NOTED & notes.keys():
        value = notes[name]
        kind = _KINDS[name]
        if kind == "str":
            if value is not None:
                noted[name] = str(value)[:TEXT_CHARS_MAX]
        elif isinstance(value, int | float):
            noted[name] = int(value) if kind == "int" else value
    if "provider" not in noted and isinstance(providers := notes.get("providers"), str):
        noted["provider"] = providers[:TEXT_CHARS_MAX]  # a session that moved from one to the next
    return Record(
        at=at,
        route=route,
        key=key,
        request_id=request_id,
        outcome=outcome,
        duration_s=duration_s,
        room_id=ids.get("room_id", ""),
        job_id=ids.get("job_id", ""),
        agent_id=ids.get("agent_id", ""),
        session_id=ids.get("client_session_id", ""),
        **noted,
    )


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
