"""Connections by number, and what the breaker is told."""

from gateway.conversations.stt.actions import Drop
from gateway.conversations.stt.connections import RecognizerConnections
from gateway.conversations.stt.report import TRIES_MAX, Report
from gateway.routing.breaker import REST_S, Breaker
from gateway.upstreams.errors import Failure, Kind
from tests.conversations.stt.play import ACME, FAST, RATE, ScriptedUpstream

LOST = Failure(Kind.CONNECTION_LOST, "lost")


def connections(breaker: Breaker | None = None) -> tuple[RecognizerConnections, Report]:
    report = Report()
    upstreams = {"acme": ScriptedUpstream(FAST)}
    return RecognizerConnections(upstreams, breaker or Breaker(), report), report


def test_each_connection_has_a_number_and_a_place_in_the_report() -> None:
    opener, report = connections()
    one, opening = opener.open(ACME, RATE, 5.0, 1.0)
    other, _ = opener.open(ACME, RATE, 5.0, 2.0)
    assert (one.number, opening.number, other.number) == (1, 1, 2)
    opener.ready(one, 3.0)
    opener.failed(other, LOST, 4.0)
    assert [(t.began, t.ready, t.failure) for t in report.tries] == [(1, 3, None), (2, None, LOST)]


def test_a_connection_is_dropped_once() -> None:
    opener, _ = connections()
    one, _ = opener.open(ACME, RATE, 5.0, 0.0)
    other, _ = opener.open(ACME, RATE, 5.0, 0.0)
    assert opener.drop(one) == [Drop(1)]
    assert opener.drop(one) == []
    assert opener.failed(other, LOST, 0.0) == [Drop(2)]
    assert opener.drop_all() == []


def test_all_that_are_left_are_dropped_at_the_end() -> None:
    opener, _ = connections()
    opener.open(ACME, RATE, 5.0, 0.0)
    opener.open(ACME, RATE, 5.0, 0.0)
    assert opener.drop_all() == [Drop(1), Drop(2)]


def test_failures_rest_a_deployment_and_a_ready_connection_ends_that() -> None:
    breaker = Breaker()
    opener, _ = connections(breaker)
    for _ in range(3):
        opener.failed(opener.open(ACME, RATE, 5.0, 0.0)[0], LOST, 0.0)
    assert breaker.resting(ACME, 1.0)
    opener.ready(opener.open(ACME, RATE, 5.0, 1.0)[0], 1.0)
    assert not breaker.resting(ACME, 1.0)


def test_a_probe_that_is_dropped_leaves_its_place_to_another() -> None:
    breaker = Breaker()
    opener, _ = connections(breaker)
    for _ in range(3):
        opener.failed(opener.open(ACME, RATE, 5.0, 0.0)[0], LOST, 0.0)
    after = REST_S + 1.0
    probe, _ = opener.open(ACME, RATE, 5.0, after)
    other = type(ACME)("zeus", "x")
    assert breaker.order((ACME, other), after) == (other, ACME)
    opener.drop(probe)
    assert breaker.order((ACME, other), after) == (ACME, other)


def test_a_report_is_bounded() -> None:
    opener, report = connections()
    for _ in range(TRIES_MAX + 5):
        opener.drop(opener.open(ACME, RATE, 5.0, 0.0)[0])
    assert len(report.tries) == TRIES_MAX
