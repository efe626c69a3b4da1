"""A resolver that hangs costs no more than the time-out of the connection."""

import asyncio

import pytest
from aiohttp.resolver import ThreadedResolver

from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Kind
from gateway.upstreams.events import ConnectionFailed, HttpEvent


async def test_a_name_that_is_looked_up_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: object, **__: object) -> list[object]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(ThreadedResolver, "resolve", hang)
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", ThreadedResolver)
    connector, inbox = Connector(), Inbox[HttpEvent]()
    await connector.request(Dial("http://nowhere.invalid/v1", {}, method="GET"), 1, inbox, 0.05)
    await connector.close()
    failed = await inbox.next(None, lambda: 0.0)
    assert isinstance(failed, ConnectionFailed)
    assert failed.failure.kind is Kind.TIMEOUT
