"""One HTTP request to a provider, and its whole answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import BodyChunk, BodyEnd, ConnectionFailed, ResponseHead

EVENTS_MAX: Final = 16
"""Pieces of an answer that wait; then the provider does."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with any status. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(
    connector: Connector,
    dial: Dial,
    *,
    connect_timeout_s: float,
    answer_s: float,
    bytes_max: int,
) -> Answered | Failure:
    """What a provider answers within `answer_s`, or why nothing. An answer longer than `bytes_max`
    is nonsense. Cancelling it closes the connection."""
    inbox: Inbox[Any] = Inbox(EVENTS_MAX)
    task = asyncio.create_task(connector.request(dial, 1, inbox, connect_timeout_s))
    try:
        async with asyncio.timeout(answer_s):
            return await _listen(inbox, bytes_max)
    except TimeoutError:
        return Failure(Kind.TIMEOUT, "the provider did not answer in time")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        inbox.close()


async def _listen(inbox: Inbox[Any], bytes_max: int) -> Answered | Failure:
    head: ResponseHead | None = None
    body = bytearray()
    while True:
        match await inbox.next(None, time.monotonic):
            case ResponseHead() as head:
                pass
            case BodyChunk(_, data):
                body += data
                if len(body) > bytes_max:
                    return Failure(Kind.PROTOCOL_ERROR, "the provider's answer is too long")
            case BodyEnd():
                assert head is not None
                return Answered(head.status, head.headers, bytes(body))
            case ConnectionFailed(_, failure):
                return failure
