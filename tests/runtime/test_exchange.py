"""One HTTP request to a provider, and its whole answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.runtime.exchange import Answered, exchange
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import BodyChunk, BodyEnd, ConnectionFailed, ResponseHead

HEAD = ResponseHead(1, 404, {"a": "b"})
LOST = Failure(Kind.CONNECTION_LOST, "lost")


class Connector:
    """Says this, then nothing."""

    def __init__(self, *events: Any) -> None:
        self._events = events
        self.cancelled = False

    async def request(
        self, dial: Dial, attempt: int, inbox: Inbox[Any], connect_timeout_s: float
    ) -> None:
        for event in self._events:
            await inbox.put(event)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def told(connector: Connector, answer_s: float = 10.0) -> Answered | Failure:
    return await exchange(
        connector,  # type: ignore[arg-type]
        Dial("http://x"),
        connect_timeout_s=1.0,
        answer_s=answer_s,
        bytes_max=8,
    )


async def test_an_answer_is_put_together_whatever_its_status() -> None:
    pieces = [BodyChunk(1, b"x")] * 8
    found = await told(Connector(HEAD, *pieces, BodyEnd(1)))
    assert found == Answered(404, {"a": "b"}, b"x" * 8)


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((HEAD, BodyChunk(1, b"x" * 9)), Kind.PROTOCOL_ERROR),
        ((HEAD, ConnectionFailed(1, LOST)), Kind.CONNECTION_LOST),
    ],
)
async def test_what_goes_wrong_is_a_failure(events: Any, kind: Kind) -> None:
    found = await told(Connector(*events))
    assert isinstance(found, Failure)
    assert found.kind is kind


async def test_a_provider_that_is_silent_is_not_waited_for() -> None:
    connector = Connector(HEAD)
    found = await told(connector, answer_s=0.01)
    assert isinstance(found, Failure)
    assert found.kind is Kind.TIMEOUT
    assert connector.cancelled


async def test_whoever_gives_up_closes_the_connection() -> None:
    connector = Connector(HEAD)
    task = asyncio.create_task(told(connector))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert connector.cancelled
