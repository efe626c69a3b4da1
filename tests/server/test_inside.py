"""A session that asks other routes of this server, and the admission that counts both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.app import Gateway
from gateway.config import load
from gateway.server import inside
from gateway.server.admission import RequestContext
from gateway.server.host import OpenSockets
from gateway.server.inside import Closed, InsideRequest, InsideSocket
from gateway.upstreams.errors import Failure
from tests.fakes import frame_model
from tests.fakes.openai_chat import FakeOpenAI
from tests.test_gateway import SECRET, scope

CREATE = '{"type":"session.create","settings":{"sample_rate":16000}}'


class Site:
    """A gateway, and an admitted session of it."""

    def __init__(self, folder: Path, base_url: str = "http://127.0.0.1:9/v1") -> None:
        file = folder / "c.yaml"
        file.write_text(f"""
keys: {{key: {SECRET}}}
bargein: {{model: {frame_model.write(folder / "m.onnx")}}}
eot: {{enabled: false}}
usage: {{enabled: false}}
limits: {{sessions_per_key: 1}}
providers: {{openai: {{api_key: k, base_url: "{base_url}"}}}}
""")
        self.gateway = Gateway(load(file, {"PARLEY_CACHE": str(folder)}))
        admitted = self.gateway.admission.admit(scope("websocket", "/bargein"), "bargein")
        assert isinstance(admitted, RequestContext)
        self.whole = admitted
        self.heard: list[Any] = []
        self.closed: list[Closed] = []

    def host(self, *key: str) -> Any:
        return self.gateway.installation.hosts[key]  # type: ignore[index]

    def socket(self, path: str = "/bargein") -> InsideSocket:
        return InsideSocket(
            self.host("WEBSOCKET", path), self.whole, path, None, self.heard.append,
            self.closed.append,
        )  # fmt: skip

    def chat(self, text: str, **more: Any) -> InsideRequest:
        messages = [{"role": "user", "content": text}]
        body = {"model": "openai/gpt-4.1-mini", "messages": messages, "stream": True, **more}
        return InsideRequest(
            self.host("POST", "/chat/completions"), self.whole, "/chat/completions",
            orjson.dumps(body), self.heard.append, self.closed.append,
        )  # fmt: skip

    async def until(self, kept: Sequence[object], count: int = 1) -> None:
        async with asyncio.timeout(10):
            while len(kept) < count:
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        with self.whole:
            pass
        await self.gateway.close()


@pytest.fixture
async def site(tmp_path: Path) -> Any:
    made = Site(tmp_path)
    yield made
    await made.close()


async def test_a_part_is_served_though_its_key_has_no_place_left(site: Site) -> None:
    assert isinstance(
        site.gateway.admission.admit(scope("websocket", "/bargein"), "bargein"), Failure
    )
    socket = site.socket()
    socket.say(CREATE)
    await site.until(site.heard)
    assert json.loads(site.heard[0])["type"] == "session.created"
    assert site.gateway.admission.open_requests == 1
    socket.leave()
    await socket.task
    assert site.closed == []
    assert site.gateway.admission.open_requests == 1


async def test_a_part_has_the_rights_and_the_call_of_the_whole(site: Site) -> None:
    part = site.whole.part("tts", site.whole.scope)
    assert part.caller == site.whole.caller
    assert part.id.startswith(f"{site.whole.id}.")
    again = site.whole.part("bargein", site.whole.scope)
    assert part.call == again.call != ""
    assert part.id != again.id
    for one in (part, again):
        with one:
            pass


async def test_how_a_route_ends_a_socket_is_told(site: Site) -> None:
    socket = site.socket()
    socket.say("no json")
    await site.until(site.closed)
    assert site.closed[0].code == 1008
    assert socket.over


async def test_a_refusal_before_the_upgrade_is_told_with_its_body(site: Site) -> None:
    site.socket("/eot")
    await site.until(site.closed)
    assert site.closed[0].status >= 400
    assert "message" in json.loads(site.closed[0].body)["error"]


async def test_an_answer_comes_in_pieces_and_ends_whole(tmp_path: Path) -> None:
    with FakeOpenAI() as fake:
        site = Site(tmp_path, fake.base_url)
        site.chat("hello")
        await site.until(site.closed)
        assert site.closed == [Closed(code=1000)]
        assert b"".join(site.heard).endswith(b"data: [DONE]\n\n")
        await site.close()


async def test_a_refused_request_is_told_with_its_body(site: Site) -> None:
    site.chat("hello", model="nobody/nothing")
    await site.until(site.closed)
    assert site.closed[0].status == 404
    assert json.loads(site.closed[0].body)["error"]["code"] == "model_not_found"


async def test_an_answer_that_is_not_wanted_any_more_ends(tmp_path: Path) -> None:
    with FakeOpenAI(default="endless") as fake:
        site = Site(tmp_path, fake.base_url)
        request = site.chat("hello")
        await site.until(site.heard)
        request.leave()
        async with asyncio.timeout(10):
            await request.task
        assert site.closed == []
        await site.close()


async def test_who_sends_faster_than_a_route_reads_can_wait(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "WAITING_BYTES_MAX", 1000)
    socket = site.socket()
    socket.say(CREATE)
    assert not socket.full
    for _ in range(5):
        socket.say(bytes(8 + 320))
    assert socket.full
    async with asyncio.timeout(10):
        await socket.drained()
    assert not socket.full
    socket.leave()
    await socket.task


async def test_a_part_is_not_closed_for_having_lasted_or_for_a_drain(site: Site) -> None:
    from gateway.server.drain import Drain

    socket = site.socket()
    socket.say(CREATE)
    await site.until(site.heard)
    sockets: OpenSockets = site.gateway.sockets
    sockets.sweep(Drain(0.0, 0.0, 1.0), 1e9)
    assert site.closed == []
    socket.leave()
    await socket.task
