"""The connections of one session by number; tells its report and the breaker of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.conversations.stt.actions import Drop, Open
from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.report import TRIES_MAX, Report, Try
from gateway.routing.breaker import Breaker
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt, Deployment
from gateway.upstreams.stt import SttUpstream


@dataclass(slots=True)
class Used:
    """What one deployment was asked in a session: seconds of audio that it was sent, replays
    and silence of ours too, over so many connections."""

    attempt: Attempt
    seconds: float = 0.0
    connections: int = 0


class RecognizerConnections:
    """Opens and drops connections. The one place where an /stt session tells the breaker."""

    def __init__(
        self, upstreams: Mapping[str, SttUpstream], breaker: Breaker, report: Report
    ) -> None:
        self._upstreams = upstreams
        self._breaker = breaker
        self._report = report
        self._number = 0
        self._open: dict[int, tuple[RecognizerConnection, Try]] = {}
        self._used: dict[Deployment, Used] = {}

    def open(
        self,
        attempt: Attempt,
        rate: int,
        timeout_s: float,
        now: float,
        *,
        hedge: bool = False,
        standby: bool = False,
    ) -> tuple[RecognizerConnection, Open]:
        """A new connection, for audio at `rate`; `hedge`: beside a doubted one; `standby`: to be
        kept silent."""
        self._number += 1
        recognizer = self._upstreams[attempt.provider].recognizer(attempt, rate)
        connection = RecognizerConnection(self._number, attempt, recognizer, rate, now)
        one = Try(attempt.provider, attempt.model, now, hedge=hedge, standby=standby)
        if len(self._report.tries) < TRIES_MAX:
            self._report.tries.append(one)
        self._open[connection.number] = connection, one
        self._breaker.began(attempt, now)
        return connection, Open(connection.number, recognizer.dial(), timeout_s)

    def ready(self, connection: RecognizerConnection, now: float) -> None:
        """It takes audio."""
        self._open[connection.number][1].ready = now
        self._breaker.worked(connection.attempt)

    def replays(self, connection: RecognizerConnection, seconds: float) -> None:
        """It is sent so much audio that was there before, first."""
        entry = self._open.get(connection.number)
        if entry is not None and connection.number > 1:
            entry[1].replayed_s = seconds

    def put_to_use(self, connection: RecognizerConnection, *, hedge: bool) -> None:
        """It was a standby, and serves now, or is asked beside a doubted one."""
        one = self._open[connection.number][1]
        one.standby, one.hedge = False, hedge

    def failed(
        self, connection: RecognizerConnection, failure: Failure, now: float, *, lost: bool = False
    ) -> list[Drop]:
        """It ended in `failure`, and is dropped; `lost`: as a hedge that had not taken over."""
        if (entry := self._open.get(connection.number)) is not None:
            entry[1].failure, entry[1].lost, entry[1].ended = failure, lost, now
        self._breaker.failed(connection.attempt, failure, now, id(self._report))
        return self.drop(connection)

    def lost(self, connection: RecognizerConnection) -> list[Drop]:
        """It was opened as a hedge or a standby, and is not needed."""
        if (entry := self._open.get(connection.number)) is not None:
            entry[1].lost = True
        return self.drop(connection)

    def drop(self, connection: RecognizerConnection) -> list[Drop]:
        """It is not needed any more; nothing is to be done if it was dropped before."""
        if (entry := self._open.pop(connection.number, None)) is None:
            return []
        _count(self._used, connection)
        if connection.ready_at is not None:
            entry[1].audio_s = connection.timeline.sent_s
        entry[1].upstream_id = connection.upstream_id
        if entry[1].failure is None:
            self._breaker.cancelled(connection.attempt)
        return [Drop(connection.number)]

    def used(self) -> list[Used]:
        """What each deployment was sent so far; of no more of them than connections were opened."""
        used = {deployment: replace(one) for deployment, one in self._used.items()}
        for connection, _ in self._open.values():
            _count(used, connection)
        return list(used.values())

    def drop_all(self) -> list[Drop]:
        """The session is over."""
        dropped: list[Drop] = []
        for connection, _ in tuple(self._open.values()):
            dropped += self.drop(connection)
        return dropped


def _count(used: dict[Deployment, Used], connection: RecognizerConnection) -> None:
    if connection.ready_at is None:
        return  # it took nothing
    attempt = connection.attempt
    one = used.setdefault(attempt.deployment, Used(attempt))
    one.seconds += connection.timeline.sent_s
    one.connections += 1
