"""What a provider's error means: the decision table, and lenient reading of error bodies."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from gateway.upstreams.bounded_json import loads
from gateway.upstreams.errors import POLICY, Blame, Failure, Kind, Rest, presentable

RETRY_AFTER_S_MAX: Final = 3600.0
"""A longer wish than an hour is taken for an hour."""

AT_ONCE: Final = 0.0
"""The same deployment is asked once more before the next one."""

PAUSE_S: Final = 0.25
"""The same deployment is asked once more after so long, if it is the only one left."""


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An upstream's error, whatever its form: what all the forms have in common.

    `retry_s` is a wish to wait that stands in the body (Gemini's RetryInfo).
    """

    message: str
    code: str
    type: str
    param: str | None
    retry_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the decision table: whom it concerns, what it means, whether to ask again.

    It fits when the status is among `statuses` (empty: any) and, where there are `words` or a
    `text`, the error's code or type is one of the words or its message matches.
    """

    case: str
    kind: Kind
    statuses: frozenset[int] = frozenset()
    words: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = field(default=None, repr=False)
    retry_same_after_s: float | None = None

    def fits(self, status: int, error: ErrorText) -> bool:
        if self.statuses and status not in self.statuses:
            return False
        if not self.words and self.text is None:
            return True
        if error.code in self.words or error.type in self.words:
            return True
        return self.text is not None and self.text.search(error.message) is not None


def _rule(
    case: str, kind: Kind, statuses: str = "", words: str = "", text: str = "", again: str = ""
) -> Rule:
    codes: set[int] = set()
    for part in statuses.split():
        first, _, last = part.partition("-")
        codes.update(range(int(first), int(last or first) + 1))
    return Rule(
        case,
        kind,
        frozenset(codes),
        frozenset(words.split()),
        re.compile(text, re.IGNORECASE) if text else None,
        {"": None, "at once": AT_ONCE, "if alone": PAUSE_S}[again],
    )


RULES: Final[tuple[Rule, ...]] = (
    _rule(
        "the request is too long for this model",
        Kind.CONTEXT_LENGTH,
        "400 413 422",
        "context_length_exceeded string_above_max_length exceed_context_size_error 1261",
        # OpenAI, vLLM, llama.cpp, SGLang, TGI, Gemini, Ollama, Bedrock and Mistral, in turn
        r"prompt is too long|maximum context length|context[ _](window|length|size)|"
        r"exceeds? the (available |model's )?(maximum )?context|longer than the model's|"
        r"tokens?` must be <=|exceeds the maximum number of (input )?tokens|"
        r"input (token count|is too long|length)|too many (input )?tokens|"
        r"prompt (contains|has) [\d,]+ tokens|larger than the maximum",
    ),
    _rule(
        "the provider's policy forbids it",
        Kind.CONTENT_POLICY,
        "400 403 422",
        "content_filter content_policy_violation 1301",
    ),
    _rule(
        "the operator's account is empty",
        Kind.UPSTREAM_QUOTA,
        "",
        "insufficient_quota exceeded_current_quota_error billing_error "
        "1113 1112 1121 1304 1308 1309 1310",
    ),
    _rule(
        "the operator's key is refused",
        Kind.UPSTREAM_AUTH,
        "400",
        "API_KEY_INVALID invalid_api_key",
        r"api key not valid|(incorrect|invalid) api key",
    ),
    _rule(
        "the operator's spend limit is reached",
        Kind.UPSTREAM_QUOTA,
        "400",
        "",
        r"credit balance|spend(ing)? limit|usage limits",
    ),
    _rule(
        "the model wrote a malformed tool call",
        Kind.UPSTREAM_ERROR,
        "400",
        "tool_use_failed",
        again="at once",
    ),
    _rule(
        "the model cannot do this",
        Kind.UNABLE,
        "400 404 422 500 501",
        "json_validate_failed",
        r"(does not|doesn't|do not|cannot) support (tools?|function|image|vision|audio|json)|"
        r"(tools?|function|images?|vision|multimodal|json_schema|response_format)"
        r"( (calls?|calling|use|inputs?))? (is|are) not supported|no endpoints found that support|"
        r"tool choice requires --|at most 0 (image|audio|video)|not a multimodal model|"
        r"(image|vision) input is not|mmproj|failed to (generate|validate) json",
    ),
    _rule(
        "a parameter is not supported here",
        Kind.UNSUPPORTED,
        "400 422",
        "unsupported_parameter unknown_parameter unsupported_value",
        r"unsupported (parameter|value)|unrecognized request argument|unknown name \"|"
        r"unknown (field|parameter)|property '[\w.]+' is unsupported|not supported (for|with|by)|"
        r"extra inputs are not permitted|unexpected keyword|extra_forbidden",
        again="at once",
    ),
    _rule(
        "one request exceeds the rate limit by itself",
        Kind.TOO_LARGE,
        "413 429",
        "",
        r"request too large",
    ),
    _rule("refused", Kind.REQUEST_REFUSED, "400 422"),
    _rule("key refused", Kind.UPSTREAM_AUTH, "401 434"),
    _rule("model not allowed to this key", Kind.UPSTREAM_FORBIDDEN, "403"),
    _rule("payment required", Kind.UPSTREAM_QUOTA, "402"),
    _rule("model or path unknown", Kind.UPSTREAM_NOT_FOUND, "404 405 410"),
    _rule("the upstream timed out", Kind.TIMEOUT, "408", again="if alone"),
    _rule("conflict", Kind.UPSTREAM_ERROR, "409", again="at once"),
    _rule("body too large", Kind.TOO_LARGE, "413"),
    _rule("failed dependency", Kind.PROTOCOL_ERROR, "424"),
    _rule("the provider is full", Kind.OVERLOADED, "429", "1305 1312 engine_overloaded_error"),
    _rule("rate limit", Kind.RATE_LIMITED, "429"),
    _rule("no capacity for this tier", Kind.OVERLOADED, "498", again="if alone"),
    _rule("cancelled on the way", Kind.UPSTREAM_ERROR, "499", again="at once"),
    _rule("the upstream timed out inside", Kind.TIMEOUT, "504 524", again="if alone"),
    _rule("overloaded", Kind.OVERLOADED, "529"),
    _rule("server error", Kind.UPSTREAM_ERROR, "500-599", again="if alone"),
    _rule("a refusal by another status", Kind.REQUEST_REFUSED, "406-499"),
    _rule("not understood", Kind.UPSTREAM_ERROR),
)
"""First row that fits. What a caller can mend ends the request, all else is tried elsewhere."""

_STATUS_OF_WORD: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    "provider_overloaded": 529,
    "provider_unavailable": 503,
    "context_length_exceeded": 400,
    "content_policy_violation": 400,
    "RESOURCE_EXHAUSTED": 429,
}
"""An error inside a stream has no status of its own; Anthropic's, Gemini's and OpenRouter's words
have one by their documentation."""


def read_error(body: bytes) -> ErrorText:
    """The error in `body`, in any of the forms that providers use; never fails."""
    try:
        parsed: Any = loads(body)
    except orjson.JSONDecodeError:
        text = re.sub(r"<[^>]*>", " ", body[:4096].decode("utf-8", "replace"))
        return ErrorText(presentable(" ".join(text.split())), "", "", None)
    return read_error_object(parsed)


def read_error_object(parsed: Any) -> ErrorText:
    """As `read_error`, from parsed JSON."""
    outer = parsed[0] if isinstance(parsed, list) and parsed else parsed
    inner = outer.get("error", outer) if isinstance(outer, dict) else outer
    retry_s = None
    if isinstance(inner, dict):
        words = ("message", "detail", "error", "msg")
        message = next((inner[name] for name in words if inner.get(name)), "")
        code, kind, param = inner.get("code"), inner.get("type"), inner.get("param")
        if code is None:
            code = inner.get("statusCode") or inner.get("status_code")
        if kind is None:
            kind = inner.get("status")
        metadata = inner.get("metadata")
        if kind is None and isinstance(metadata, dict):
            kind = metadata.get("error_type")
        for detail in _list(inner.get("details")):
            if isinstance(detail, dict):
                retry_s = retry_s or duration_s(detail.get("retryDelay"))
                kind = "API_KEY_INVALID" if detail.get("reason") == "API_KEY_INVALID" else kind
    else:
        message = inner if isinstance(inner, str) else ""
        code = outer.get("code") if isinstance(outer, dict) else None
        kind, param = None, None
    if not isinstance(message, str):
        message = _as_json(message)
    return ErrorText(
        presentable(message),
        _word(code),
        _word(kind if isinstance(kind, str) else None),
        _word(param) if isinstance(param, str) else None,
        retry_s,
    )


WORD_CHARS_MAX: Final = 128
"""Longest code, type or parameter of an error that is shown."""


def _word(value: Any) -> str:
    """A code or a type as it may be shown; a number of any length is one."""
    if isinstance(value, int) and value.bit_length() > 64:
        return ""  # a text of it would take seconds
    return "" if value is None else presentable(str(value))[:WORD_CHARS_MAX]


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # deeper than can be written
        return "an error that cannot be shown"


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an upstream's answer with an error status means."""
    error = read_error(body)
    failure = judge(status, error)
    wish = retry_after_s(headers)
    if wish is None:
        wish = failure.retry_after_s
    retry_same_after_s = failure.retry_same_after_s
    match headers.get("x-should-retry"):  # OpenAI, Anthropic: overrides the status
        case "false":
            retry_same_after_s = None
        case "true" if retry_same_after_s is None and failure.policy.rest is not Rest.NOTHING:
            retry_same_after_s = PAUSE_S
        case _:
            pass
    if wish is not None and retry_same_after_s is not None:
        # for voice, more than a second of waiting is worse than another provider
        retry_same_after_s = None if wish > 1.0 else max(retry_same_after_s, wish)
    return Failure(
        failure.kind,
        failure.message,
        param=failure.param,
        upstream_status=status,
        retry_after_s=wish,
        details=failure.details,
        retry_same_after_s=retry_same_after_s,
        upstream_text=failure.upstream_text,
    )


def failure_in_stream(error: ErrorText) -> Failure:
    """What an error after a good status means, judged by its own words."""
    if error.code.isdecimal() and len(error.code) == 3 and 400 <= int(error.code) < 600:
        status = int(error.code)
    else:
        status = _STATUS_OF_WORD.get(error.code) or _STATUS_OF_WORD.get(error.type) or 500
    return judge(status, error)


def judge(status: int, error: ErrorText) -> Failure:
    """The decision for an error with this status, without what stands in headers."""
    rule = rule_of(status, error)
    message = error.message or f"the provider answered with status {status}"
    upstream_text: str | None = None
    details: dict[str, Any] | None = None
    if rule.kind in _OPERATORS:
        message, upstream_text = _OPERATORS[rule.kind], message
    elif POLICY[rule.kind].blame is Blame.CALLER:
        # the caller's own fault goes back as the provider put it
        words = {"type": error.type, "code": error.code}
        details = {name: word for name, word in words.items() if word} or None
    return Failure(
        rule.kind,
        message,
        param=error.param or (unsupported_in(error) if rule.kind is Kind.UNSUPPORTED else None),
        upstream_status=status,
        retry_after_s=error.retry_s,
        details=details,
        retry_same_after_s=rule.retry_same_after_s,
        upstream_text=upstream_text,
    )


_OPERATORS: Final[Mapping[Kind, str]] = {
    Kind.UPSTREAM_AUTH: "the provider does not accept this server's credentials",
    Kind.UPSTREAM_FORBIDDEN: "the provider does not accept this server's credentials",
    Kind.UPSTREAM_QUOTA: "this server's account at the provider is exhausted",
}
"""What callers are told of the operator's accounts: a key that they have never seen would only
make them look at their own."""


def rule_of(status: int, error: ErrorText) -> Rule:
    """The first row of the decision table that fits."""
    return next(rule for rule in RULES if rule.fits(status, error))


def kind_of(status: int, error: ErrorText) -> Kind:
    """What an error means by the decision table."""
    return rule_of(status, error).kind


_PARAM = re.compile(
    r"(?:unknown name|unsupported (?:parameter|value)|unknown (?:field|parameter)|property|"
    r"unrecognized request arguments?(?: supplied)?|argument)\W{1,4}([A-Za-z_][\w.]*)"
    r"|^([A-Za-z_][\w.]*): extra inputs are not permitted"
    r"|['\"`]([A-Za-z_][\w.]*)['\"`] is not supported"
    r"|\b([a-z]+_[a-z_]+) (?:is|are) not supported"
    r"|with ([a-z_]+) are not supported",
    re.IGNORECASE | re.MULTILINE,
)


def unsupported_in(error: ErrorText) -> str | None:
    """The parameter that a message says is not supported, or None."""
    match = _PARAM.search(error.message)
    return next((group for group in match.groups() if group), None) if match else None


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date).

    A date counts from `now` (Unix time), by default the `date` header of the same answer.
    """
    wish: float | None = None
    if (text := headers.get("retry-after-ms")) is not None:
        wish = _number(text)
        wish = None if wish is None else wish / 1000
    if wish is None and (text := headers.get("retry-after")) is not None:
        wish = _number(text)
        if wish is None:
            wish = _until(_http_date(text), headers, now)
    return _bounded(wish)


def exhausted_for_s(headers: Mapping[str, str]) -> float | None:
    """Seconds for which an answer's rate-limit headers say that nothing is left; None: some is.

    OpenAI's form (`x-ratelimit-remaining-requests: 0`, reset as a duration) and Anthropic's
    (`anthropic-ratelimit-requests-remaining: 0`, reset as an RFC 3339 time).
    """
    longest: float | None = None
    for what in ("requests", "tokens"):
        reset: float | None = None
        if headers.get(f"x-ratelimit-remaining-{what}") == "0":
            reset = duration_s(headers.get(f"x-ratelimit-reset-{what}"))
        elif headers.get(f"anthropic-ratelimit-{what}-remaining") == "0":
            reset = _until(_rfc3339(headers.get(f"anthropic-ratelimit-{what}-reset")), headers)
        if reset is not None:
            longest = max(longest or 0.0, reset)
    return _bounded(longest)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: object) -> float | None:
    """Seconds of "6m0s", "120ms", "12.5s" or a bare number; None if it is none of these."""
    if not isinstance(text, str):
        return None
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    return _number(text)


def _http_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _rfc3339(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def _until(
    moment: float | None, headers: Mapping[str, str], now: float | None = None
) -> float | None:
    if now is None:
        now = _http_date(headers.get("date", ""))
    return None if moment is None or now is None else moment - now


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
