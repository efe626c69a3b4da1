"""The connections of one session by number, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.conversations.stt.actions import Drop, Open
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.report import TRIES_MAX, Report, Try
from gateway.routing.breaker import Breaker
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.stt import SttUpstream


class RecognizerConnections:
    """Numbers lines, and tells the session's report and everybody's health of their fate."""

    def __init__(
        self, upstreams: Mapping[str, SttUpstream], health: Breaker, report: Report
    ) -> None:
        self._upstreams = upstreams
        self._health = health
        self._report = report
        self._number = 0
        self._open: dict[int, tuple[RecognizerConnection, Try]] = {}

    def __contains__(self, line: RecognizerConnection) -> bool:
        return line.number in self._open

    def of(self, number: int) -> RecognizerConnection | None:
        """The line with this number, unless it was let go."""
        line, _ = self._open.get(number, (None, None))
        return line

    def open(
        self, attempt: Attempt, rate: int, timeout_s: float, now: float
    ) -> tuple[RecognizerConnection, Open]:
        """A new line, for audio at `rate`."""
        self._number += 1
        recognizer = self._upstreams[attempt.provider].recognizer(attempt, rate)
        line = RecognizerConnection(self._number, attempt, recognizer, rate, now)
        one = Try(attempt.provider, attempt.model, now)
        if len(self._report.tries) < TRIES_MAX:
            self._report.tries.append(one)
        self._open[line.number] = line, one
        self._health.began(attempt, now)
        return line, Open(line.number, recognizer.dial(), timeout_s)

    def ready(self, line: RecognizerConnection, now: float) -> None:
        """It takes audio."""
        self._open[line.number][1].ready = now
        self._health.worked(line.attempt)

    def failed(self, line: RecognizerConnection, failure: Failure, now: float) -> list[Drop]:
        """It is of no more use."""
        if (entry := self._open.get(line.number)) is not None:
            entry[1].failure = failure
        self._health.failed(line.attempt, failure, now)
        return self.drop(line)

    def drop(self, line: RecognizerConnection) -> list[Drop]:
        """Let go of a line; nothing is to be done if that was done."""
        if (entry := self._open.pop(line.number, None)) is None:
            return []
        if entry[1].failure is None:
            self._health.cancelled(line.attempt)
        return [Drop(line.number)]

    def drop_all(self) -> list[Drop]:
        """Let go of all that are left."""
        for line, _ in self._open.values():
            self._health.cancelled(line.attempt)
        dropped = [Drop(number) for number in self._open]
        self._open.clear()
        return dropped
