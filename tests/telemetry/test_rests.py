"""A rest that begins is told once, as loudly as the operator can do something about it."""

from __future__ import annotations

import pytest

from gateway.telemetry.rests import LoggingBreaker
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt

ASKED = Attempt("acme", "m" * 500, {})


def test_a_refused_key_is_an_error_with_what_the_provider_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = Failure(Kind.UPSTREAM_AUTH, "refused", upstream_status=401, upstream_text="no such key")
    assert LoggingBreaker().failed(ASKED, said, 0.0)
    (line,) = caplog.records
    fields = vars(line)
    assert (line.levelname, fields["provider"], fields["said"]) == ("ERROR", "acme", "no such key")
    assert (fields["kind"], fields["upstream_status"]) == ("upstream_auth", 401)
    assert len(fields["model"]) < 500


def test_an_outage_is_a_warning_and_its_first_failures_are_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breaker = LoggingBreaker()
    late = Failure(Kind.TIMEOUT, "late")
    began = [breaker.failed(ASKED, late, float(now)) for now in range(10)]
    assert began[0] is False
    assert [line.levelname for line in caplog.records] == ["WARNING"] * sum(began)
    assert any(began)


def test_its_end_is_told_once_and_as_loudly(caplog: pytest.LogCaptureFixture) -> None:
    breaker = LoggingBreaker()
    breaker.worked(ASKED)
    assert not caplog.records
    breaker.failed(ASKED, Failure(Kind.UPSTREAM_AUTH, "refused"), 0.0)
    breaker.worked(ASKED)
    breaker.worked(ASKED)
    rested, again = caplog.records
    assert (again.levelname, again.message) == ("WARNING", "a deployment works again")
    assert vars(again)["provider"] == vars(rested)["provider"] == "acme"


def test_a_rest_by_rate_limit_headers_is_told_when_it_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breaker = LoggingBreaker()
    assert breaker.rate_limited_until(ASKED, 12.5, 10.0)
    assert not breaker.rate_limited_until(ASKED, 13.0, 11.0)
    (line,) = caplog.records
    assert (vars(line)["kind"], line.levelname) == ("rate_limited", "WARNING")
    assert "2.5 s" in vars(line)["said"]
