"""What can go wrong, as values, and the one table of what each kind means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final

from gateway.upstreams.bounds import Bound
from gateway.upstreams.secrets import MASK, SECRETS

MESSAGE_CHARS_MAX: Final = 500
"""Longest message shown to a caller; upstream texts are cut to it."""

_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|dg|csk|fw|tgp|key)[-_][A-Za-z0-9_\-*]{6,}"
    r"|\b(?:Bearer|Token|Basic)\s+(?=\S*\d)[A-Za-z0-9_\-.=+/*]{8,}"
    r"|\beyJ[A-Za-z0-9_\-.]{20,}|\bAIza[A-Za-z0-9_\-]{20,}",
    re.IGNORECASE,
)
"""What credentials look like: a vendor's prefix, a scheme and something with a digit, a JWT."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What no text for people holds; line feeds and tabs may stay."""


class Kind(StrEnum):
    """What went wrong. The value is the metric label and the `code` of an error body."""

    # the caller's
    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "model_not_found"
    OUTSIDE_REGION = "outside_region"
    TOO_LARGE = "too_large"
    CONTENT_POLICY = "content_policy"
    CONTEXT_LENGTH = "context_length_exceeded"
    UNSUPPORTED = "unsupported_parameter"
    UNABLE = "unsupported_by_model"
    REQUEST_REFUSED = "request_refused"
    QUOTA = "inference_quota_exceeded"
    TOO_MANY_SESSIONS = "too_many_sessions"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    IDLE = "idle"
    SESSION_TOO_LONG = "session_too_long"
    # a provider's
    UNREACHABLE = "upstream_unreachable"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_FORBIDDEN = "upstream_forbidden"
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

    ATTEMPT = "this deployment"
    PROVIDER = "every deployment of this provider"
    REQUEST = "every provider"


class Blame(Enum):
    """Whose fault it is; decides who is told."""

    CALLER = "the caller can mend it"
    PROVIDER = "the provider's trouble"
    OPERATOR = "only the operator can mend it: a key, an account, a name"
    GATEWAY = "ours"


class Rest(Enum):
    """What a failure says about a deployment's health."""

    NOTHING = "nothing: the request was at fault, or we were"
    COUNTED = "rests after several in a row, or for the `Retry-After` it came with"
    DEPLOYMENT = "rests at once and long: it does not mend itself in seconds"
    PROVIDER = "the whole provider rests at once and long"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """All that a kind of failure means; there is no other table of kinds.

    `status` and `type`: HTTP status and OpenAI's error type, for the caller. `scope`: who is left
    in the plan. `blame`: who is told. `rest`: what the breaker makes of it. `passing`: whether the
    same deployment may succeed a moment later, in the next round. `retry_same`: whether a new
    connection to the same deployment is worth one immediate try.
    """

    status: int
    type: str
    scope: FailureScope
    blame: Blame
    rest: Rest = Rest.NOTHING
    passing: bool = False
    retry_same: bool = False


_INVALID = "invalid_request_error"
_UPSTREAM = "upstream_error"
_SERVER = "server_error"
_ATTEMPT, _PROVIDER, _REQUEST = FailureScope.ATTEMPT, FailureScope.PROVIDER, FailureScope.REQUEST
_Row = FailurePolicy

POLICY: Final[Mapping[Kind, FailurePolicy]] = MappingProxyType(
    {
        Kind.BAD_REQUEST: _Row(400, _INVALID, _REQUEST, Blame.CALLER),
        Kind.UNAUTHENTICATED: _Row(401, "authentication_error", _REQUEST, Blame.CALLER),
        Kind.FORBIDDEN: _Row(403, "permission_error", _REQUEST, Blame.CALLER),
        Kind.NOT_FOUND: _Row(404, _INVALID, _REQUEST, Blame.CALLER),
        Kind.OUTSIDE_REGION: _Row(403, "permission_error", _REQUEST, Blame.CALLER),
        # another provider may take a bigger body
        Kind.TOO_LARGE: _Row(413, _INVALID, _ATTEMPT, Blame.CALLER),
        Kind.CONTENT_POLICY: _Row(400, _INVALID, _REQUEST, Blame.CALLER),
        # another provider's window may be bigger
        Kind.CONTEXT_LENGTH: _Row(400, _INVALID, _ATTEMPT, Blame.CALLER),
        # this provider's limits, not the protocol's
        Kind.UNSUPPORTED: _Row(400, _INVALID, _ATTEMPT, Blame.CALLER),
        # tools, images, a schema: what this model cannot do another may
        Kind.UNABLE: _Row(400, _INVALID, _ATTEMPT, Blame.CALLER),
        # a provider's 400 to a caller's request, in words that we do not know
        Kind.REQUEST_REFUSED: _Row(400, _INVALID, _ATTEMPT, Blame.CALLER),
        Kind.QUOTA: _Row(429, "inference_quota_exceeded", _REQUEST, Blame.CALLER),
        Kind.TOO_MANY_SESSIONS: _Row(429, "rate_limit_error", _REQUEST, Blame.CALLER),
        Kind.TOO_MANY_CONNECTIONS: _Row(429, "rate_limit_error", _REQUEST, Blame.CALLER),
        Kind.IDLE: _Row(408, "timeout_error", _REQUEST, Blame.CALLER),
        Kind.SESSION_TOO_LONG: _Row(408, "timeout_error", _REQUEST, Blame.CALLER),
        Kind.UNREACHABLE: _Row(
            503, _UPSTREAM, _ATTEMPT, Blame.PROVIDER, Rest.COUNTED, passing=True
        ),
        # never 401: the caller would look at their own LiveKit key
        Kind.UPSTREAM_AUTH: _Row(502, _UPSTREAM, _PROVIDER, Blame.OPERATOR, Rest.PROVIDER),
        # the key is good, but not for this model; callers choose models
        Kind.UPSTREAM_FORBIDDEN: _Row(502, _UPSTREAM, _PROVIDER, Blame.OPERATOR, Rest.DEPLOYMENT),
        Kind.UPSTREAM_QUOTA: _Row(502, _UPSTREAM, _PROVIDER, Blame.OPERATOR, Rest.PROVIDER),
        Kind.UPSTREAM_NOT_FOUND: _Row(502, _UPSTREAM, _ATTEMPT, Blame.OPERATOR, Rest.DEPLOYMENT),
        # the provider does not take what we asked in the caller's name; another one may
        Kind.UPSTREAM_REFUSED: _Row(502, _UPSTREAM, _ATTEMPT, Blame.CALLER),
        Kind.RATE_LIMITED: _Row(
            429, "rate_limit_error", _PROVIDER, Blame.PROVIDER, Rest.COUNTED, passing=True
        ),
        Kind.OVERLOADED: _Row(
            503, _UPSTREAM, _PROVIDER, Blame.PROVIDER, Rest.COUNTED, passing=True
        ),
        Kind.UPSTREAM_ERROR: _Row(
            503, _UPSTREAM, _ATTEMPT, Blame.PROVIDER, Rest.COUNTED, passing=True, retry_same=True
        ),
        Kind.TIMEOUT: _Row(
            504, "timeout_error", _ATTEMPT, Blame.PROVIDER, Rest.COUNTED, passing=True
        ),
        Kind.CONNECTION_LOST: _Row(
            502, _UPSTREAM, _ATTEMPT, Blame.PROVIDER, Rest.COUNTED, passing=True, retry_same=True
        ),
        Kind.PROTOCOL_ERROR: _Row(
            502, _UPSTREAM, _ATTEMPT, Blame.PROVIDER, Rest.COUNTED, passing=True
        ),
        # a connection's greatest age: nothing is wrong
        Kind.SESSION_LIMIT: _Row(
            503, _UPSTREAM, _ATTEMPT, Blame.PROVIDER, passing=True, retry_same=True
        ),
        Kind.NO_ROUTE: _Row(503, _SERVER, _REQUEST, Blame.OPERATOR),
        # by the operator's choice: callers know what to do without it, and nobody is rung
        Kind.NOT_SERVED: _Row(503, _SERVER, _REQUEST, Blame.GATEWAY),
        Kind.SHUTTING_DOWN: _Row(503, _SERVER, _REQUEST, Blame.GATEWAY),
        Kind.INTERNAL: _Row(500, _SERVER, _REQUEST, Blame.GATEWAY),
    }
)
"""The one table of failures."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong.

    `message` is shown to callers: it names the field and what was expected. Configured secrets are
    struck out of all its texts, whoever wrote them.
    `param` is the offending field, `provider` the configured name of the provider that failed,
    `upstream_status` its HTTP status or close code, `retry_after_s` its own wish.
    `details` are further fields of the error body (quota failures have some).
    `retry_same_after_s`: retry the same deployment after this delay; 0 means before moving on, more
    only if it is the last one. `upstream_text` is the provider's own text where callers
    get another one (it speaks of the operator's account); it is for the log. `headers` are further
    HTTP headers of the answer, names in lower case. `upstream_id` is the provider's own name of the
    request, for the log. `bound`: what the caller has come to.
    """

    kind: Kind
    message: str
    param: str | None = None
    provider: str | None = None
    upstream_status: int | None = None
    retry_after_s: float | None = None
    details: Mapping[str, Any] | None = None
    retry_same_after_s: float | None = None
    upstream_text: str | None = None
    headers: Mapping[str, str] | None = None
    upstream_id: str | None = field(default=None, compare=False)
    bound: Bound | None = None

    def __post_init__(self) -> None:
        for name in ("message", "param", "upstream_text"):
            text = getattr(self, name)
            if text and (struck := SECRETS.strike(text)) is not text:
                object.__setattr__(self, name, struck)

    @property
    def policy(self) -> FailurePolicy:
        """What its kind means."""
        return POLICY[self.kind]

    @property
    def status(self) -> int:
        """HTTP status for the caller."""
        return POLICY[self.kind].status


_KIND_OF_STATUS: Final[Mapping[int, Kind]] = {
    401: Kind.UPSTREAM_AUTH,
    402: Kind.UPSTREAM_QUOTA,
    403: Kind.UPSTREAM_FORBIDDEN,
    404: Kind.UPSTREAM_NOT_FOUND,
    405: Kind.UPSTREAM_NOT_FOUND,
    408: Kind.TIMEOUT,
    410: Kind.UPSTREAM_NOT_FOUND,
    429: Kind.RATE_LIMITED,
    503: Kind.OVERLOADED,
    504: Kind.TIMEOUT,
    524: Kind.TIMEOUT,
    529: Kind.OVERLOADED,
}


def kind_of_status(status: int) -> Kind:
    """What a provider's HTTP status means where its words say no more. Other statuses from 400 to
    499 are a refusal of what we asked, which another provider may take; all else is its error."""
    known = _KIND_OF_STATUS.get(status)
    if known is not None:
        return known
    return Kind.UPSTREAM_REFUSED if 400 <= status < 500 else Kind.UPSTREAM_ERROR


class FailureError(Exception):
    """Carries a `Failure` through code that can only raise."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def error_body(failure: Failure) -> dict[str, Any]:
    """OpenAI's error body for `failure`: {"error": {"message", "type", "param", "code"}}."""
    error: dict[str, Any] = {
        "message": failure.message,
        "type": POLICY[failure.kind].type,
        "param": failure.param,
        "code": failure.kind.value,
    }
    if failure.details:
        error.update(failure.details)
    return {"error": error}


def presentable(text: str, chars_max: int = MESSAGE_CHARS_MAX) -> str:
    """An upstream's text, cut to `chars_max`, without our secrets, what looks like a credential,
    and control characters."""
    begun = SECRETS.strike(text[:_READ_CHARS])
    if len(text) > _READ_CHARS:  # half a secret may stand at its end
        begun = begun[: -SECRETS.chars_max or None]
    return _CONTROL.sub(" ", _SECRET.sub(MASK, begun[: 4 * MESSAGE_CHARS_MAX]))[:chars_max]


_READ_CHARS: Final = 16 << 10


def quoted(text: str, chars_max: int = 64) -> str:
    """A name that a provider gave, in quotes, for a message."""
    return repr(presentable(text, chars_max))
