"""The answer to an HTTP request, as messages of a WebSocket."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import orjson

from gateway.conversations.chat.responses_socket import Ended, ResponsesSocket
from gateway.conversations.chat.responses_socket_route import (
    ResponsesSocketConversation,
    _Frames,
)
from gateway.server.host import SocketLink
from gateway.upstreams.errors import Failure, Kind


class Client:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def say(self, text: str) -> None:
        self.told.append(orjson.loads(text))


def frames(lane: str = "") -> tuple[_Frames, Client]:
    client = Client()
    return _Frames(client, lane), client  # type: ignore[arg-type]


async def test_events_are_messages() -> None:
    made, client = frames("s")
    await made.send({"type": "http.response.start", "status": 200, "headers": []})
    await made.send({"type": "http.response.body", "body": b'data: {"a":1}\n\n: x\n\n'})
    await made.send({"type": "http.response.body", "body": b""})
    assert client.told == [{"stream_id": "s", "a": 1}]


async def test_an_error_is_one_message() -> None:
    made, client = frames()
    await made.send({"type": "http.response.start", "status": 503, "headers": []})
    await made.send({"type": "http.response.body", "body": b'{"error": {', "more_body": True})
    assert not client.told
    await made.send({"type": "http.response.body", "body": b'"message": "x"}}'})
    assert client.told == [{"type": "error", "status": 503, "error": {"message": "x"}}]


async def test_what_is_refused_is_an_error() -> None:
    made, client = frames("s")
    await made.refuse(Failure(Kind.NOT_FOUND, "no such model", param="model"))
    (told,) = client.told
    assert "headers" not in told["error"]
    assert told["status"] == 404
    assert told["stream_id"] == "s"
    assert told["error"]["param"] == "model"


async def test_how_a_quota_stands_is_told_with_its_error() -> None:
    made, client = frames()
    headers = {"X-LiveKit-Inference-RPM-Limit": "5"}
    failure = Failure(Kind.QUOTA, "used up", retry_after_s=3, headers=headers)
    await made.refuse(failure)
    assert client.told[0]["error"]["headers"] == {"retry-after": "3", **headers}


async def test_a_response_that_breaks_is_told_and_its_lane_is_free() -> None:
    class Broken:
        events_max = 4

        async def open(self, *args: Any) -> Any:
            raise ValueError

    client = Client()
    link: SocketLink[Any] = SocketLink(cast(Any, client), 4)
    request = SimpleNamespace(part=lambda: nullcontext(SimpleNamespace(id="r")))
    made = ResponsesSocketConversation(
        cast(Any, Broken()), ResponsesSocket("m", 60.0, 0.0), cast(Any, request), link
    )
    await made._create("s", b"{}")
    (told,) = client.told
    assert (told["status"], told["stream_id"]) == (500, "s")
    assert await link.inbox.next(None, lambda: 0.0) == Ended("s")
