"""Where the server may listen."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings.server import ServerConfig, host_problem


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost", "gateway.internal", "bücher.de"])
def test_an_address_or_a_name_is_listened_on(host: str) -> None:
    assert host_problem(host) == ""
    assert ServerConfig(host=host).host == host


@pytest.mark.parametrize("host", ["", " ", "a b", "a\nb", "x" * 300, ".a"])
def test_what_cannot_be_a_host_is_refused_with_words(host: str) -> None:
    with pytest.raises(ValidationError, match="expected an address or a host name"):
        ServerConfig(host=host)
