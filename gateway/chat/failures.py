"""What a provider's HTTP error means: the decision table, and lenient reading of error bodies."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson

from gateway.errors import Failure, Kind, presentable

RETRY_AFTER_S_MAX: Final = 3600.0
"""A longer wish than an hour is taken for an hour."""

_BY_STATUS: Final[Mapping[int, Kind]] = MappingProxyType(
    {
        400: Kind.BAD_REQUEST,
        401: Kind.UPSTREAM_AUTH,
        402: Kind.UPSTREAM_QUOTA,
        403: Kind.UPSTREAM_AUTH,
        404: Kind.UPSTREAM_NOT_FOUND,
        405: Kind.UPSTREAM_NOT_FOUND,
        408: Kind.TIMEOUT,
        409: Kind.UPSTREAM_ERROR,
        413: Kind.TOO_LARGE,
        422: Kind.BAD_REQUEST,
        424: Kind.NONSENSE,
        429: Kind.RATE_LIMITED,
        434: Kind.UPSTREAM_AUTH,
        498: Kind.OVERLOADED,
        499: Kind.UPSTREAM_ERROR,
        504: Kind.TIMEOUT,
        529: Kind.OVERLOADED,
    }
)

_CONTEXT = frozenset({"context_length_exceeded", "string_above_max_length", "1261"})
_POLICY = frozenset({"content_filter", "content_policy_violation", "1301"})
_NO_MONEY = frozenset({"insufficient_quota", "exceeded_current_quota_error", "1113"})
_BAD_KEY = re.compile(r"api key not valid|incorrect api key|invalid api key|API_KEY_INVALID", re.I)
_SPEND_LIMIT = re.compile(r"credit balance|spend(ing)? limit|usage limits", re.I)
_TOO_LONG = re.compile(r"prompt is too long|maximum context length|context window", re.I)


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An upstream's error, whatever its form: what all the forms have in common."""

    message: str
    code: str
    type: str
    param: str | None


def read_error(body: bytes) -> ErrorText:
    """The error in `body`, in any of the forms that providers use; never fails."""
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = re.sub(r"<[^>]*>", " ", body[:4096].decode("utf-8", "replace"))
        return ErrorText(presentable(" ".join(text.split())), "", "", None)
    return read_error_object(parsed)


def read_error_object(parsed: Any) -> ErrorText:
    """As `read_error`, from parsed JSON."""
    outer = parsed[0] if isinstance(parsed, list) and parsed else parsed
    inner = outer.get("error", outer) if isinstance(outer, dict) else outer
    if isinstance(inner, dict):
        message = inner.get("message") or inner.get("detail") or inner.get("error") or ""
        code, kind, param = inner.get("code"), inner.get("type"), inner.get("param")
        if kind is None:
            kind = inner.get("status")
    else:
        message = inner if isinstance(inner, str) else ""
        code = outer.get("code") if isinstance(outer, dict) else None
        kind, param = None, None
    if not isinstance(message, str):
        message = orjson.dumps(message).decode()
    return ErrorText(
        presentable(message),
        "" if code is None else str(code),
        kind if isinstance(kind, str) else "",
        param if isinstance(param, str) else None,
    )


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an upstream's answer with an error status means."""
    error = read_error(body)
    kind = kind_of(status, error)
    return Failure(
        kind,
        error.message or f"the provider answered with status {status}",
        param=error.param,
        upstream_status=status,
        retry_after_s=retry_after_s(headers),
    )


def kind_of(status: int, error: ErrorText) -> Kind:
    """The decision: status first, then what the error says about itself."""
    words = {error.code, error.type}
    if words & _CONTEXT or (status in (400, 413) and _TOO_LONG.search(error.message)):
        return Kind.CONTEXT_LENGTH
    if words & _POLICY:
        return Kind.CONTENT_POLICY
    if words & _NO_MONEY:
        return Kind.UPSTREAM_QUOTA
    if status == 400:
        if _BAD_KEY.search(error.message):
            return Kind.UPSTREAM_AUTH
        if _SPEND_LIMIT.search(error.message):
            return Kind.UPSTREAM_QUOTA
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    return Kind.UPSTREAM_ERROR if status >= 500 else Kind.BAD_REQUEST


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date)."""
    wish: float | None = None
    if (text := headers.get("retry-after-ms")) is not None:
        wish = _number(text)
        wish = None if wish is None else wish / 1000
    if wish is None and (text := headers.get("retry-after")) is not None:
        wish = _number(text)
        if wish is None:
            try:
                date = email.utils.parsedate_to_datetime(text)
            except ValueError:
                return None
            wish = date.timestamp() - (time.time() if now is None else now)
    if wish is None:
        return None
    return min(max(wish, 0.0), RETRY_AFTER_S_MAX)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
