"""Tracks of callers who ask by single requests, found by the samples that two windows share."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from gateway.engines.interruption.model import Track
from gateway.engines.types import Floats

TRACKS_MAX: Final = 256
"""Kept at once, 120 kB each. A caller whose track was given up is heard anew, window by window."""

AGE_S_MAX: Final = 5.0
"""While a caller talks over the agent a window comes every 100 ms."""

_ANCHOR_BYTES: Final = 3200
"""100 ms at 16 kHz: the end of a window, by which the next one is known."""

_GRAIN_BYTES: Final = 320
"""Audio comes in frames of 10 ms, or of a multiple."""

_STEP_BYTES: Final = 3200
"""The usual step of the clients, looked for first."""

_NEW_BYTES_MAX: Final = 16_000
"""More new audio than 0.5 s is a caller who fell silent in between."""

_OFFSETS: Final = (
    _STEP_BYTES,
    *(n for n in range(0, _NEW_BYTES_MAX + 1, _GRAIN_BYTES) if n != _STEP_BYTES),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A track between two requests: what was last said of it, and the window that was about."""

    track: Track
    said: Floats
    window: bytes
    at: float


class LooseTracks:
    """Belongs to the event loop. A track that is taken is nobody else's until it is kept again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], Kept] = OrderedDict()

    def take(self, who: str, window: bytes, now: float) -> Kept | None:
        """The track whose last window `window` continues, of the same caller `who`."""
        while self._kept and now - next(iter(self._kept.values())).at > AGE_S_MAX:
            self._kept.popitem(last=False)
        if not self._kept:
            return None
        for new in _OFFSETS:
            end = len(window) - new
            if end < _ANCHOR_BYTES:
                continue
            found = self._kept.pop((who, window[end - _ANCHOR_BYTES : end]), None)
            if found is not None:
                return found
        return None

    def keep(self, who: str, kept: Kept) -> None:
        """Until the window after `kept.window`."""
        anchor = kept.window[-_ANCHOR_BYTES:]
        if len(anchor) < _ANCHOR_BYTES or anchor == anchor[:2] * (_ANCHOR_BYTES // 2):
            return  # silence is everybody's
        self._kept[who, anchor] = kept
        self._kept.move_to_end((who, anchor))
        if len(self._kept) > TRACKS_MAX:
            self._kept.popitem(last=False)
