"""The codes in the texts of Deepgram's closes."""

import pytest

from gateway.providers.deepgram.closes import code_of

IDLE = (
    "Deepgram did not receive audio data or a text message within the timeout window. "
    "See https://dpgr.am/net0001"
)


@pytest.mark.parametrize(
    ("reason", "code"),
    [(IDLE, "NET-0001"), ("NET-0001", "NET-0001"), ("see data-0000.", "DATA-0000"), ("bye", "")],
)
def test_a_code_is_found_however_it_is_written(reason: str, code: str) -> None:
    assert code_of(reason) == code
