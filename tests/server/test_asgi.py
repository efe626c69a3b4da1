import asyncio
from typing import Any

from gateway.runtime.loop import Inbox
from gateway.server.asgi import ClientSocket
from gateway.server.websocket import EXTENSION
from gateway.upstreams.events import Binary, ClientLeft, Text


class Direct:
    """A connection that hands messages on at once, as far as a ClientSocket knows it."""

    def __init__(self) -> None:
        self.sink: Any = None
        self.went_on = 0
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def pour(self, sink: Any) -> None:
        self.sink = sink

    def go_on(self) -> None:
        self.went_on += 1

    async def receive(self) -> Any:
        return await self.ended


async def never(message: Any) -> None:
    raise AssertionError


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def listening(inbox: Inbox[Any]) -> tuple[Direct, asyncio.Task[None]]:
    direct = Direct()
    client = ClientSocket(direct.receive, never, {"extensions": {EXTENSION: direct}})
    task = asyncio.create_task(client.listen(inbox))
    await settled()
    return direct, task


async def next_of(inbox: Inbox[Any]) -> Any:
    return await inbox.next(None, lambda: 0.0)


async def test_messages_are_in_the_inbox_as_soon_as_they_come() -> None:
    inbox: Inbox[Any] = Inbox(4)
    direct, task = await listening(inbox)
    assert direct.sink("a")
    assert direct.sink(b"b")
    assert len(inbox) == 2
    assert [await next_of(inbox), await next_of(inbox)] == [Text("a"), Binary(b"b")]
    task.cancel()


async def test_a_full_inbox_holds_the_socket_back_and_keeps_the_order() -> None:
    inbox: Inbox[Any] = Inbox(2)
    direct, task = await listening(inbox)
    assert [direct.sink(text) for text in "abcde"] == [True, True, False, False, False]
    direct.ended.set_result({"type": "websocket.disconnect", "code": 1000})
    heard: list[Any] = []
    while not heard or not isinstance(heard[-1], ClientLeft):
        assert direct.went_on == 0 or len(heard) >= 3
        heard.append(await next_of(inbox))
        await settled()
    assert heard == [*(Text(text) for text in "abcde"), ClientLeft(1000)]
    assert direct.went_on == 1
    await task


async def test_messages_that_wait_are_let_go_with_the_conversation() -> None:
    inbox: Inbox[Any] = Inbox(1)
    direct, task = await listening(inbox)
    assert [direct.sink(text) for text in "ab"] == [True, False]
    task.cancel()
    await settled()
    assert task.cancelled()
    assert direct.went_on == 0
    assert not [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
