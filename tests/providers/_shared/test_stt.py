"""What recognisers' adapters share."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.providers._shared.stt import (
    SocketRecognizer,
    changed,
    failure_of_close,
    failure_of_status,
    mean_confidence,
    most_frequent,
    number,
    objects,
    parsed,
    said,
)
from gateway.upstreams.errors import Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.stt import Capabilities, Word

ACCOUNT = Account("a", "acme", "https://a", settings=ProviderSettings())


class Streaming(SocketRecognizer):
    traits = Capabilities(rates=(16_000, 8_000))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, Kind.CONNECTION_LOST),
        (1003, Kind.UPSTREAM_REFUSED),
        (1008, Kind.UPSTREAM_REFUSED),
        (1013, Kind.OVERLOADED),
    ],
)
def test_closes_mean_what_the_standard_says(code: int, kind: Kind) -> None:
    failure = failure_of_close(code, "why")
    assert (failure.kind, failure.upstream_status) == (kind, code)
    assert failure.message == f"the provider closed the connection with code {code}: why"


def test_a_failure_without_a_status_is_one_of_the_provider() -> None:
    assert failure_of_status(None, "").kind is Kind.UPSTREAM_ERROR
    assert failure_of_status(None, "").message == "the provider gave no reason"
    assert failure_of_status(429, "slow").kind is Kind.RATE_LIMITED


@pytest.mark.parametrize("frame", ["", "[]", "{", b"\xff", None, 7])
def test_a_message_that_is_no_object_is_empty(frame: Any) -> None:
    assert parsed(frame) == {}


def test_values_of_the_wrong_type_are_none() -> None:
    assert (number(True), number("1"), number(2)) == (None, None, 2.0)
    assert objects([{"a": 1}, 7, None]) == [{"a": 1}]
    assert objects("text") == []
    assert said(7) == "the provider gave no reason"


def test_means_of_words() -> None:
    words = [Word("a", 0, 1, 0.5), Word("b", 1, 2, 1.0)]
    assert mean_confidence(words) == 0.75
    assert mean_confidence([]) == 1.0
    assert most_frequent(["S0", "S1", "S1", None]) == "S1"
    assert most_frequent([None]) is None


def test_the_callers_rate_is_taken_if_the_vendor_has_it() -> None:
    assert Streaming(ACCOUNT, Attempt("a", "m"), 8_000).rate == 8_000
    assert Streaming(ACCOUNT, Attempt("a", "m"), 24_000).rate == 16_000
    assert SocketRecognizer(ACCOUNT, Attempt("a", "m"), 24_000).rate == 24_000


def test_a_flush_is_answered_once() -> None:
    one = Streaming(ACCOUNT, Attempt("a", "m"), 16_000)
    assert one.flushed() == ()
    one.flushing = True
    assert len(one.flushed()) == 1
    assert one.flushed() == ()


def test_what_changed_is_what_was_added_removed_or_set_anew() -> None:
    assert changed({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "d": 4}) == {"b", "c", "d"}
