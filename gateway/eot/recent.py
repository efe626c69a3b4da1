"""The newest audio of one session, and when its client recorded it. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

MARK_BYTES: Final = 3200
"""A time is remembered for every 100 ms at 16 kHz, however small the client's pieces are."""


class RecentAudio:
    """At most `bytes_max` bytes of s16le samples; older ones are forgotten."""

    __slots__ = ("_bytes", "_bytes_max", "_end", "_marks", "latest_ns")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = bytearray()
        self._end = 0  # position of the end of the audio, in bytes since the session began
        self._marks: deque[tuple[int, int]] = deque()  # (position, time), oldest first
        self.latest_ns = 0

    def __len__(self) -> int:
        return len(self._bytes)

    def append(self, samples: bytes, created_ns: int) -> None:
        """Add `samples`, recorded at `created_ns`."""
        if not samples:
            return
        if not self._marks or self._end - self._marks[-1][0] >= MARK_BYTES:
            self._marks.append((self._end, created_ns))
        self._bytes += samples
        self._end += len(samples)
        self.latest_ns = created_ns
        surplus = len(self._bytes) - self._bytes_max
        if surplus > 0:
            del self._bytes[:surplus]  # bytearray drops its beginning without moving the rest
            begin = self._end - self._bytes_max
            # the newest mark at or before the beginning says when that was recorded
            while len(self._marks) > 1 and self._marks[1][0] <= begin:
                self._marks.popleft()

    @property
    def earliest_ns(self) -> int:
        """When the oldest audio was recorded; 0 if there is none."""
        return self._marks[0][1] if self._marks else 0

    def samples(self) -> bytes:
        """The audio, oldest first."""
        return bytes(self._bytes)

    def clear(self) -> None:
        """Forget all audio."""
        self._bytes.clear()
        self._marks.clear()
        self.latest_ns = 0
