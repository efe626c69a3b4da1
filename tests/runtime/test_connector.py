"""Connections to providers, over real sockets."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from aiohttp import web

from gateway.runtime.connector import Connector, UpstreamSocket
from gateway.upstreams.dial import Dial


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_send_that_a_provider_does_not_read_ends_when_the_socket_is_cut(
    loop: Callable[[], asyncio.AbstractEventLoop],
):
    async def run() -> None:
        done = asyncio.Event()

        async def deaf(request: web.Request) -> web.WebSocketResponse:
            answer = web.WebSocketResponse()
            await answer.prepare(request)
            await done.wait()
            return answer

        app = web.Application()
        app.router.add_get("/", deaf)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        connector = Connector()
        upstream = await connector.websocket(Dial(f"ws://{host}:{port}/", {}), 5)
        assert isinstance(upstream, UpstreamSocket)

        sending = asyncio.create_task(upstream.send(bytes(64 << 20)))  # no system holds so much
        await asyncio.sleep(0)
        upstream.abort()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, 5)
        upstream.abort()  # a second time does no harm
        done.set()
        await upstream.close()
        await connector.close()
        await runner.cleanup()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
