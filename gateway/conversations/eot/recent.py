"""The newest audio of one session, and when its client recorded it. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

MARK_BYTES: Final = 3200
"""A time is remembered for every 100 ms at 16 kHz, however small the client's pieces are."""

BLOCK_BYTES: Final = 16_384
"""Audio is kept in blocks of half a second, so that old audio is forgotten without moving what is
kept, and small pieces do not become many objects."""


class RecentAudio:
    """At most `bytes_max` bytes of s16le samples; older ones are forgotten."""

    __slots__ = ("_blocks", "_bytes_max", "_end", "_held", "_marks", "latest_ns")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._blocks: deque[bytearray] = deque()  # the oldest may reach back beyond bytes_max
        self._held = 0  # bytes in all blocks
        self._end = 0  # position of the end of the audio, in bytes since the session began
        self._marks: deque[tuple[int, int]] = deque()  # (position, time), oldest first
        self.latest_ns = 0

    def __len__(self) -> int:
        return min(self._held, self._bytes_max)

    def append(self, samples: bytes, created_ns: int) -> None:
        """Add `samples`, recorded at `created_ns`."""
        if not samples:
            return
        if not self._marks or self._end - self._marks[-1][0] >= MARK_BYTES:
            self._marks.append((self._end, created_ns))
        self._end += len(samples)
        self.latest_ns = created_ns
        newest = samples[-self._bytes_max :]
        if self._blocks and len(self._blocks[-1]) < BLOCK_BYTES:
            self._blocks[-1] += newest
        else:
            self._blocks.append(bytearray(newest))
        self._held += len(newest)
        while self._held - len(self._blocks[0]) >= self._bytes_max:
            self._held -= len(self._blocks.popleft())
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
        return b"".join(self._blocks)[-self._bytes_max :]

    def clear(self) -> None:
        """Forget all audio."""
        self._blocks.clear()
        self._held = 0
        self._marks.clear()
        self.latest_ns = 0
