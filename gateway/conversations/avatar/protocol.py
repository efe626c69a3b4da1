"""POST /avatar/sessions and /avatar/sessions/terminate: what clients send and get. Pure.

LiveKit's `inference.AvatarSession` (Python since 1.7, Node since 1.9). It names a provider, and the
gateway has that provider's avatar join the agent's room, with a token that the gateway signs.

    {"provider": "lemonslice", "livekit_url": "wss://...", "room_name": "r", "room_sid": "RM_...",
     "avatar_identity": "lemonslice-inference-avatar", "avatar_name": "...",
     "agent_identity": "agent-...", "avatar_id": "...", "image_url": "...", "prompt": "...",
     "idle_prompt": "...", "idle_timeout_s": 60, "extra_kwargs": {...}}
    {"session_id": "...", "provider_session_id": "...", "terminate_token": "...",
     "sample_rate": 16000}
        With `Idempotency-Key` a repeated request gets the answer to the first: the client repeats
        what took longer than it waits.

    {"provider": "lemonslice", "provider_session_id": "...", "terminate_token": "..."}
    {"terminated": true}
        The token proves that this key began the session; any server that has the key's secret can
        check it. A session that has ended already is no error.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Final

import jwt
from pydantic import Field, TypeAdapter

from gateway.conversations.messages import (
    Expected,
    Message,
    Name,
    Options,
    Whole,
    bad_request,
    parse,
    required,
    validated,
)
from gateway.settings import urls
from gateway.settings.avatar import LIVEKIT_SCHEMES
from gateway.upstreams.errors import Failure

PROMPT_CHARS_MAX: Final = 4000
"""Of a prompt, or of a URL."""

KEY_CHARS_MAX: Final = 256
"""Of an `Idempotency-Key`."""

TOKEN_MARGIN_S: Final = 600
"""So much longer than the session may last is a token valid: the avatar may have to connect
again."""

Words = Annotated[
    str, Field(max_length=PROMPT_CHARS_MAX), Expected(f"at most {PROMPT_CHARS_MAX} characters")
]


class Create(Message):
    """A request for an avatar."""

    provider: Name = required()
    livekit_url: Words | None = None
    room_name: Name = required()
    room_sid: Words = ""
    avatar_identity: Name = required()
    avatar_name: Words | None = None
    agent_identity: Name = required()
    avatar_id: Name | None = None
    image_url: Words | None = None
    prompt: Words | None = None
    idle_prompt: Words | None = None
    idle_timeout_s: Annotated[
        Whole | None, Field(ge=1), Expected("a whole number of seconds from 1")
    ] = None
    extra_kwargs: Options | None = None

    @property
    def model(self) -> str:
        """What is asked for, as a name in the catalogue."""
        if self.avatar_id is None:
            return self.provider
        return f"{self.provider}/{self.avatar_id}"


class Terminate(Message):
    """A request to end one."""

    provider: Name = required()
    provider_session_id: Name = required()
    terminate_token: Name = required()


_CREATE: Final = TypeAdapter(Create)
_TERMINATE: Final = TypeAdapter(Terminate)


def read_create(body: bytes) -> Create | Failure:
    """A request for an avatar."""
    parsed = parse(body, "the body")
    if isinstance(parsed, Failure):
        return parsed
    asked = validated(parsed, _CREATE)
    if isinstance(asked, Failure):
        return asked
    if asked.livekit_url and (
        wrong := urls.problem(asked.livekit_url, LIVEKIT_SCHEMES, query=False)
    ):
        return bad_request(f"livekit_url: {wrong}", "livekit_url")
    if asked.avatar_id is not None and asked.image_url is not None:
        return bad_request("image_url: expected none beside avatar_id", "image_url")
    return asked


def read_terminate(body: bytes) -> Terminate | Failure:
    """A request to end one."""
    parsed = parse(body, "the body")
    if isinstance(parsed, Failure):
        return parsed
    return validated(parsed, _TERMINATE)


def room_token(asked: Create, key: str, secret: str, now: float, ttl_s: float) -> str:
    """What lets the avatar into the agent's room, and into no other, valid for `ttl_s` from `now`
    (Unix time). https://docs.livekit.io/frontends/authentication/tokens"""
    claims: dict[str, Any] = {
        "iss": key,
        "sub": asked.avatar_identity,
        "name": asked.avatar_name or asked.avatar_identity,
        "nbf": int(now) - 10,
        "exp": int(now + ttl_s + TOKEN_MARGIN_S),
        "kind": "agent",
        "video": {
            "roomJoin": True,
            "room": asked.room_name,
            "canPublish": True,
            "canPublishData": True,
            "canSubscribe": True,
        },
        "attributes": {
            "lk.publish_on_behalf": asked.agent_identity,
            "lk.avatar_provider": asked.provider,
        },
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def terminate_token(secret: str, provider: str, session_id: str) -> str:
    """What proves that the owner of `secret` began this session at this provider."""
    said = f"parley-avatar\n{provider}\n{session_id}".encode()
    return hmac.new(secret.encode(), said, "sha256").hexdigest()


def is_owner(asked: Terminate, secret: str, provider: str) -> bool:
    """Whether a request to end a session comes from whoever began it."""
    expected = terminate_token(secret, provider, asked.provider_session_id)
    return hmac.compare_digest(expected.encode(), asked.terminate_token.encode())
