"""What a conversation about an avatar asks of a provider, and what it hears back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt


@dataclass(frozen=True, slots=True)
class AvatarRequest:
    """An avatar that is to join a room. `token` lets it in at `livekit_url`; `room_sid` is
    LiveKit's id of the room's session. `idle_timeout_s`: how long it stays where nothing happens.
    `extra` are the client's options that only the provider understands."""

    livekit_url: str
    token: str = field(repr=False)
    room_sid: str
    avatar_id: str | None = None
    image_url: str | None = None
    prompt: str | None = None
    idle_prompt: str | None = None
    idle_timeout_s: int = 60
    extra: Mapping[str, Any] = field(default_factory=dict)


class AvatarUpstream(Protocol):
    """A provider's adapter for avatars, one for each configured provider. Pure."""

    @property
    def sample_rate(self) -> int:
        """Of the agent's audio that the avatar wants, in Hz."""

    def begin(self, request: AvatarRequest, attempt: Attempt) -> Dial:
        """The request that has an avatar join. Raises FailureError for what it cannot do."""

    def began(self, body: bytes) -> str | Failure:
        """The provider's id of the session, from a good answer."""

    def end(self, session_id: str) -> Dial:
        """The request that has it leave at once."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with an error status means. Header names are in lower case."""
