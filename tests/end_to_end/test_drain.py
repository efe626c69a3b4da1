"""A rolling restart behind a load balancer, while a call of the real client goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.server.auth import mint
from tests.end_to_end.balancer import balancing
from tests.end_to_end.clients import CLIENTS, PYTHONS_KEPT, Client, Event
from tests.end_to_end.conftest import installed
from tests.end_to_end.rollout import roll, table
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.openai_chat import FakeOpenAI

PAIR = ("APItest", "s" * 40)
POLL_S = 0.05
REPLIES = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = frame_model.write(tmp_path_factory.mktemp("model") / "m.onnx")
    with FakeOpenAI() as llm, FakeCartesia() as voice:
        yield f"""
bargein: {{model: {model}}}
server: {{drain_delay_s: 1, shutdown_grace_s: 80}}
providers:
  openai: {{base_url: "{llm.base_url}", api_key: k}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
"""


class Call:
    """The driver of a call."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.troubles: list[Event] = []

    async def does(self, *names: str) -> None:
        """Have it do these; each must succeed."""
        for name in names:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{name}\n".encode())
            await self._process.stdin.drain()
            event = await self.told(name)
            assert event["ok"], event

    async def told(self, name: str) -> Event:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            try:
                event: Event = json.loads(line)
            except ValueError:
                continue
            if not isinstance(event, dict):
                continue
            if event.get("event") == "trouble":
                self.troubles.append(event)
            elif event.get("event") == name:
                return event
        raise AssertionError(f"the driver ended before {name}")


@asynccontextmanager
async def calling(client: Client, url: str) -> AsyncIterator[Call]:
    kept = {key: os.environ[key] for key in PYTHONS_KEPT if key in os.environ}
    said = {"LIVEKIT_INFERENCE_URL": f"{url}/v1", "LIVEKIT_REMOTE_EOT_URL": f"{url}/v1"}
    pair = {"LIVEKIT_API_KEY": PAIR[0], "LIVEKIT_API_SECRET": PAIR[1]}
    process = await asyncio.create_subprocess_exec(
        *client.command("drive_call", []),
        cwd=client.folder(),
        env={**kept, **said, **pair},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    call = Call(process)
    try:
        await call.told("listening")
        yield call
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def until_none_is_open(server: Server, route: str) -> None:
    while await asyncio.to_thread(server.metric, "parley_open_sessions", route=route):
        await asyncio.sleep(POLL_S)


async def test_a_rolling_restart_costs_a_call_nothing(
    current_client: Client, config: str, tmp_path: Path
) -> None:
    async with asyncio.timeout(240):
        with ExitStack() as stack:
            servers = []
            for name in ("old", "new"):
                (tmp_path / name).mkdir()
                started = running(tmp_path / name, config, pair=PAIR)
                servers.append(await asyncio.to_thread(stack.enter_context, started))
            old, new = servers
            async with (
                balancing(old.port, new.port) as balancer,
                calling(current_client, balancer.url) as call,
            ):
                await balancer.until_ready(old.port, new.port)
                await call.does("call", "reply", "speak", "overlap")
                assert new.metric("parley_requests_total") == 0

                old.process.send_signal(signal.SIGTERM)
                await balancer.until_ready(new.port)
                assert old.metric("parley_draining") == 1
                # its detector is where it was, and so are its other connections
                await call.does(*["reply", "speak", "overlap"] * REPLIES)
                assert new.metric("parley_requests_total", route="chat") > 0
                # the idle /tts socket is closed, and the next sentence is said elsewhere
                await until_none_is_open(old, "tts")
                await call.does("speak", "reply", "overlap")
                assert new.metric("parley_open_sessions", route="tts") == 1
                assert all(one["recoverable"] for one in call.troubles)
                assert old.process.poll() is None

                # the call ends, and with it the old server; the next one has its detector
                await call.does("call", "overlap")
                assert await asyncio.to_thread(old.process.wait, 60) == 0
                await call.does("reply", "speak", "overlap")
                assert new.metric("parley_open_sessions", route="bargein") == 1
                assert balancer.refused == 0
                print(*call.troubles, sep="\n")
                assert all(one["recoverable"] for one in call.troubles)
    assert '"outcome":"ok"' in old.log.read_text()


async def test_nobody_hears_that_every_gateway_is_replaced(tmp_path: Path) -> None:
    """The short form of `python -m tests.end_to_end.rollout`; calls last for some seconds."""
    clients = [installed(client) for client in CLIENTS]
    talks = await roll(tmp_path, clients, 2, goes_on={"reply": 1, "utterance": 1, "overlap": 1})

    print(table(talks, 2))
    for talk in talks:
        for name in ("reply", "utterance", "overlap", "turn"):
            assert talk.tries(name)[1] == 0, [e for e in talk.of(name) if not e["ok"]]
        said, lost, again = talk.words()
        assert said > 0
        assert (lost, again) == (0, 0), talk.of("final")
        assert talk.detectors_lost == []
        assert talk.broken == []


async def test_requests_on_a_kept_connection_are_served_and_told_that_it_ends(
    config: str, tmp_path: Path
) -> None:
    token = mint(*PAIR, identity="agent", ttl_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    with running(tmp_path, config, pair=PAIR) as server:
        one = aiohttp.TCPConnector(limit=1)
        async with (
            asyncio.timeout(120),
            aiohttp.ClientSession(server.url, connector=one, headers=headers) as http,
            aiohttp.ClientSession(server.url, headers=headers) as other,
            other.ws_connect("/bargein"),  # the server has somebody to wait for
        ):
            async with http.get("/models") as response:
                assert "connection" not in response.headers
            server.process.send_signal(signal.SIGTERM)
            while server.get("/readyz")[0] != 503:
                await asyncio.sleep(POLL_S)
            async with http.get("/models") as response:
                assert response.status == 200
                assert response.headers["connection"] == "close"


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_costs_no_usage_record(tmp_path: Path, workers: int) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    store = tmp_path / "usage.db"
    given = f"""
bargein: {{model: {model}}}
usage: {{url: "sqlite:{store}", flush_s: 60}}
server: {{workers: {workers}, shutdown_grace_s: 80}}
"""
    with running(tmp_path, given, pair=PAIR) as server:
        headers = {"Authorization": f"Bearer {mint(*PAIR, identity='agent', ttl_s=300)}"}
        async with aiohttp.ClientSession(server.url, headers=headers) as http:
            async with http.ws_connect("/bargein"):
                pass
            async with http.ws_connect("/bargein"):
                server.process.send_signal(signal.SIGTERM)
                while (await asyncio.to_thread(server.get, "/readyz"))[0] != 503:
                    await asyncio.sleep(POLL_S)
                server.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(server.process.wait, 60)
    with contextlib.closing(sqlite3.connect(store)) as connection:
        outcomes = connection.execute("SELECT count(*) FROM parley_usage").fetchone()
    assert outcomes == (2,), "that which was over, and that which was cut off"
