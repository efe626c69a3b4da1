"""Avatars: what clients send, and the tokens that are made of it."""

from __future__ import annotations

from typing import Any

import jwt
import orjson
import pytest

from gateway.conversations.avatar.protocol import (
    TOKEN_MARGIN_S,
    Create,
    Terminate,
    is_owner,
    read_create,
    read_terminate,
    room_token,
    terminate_token,
)
from gateway.upstreams.errors import Failure

SECRET = "s" * 32
BODY = {
    "provider": "lemonslice",
    "livekit_url": "wss://x.livekit.cloud",
    "room_name": "room-1",
    "room_sid": "RM_1",
    "avatar_identity": "lemonslice-inference-avatar",
    "agent_identity": "agent-1",
}


def create(**changes: Any) -> Create:
    found = read_create(orjson.dumps(BODY | changes))
    assert isinstance(found, Create), found
    return found


def test_a_request_names_a_model_of_the_catalogue() -> None:
    assert create().model == "lemonslice"
    assert create(avatar_id="agent_abc").model == "lemonslice/agent_abc"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"provider": None}, "provider"),
        ({"room_name": ""}, "room_name"),
        ({"avatar_identity": None}, "avatar_identity"),
        ({"agent_identity": 7}, "agent_identity"),
        ({"livekit_url": "ftp://x"}, "livekit_url"),
        ({"livekit_url": "wss://x?y=1"}, "livekit_url"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
        ({"prompt": "x" * 5000}, "prompt"),
        ({"extra_kwargs": {str(i): 1 for i in range(100)}}, "extra_kwargs"),
        ({"avatar_id": "a", "image_url": "https://x/y"}, "image_url"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], named: str) -> None:
    found = read_create(orjson.dumps(BODY | changes))
    assert isinstance(found, Failure)
    assert found.param == named


def test_an_avatar_is_let_into_the_agents_room_alone_and_speaks_for_the_agent() -> None:
    token = room_token(create(avatar_name="Ada"), "APIx", SECRET, 1000.0, 60.0)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
    assert claims["iss"] == "APIx"
    assert claims["sub"] == "lemonslice-inference-avatar"
    assert claims["name"] == "Ada"
    assert claims["kind"] == "agent"
    assert claims["exp"] == 1000 + 60 + TOKEN_MARGIN_S
    assert claims["video"]["room"] == "room-1"
    assert claims["video"]["roomJoin"] is True
    assert "roomAdmin" not in claims["video"]
    assert claims["attributes"] == {
        "lk.publish_on_behalf": "agent-1",
        "lk.avatar_provider": "lemonslice",
    }


def test_whoever_began_a_session_can_end_it_and_nobody_else() -> None:
    token = terminate_token(SECRET, "lemonslice", "ls_1")
    body = {"provider": "x", "provider_session_id": "ls_1", "terminate_token": token}
    asked = read_terminate(orjson.dumps(body))
    assert isinstance(asked, Terminate)
    assert is_owner(asked, SECRET, "lemonslice")
    assert not is_owner(asked, "o" * 32, "lemonslice")
    assert not is_owner(asked, SECRET, "other")
    other = read_terminate(orjson.dumps(body | {"provider_session_id": "ls_2"}))
    assert isinstance(other, Terminate)
    assert not is_owner(other, SECRET, "lemonslice")
    strange = read_terminate(orjson.dumps(body | {"terminate_token": "é"}))
    assert isinstance(strange, Terminate)
    assert not is_owner(strange, SECRET, "lemonslice")


def test_a_request_to_end_one_must_be_whole() -> None:
    assert isinstance(read_terminate(b'{"provider": "x"}'), Failure)
    assert isinstance(read_terminate(b"{oops"), Failure)
    assert isinstance(read_create(b"[]"), Failure)
