"""What can go wrong, as values, and the one table of what each kind means to a caller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final

MESSAGE_CHARS_MAX: Final = 500
"""Longest message shown to a caller; upstream texts are cut to it."""

_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|dg|csk|fw|tgp|key)[-_][A-Za-z0-9_\-*]{6,}"
    r"|\b(?:Bearer|Token|Basic)\s+(?=\S*\d)[A-Za-z0-9_\-.=+/*]{8,}"
    r"|\beyJ[A-Za-z0-9_\-.]{20,}|\bAIza[A-Za-z0-9_\-]{20,}",
    re.IGNORECASE,
)
"""What credentials look like: a vendor's prefix, a scheme and something with a digit, a JWT."""


class Kind(StrEnum):
    """What went wrong. The value is the metric label and the `code` of an error body."""

    # the caller's
    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "model_not_found"
    TOO_LARGE = "too_large"
    CONTENT_POLICY = "content_policy"
    CONTEXT_LENGTH = "context_length_exceeded"
    UNSUPPORTED = "unsupported_parameter"
    QUOTA = "inference_quota_exceeded"
    TOO_MANY_SESSIONS = "too_many_sessions"
    IDLE = "idle"
    # a provider's
    UNREACHABLE = "upstream_unreachable"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_QUOTA = "upstream_quota"
    UPSTREAM_NOT_FOUND = "upstream_not_found"
    UPSTREAM_REFUSED = "upstream_refused"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "upstream_overloaded"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "upstream_timeout"
    CONNECTION_LOST = "stream_interrupted"
    PROTOCOL_ERROR = "upstream_protocol"
    SESSION_LIMIT = "upstream_session_limit"
    # ours
    NO_ROUTE = "no_provider"
    NOT_SERVED = "not_served"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


class FailureScope(Enum):
    """Who else would fail the same way."""

    ATTEMPT = "this try"
    PROVIDER = "every try at this provider"
    REQUEST = "every provider"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a kind means: to the caller (HTTP status, OpenAI's type), to the plan (reach)."""

    status: int
    type: str
    reach: FailureScope


_INVALID = "invalid_request_error"
_UPSTREAM = "upstream_error"

TREATMENT: Final[Mapping[Kind, Treatment]] = MappingProxyType(
    {
        Kind.BAD_REQUEST: Treatment(400, _INVALID, FailureScope.REQUEST),
        Kind.UNAUTHENTICATED: Treatment(401, "authentication_error", FailureScope.REQUEST),
        Kind.FORBIDDEN: Treatment(403, "permission_error", FailureScope.REQUEST),
        Kind.NOT_FOUND: Treatment(404, _INVALID, FailureScope.REQUEST),
        # another provider may take a bigger body
        Kind.TOO_LARGE: Treatment(413, _INVALID, FailureScope.ATTEMPT),
        Kind.CONTENT_POLICY: Treatment(400, _INVALID, FailureScope.REQUEST),
        # another provider's window may be bigger
        Kind.CONTEXT_LENGTH: Treatment(400, _INVALID, FailureScope.ATTEMPT),
        # this provider's limits, not the protocol's
        Kind.UNSUPPORTED: Treatment(400, _INVALID, FailureScope.ATTEMPT),
        Kind.QUOTA: Treatment(429, "inference_quota_exceeded", FailureScope.REQUEST),
        Kind.TOO_MANY_SESSIONS: Treatment(429, "rate_limit_error", FailureScope.REQUEST),
        Kind.IDLE: Treatment(408, "timeout_error", FailureScope.REQUEST),
        Kind.UNREACHABLE: Treatment(503, _UPSTREAM, FailureScope.ATTEMPT),
        # never 401: the caller would look at their own LiveKit key
        Kind.UPSTREAM_AUTH: Treatment(502, _UPSTREAM, FailureScope.PROVIDER),
        Kind.UPSTREAM_QUOTA: Treatment(502, _UPSTREAM, FailureScope.PROVIDER),
        Kind.UPSTREAM_NOT_FOUND: Treatment(502, _UPSTREAM, FailureScope.ATTEMPT),
        # the provider does not take what we asked in the caller's name; another one may
        Kind.UPSTREAM_REFUSED: Treatment(502, _UPSTREAM, FailureScope.ATTEMPT),
        Kind.RATE_LIMITED: Treatment(429, "rate_limit_error", FailureScope.PROVIDER),
        Kind.OVERLOADED: Treatment(503, _UPSTREAM, FailureScope.PROVIDER),
        Kind.UPSTREAM_ERROR: Treatment(503, _UPSTREAM, FailureScope.ATTEMPT),
        Kind.TIMEOUT: Treatment(504, "timeout_error", FailureScope.ATTEMPT),
        Kind.CONNECTION_LOST: Treatment(502, _UPSTREAM, FailureScope.ATTEMPT),
        Kind.PROTOCOL_ERROR: Treatment(502, _UPSTREAM, FailureScope.ATTEMPT),
        Kind.SESSION_LIMIT: Treatment(503, _UPSTREAM, FailureScope.ATTEMPT),
        Kind.NO_ROUTE: Treatment(503, "server_error", FailureScope.REQUEST),
        # by the operator's choice: callers know what to do without it, and nobody is rung
        Kind.NOT_SERVED: Treatment(503, "server_error", FailureScope.REQUEST),
        Kind.SHUTTING_DOWN: Treatment(503, "server_error", FailureScope.REQUEST),
        Kind.INTERNAL: Treatment(500, "server_error", FailureScope.REQUEST),
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong.

    `message` is shown to callers: it names the field and what was expected, never a secret.
    `param` is the offending field, `provider` the configured name of the provider that failed,
    `upstream_status` its HTTP status or close code, `retry_after_s` its own wish.
    `details` are further fields of the error body (quota failures have some).
    `retry_same_after_s`: retry the same deployment after this delay; 0 means before moving on, more
    only if it is the last one. `said` is the provider's own text where callers
    get another one (it speaks of the operator's account); it is for the log. `headers` are further
    HTTP headers of the answer, names in lower case.
    """

    kind: Kind
    message: str
    param: str | None = None
    provider: str | None = None
    upstream_status: int | None = None
    retry_after_s: float | None = None
    details: Mapping[str, Any] | None = None
    retry_same_after_s: float | None = None
    said: str | None = None
    headers: Mapping[str, str] | None = None

    @property
    def status(self) -> int:
        return TREATMENT[self.kind].status

    @property
    def reach(self) -> FailureScope:
        return TREATMENT[self.kind].reach


BLAMELESS: Final = frozenset(
    kind for kind, treatment in TREATMENT.items() if treatment.reach is FailureScope.REQUEST
) | {Kind.CONTEXT_LENGTH, Kind.TOO_LARGE, Kind.UNSUPPORTED, Kind.CONTENT_POLICY}
"""Kinds that say nothing about a provider's health: the request was at fault, or we were."""


class FailureError(Exception):
    """Carries a `Failure` through code that can only raise."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def error_body(failure: Failure) -> dict[str, Any]:
    """OpenAI's error body for `failure`: {"error": {"message", "type", "param", "code"}}."""
    error: dict[str, Any] = {
        "message": failure.message,
        "type": TREATMENT[failure.kind].type,
        "param": failure.param,
        "code": failure.kind.value,
    }
    if failure.details:
        error.update(failure.details)
    return {"error": error}


def presentable(text: str) -> str:
    """An upstream's text, cut to `MESSAGE_CHARS_MAX` and without what looks like a credential."""
    return _SECRET.sub("***", text[: 4 * MESSAGE_CHARS_MAX])[:MESSAGE_CHARS_MAX]
