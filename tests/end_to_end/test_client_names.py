"""No name that a client lists leads nowhere without a word."""

from __future__ import annotations

from tests.end_to_end.client_names import rows


def test_every_name_of_every_client_is_served_or_says_who_ended_it() -> None:
    found = rows()
    assert len(found) > 100
    assert {"realtime", "duplex"} <= {row.modality for row in found}
    assert [f"{row.modality} {row.name}" for row in found if not row.served and not row.ended] == []
