"""What an operator may set for the models that run inside or beside this server."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gateway.provider import ProviderSettings


class LocalSettings(ProviderSettings):
    """Engines that need no key."""

    voice_folder: Path | None = None
    """Folder with `kokoro.onnx` and the styles of voices (`af_heart.bin`, ...). Default: what
    `gateway models fetch kokoro` has fetched."""
    voice_threads: int = Field(2, ge=1, le=64)
    """Threads of the voice."""
