"""The operator's price table."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.section import Section


class Price(Section):
    """Prices of one model, in whatever currency the operator thinks in."""

    input: float = Field(0.0, ge=0)
    """A million prompt tokens."""
    cached_input: float | None = Field(None, ge=0)
    """A million prompt tokens that the provider had in its cache. Default: as `input`."""
    cache_write: float | None = Field(None, ge=0)
    """A million prompt tokens that it put there. Default: as `input`."""
    output: float = Field(0.0, ge=0)
    """A million completion tokens, reasoning among them."""
    audio_input: float | None = Field(None, ge=0)
    """A million prompt tokens that are audio (/realtime). Default: as `input`."""
    cached_audio_input: float | None = Field(None, ge=0)
    """Of these a million that the provider had in its cache. Default: as `audio_input`."""
    audio_output: float | None = Field(None, ge=0)
    """A million completion tokens that are audio. Default: as `output`."""
    session_minute: float = Field(0.0, ge=0)
    """A minute for which a session of /realtime is open at the provider."""
    audio_minute: float = Field(0.0, ge=0)
    """A minute of audio that is heard."""
    characters: float = Field(0.0, ge=0)
    """A million characters that are spoken."""
    request: float = Field(0.0, ge=0)
    """One request or session."""
