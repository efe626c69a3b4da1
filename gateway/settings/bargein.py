"""What an operator may set for /bargein."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gateway.settings.section import Section


class BargeinConfig(Section):
    """The interruption model and how it is run."""

    model: Path | None = None
    """Path of an ONNX file with the interface of models/interruption/README.md.
    Default: the one that ships with Parley."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Default threshold told to clients. Default: the model's own."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of ONNX Runtime for one batch."""
    batch: int = Field(32, ge=1, le=1024)
    """Most windows in one run of the model."""
