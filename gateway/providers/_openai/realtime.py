"""Vendors that speak OpenAI's Realtime protocol themselves: what is said is passed on as it is.

Sources: https://platform.openai.com/docs/api-reference/realtime,
https://docs.x.ai/docs/guides/voice/agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from gateway.upstreams.bounded_json import loads
from gateway.upstreams.dial import Dial, join_url, websocket_url
from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.realtime import ClientEvent, LineFailed, ServerEvent

KINDS: Final[Mapping[str, Kind]] = {
    "session_expired": Kind.SESSION_LIMIT,
    "insufficient_quota": Kind.UPSTREAM_QUOTA,
    "credit_balance_exhausted": Kind.UPSTREAM_QUOTA,
    "billing_hard_limit_reached": Kind.UPSTREAM_QUOTA,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "invalid_api_key": Kind.UPSTREAM_AUTH,
    "account_deactivated": Kind.UPSTREAM_AUTH,
    "invalid_model": Kind.UPSTREAM_NOT_FOUND,
    "model_not_found": Kind.UPSTREAM_NOT_FOUND,
}
"""Codes of errors after which a line is of no use: they are about the account, not about what the
client said."""

_UNREADABLE: Final = Failure(Kind.PROTOCOL_ERROR, "the provider sent what is no event")

_CLOSES: Final[Mapping[int, Kind]] = {
    1003: Kind.UPSTREAM_REFUSED,
    1007: Kind.UPSTREAM_REFUSED,
    1008: Kind.UPSTREAM_REFUSED,
    1009: Kind.UPSTREAM_REFUSED,
    1013: Kind.OVERLOADED,
}


class OpenAIRealtime:
    """The adapter of one provider with `/realtime` under its base URL."""

    def __init__(self, account: Account) -> None:
        self._url = websocket_url(join_url(account.base_url, "realtime"))
        self._headers = _headers(account)

    def line(self, attempt: Attempt) -> RelayedLine:
        url = f"{self._url}?{urlencode({'model': attempt.model})}"
        return RelayedLine(Dial(url, self._headers, ping_interval_s=30.0), attempt.options)


class OpenAILive:
    """The adapter of one provider with `/live/sessions` under its base URL: models that listen and
    speak at the same time. Which model it is stands in `session.start` alone.

    Source: https://developers.openai.com/api/reference/resources/live.
    """

    def __init__(self, account: Account) -> None:
        self._url = websocket_url(join_url(account.base_url, "live/sessions"))
        self._headers = _headers(account)

    def line(self, attempt: Attempt) -> LiveLine:
        dial = Dial(self._url, self._headers, ping_interval_s=30.0)
        return LiveLine(dial, attempt.model, attempt.options)


class RelayedLine:
    """One connection. `options` of the deployment are merged over each `session.update`."""

    def __init__(self, dial: Dial, options: Mapping[str, Any]) -> None:
        self._dial = dial
        self._options = options

    def dial(self) -> Dial:
        return self._dial

    def opening(self) -> Sequence[str]:
        return ()

    def encode(self, event: ClientEvent) -> Sequence[str]:
        if event.type != "session.update":
            return (event.text,)
        session = event.body.get("session")
        if not isinstance(session, dict) or not (self._options or "model" in session):
            return (event.text,)
        # which model it is was settled by the URL, and has another name there
        kept = merged({k: v for k, v in session.items() if k != "model"}, self._options)
        return (orjson.dumps({**event.body, "session": kept}).decode(),)

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed]:
        try:
            body: Any = loads(frame)
        except (orjson.JSONDecodeError, TypeError):
            return (LineFailed(_UNREADABLE),)
        kind = body.get("type") if isinstance(body, dict) else None
        if not isinstance(kind, str):
            return (LineFailed(_UNREADABLE),)
        if (error := _error_of(kind, body)) is not None:
            return (_failed(kind, body, error),)
        return (ServerEvent(kind, body, frame if isinstance(frame, str) else frame.decode()),)

    def closed(self, code: int, reason: str) -> Failure:
        said = presentable(reason)
        text = f"the provider closed the connection with code {code}"
        kind = next((kind for word, kind in KINDS.items() if word in reason), None)
        if kind is None:
            expired = "maximum duration" in reason
            kind = Kind.SESSION_LIMIT if expired else _CLOSES.get(code, Kind.CONNECTION_LOST)
        return Failure(kind, f"{text}: {said}" if said else text, upstream_status=code)


class LiveLine(RelayedLine):
    """One connection to `model`. `options` of the deployment are merged over `session.start`."""

    def __init__(self, dial: Dial, model: str, options: Mapping[str, Any]) -> None:
        super().__init__(dial, options)
        self._model = model

    def encode(self, event: ClientEvent) -> Sequence[str]:
        if event.type not in ("session.start", "session.update"):
            return (event.text,)
        session = event.body.get("session")
        if not isinstance(session, dict):
            return (event.text,)
        if event.type == "session.start":
            session = {**merged(session, self._options), "model": self._model}
        delegated = _delegated_model(session)
        if delegated is not None and delegated.startswith(_OWN_PREFIX):
            own = {"responses": {"model": delegated.removeprefix(_OWN_PREFIX)}}
            session = merged(session, {"delegation": own})
        return (orjson.dumps({**event.body, "session": session}).decode(),)


_OWN_PREFIX: Final = "openai/"
"""Callers name models with it, the vendor's own names have none."""


def _delegated_model(session: Mapping[str, Any]) -> str | None:
    match session:
        case {"delegation": {"responses": {"model": str(model)}}}:
            return model
    return None


def _headers(account: Account) -> dict[str, str]:
    key = {"authorization": f"Bearer {account.api_key}"} if account.api_key else {}
    return {**key, **account.headers}


def merged(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with `options` over it, objects inside of objects too; null removes what it names."""
    found = dict(given)
    for name, value in options.items():
        before = found.get(name)
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            found[name] = merged(before, value)
        else:
            found[name] = value
    return found


_ERRORS: Final[Mapping[str, tuple[str, ...]]] = {
    "error": ("error",),
    "response.done": ("response", "status_details", "error"),
    "response.event": ("event", "response", "error"),
}
"""Where events hold the error that they tell of; those of a type that ends in `.failed` have it as
`error` has."""


def _error_of(kind: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The error that an event tells of, if it does."""
    place = _ERRORS["error"] if kind.endswith(".failed") else _ERRORS.get(kind)
    if place is None:
        return None
    value: Any = body
    for name in place:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict):
        return value
    return {} if len(place) == 1 else None


def _with_error(body: dict[str, Any], place: tuple[str, ...], error: Any) -> dict[str, Any]:
    """`body` with another error in its place."""
    name, *deeper = place
    return {**body, name: _with_error(body[name], tuple(deeper), error) if deeper else error}


def _failed(kind: str, body: dict[str, Any], error: dict[str, Any]) -> ServerEvent | LineFailed:
    """What an event with an error means; its words are fit to be shown to callers."""
    clean = {
        name: presentable(value) if isinstance(value, str) else value
        for name, value in error.items()
        if isinstance(value, str | int | float | None)
    }
    words = clean.get("message")
    known = KINDS.get(str(clean.get("code"))) or KINDS.get(str(clean.get("type")))
    if known is not None and kind in ("error", "response.done"):
        said = words if isinstance(words, str) and words else "the provider gave no reason"
        if known in (Kind.UPSTREAM_AUTH, Kind.UPSTREAM_QUOTA):
            # it speaks of the operator's account
            told = "the provider does not take this server's account"
            return LineFailed(Failure(known, told, upstream_text=said))
        return LineFailed(Failure(known, said))
    cleaned = _with_error(body, _ERRORS.get(kind, _ERRORS["error"]), clean)
    try:
        return ServerEvent(kind, cleaned, orjson.dumps(cleaned).decode())
    except TypeError:  # orjson reads what is nested deeper than it writes
        return LineFailed(_UNREADABLE)
