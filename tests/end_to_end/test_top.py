"""`gateway top` of a real server with several workers, and the page's token."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model
from tests.fakes.openai_chat import FakeOpenAI

TOKEN = "the-token-of-this-page"
CALLS = 8


async def call(server: Server, number: int) -> int:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": f"call-{number}"}
    body = {"model": "mini", "messages": [{"role": "user", "content": "hello"}]}
    async with (
        aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.post("/v1/chat/completions", json=body, headers=headers) as reply,
    ):
        await reply.read()
        return reply.status


async def told(server: Server, folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", "top", "--config", str(folder / "gateway.yaml")]
    command += ["--url", server.admin_url, *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=120, check=True
    )
    return str(done.stdout)


async def until(server: Server, folder: Path, number: int) -> dict[str, Any]:
    """What is told once so many calls have been written down."""
    async with asyncio.timeout(120):
        while True:
            now: dict[str, Any] = json.loads(await told(server, folder, "--json"))
            if (now["costs"].get("today") or {}).get("requests") == number:
                return now
            await asyncio.sleep(1.0)


async def test_it_shows_what_all_workers_know(tmp_path: Path) -> None:
    # some seconds: two workers start, and what it costs is asked of the store every 30 s
    with FakeOpenAI() as llm:
        config = f"""
page: {{token: {TOKEN}}}
server: {{workers: 2, drain_delay_s: 0}}
bargein: {{model: {frame_model.write(tmp_path / "m.onnx")}}}
usage: {{url: "sqlite:{tmp_path}/usage.db", flush_s: 0.1}}
local_stand_in: false
providers:
  llm: {{type: openai-compatible, base_url: "{llm.base_url}", api_key: k}}
models: {{mini: [{{provider: llm, model: mini}}]}}
prices: {{mini: {{input: 100, output: 100}}}}
"""
        with running(tmp_path, config) as server:
            assert [await call(server, n) for n in range(CALLS)] == [200] * CALLS
            llm.script("status:500", "status:500")
            assert await call(server, CALLS) >= 500
            now = await until(server, tmp_path, CALLS + 1)
            shown = await told(server, tmp_path, "--once")
    assert now["served"] == CALLS + 1
    assert now["readiness"]["workers"] == {"configured": 2, "ready": 2}
    assert now["costs"]["today"]["cost"] > 0
    assert [one["request_id"] for one in now["failures"]] == [f"call-{CALLS}"]
    for part in ("ready, 2 of 2 workers", f"call-{CALLS}", "first token", "USD"):
        assert part in shown
