"""Gemini's Live API behind /realtime: Google's SDK takes the fake, LiveKit's and OpenAI's clients
talk with it in OpenAI's protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from websockets.exceptions import InvalidStatus

from gateway.server.auth import mint
from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import installed
from tests.end_to_end.server import Server, running
from tests.end_to_end.test_realtime import HELLO, SILENCE, SPEECH, the_end, until
from tests.fakes.google_live import KEY, PIECE, USAGE, WORDS, FakeGemini

PROVIDERS = Client("stt-providers", "python", ("stt-providers.txt",))
SAID = "".join(WORDS)
MODEL = "google/gemini-3.8-live"
AUDIO = PIECE * len(WORDS)


@pytest.fixture(scope="module")
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(gemini: FakeGemini, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = f"""
log: {{format: json}}
realtime: {{open_timeout_s: 2, connect_s: 6, response_timeout_s: 2}}
providers:
  google: {{base_url: "{gemini.url}/v1beta/openai", api_key: {KEY}}}
prices:
  "google:gemini-3.8-live": {{input: 1, output: 2, audio_input: 10, audio_output: 20}}
"""
    with running(tmp_path_factory.mktemp("gemini"), config) as started:
        yield started


@pytest.fixture(autouse=True)
def _forget(gemini: FakeGemini) -> None:
    gemini.forget()


def connect(server: Server, **headers: str) -> Any:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=token)
    return client.realtime.connect(model=MODEL, extra_headers=headers)


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def test_googles_own_client_takes_the_fake_for_the_service(gemini: FakeGemini) -> None:
    installed(PROVIDERS)
    events = PROVIDERS.drive("drive_google_live", gemini.url, KEY, environment={})
    answers = of(events, "answered")
    assert [(one["text"], one["audio"]) for one in answers] == [(SAID, len(AUDIO))] * 2
    assert answers[0]["tokens"] == USAGE["totalTokenCount"]
    assert of(events, "called")[0]["name"] == "weather"


async def test_a_question_in_text_is_answered(server: Server, gemini: FakeGemini) -> None:
    async with connect(server) as connection:
        session: Any = {"type": "realtime", "instructions": "Be brief."}
        await connection.session.update(session=session)
        await connection.conversation.item.create(item=HELLO)
        await connection.response.create()
        events = await until(connection, "response.done")
    kinds = [event.type for event in events]
    assert kinds[:3] == ["session.created", "session.updated", "conversation.item.added"]
    heard = [e.delta for e in events if e.type == "response.output_audio.delta"]
    assert b"".join(map(base64.b64decode, heard)) == AUDIO
    done = events[-1].response
    assert (done.status, done.output[0].content[0].transcript) == ("completed", SAID)
    assert done.usage.output_token_details.audio_tokens == 20
    setup, *rest = gemini.heard()
    assert setup["setup"]["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [next(iter(one)) for one in rest] == ["clientContent"] * 2
    assert gemini.received[0].headers["x-goog-api-key"] == KEY


async def test_speech_is_heard_and_answered(server: Server) -> None:
    async with connect(server) as connection:
        for audio in (SPEECH, SILENCE):
            await connection.input_audio_buffer.append(audio=audio)
        events = await until(connection, "response.done")
    kinds = [event.type for event in events]
    order = ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
             "input_audio_buffer.committed", "response.created"]  # fmt: skip
    assert sorted(order, key=kinds.index) == order
    heard = next(e for e in events if e.type.endswith("transcription.completed"))
    assert heard.transcript == "hello there"


async def test_what_fails_is_told(server: Server, gemini: FakeGemini) -> None:
    gemini.script("die-in-response")
    async with connect(server) as connection:
        await connection.conversation.item.create(item=HELLO)
        await connection.response.create()
        events, code = await the_end(connection)
    assert (events[-1].error.code, code) == ("stream_interrupted", 1011)
    gemini.script(*(["bad-key"] * 4))
    async with connect(server) as connection:
        await connection.conversation.item.create(item=HELLO)
        await connection.response.create()
        events, code = await the_end(connection)
    assert (events[-1].error.code, code) == ("upstream_auth", 1011)
    gemini.forget()
    gemini.script(*(["status:403"] * 4))
    with pytest.raises(InvalidStatus) as refused:
        async with connect(server):
            pass
    assert refused.value.response.status_code == 502


JOBS: dict[str, dict[str, Any]] = {
    "text": {"text": True, "turns": [{"say": "hello"}, {"say": "and now?"}]},
    "audio": {"turns": [{"speak": 0.5}], "truncate_ms": 200},
    "vad": {"server_turns": True, "turns": [{"speak": 0.5}]},
    "tools": {"tool": True, "turns": [{"say": "what is the weather?"}]},
}


@pytest.fixture(scope="module")
def told(current_client: Client, server: Server, gemini: FakeGemini) -> dict[str, list[Event]]:
    """Every job of LiveKit's client: its name -> what came of it."""
    gemini.forget()
    jobs = [
        f"--job={json.dumps({'job': name, 'model': MODEL, **job})}" for name, job in JOBS.items()
    ]
    events = current_client.drive("drive_realtime", *jobs, environment=server.agent_environment())
    return {name: [e for e in events if e.get("job") == name] for name in JOBS}


@pytest.mark.parametrize("job", JOBS)
def test_livekits_client_is_answered(told: dict[str, list[Event]], job: str) -> None:
    assert not of(told[job], "failed")
    assert not of(told[job], "gave_up")
    assert of(told[job], "reply")[-1]["text"] == SAID
    if job != "text":
        assert of(told[job], "reply")[-1]["audio"] == len(AUDIO)


def test_livekits_client_calls_functions(told: dict[str, list[Event]]) -> None:
    assert [reply["calls"] for reply in of(told["tools"], "reply")] == [["weather"], []]


async def test_what_was_used_is_counted(server: Server) -> None:
    async with connect(server, **{"X-LiveKit-Job-ID": "job-of-this-test"}) as connection:
        await connection.conversation.item.create(item=HELLO)
        await connection.response.create()
        await until(connection, "response.done")
    log = server.logged("job-of-this-test")
    line = next(json.loads(one) for one in log.splitlines() if "job-of-this-test" in one)
    assert (line["outcome"], line["deployment"]) == ("ok", "gemini-3.8-live")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (30, 20)
    assert line["cost"] == pytest.approx((20 * 1 + 10 * 10 + 20 * 20) / 1e6)
