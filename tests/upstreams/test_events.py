"""What happens to a session."""

from __future__ import annotations

from gateway.upstreams.events import DEADLINE_PASSED


def test_a_passed_deadline_is_told_by_its_name_in_a_log() -> None:
    assert repr(DEADLINE_PASSED) == "DeadlinePassed()"
