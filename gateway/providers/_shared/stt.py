"""What recognisers' adapters share: failures by status and text, means, JSON that may be broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson

from gateway.providers._shared.options import Table, check, translated
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.errors import Failure, Kind, kind_of_status, presentable
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import Capabilities, Flushed, RecognizerEvent, Word

NUMBER_MAX: Final = 1e12
"""Times in milliseconds since 1970 are below. What is above is nonsense, and a sum of two such may
be infinite, which is no JSON."""


def failure_of_status(status: int | None, message: str) -> Failure:
    """A failure that a provider reports with something like an HTTP status."""
    return Failure(kind_of_status(status or 500), said(message), upstream_status=status)


def failure_of_close(code: int, reason: str) -> Failure:
    """A connection that the provider closed: what the code means by RFC 6455."""
    kind = {
        1003: Kind.UPSTREAM_REFUSED,
        1007: Kind.UPSTREAM_REFUSED,
        1008: Kind.UPSTREAM_REFUSED,
        1009: Kind.UPSTREAM_REFUSED,
        1013: Kind.OVERLOADED,
    }.get(code, Kind.CONNECTION_LOST)
    text = f"the provider closed the connection with code {code}"
    return Failure(kind, f"{text}: {said(reason)}" if reason else text, upstream_status=code)


def said(text: Any) -> str:
    """A provider's text, fit to be shown."""
    return presentable(text if isinstance(text, str) and text else "the provider gave no reason")


def parsed(frame: Any) -> dict[str, Any]:
    """A message that is a JSON object; anything else is empty."""
    try:
        message = loads(frame)
    except (orjson.JSONDecodeError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}


def number(value: Any) -> float | None:
    """`value` if it is a number that a time or a share can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= NUMBER_MAX else None


def text_of(value: Any) -> str:
    """`value` if it is a string, else nothing."""
    return value if isinstance(value, str) else ""


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list that may be none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def mean_confidence(words: Sequence[Word]) -> float:
    """Mean of the words' confidences; 1.0 without words."""
    return sum(word.confidence for word in words) / len(words) if words else 1.0


def most_frequent(speakers: Iterable[str | None]) -> str | None:
    """Who said most of the words."""
    counted = Counter(speaker for speaker in speakers if speaker)
    return counted.most_common(1)[0][0] if counted else None


class SpeechAdapter:
    """The adapter of one provider; subclasses say what their options are."""

    terms_option: ClassVar[str | None] = None
    """Under which option it takes key terms."""
    speakers_option: ClassVar[str | None] = None
    """Under which option it tells speakers apart."""
    table: ClassVar[Table] = {}

    def __init__(self, account: Account) -> None:
        self._account = account

    def check(self, given: Mapping[str, Any]) -> Failure | None:
        return check(given, self.table)

    def translate(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return translated(extra, self.terms_option, self.speakers_option)


class SocketRecognizer:
    """What most recognisers on a WebSocket have in common: nothing to open with, nothing that can
    be changed, closes as RFC 6455 has them. Takes the caller's rate if the traits have it."""

    traits = Capabilities()

    def __init__(self, account: Account, attempt: Attempt, rate: int) -> None:
        self.account = account
        self.attempt = attempt
        rates = self.traits.rates
        self.rate = rate if not rates or rate in rates else rates[0]
        self.flushing = False

    def flushed(self) -> Sequence[RecognizerEvent]:
        """To be said after the finals that a flush has brought."""
        if not self.flushing:
            return ()
        self.flushing = False
        return (Flushed(),)

    def opening(self) -> Sequence[str | bytes]:
        return ()

    def closed(self, code: int, reason: str) -> Failure:
        return failure_of_close(code, reason)

    def update(self, attempt: Attempt) -> Sequence[str | bytes] | None:
        return None


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The names whose values differ."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
