"""LemonSlice: avatars that join a LiveKit room. https://lemonslice.com/docs/api-reference

POST {base_url}/sessions with `X-API-Key`; the answer has a `session_id`. It leaves with
POST {base_url}/sessions/{session_id}/control and {"event": "terminate"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.providers._shared.chat_errors import failure_of
from gateway.upstreams.avatar import AvatarRequest
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.dial import Dial, join_url, path_segment
from gateway.upstreams.errors import Failure, FailureError, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Offer, ProviderSettings, Vendor

IMAGE: Final = "image"
"""Our name for an avatar that is made of a picture, in place of an agent's id."""

SESSION_ID_CHARS_MAX: Final = 256

_OURS: Final = frozenset(
    {"transport_type", "properties", "agent_id", "agent_image_url", "idle_timeout", "api_key"}
)
"""What a client's further options must not say: where it goes, and what is bounded here."""


class LemonSliceAvatar:
    """One account."""

    sample_rate: Final = 16_000

    def __init__(self, account: Account[ProviderSettings]) -> None:
        self._url = join_url(account.base_url, "sessions")
        self._headers = {
            "content-type": "application/json",
            "x-api-key": account.api_key,
            **account.headers,
        }

    def begin(self, request: AvatarRequest, attempt: Attempt) -> Dial:
        agent = None if attempt.model == IMAGE else attempt.model
        if (agent is None) == (request.image_url is None):
            raise FailureError(
                Failure(
                    Kind.BAD_REQUEST,
                    "expected either an agent's id (lemonslice/<id>) or image_url",
                    param="image_url",
                )
            )
        body: dict[str, Any] = {
            **{name: value for name, value in request.extra.items() if name not in _OURS},
            **attempt.options,
            "transport_type": "livekit",
            "properties": {
                "livekit_url": request.livekit_url,
                "livekit_token": request.token,
                "livekit_session_id": request.room_sid,
            },
            "idle_timeout": request.idle_timeout_s,
        }
        given = {
            "agent_id": agent,
            "agent_image_url": request.image_url,
            "agent_prompt": request.prompt,
            "agent_idle_prompt": request.idle_prompt,
        }
        body |= {name: value for name, value in given.items() if value is not None}
        return Dial(self._url, self._headers, body=orjson.dumps(body))

    def began(self, body: bytes) -> str | Failure:
        try:
            answer = loads(body)
        except orjson.JSONDecodeError:
            answer = None
        name = answer.get("session_id") if isinstance(answer, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= SESSION_ID_CHARS_MAX:
            return Failure(Kind.PROTOCOL_ERROR, "the provider's answer has no session_id")
        return name

    def end(self, session_id: str) -> Dial:
        url = join_url(self._url, f"{path_segment(session_id)}/control")
        return Dial(url, self._headers, body=orjson.dumps({"event": "terminate"}))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)


VENDOR = Vendor(
    title="LemonSlice",
    base_url="https://lemonslice.com/api/liveai",
    key_variable="LEMONSLICE_API_KEY",
    avatar=Offer(LemonSliceAvatar, {"lemonslice": IMAGE}),
    listed=(),
)
