"""No option that a client has is dropped without a reason."""

from __future__ import annotations

from tests.end_to_end.client_options import UNREACHED, rows


def test_every_option_of_every_client_reaches_its_provider_or_has_a_reason_not_to() -> None:
    found = rows()
    assert len(found) > 150
    dropped = {
        (row.option.modality, row.option.vendor, row.option.name)
        for row in found
        if not row.reached
    }
    assert dropped == set(UNREACHED)
