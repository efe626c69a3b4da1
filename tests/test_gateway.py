"""Everything together, in this process: what the routes have in common."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.app import Gateway, create_app
from gateway.config import load
from gateway.server.auth import mint
from gateway.server.drain import Drain
from tests.fakes import frame_model

SECRET = "s" * 40


class Provider:
    """Refuses everything with a status, and adds itself to those who were asked."""

    def __init__(self, status: int, asked: list[Provider]) -> None:
        self._asked = asked
        self._status = status

    async def refuse(self, request: web.Request) -> web.Response:
        self._asked.append(self)
        return web.json_response({"error": {"message": "no"}}, status=self._status)

    async def __aenter__(self) -> Provider:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.refuse)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def scope(kind: str, path: str) -> dict[str, Any]:
    token = mint("key", SECRET, identity="agent", ttl_s=60)
    headers = [(b"authorization", f"Bearer {token}".encode())]
    shared = {"client": ("127.0.0.1", 1), "headers": headers, "query_string": b""}
    return {"type": kind, "method": "POST", "path": path, **shared}


async def test_a_key_that_one_conversation_saw_refused_is_known_to_the_others(
    tmp_path: Path,
) -> None:
    asked: list[Provider] = []
    async with Provider(401, asked) as refusing, Provider(500, asked) as other:
        file = tmp_path / "c.yaml"
        file.write_text(f"""
keys: {{key: {SECRET}}}
bargein: {{model: {frame_model.write(tmp_path / "m.onnx")}}}
usage: {{enabled: false}}
stt: {{local_last: false, retries: 0}}
providers:
  openai: {{api_key: k, base_url: "{refusing.url}/v1"}}
  deepgram: {{api_key: k, base_url: "{other.url}"}}
""")
        gateway = Gateway(load(file, {"PARLEY_CACHE": str(tmp_path)}))
        app = create_app(gateway)

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        wanted = {"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "x"}]}
        bodies = [{"type": "http.request", "body": json.dumps(wanted).encode()}]

        async def receive_body() -> Any:
            return bodies.pop() if bodies else await asyncio.Future()

        await app(scope("http", "/v1/chat/completions"), receive_body, send)
        assert sent[0]["status"] == 502
        assert asked == [refusing]

        create = {
            "type": "session.create",
            "model": "openai/gpt-4o-transcribe",
            "settings": {"sample_rate": "16000", "encoding": "pcm_s16le"},
            "fallback": {"models": [{"model": "deepgram/nova-3"}]},
        }
        said: asyncio.Queue[Any] = asyncio.Queue()
        said.put_nowait({"type": "websocket.connect"})
        said.put_nowait({"type": "websocket.receive", "text": json.dumps(create)})
        session = asyncio.create_task(app(scope("websocket", "/v1/stt"), said.get, send))
        async with asyncio.timeout(10):
            while len(asked) < 2:
                await asyncio.sleep(0.001)
            said.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await session
        assert asked[1] is other  # though the client asked for the one that refuses
        await gateway.close()


async def test_while_it_shuts_down_it_says_until_when(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"bargein: {{model: {frame_model.write(tmp_path / 'm.onnx')}}}\n")
    gateway = Gateway(load(file, {}, dev=True))
    named = "parley_drain_ends_timestamp_seconds"
    assert gateway.metrics.registry.get_sample_value(named) == 0
    gateway.begin_drain(Drain(time.monotonic(), 0.0, 1000.0))
    told = gateway.metrics.registry.get_sample_value(named)
    assert told == pytest.approx(time.time() + 1000.0, abs=100.0)
    await gateway.close()
