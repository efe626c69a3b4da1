"""What a session keeps of itself is bounded."""

from __future__ import annotations

from gateway.conversations.stt.report import LATENCIES_MAX, Report
from gateway.upstreams.plan import Attempt


def test_an_endless_session_keeps_some_hours_of_latencies() -> None:
    report = Report()
    for number in range(LATENCIES_MAX + 10):
        report.took("final", Attempt("acme", "ear-1"), float(number))
    assert len(report.latencies) == LATENCIES_MAX
    assert report.latencies[0] == ("final", "acme", "ear-1", 0.0)
