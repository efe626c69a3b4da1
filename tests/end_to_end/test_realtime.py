"""OpenAI's own realtime client and LiveKit's RealtimeModel, through the real server, to fakes."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import openai
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.server.auth import mint
from tests.end_to_end.clients import Client, Event
from tests.end_to_end.server import Server, running
from tests.fakes.openai_realtime import KEY, PIECE, PIECES, RATE, WORDS, FakeRealtime

SPEECH = base64.b64encode(b"\x10\x20" * (RATE // 2)).decode()
SILENCE = base64.b64encode(bytes(RATE)).decode()
SAID = "".join(WORDS)
TEXT: Any = {"type": "realtime", "output_modalities": ["text"]}
HELLO: Any = {"type": "message", "role": "user",
              "content": [{"type": "input_text", "text": "When is noon?"}]}  # fmt: skip
TOOL: Any = {
    "type": "function", "name": "weather", "description": "of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


@dataclass
class Setup:
    server: Server
    first: FakeRealtime
    second: FakeRealtime
    xai: FakeRealtime

    def forget(self) -> None:
        for fake in (self.first, self.second, self.xai):
            fake.forget()

    @property
    def token(self) -> str:
        return mint(self.server.api_key, self.server.api_secret, identity="agent", ttl_s=600)

    def sdk(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.server.url}/v1", api_key=self.token, max_retries=0
        )

    def connect(self, model: str = "openai/gpt-realtime", **headers: str) -> Any:
        return self.sdk().realtime.connect(model=model, extra_headers=headers)


@pytest.fixture(scope="module")
def running_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with ExitStack() as stack:
        first, second, xai = (
            stack.enter_context(FakeRealtime(name)) for name in ("first", "second", "xai")
        )
        config = f"""
log: {{format: json}}
realtime: {{open_timeout_s: 2, connect_s: 6, response_timeout_s: 2, stall_s: 2}}
providers:
  openai: {{base_url: "{first.base_url}", api_key: {KEY}}}
  second: {{type: openai-compatible, base_url: "{second.base_url}", api_key: {KEY}}}
  xai: {{base_url: "{xai.base_url}", api_key: {KEY}}}
models:
  openai/gpt-realtime:
    - {{provider: openai, model: gpt-realtime}}
    - {{provider: second, model: qwen-omni}}
  alone: [{{provider: second, model: qwen-omni}}]
prices:
  "openai:gpt-realtime":
    {{input: 4, output: 16, cached_input: 0.4, audio_input: 32, audio_output: 64}}
"""
        server = stack.enter_context(running(tmp_path_factory.mktemp("realtime"), config))
        yield Setup(server, first, second, xai)


@pytest.fixture
def setup(running_setup: Setup) -> Setup:
    running_setup.forget()
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


async def ask(connection: Any) -> list[Any]:
    """A question in text, and all up to the end of its answer."""
    await connection.session.update(session=TEXT)
    await connection.conversation.item.create(item=HELLO)
    await connection.response.create()
    return await until(connection, "response.done")


def text_of(events: list[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


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


async def refusal(setup: Setup, model: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and error of a refused handshake."""
    with pytest.raises(InvalidStatus) as refused:
        async with setup.connect(model, **headers):
            pass
    response = refused.value.response
    error: dict[str, Any] = json.loads(response.body or b"{}")["error"]
    return response.status_code, error


# -- OpenAI's client


async def test_a_question_in_text_is_answered(setup: Setup) -> None:
    async with setup.connect() as connection:
        events = await ask(connection)
    assert text_of(events) == SAID
    assert [event.type for event in events][:2] == ["session.created", "session.updated"]
    (exchange,) = setup.first.connections()
    assert exchange.query == {"model": "gpt-realtime"}
    assert exchange.headers["Authorization"] == f"Bearer {KEY}"
    assert setup.token.split(".")[1] not in str(exchange.headers)


async def test_speech_is_answered_in_speech_and_cut_short(setup: Setup) -> None:
    async with setup.connect() as connection:
        for audio in (SPEECH, SILENCE):
            await connection.input_audio_buffer.append(audio=audio)
        events = await until(connection, "response.done")
        heard = [e.delta for e in events if e.type == "response.output_audio.delta"]
        assert b"".join(map(base64.b64decode, heard)) == PIECE * PIECES
        spoken = next(e.item_id for e in events if e.type == "response.output_audio.delta")
        await connection.conversation.item.truncate(
            item_id=spoken, content_index=0, audio_end_ms=200
        )
        (truncated,) = await until(connection, "conversation.item.truncated")
        assert truncated.audio_end_ms == 200


async def test_a_function_is_called_and_its_result_used(setup: Setup) -> None:
    async with setup.connect() as connection:
        await connection.session.update(session={**TEXT, "tools": [TOOL]})
        await connection.response.create()
        events = await until(connection, "response.done")
        call = events[-1].response.output[0]
        assert (call.type, call.name) == ("function_call", "weather")
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        await connection.conversation.item.create(item=output)
        await connection.response.create()
        assert text_of(await until(connection, "response.done")) == SAID


async def test_a_model_in_an_update_is_that_of_the_url(setup: Setup) -> None:
    async with setup.connect() as connection:
        await connection.session.update(session={**TEXT, "model": "openai/gpt-realtime"})
        await until(connection, "session.updated")
    assert "model" not in setup.first.heard()[0]["session"]


async def test_a_mistake_is_told_and_the_session_goes_on(setup: Setup) -> None:
    async with setup.connect() as connection:
        await connection.send_raw("no json")
        events = await until(connection, "error")
        assert events[-1].error.code == "bad_request"
        await connection.response.cancel()
        events = await until(connection, "error")
        assert events[-1].error.code == "response_cancel_not_active"
        assert text_of(await ask(connection)) == SAID


async def test_a_browser_offers_its_token_as_a_subprotocol(setup: Setup) -> None:
    protocols = ("realtime", f"openai-insecure-api-key.{setup.token}")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{setup.server.url}/v1/realtime?model=openai/gpt-realtime", protocols=protocols
        ) as socket,
    ):
        assert socket.protocol == "realtime"
        assert (await socket.receive_json())["type"] == "session.created"


async def test_the_list_of_models_has_them(setup: Setup) -> None:
    async with setup.sdk() as sdk:
        models = [model.id async for model in sdk.models.list()]
        model = await sdk.models.retrieve("xai/grok-voice")
    named = {"openai/gpt-realtime", "openai/gpt-realtime-mini", "xai/grok-voice", "alone"}
    assert named <= set(models)
    assert model.owned_by == "xai"


async def test_a_provider_can_be_pinned(setup: Setup) -> None:
    async with setup.connect(**{"X-LiveKit-Inference-Provider": "second"}) as connection:
        await until(connection, "session.created")
    assert not setup.first.connections()
    assert setup.second.connections()[0].query == {"model": "qwen-omni"}


async def test_xais_models_are_relayed_too(setup: Setup) -> None:
    async with setup.connect("xai/grok-voice") as connection:
        assert text_of(await ask(connection)) == SAID
    assert setup.xai.connections()[0].query == {"model": "grok-voice-latest"}


# -- providers that fail


@pytest.mark.parametrize(
    "scenario", ["status:404", "status:429", "status:500", "invalid-key", "mute", "garbage"]
)
async def test_a_provider_that_refuses_is_replaced_before_the_upgrade(
    setup: Setup, scenario: str
) -> None:
    setup.first.script(scenario, scenario)
    async with setup.connect() as connection:
        events = await ask(connection)
    assert text_of(events) == SAID
    assert [event.type for event in events].count("session.created") == 1
    # other tests want the first one; it rests now
    await healed(setup)


async def healed(setup: Setup) -> None:
    """The first provider serves again: its rest ends with a success."""
    setup.forget()
    async with setup.connect(**{"X-LiveKit-Inference-Provider": "openai"}) as connection:
        await until(connection, "session.created")
    setup.forget()


@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    [
        ("status:401", 502, "upstream_auth"),
        ("status:404", 502, "upstream_not_found"),
        ("status:429", 429, "rate_limited"),
        ("status:500", 503, "upstream_error"),
        ("invalid-key", 502, "upstream_auth"),
    ],
)
async def test_when_nobody_is_left_the_handshake_is_refused(
    setup: Setup, scenario: str, status: int, code: str
) -> None:
    setup.second.script(*([scenario] * 4))
    answered, error = await refusal(setup, "alone")
    assert (answered, error["code"]) == (status, code)
    assert KEY not in json.dumps(error)


@pytest.mark.parametrize("scenario", ["die:response.create", "close:response.create:1011",
                                      "no-response", "die:conversation.item.create"])  # fmt: skip
async def test_until_the_first_response_a_lost_line_is_not_noticed(
    setup: Setup, scenario: str
) -> None:
    setup.first.script(scenario, scenario)
    async with setup.connect() as connection:
        events = await ask(connection)
    kinds = [event.type for event in events]
    assert text_of(events) == SAID
    for kind in ("session.created", "session.updated", "response.created"):
        assert kinds.count(kind) == 1, kinds
    assert "error" not in kinds
    heard = [event["type"] for event in setup.second.heard()]
    assert heard == ["session.update", "conversation.item.create", "response.create"]
    await healed(setup)


async def test_the_next_provider_hears_what_was_said(setup: Setup) -> None:
    setup.first.script("die:response.create", "die:response.create")
    async with setup.connect() as connection:
        await connection.session.update(
            session={"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        )
        await connection.input_audio_buffer.append(audio=SPEECH)
        await connection.input_audio_buffer.commit()
        await until(connection, "conversation.item.added")
        await connection.response.create()
        events = await until(connection, "response.done")
    kinds = [event.type for event in events]
    assert kinds.count("conversation.item.deleted") == 2  # one for each line that was lost
    (appended,) = [e for e in setup.second.heard() if e["type"] == "input_audio_buffer.append"]
    assert appended["audio"] == SPEECH
    await healed(setup)


@pytest.mark.parametrize(
    ("scenario", "code", "close"),
    [
        ("die-in-response", "stream_interrupted", 1011),
        ("stall-in-response", "upstream_timeout", 1011),
        ("garbage-in-response", "upstream_protocol", 1011),
        ("fail:insufficient_quota", "upstream_quota", 1011),
    ],
)
async def test_later_it_is_told_as_the_protocol_tells_it(
    setup: Setup, scenario: str, code: str, close: int
) -> None:
    setup.first.script(scenario)
    async with setup.connect() as connection:
        await connection.session.update(session=TEXT)
        await connection.response.create()
        events, closed = await the_end(connection)
    assert events[-1].type == "error"
    assert (events[-1].error.code, closed) == (code, close)
    assert KEY not in str([event.to_json() for event in events])
    if code == "upstream_quota":
        await healed(setup)


async def test_a_session_of_an_hour_ends_as_at_the_vendor(setup: Setup) -> None:
    setup.second.script(*(["expire"] * 4))
    async with setup.connect("alone") as connection:
        await connection.response.create()
        events, closed = await the_end(connection)
    assert (events[-1].error.code, closed) == ("session_expired", 1001)


async def test_no_key_leaks_through_a_vendors_error(setup: Setup) -> None:
    setup.first.script("leak")
    async with setup.connect() as connection:
        await connection.response.create()
        events = await until(connection, "error")
    assert "no upstream for" in events[-1].error.message
    assert KEY not in events[-1].to_json()
    assert KEY not in setup.server.log.read_text()


async def test_the_callers_own_mistakes_are_refused(setup: Setup) -> None:
    assert (await refusal(setup, "nobody/x"))[0] == 404
    status, error = await refusal(
        setup, "openai/gpt-realtime", **{"X-LiveKit-Inference-Provider": "xai"}
    )
    assert (status, error["param"]) == (400, "X-LiveKit-Inference-Provider")
    with pytest.raises(InvalidStatus) as refused:
        async with openai.AsyncOpenAI(
            base_url=f"{setup.server.url}/v1", api_key="sk-wrong"
        ).realtime.connect(model="openai/gpt-realtime"):
            pass
    assert refused.value.response.status_code == 401


async def test_a_message_that_is_too_large_ends_the_session(setup: Setup) -> None:
    async with setup.connect() as connection:
        await until(connection, "session.created")
        await connection.send_raw("x" * (2 << 20))
        _, closed = await the_end(connection)
    assert closed == 1009


async def test_a_client_that_does_not_read_is_let_go(setup: Setup) -> None:
    # takes the five seconds that a client may be blocked
    setup.first.script("flood")
    url = f"{setup.server.url}/v1/realtime?model=openai/gpt-realtime"
    headers = {"Authorization": f"Bearer {setup.token}", "X-LiveKit-Job-ID": "job-that-sleeps"}
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(url, headers=headers)
        await socket.send_json({"type": "response.create"})
        log = await asyncio.to_thread(setup.server.logged, "job-that-sleeps")
        line = next(json.loads(one) for one in log.splitlines() if "job-that-sleeps" in one)
        assert line["outcome"] == "left"
        (exchange,) = setup.first.connections()
        assert setup.first.wait_until(lambda: exchange.ended_at is not None)
        await socket.close()


# -- what the operator sees


async def test_what_was_used_is_counted(setup: Setup) -> None:
    async with setup.connect(**{"X-LiveKit-Job-ID": "job-of-this-test"}) as connection:
        for audio in (SPEECH, SILENCE):
            await connection.input_audio_buffer.append(audio=audio)
        await until(connection, "response.done")
    log = setup.server.logged("job-of-this-test")
    line = next(json.loads(one) for one in log.splitlines() if "job-of-this-test" in one)
    assert (line["provider"], line["deployment"]) == ("openai", "gpt-realtime")
    assert line["responses"] == 1
    assert line["audio_s"] == 1.0
    # 20 of text (8 cached), 10 of audio in; 10 of text, 20 of audio out: see the fake
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (30, 8, 30)
    assert (line["audio_prompt_tokens"], line["audio_completion_tokens"]) == (10, 20)
    expected = (12 * 4 + 8 * 0.4 + 10 * 32 + 10 * 16 + 20 * 64) / 1e6
    assert line["cost"] == pytest.approx(expected)
    tokens = setup.server.metric("parley_tokens_total", kind="audio_completion")
    assert tokens >= 20


# -- LiveKit's client

JOBS: dict[str, dict[str, Any]] = {
    "text": {"text": True, "turns": [{"say": "hello"}, {"say": "and now?"}]},
    "audio": {"turns": [{"speak": 0.5}], "truncate_ms": 200},
    "vad": {"server_turns": True, "turns": [{"speak": 0.5}]},
    "tools": {"text": True, "tool": True, "turns": [{"say": "what is the weather?"}]},
    "xai": {"model": "xai/grok-voice", "server_turns": True, "turns": [{"speak": 0.5}]},
    "pinned": {"provider": "second", "text": True, "turns": [{"say": "hello"}]},
    "unknown": {"model": "openai/gpt-nothing", "turns": [{"say": "hello"}]},
    "nobody": {"model": "nobody/x", "turns": [{"say": "hello"}]},
}


@pytest.fixture(scope="module")
def told(current_client: Client, running_setup: Setup) -> dict[str, list[Event]]:
    """Every job: its name -> what came of it."""
    running_setup.forget()
    jobs = [f"--job={json.dumps({'job': name, **job})}" for name, job in JOBS.items()]
    events = current_client.drive(
        "drive_realtime", *jobs, environment=running_setup.server.agent_environment()
    )
    return {name: [e for e in events if e.get("job") == name] for name in JOBS}


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def test_livekits_client_talks_in_text(told: dict[str, list[Event]]) -> None:
    assert [reply["text"] for reply in of(told["text"], "reply")] == [SAID, SAID]
    assert not of(told["text"], "failed")
    assert of(told["text"], "ended")[0]["items"] == ["message"] * 4


@pytest.mark.parametrize("job", ["audio", "vad", "xai"])
def test_livekits_client_talks_in_speech(told: dict[str, list[Event]], job: str) -> None:
    (reply,) = of(told[job], "reply")
    assert (reply["text"], reply["audio"]) == (SAID, len(PIECE) * PIECES)
    assert not of(told[job], "failed")
    assert of(told[job], "used")[-1]["output"] == 30


def test_livekits_client_cuts_a_reply_short(told: dict[str, list[Event]]) -> None:
    assert [e["type"] for e in of(told["audio"], "server")][-1] == "conversation.item.truncated"


def test_livekits_client_calls_functions(told: dict[str, list[Event]]) -> None:
    assert [reply["calls"] for reply in of(told["tools"], "reply")] == [["weather"], []]
    assert not of(told["tools"], "failed")


def test_livekits_client_pins_a_provider(told: dict[str, list[Event]], setup: Setup) -> None:
    assert of(told["pinned"], "reply")[0]["text"] == SAID


def test_livekits_client_learns_that_a_model_is_not_served(told: dict[str, list[Event]]) -> None:
    failures = of(told["nobody"], "failed")
    assert failures[-1]["recoverable"] is False
    assert len(failures) <= 5


def test_livekits_client_goes_on_where_a_reply_was_lost(
    current_client: Client, setup: Setup
) -> None:
    setup.first.script("die-in-response")
    turns = [{"say": "hello"}, {"say": "and now?"}]
    job = {"job": "lost", "text": True, "turns": turns}
    events = current_client.drive(
        "drive_realtime", f"--job={json.dumps(job)}",
        environment=setup.server.agent_environment(),
    )  # fmt: skip
    assert of(events, "reconnected")
    assert of(events, "reply")[-1]["text"] == SAID
    assert all(failure["recoverable"] for failure in of(events, "failed"))
    said = [e["item"]["content"][0]["text"] for e in setup.first.heard()
            if e["type"] == "conversation.item.create" and e["item"]["role"] == "user"]  # fmt: skip
    assert said == ["hello", "and now?"]


# -- a server of its own


async def test_a_drain_waits_for_the_end_of_a_response(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        FakeRealtime() as fake,
        running(
            tmp_path_factory.mktemp("drain"),
            f"server: {{shutdown_grace_s: 6}}\n"
            f'providers: {{openai: {{base_url: "{fake.base_url}", api_key: {KEY}}}}}',
        ) as server,
    ):
        fake.script("slow")
        setup = Setup(server, fake, fake, fake)
        async with setup.connect() as connection:
            await connection.response.create()
            await until(connection, "response.created")
            server.process.send_signal(signal.SIGTERM)
            await until(connection, "response.done")
            events, closed = await the_end(connection)
        assert (events, closed) == ([], 1012)


async def test_a_key_without_anything_left_is_told_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        FakeRealtime() as fake,
        running(
            tmp_path_factory.mktemp("quota"),
            f'providers: {{openai: {{base_url: "{fake.base_url}", api_key: {KEY}}}}}\n'
            'quota: {keys: {"*": {tokens_per_minute: 100}}}\n',
        ) as server,
    ):
        setup = Setup(server, fake, fake, fake)
        async with setup.connect() as connection:
            assert text_of(await ask(connection)) == SAID
            await connection.response.create()
            events, closed = await the_end(connection)
        assert events[-1].error.code == "inference_quota_exceeded"
        assert closed == 1008
        status, error = await refusal(setup, "openai/gpt-realtime")
        assert (status, error["quota_type"]) == (429, "tpm")
        assert re.search(r"100 tokens a minute", error["message"])
