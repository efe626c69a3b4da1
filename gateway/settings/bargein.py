"""What an operator may set for /bargein."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from gateway.settings.section import Section

EAGERNESS_MAX: Final = 4.0
"""Beyond it the model's opinion no longer counts."""

Eagerness = Annotated[float, Field(ge=-EAGERNESS_MAX, le=EAGERNESS_MAX)]


class BargeinConfig(Section):
    """The interruption model and how it is run."""

    model: Path | None = None
    """Path of an ONNX file with the interface of models/interruption/README.md.
    Default: the one that ships with Parley."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Default threshold told to clients. Default: the model's own."""
    eagerness: Eagerness = 0.0
    """How readily the agent yields, whatever threshold a client asks for: above 0 sooner and more
    often, below 0 later and to fewer sounds. 1 makes odds of 1:1 out of 1:2.7. The curve of what it
    costs is in models/interruption/README.md, and `gateway bargein analyse` draws it of your own
    recordings."""
    eagerness_by_key: dict[str, Eagerness] = Field(default_factory=dict)
    """API key -> its own `eagerness`."""
    own_voice: bool = True
    """Know the agent's own voice again where it comes back from a caller's loudspeaker, by what
    /tts sends for the same job or room: 16 bytes are kept for each 25 ms, of the last 30 s, in
    memory, and no sound can be made of them. Processes that share a port share them too."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of ONNX Runtime for one batch."""
    batch: int = Field(32, ge=1, le=1024)
    """Most windows in one run of the model."""

    def eagerness_of(self, key: str) -> float:
        """For the calls of an API key."""
        return self.eagerness_by_key.get(key, self.eagerness)
