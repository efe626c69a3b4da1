"""Places for addresses, and the connections that have them."""

from __future__ import annotations

import math
from ipaddress import ip_network
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.server.addresses import Networks
from gateway.server.asgi import answer
from gateway.server.connections import (
    DESCRIPTORS_SPARE,
    TOLD_EVERY_S,
    AddressLimit,
    Descriptors,
    counted_protocols,
    descriptors_max,
)
from gateway.server.http import HttpProtocol
from gateway.upstreams.bounds import Bound
from tests.server.test_websocket import Wire, settled


def test_each_address_has_places_of_its_own_and_gets_them_back() -> None:
    limit = AddressLimit(2)
    assert [limit.take("a"), limit.take("a"), limit.take("a"), limit.take("b")] == [
        True,
        True,
        False,
        True,
    ]
    limit.give_back("a")
    assert limit.take("a")


def test_a_flood_is_told_of_once_until_the_address_has_had_a_place_again() -> None:
    full: list[str] = []
    limit = AddressLimit(1, full.append)
    limit.take("a")
    for _ in range(3):
        limit.take("a")
    assert full == ["a"]
    limit.give_back("a")
    limit.take("a")
    limit.take("a")
    assert full == ["a", "a"]


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, 200, b"hello")


class Served:
    """Connections from one address to a server that lets it have `most`."""

    def __init__(self, most: int = 1, trusted: Networks = ()) -> None:
        self.reached: list[Bound] = []
        self.ends = False
        self.limit = AddressLimit(most, trusted=trusted)
        self._made, _ = counted_protocols(self.limit, self.reached.append, lambda: self.ends)
        self._config = uvicorn.Config(_hello, interface="asgi3", ws="none", log_config=None)
        self._config.load()

    def connect(self) -> tuple[HttpProtocol, Wire]:
        protocol = self._made(self._config, ServerState(), {})
        wire = Wire({"peername": ("10.0.0.1", 5)})
        wire.lost = lambda: protocol.connection_lost(None)
        protocol.connection_made(wire)
        return protocol, wire


GET = b"GET / HTTP/1.1\r\n\r\n"


async def test_a_connection_too_many_is_told_so_once_it_asks_and_closed() -> None:
    served = Served()
    first, wire = served.connect()
    second, refused = served.connect()
    assert served.reached == [Bound.CONNECTIONS_PER_ADDRESS]
    assert refused.written == b""
    second.data_received(GET)
    assert refused.written.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1\r\n" in refused.written
    assert refused.closed
    second.data_received(GET)
    assert refused.written.count(b"HTTP/1.1") == 1
    second.connection_lost(None)
    first.data_received(GET)
    await settled()
    assert wire.written.endswith(b"hello")
    first.connection_lost(None)
    third, _ = served.connect()
    assert served.reached == [Bound.CONNECTIONS_PER_ADDRESS]
    third.connection_lost(None)


async def test_connections_of_a_trusted_proxy_are_not_counted() -> None:
    served = Served(trusted=[ip_network("10.0.0.0/8")])
    made = [served.connect()[0] for _ in range(3)]
    assert served.reached == []
    for one in made:
        one.connection_lost(None)


async def test_while_the_server_drains_each_answer_ends_its_connection() -> None:
    served = Served()
    protocol, wire = served.connect()
    protocol.data_received(GET)
    await settled()
    assert b"connection: close" not in wire.written
    served.ends = True
    protocol.data_received(GET)
    await settled()
    assert b"connection: close" in wire.written
    assert wire.closed
    protocol.connection_lost(None)


class Numbered:
    """A socket with this descriptor."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number


def test_the_last_descriptors_are_for_no_caller_and_that_is_said_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    descriptors = Descriptors(200, lambda: now)
    last = 200 - DESCRIPTORS_SPARE

    def exhausted(number: int) -> bool:
        return descriptors.exhausted(Wire({"socket": Numbered(number)}))

    assert not exhausted(last - 1)
    assert [exhausted(last), exhausted(last + 9), exhausted(5), exhausted(last)] == [
        True, True, False, True,
    ]  # fmt: skip
    assert len(caplog.records) == 1
    assert "no file descriptors are left" in caplog.text
    now = TOLD_EVERY_S + 1
    assert exhausted(last)
    assert len(caplog.records) == 2
    assert not Descriptors(math.inf).exhausted(Wire({"socket": Numbered(1 << 30)}))
    assert not descriptors.exhausted(Wire())


async def test_a_connection_that_would_take_the_last_descriptors_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.server.connections.descriptors_max", lambda: 100)
    reached: list[Bound] = []
    made, _ = counted_protocols(AddressLimit(5), reached.append, lambda: False)
    config = uvicorn.Config(_hello, interface="asgi3", ws="none", log_config=None)
    config.load()
    protocol = made(config, ServerState(), {})
    wire = Wire({"peername": ("10.0.0.1", 5), "socket": Numbered(99)})
    wire.lost = lambda: protocol.connection_lost(None)
    protocol.connection_made(wire)
    assert wire.closed
    protocol.data_received(GET)
    assert wire.written == b""
    assert reached == [Bound.DESCRIPTORS]


def test_as_many_descriptors_are_asked_for_as_can_be_had() -> None:
    resource = pytest.importorskip("resource")
    assert descriptors_max() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
