"""What an operator may set for cascades: the realtime protocol served by parts of this gateway."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from gateway.settings.section import Section

CascadeName = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
]
"""Stands behind `cascade/` in a URL and in metrics."""


class CascadeConfig(Section):
    """A recogniser, a chat model and a voice, asked for together as `cascade/<name>`."""

    stt: str = Field(min_length=1)
    """Model of /stt, `provider/model`, or `auto` to choose it by the language."""
    chat: str = Field(min_length=1)
    """Model of /chat/completions."""
    tts: str = Field(min_length=1)
    """Model of /tts and its voice, `provider/model:voice`. Voices of OpenAI's, which clients name
    by default (`marin`), stand for this one; others are asked for by their name."""
    instructions: str = Field("", max_length=200_000)
    """Instructions of a session whose client gives none."""
