"""Where to reach a provider, as data."""

from __future__ import annotations

import pytest

from gateway.upstreams.dial import Dial, join_url, websocket_url


def test_credentials_and_what_is_said_are_not_shown() -> None:
    dial = Dial("https://a/v1", {"authorization": "Bearer secret"}, body=b"my words")
    assert "secret" not in repr(dial)
    assert "my words" not in repr(dial)


@pytest.mark.parametrize("base", ["https://a/v1", "https://a/v1/"])
@pytest.mark.parametrize("path", ["models", "/models"])
def test_a_path_is_joined_with_one_slash(base: str, path: str) -> None:
    assert join_url(base, path) == "https://a/v1/models"


@pytest.mark.parametrize(
    ("base", "socket"),
    [
        ("https://a/v1", "wss://a/v1"),
        ("http://127.0.0.1:80", "ws://127.0.0.1:80"),
        ("wss://a", "wss://a"),
        ("ws://a", "ws://a"),
    ],
)
def test_the_scheme_becomes_that_of_a_websocket_as_secure_as_before(base: str, socket: str) -> None:
    assert websocket_url(base) == socket
