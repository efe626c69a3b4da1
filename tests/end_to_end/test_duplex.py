"""OpenAI's own Live client and LiveKit's DuplexModel, through the real server, to fakes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.server.auth import mint
from tests.end_to_end.clients import Client, Event
from tests.end_to_end.server import Server, running
from tests.fakes.openai_live import KEY, PIECE, RATE, USAGE, WORDS, FakeLive

SPEECH = base64.b64encode(b"\x10\x20" * (RATE // 2)).decode()
SILENCE = base64.b64encode(bytes(RATE)).decode()
MODEL = "openai/gpt-live-1"
ASK = {"type": "session.commentary.append", "delegation_id": None, "content": "speak"}


@dataclass
class Setup:
    server: Server
    first: FakeLive
    second: FakeLive

    @property
    def token(self) -> str:
        return mint(self.server.api_key, self.server.api_secret, identity="agent", ttl_s=600)

    def connect(self, model: str | None = None, **headers: str) -> Any:
        client = openai.AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key=self.token)
        query = {} if model is None else {"model": model}
        return client.live.connect(extra_headers=headers, extra_query=query)


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(FakeLive(name)) for name in ("first", "second"))
        config = f"""
log: {{format: json}}
realtime: {{open_timeout_s: 2, connect_s: 6, response_timeout_s: 2}}
providers:
  openai: {{base_url: "{first.base_url}", api_key: {KEY}}}
  second: {{type: openai, base_url: "{second.base_url}", api_key: {KEY}}}
models:
  {MODEL}:
    - {{provider: openai, model: gpt-live-1}}
    - {{provider: second, model: gpt-live-1.1}}
  alone: [{{provider: second, model: gpt-live-1}}]
prices:
  "openai:gpt-live-1": {{session_minute: 0.6}}
  "openai:gpt-5.6-luna": {{input: 1, output: 10, cached_input: 0.5}}
"""
        server = stack.enter_context(running(tmp_path_factory.mktemp("duplex"), config))
        yield Setup(server, first, second)


@pytest.fixture
def setup(running_setup: Setup) -> Setup:
    running_setup.first.forget()
    running_setup.second.forget()
    return running_setup


async def until(connection: Any, kind: str) -> list[Any]:
    """The events up to the first of this type."""
    events: list[Any] = []
    async with asyncio.timeout(30):
        async for event in connection:
            events.append(event)
            if event.type == kind:
                return events
    raise AssertionError([event.type for event in events])


async def the_end(connection: Any) -> tuple[list[Any], int]:
    """What still comes, and the close code."""
    events: list[Any] = []

    async def listen() -> None:
        while True:
            events.append(await connection.recv())

    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(listen(), 30)
    assert closed.value.rcvd is not None
    return events, closed.value.rcvd.code


def start(model: str = MODEL, **session: Any) -> Any:
    return {"type": "session.start", "event_id": "start_1", "session": {"model": model, **session}}


def delegating(**responses: Any) -> Any:
    return {"delegation": {"type": "responses", "responses": responses}}


async def begin(connection: Any, **session: Any) -> Any:
    await connection.send(start(**session))
    return (await until(connection, "session.started"))[-1]


def said(events: list[Any]) -> tuple[str, ...]:
    return tuple(e.delta for e in events if e.type == "session.output_transcript.delta")


@pytest.mark.parametrize("model", [None, MODEL])
async def test_it_listens_and_speaks(setup: Setup, model: str | None) -> None:
    async with setup.connect(model) as connection:
        await begin(connection)
        for audio in (SPEECH, SILENCE):
            await connection.send({"type": "session.input_audio.append", "audio": audio})
        events = await until(connection, "session.usage.updated")
        assert said(events) == WORDS
        await connection.send({"type": "session.close"})
        events, code = await the_end(connection)
    assert (events[-1].type, code) == ("session.closed", 1000)
    (exchange,) = setup.first.received
    assert not exchange.query
    assert exchange.headers["Authorization"] == f"Bearer {KEY}"
    assert setup.first.heard()[0]["session"]["model"] == "gpt-live-1"


async def test_what_is_delegated_goes_by_the_vendors_name(setup: Setup) -> None:
    async with setup.connect(MODEL) as connection:
        await begin(connection, **delegating(model="openai/gpt-5.6-luna"))
    heard = setup.first.heard()[0]["session"]["delegation"]["responses"]
    assert heard["model"] == "gpt-5.6-luna"


@pytest.mark.parametrize(
    ("responses", "code"),
    [
        ({"tools": [{"type": "web_search"}]}, "unsupported_server_tool"),
        ({"service_tier": "priority"}, "unsupported_service_tier"),
        ({"model": "google/gemini"}, "unsupported_delegated_model"),
        ({"model": 7}, "invalid_delegated_model"),
    ],
)
async def test_what_is_not_served_is_refused_with_livekits_codes(
    setup: Setup, responses: dict[str, Any], code: str
) -> None:
    async with setup.connect(MODEL) as connection:
        await connection.send(start(**delegating(**responses)))
        events = await until(connection, "error")
        assert events[-1].error.code == code
        assert events[-1].error.client_event_id == "start_1"
        await begin(connection)


@pytest.mark.parametrize("scenario", ["status:404", "status:500", "die:session.start", "no-start"])
async def test_until_it_has_started_a_lost_line_is_not_noticed(setup: Setup, scenario: str) -> None:
    setup.first.script(scenario, scenario)
    async with setup.connect(MODEL) as connection:
        started = await begin(connection)
    assert started.session.model == "gpt-live-1.1"
    setup.first.forget()
    async with setup.connect(MODEL, **{"X-LiveKit-Inference-Provider": "openai"}) as connection:
        await begin(connection)  # its rest ends with a success


@pytest.mark.parametrize(
    ("scenario", "status"), [("status:401", 502), ("status:429", 429), ("status:500", 503)]
)
async def test_when_nobody_is_left_the_handshake_is_refused(
    setup: Setup, scenario: str, status: int
) -> None:
    setup.second.script(*([scenario] * 4))
    with pytest.raises(InvalidStatus) as refused:
        async with setup.connect("alone"):
            pass
    assert refused.value.response.status_code == status


async def test_a_model_that_is_not_served_is_told(setup: Setup) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with setup.connect("nobody/x"):
            pass
    assert refused.value.response.status_code == 404
    async with setup.connect() as connection:
        await connection.send(start("nobody/x"))
        events, code = await the_end(connection)
    assert (events[-1].error.code, code) == ("model_not_found", 1008)


async def test_later_it_is_told_as_the_protocol_tells_it(setup: Setup) -> None:
    setup.first.script("die-speaking")
    async with setup.connect(MODEL) as connection:
        await begin(connection)
        await connection.send(ASK)
        events, code = await the_end(connection)
    assert (events[-1].error.code, code) == ("stream_interrupted", 1011)


async def test_an_expired_session_ends_as_at_the_vendor(setup: Setup) -> None:
    setup.first.script("expire")
    async with setup.connect(MODEL) as connection:
        await begin(connection)
        await connection.send(ASK)
        events, code = await the_end(connection)
    assert (events[-1].type, events[-1].reason, code) == ("session.closed", "expired", 1000)


async def test_an_empty_account_is_the_operators_affair(setup: Setup) -> None:
    setup.second.script("empty", "empty")
    async with setup.connect("alone") as connection:
        await connection.send(start("alone"))
        events, _ = await the_end(connection)
    assert events[-1].error.code == "upstream_quota"
    assert KEY not in events[-1].to_json()
    setup.second.forget()


# -- LiveKit's client

JOBS: dict[str, dict[str, Any]] = {
    "speech": {"turns": [{"speak": 0.5}, {"ask": "and now?"}]},
    "tools": {"tool": True, "turns": [{"ask": "the weather"}]},
    "nobody": {"model": "nobody/x", "turns": [{"ask": "x"}]},
    "refused": {"backend": "google/gemini", "turns": [{"ask": "x"}]},
}


@pytest.fixture(scope="module")
def told(current_client: Client, running_setup: Setup) -> dict[str, list[Event]]:
    """Every job: its name -> what came of it."""
    for fake in (running_setup.first, running_setup.second):
        fake.forget()
    jobs = [f"--job={json.dumps({'job': name, **job})}" for name, job in JOBS.items()]
    events = current_client.drive(
        "drive_duplex", *jobs, environment=running_setup.server.agent_environment()
    )
    return {name: [e for e in events if e.get("job") == name] for name in JOBS}


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def test_livekits_client_listens_and_speaks(told: dict[str, list[Event]]) -> None:
    words = [e["delta"] for e in of(told["speech"], "server")
             if e["type"] == "session.output_transcript.delta"]  # fmt: skip
    assert tuple(words) == WORDS * 2
    assert of(told["speech"], "heard")[0]["audio"] >= 2 * len(WORDS) * len(PIECE)
    assert not of(told["speech"], "failed")
    assert not of(told["speech"], "closed_badly")


def test_livekits_client_calls_functions(told: dict[str, list[Event]]) -> None:
    (called,) = of(told["tools"], "called")
    assert called["name"] == "weather"
    delegated = of(told["tools"], "delegated")
    assert [one["tokens"] for one in delegated] == [USAGE["total_tokens"]] * 2
    assert not of(told["tools"], "failed")


@pytest.mark.parametrize("job", ["nobody", "refused"])
def test_livekits_client_learns_what_is_not_served(told: dict[str, list[Event]], job: str) -> None:
    failures = of(told[job], "failed")
    assert failures[-1]["recoverable"] is False
    assert len(failures) <= 5


async def test_what_was_used_is_counted(setup: Setup) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    async with setup.connect(MODEL, **{"X-LiveKit-Job-ID": "job-of-this-test"}) as connection:
        await begin(connection, **delegating(model="gpt-5.6-luna", tools=tools))
        await connection.send({"type": "session.input_audio.append", "audio": SILENCE})
        await connection.send(ASK)
        while (await until(connection, "response.event"))[-1].event["type"] != "response.completed":
            pass
        await connection.send({"type": "session.close"})
        await the_end(connection)
    log = setup.server.logged("job-of-this-test")
    line = next(json.loads(one) for one in log.splitlines() if "job-of-this-test" in one)
    assert (line["outcome"], line["provider"], line["deployment"]) == ("ok", "openai", "gpt-live-1")
    assert line["audio_s"] == 0.5
    assert (line["prompt_tokens"], line["completion_tokens"]) == (40, 9)
    voice, backend = 2.0 / 60 * 0.6, (32 * 1 + 8 * 0.5 + 9 * 10) / 1e6
    assert line["cost"] == pytest.approx(voice + backend)
