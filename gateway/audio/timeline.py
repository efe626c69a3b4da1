"""One clock over several providers: maps the time of one connection to the session's."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

PIECES_MAX: Final = 4096
"""Pieces remembered; the oldest are forgotten. Each cut of silence makes one."""


class Timeline:
    """Where the audio sent on one connection stands in the session.

    A provider's clock begins at 0 on each connection and counts what it gets. The session sends
    audio from some place on, may leave parts out (silence in a replay) and put silence in (to keep
    a line open), so the map is a list of pieces. Counted in samples, asked in seconds.
    """

    __slots__ = ("_at", "_began", "_rate", "_sent")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._sent = 0  # samples sent on this connection
        self._began: list[int] = []  # of each piece: its first sample, as the connection counts
        self._at: list[int | None] = []  # and as the session does; None is silence put in

    @property
    def sent_s(self) -> float:
        """Seconds sent on this connection, silence that was put in among them."""
        return self._sent / self._rate

    def feed(self, at: int, samples: int) -> None:
        """The session's samples from `at` on have been sent."""
        if self._at:
            last = self._at[-1]
            if last is not None and last + self._sent - self._began[-1] == at:
                self._sent += samples
                return
        self._piece(at)
        self._sent += samples

    def fill(self, samples: int) -> None:
        """Silence has been sent that the session does not have."""
        if not self._at or self._at[-1] is not None:
            self._piece(None)
        self._sent += samples

    def session_s(self, connection_s: float) -> float:
        """The session's time, in seconds, of a time of this connection.

        Silence that was put in is the moment at which that was done.
        """
        if not self._began:
            return 0.0
        sample = connection_s * self._rate
        i = max(0, bisect_right(self._began, sample) - 1)
        at = self._at[i]
        if at is None:
            return self._end_before(i) / self._rate
        found = at + max(0.0, sample - self._began[i])
        if i + 1 < len(self._began):  # no further than the piece goes
            found = min(found, at + self._began[i + 1] - self._began[i])
        return found / self._rate

    def _end_before(self, i: int) -> int:
        """The session's sample at which the audio before piece `i` ends."""
        for j in range(i - 1, -1, -1):
            at = self._at[j]
            if at is not None:
                return at + self._began[j + 1] - self._began[j]
        return next((at for at in self._at[i:] if at is not None), 0)

    def _piece(self, at: int | None) -> None:
        if len(self._began) >= PIECES_MAX:
            del self._began[: PIECES_MAX // 2]
            del self._at[: PIECES_MAX // 2]
        self._began.append(self._sent)
        self._at.append(at)
