"""A resolver that hangs costs no more than the time-out of the connection."""

import threading
from collections.abc import Iterator

import pytest

from gateway.runtime import names
from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, HttpEvent


@pytest.fixture(autouse=True)
def _hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait()
        return []

    monkeypatch.setattr(names, "_look_up", hang)
    yield
    over.set()


async def test_a_name_that_is_looked_up_for_ever_is_given_up() -> None:
    connector, inbox = Connector(), Inbox[HttpEvent]()
    await connector.request(Dial("http://nowhere.invalid/v1", {}, method="GET"), 1, inbox, 0.05)
    await connector.close()
    failed = await inbox.next(None, lambda: 0.0)
    assert isinstance(failed, ConnectionFailed)
    assert failed.failure.kind is Kind.TIMEOUT


async def test_so_is_that_of_a_socket() -> None:
    connector = Connector()
    failed = await connector.websocket(Dial("ws://nowhere.invalid/v1", {}), 0.05)
    await connector.close()
    assert isinstance(failed, Failure)
    assert failed.kind is Kind.TIMEOUT
