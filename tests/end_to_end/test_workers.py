"""A server of two worker processes: one address, one operator's port, shared limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.server.auth import mint
from tests.end_to_end.clients import Client
from tests.end_to_end.server import Server, running
from tests.end_to_end.test_drain import PAIR, calling
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.openai_chat import FakeOpenAI

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere connections are not spread evenly"
)

WORKERS = 2
RPM = 25
PATIENCE_S = 120
POLL_S = 0.05


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = frame_model.write(tmp_path_factory.mktemp("model") / "m.onnx")
    with FakeOpenAI() as llm, FakeCartesia() as voice:
        yield f"""
bargein: {{model: {model}}}
server: {{workers: {WORKERS}, drain_delay_s: 0, shutdown_grace_s: 100}}
providers:
  openai: {{base_url: "{llm.base_url}", api_key: k}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
models:
  openai/gpt-4.1-mini: [{{provider: openai, model: gpt-4.1-mini}}]
  limited: [{{provider: openai, model: gpt-4.1-mini}}]
quota:
  models: {{limited: {{requests_per_minute: {RPM}}}}}
"""


@pytest.fixture
def server(config: str, tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, config, pair=PAIR) as started:
        yield started


def workers_of(server: Server) -> list[int]:
    """Process ids."""
    pid = server.process.pid
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


async def until_workers_are(server: Server, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told = json.loads((await asyncio.to_thread(server.get, "/readyz"))[1])
            if told["workers"] == {"configured": WORKERS, "ready": count}:
                return
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that opens a connection for each request."""
    headers = {"Authorization": f"Bearer {mint(*PAIR, identity='agent', ttl_s=300)}"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as http:
        yield http


def process_of(response: aiohttp.ClientResponse) -> str:
    """A process gives its ids a prefix of its own: req_PREFIX_17."""
    return response.headers["x-request-id"].split("_")[1]


async def served(http: aiohttp.ClientSession) -> str:
    """Have a request served; the process that did it."""
    status, process = await chat(http, "openai/gpt-4.1-mini")
    assert status == 200
    return process


async def chat(http: aiohttp.ClientSession, model: str) -> tuple[int, str]:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    async with http.post("/chat/completions", json=body) as response:
        await response.read()
        return response.status, process_of(response)


async def until_it_counts(server: Server, expected: float) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            got = await asyncio.to_thread(server.metric, "parley_requests_total", route="chat")
            if got == expected:
                return
            await asyncio.sleep(POLL_S)


async def test_requests_are_spread_counted_together_and_limited_together(server: Server) -> None:
    await until_workers_are(server, WORKERS)
    async with asking(server) as http:
        processes = {await served(http) for _ in range(60)}
        assert len(processes) == WORKERS
        await until_it_counts(server, 60)
        asked = [await chat(http, "limited") for _ in range(2 * RPM)]
    assert [status for status, _ in asked] == [200] * RPM + [429] * RPM
    assert {process for _, process in asked} == processes
    await until_it_counts(server, 60 + 2 * RPM)
    assert server.get("/metrics")[1].count("parley_build_info{") == 1
    assert json.loads(server.get("/healthz")[1])["status"] == "ok"
    assert server.get("/nothing")[0] == 404
    assert server.fetch(server.admin_url + "/nothing")[0] == 404


async def test_a_conversation_goes_on_at_whichever_worker(server: Server) -> None:
    await until_workers_are(server, WORKERS)
    async with asking(server) as http:
        name, seen = await respond(http, None)
        found = set()
        for _ in range(20):
            async with asyncio.timeout(PATIENCE_S):
                name, process = await respond(http, name)
            found.add(process)
    assert seen in found
    assert len(found) == WORKERS


async def respond(http: aiohttp.ClientSession, previous: str | None) -> tuple[str, str]:
    """The next response of a conversation; the process that made it."""
    body = {"model": "openai/gpt-4.1-mini", "input": "hi", "previous_response_id": previous}
    for _ in range(100):
        async with http.post("/responses", json=body) as response:
            told = await response.json()
            if response.status == 200:
                return told["id"], process_of(response)
        assert told["error"]["code"] == "previous_response_not_found"
        await asyncio.sleep(POLL_S)  # the others are told a moment later
    raise AssertionError(told)


async def test_a_worker_that_dies_is_replaced_and_the_others_serve(server: Server) -> None:
    await until_workers_are(server, WORKERS)
    async with asking(server) as http:
        for _ in range(20):
            await served(http)
        await until_it_counts(server, 20)
        killed = workers_of(server)[0]
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while killed in workers_of(server):
                await asyncio.sleep(POLL_S)
        for _ in range(20):
            await served(http)
        # what the dead one had counted is not lost
        await until_it_counts(server, 40)
        assert server.metric("parley_worker_restarts_total") == 1
        await until_workers_are(server, WORKERS)
        assert len({await served(http) for _ in range(60)}) == WORKERS
    assert server.logged('"a worker ended and is replaced"')


async def test_a_call_of_the_real_client_goes_through_it_and_is_drained(
    current_client: Client, server: Server
) -> None:
    await until_workers_are(server, WORKERS)
    async with asyncio.timeout(240), calling(current_client, server.url) as call:
        await call.does("call", "reply", "speak", "overlap")
        assert await asyncio.to_thread(server.metric, "parley_requests_total", route="chat") > 0
        assert await asyncio.to_thread(server.metric, "parley_open_sessions", route="bargein") == 1
        server.process.send_signal(signal.SIGTERM)
        while (await asyncio.to_thread(server.get, "/readyz"))[0] != 503:
            await asyncio.sleep(POLL_S)
        await call.does("overlap")
        assert server.process.poll() is None
    assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 0


async def test_a_second_signal_ends_every_worker_at_once(server: Server) -> None:
    await until_workers_are(server, WORKERS)
    workers = workers_of(server)
    async with asking(server) as http, http.ws_connect("/bargein"):
        server.process.send_signal(signal.SIGTERM)
        while (await asyncio.to_thread(server.get, "/readyz"))[0] != 503:
            await asyncio.sleep(POLL_S)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, 60)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


async def test_workers_end_when_their_supervisor_is_killed(server: Server) -> None:
    await until_workers_are(server, WORKERS)
    workers = workers_of(server)
    server.process.kill()
    async with asyncio.timeout(PATIENCE_S):
        while any(is_alive(pid) for pid in workers):
            await asyncio.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_model_that_cannot_be_loaded_ends_the_server_as_it_does_without_workers(
    config: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")

    done = subprocess.run(
        [
            sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1", "--port", "0",
            "--admin-port", "0", "--config", str(_written(tmp_path, broken)), "--workers", "2",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "not a model that ONNX Runtime can load" in done.stderr


def _written(folder: Path, model: Path) -> Path:
    file = folder / "gateway.yaml"
    file.write_text(f"keys: {{{PAIR[0]}: {PAIR[1]}}}\nbargein: {{model: {model}}}\n")
    return file
