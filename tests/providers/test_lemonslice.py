"""LemonSlice's session API."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.providers.lemonslice import IMAGE, VENDOR, LemonSliceAvatar
from gateway.upstreams.avatar import AvatarRequest
from gateway.upstreams.errors import Failure, FailureError, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, ProviderSettings

ADAPTER = LemonSliceAvatar(
    Account("p", "lemonslice", "http://x/api", api_key="key-1", settings=ProviderSettings())
)
REQUEST = AvatarRequest("wss://x", "token-1", "RM_1", prompt="smile", idle_timeout_s=30)
AGENT = Attempt("p", "agent_1", {"model": "cwm-1"})


def test_an_agent_joins_a_room() -> None:
    dial = ADAPTER.begin(replace(REQUEST, extra={"simulcast": True, "properties": 1}), AGENT)
    assert dial.url == "http://x/api/sessions"
    assert dial.headers["x-api-key"] == "key-1"
    assert orjson.loads(dial.body) == {
        "transport_type": "livekit",
        "properties": {
            "livekit_url": "wss://x",
            "livekit_token": "token-1",
            "livekit_session_id": "RM_1",
        },
        "agent_id": "agent_1",
        "agent_prompt": "smile",
        "idle_timeout": 30,
        "model": "cwm-1",
        "simulcast": True,
    }
    assert "key-1" not in repr(dial)
    assert "token-1" not in repr(REQUEST)


def test_a_picture_stands_in_place_of_an_agent() -> None:
    dial = ADAPTER.begin(replace(REQUEST, image_url="https://x/y.png"), Attempt("p", IMAGE))
    body = orjson.loads(dial.body)
    assert body["agent_image_url"] == "https://x/y.png"
    assert "agent_id" not in body


@pytest.mark.parametrize(
    ("request_", "attempt"),
    [(REQUEST, Attempt("p", IMAGE)), (replace(REQUEST, image_url="https://x"), AGENT)],
)
def test_one_of_both_is_needed(request_: AvatarRequest, attempt: Attempt) -> None:
    with pytest.raises(FailureError) as raised:
        ADAPTER.begin(request_, attempt)
    assert raised.value.failure.param == "image_url"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"session_id": ""}'])
def test_an_answer_without_a_session_is_nonsense(body: bytes) -> None:
    found = ADAPTER.began(body)
    assert isinstance(found, Failure)
    assert found.kind is Kind.PROTOCOL_ERROR


def test_a_session_is_ended_by_its_id() -> None:
    assert ADAPTER.began(b'{"session_id": "ls_1"}') == "ls_1"
    dial = ADAPTER.end("ls/1")
    assert dial.url == "http://x/api/sessions/ls%2F1/control"
    assert orjson.loads(dial.body) == {"event": "terminate"}


def test_a_wrong_key_is_the_operators_trouble() -> None:
    assert ADAPTER.failure(401, {}, b'{"error": "invalid API key"}').kind is Kind.UPSTREAM_AUTH
    assert VENDOR.models("avatar") == {"lemonslice": IMAGE}
