"""A provider cannot lead our keys to another host."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import HttpEvent, ResponseHead


class Elsewhere:
    """A host that counts who comes to it, and one that leads there."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        other = web.Application()
        other.router.add_route("*", "/{path:.*}", self._come)
        self.other = TestServer(other)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._lead)
        self.server = TestServer(app)

    async def _come(self, request: web.Request) -> web.Response:
        self.headers.append(request.headers.get("xi-api-key", ""))
        return web.Response()

    async def _lead(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"location": str(self.other.make_url("/x"))})


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    made = Elsewhere()
    await made.other.start_server()
    await made.server.start_server()
    yield made
    await made.server.close()
    await made.other.close()


def dial(elsewhere: Elsewhere) -> Dial:
    return Dial(str(elsewhere.server.make_url("/v1")), {"xi-api-key": "k-123456"}, method="GET")


async def test_a_websocket_is_not_led_elsewhere(elsewhere: Elsewhere) -> None:
    connector = Connector()
    opened = await connector.websocket(dial(elsewhere), 60.0)
    await connector.close()
    assert isinstance(opened, Failure)
    assert opened.kind is Kind.UPSTREAM_NOT_FOUND
    assert elsewhere.headers == []


async def test_a_request_is_not_led_elsewhere(elsewhere: Elsewhere) -> None:
    connector, inbox = Connector(), Inbox[HttpEvent]()
    await connector.request(dial(elsewhere), 1, inbox, 60.0)
    await connector.close()
    head = await inbox.next(None, lambda: 0.0)
    assert isinstance(head, ResponseHead)
    assert head.status == 307
    assert elsewhere.headers == []
