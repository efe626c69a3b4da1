"""What an operator may set for avatars."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.settings import urls
from gateway.settings.section import Section

LIVEKIT_SCHEMES = ("ws", "wss", "http", "https")


class AvatarConfig(Section):
    """Avatars of `inference.AvatarSession`: how they come into the room, and how long they stay."""

    livekit_url: str | None = None
    """Where the rooms are, wss://... . Default: what the client says."""
    livekit_key: str | None = None
    """LiveKit API key that signs an avatar's token for a room. Default: the caller's own, which
    must then be a key of the LiveKit server too. With it every caller may have an avatar join any
    room of that project, and `livekit_url` must be set."""
    livekit_secret: SecretStr | None = None
    """Its secret."""
    sessions_per_key: int = Field(100, ge=1)
    """Avatars that one API key may have at the same time, at each worker."""
    session_s_max: float = Field(7200.0, ge=10)
    """An avatar that its client does not end is ended after so long."""
    idle_timeout_s: int = Field(60, ge=5, le=600)
    """An avatar leaves a room in which nothing happens for so long, where its client says
    nothing."""
    idle_timeout_s_max: int = Field(600, ge=5)
    """What a client may ask for."""
    timeout_s: float = Field(30.0, gt=0, le=60)
    """How long a provider may take to answer."""

    @field_validator("livekit_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and (wrong := urls.problem(value, LIVEKIT_SCHEMES, query=False)):
            raise ValueError(wrong)
        return value

    @model_validator(mode="after")
    def _go_together(self) -> AvatarConfig:
        if (self.livekit_key is None) != (self.livekit_secret is None):
            raise ValueError("livekit_key and livekit_secret go together")
        if self.livekit_key is not None and self.livekit_url is None:
            raise ValueError("livekit_url must be set with livekit_key")
        return self
