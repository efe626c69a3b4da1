"""Cascades on the real server: OpenAI's own client and LiveKit's, over fakes of providers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.audio import g711
from gateway.audio.pcm import level
from gateway.server.auth import mint
from tests.end_to_end.clients import Client, Event
from tests.end_to_end.conftest import recordings
from tests.end_to_end.server import Server, running
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import WORDS, FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, Ear, HeardWord, hush, spoken
from tests.fakes.voices import render
from tests.fetched_weights import fetched

ROOT = Path(__file__).parents[2]
RATE = 24_000
SAID = "".join(WORDS)
MODEL = "cascade/support"
QUESTION = spoken(VOCABULARY[:3], RATE) + hush(0.8, RATE)
ASKED = f"{' '.join(VOCABULARY[:3]).capitalize()}."
TOOL: Any = {
    "type": "function",
    "name": "get_time",
    "description": "Tells the time.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class LoudEar:
    """Hears the same word in whatever is loud, for recordings of people."""

    def __init__(self, rate: int = 16_000) -> None:
        self.rate = rate
        self.words: list[HeardWord] = []
        self.time = self.quiet_s = 0.0
        self._began: float | None = None
        self._tones = Ear(rate)

    def feed(self, pcm: bytes) -> list[HeardWord]:
        tones = self._tones.feed(pcm)
        loud = level(pcm) > 500
        if loud and self._began is None:
            self._began = self.time
        self.time += len(pcm) / 2 / self.rate
        self.quiet_s = 0.0 if loud else self.quiet_s + len(pcm) / 2 / self.rate
        if self._tones.words:  # somebody who speaks in tones
            self.words, self._began = self._tones.words, None
            return tones
        return self.settle() if self.quiet_s >= 0.2 else []

    def settle(self) -> list[HeardWord]:
        tones = self._tones.settle()
        began, self._began = self._began, None
        if tones or self._tones.words or began is None:
            return tones
        self.words.append(HeardWord("well", began, self.time))
        return self.words[-1:]


@dataclass
class Site:
    server: Server
    stt: FakeDeepgram
    chat: FakeOpenAI
    tts: FakeCartesia

    def forget(self) -> None:
        for fake in (self.stt, self.chat, self.tts):
            fake.forget()
        self.tts.speed = 20.0

    @property
    def token(self) -> str:
        return mint(self.server.api_key, self.server.api_secret, identity="agent", ttl_s=600)

    def sdk(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.server.url}/v1", api_key=self.token, max_retries=0
        )

    def connect(self, model: str = MODEL) -> Any:
        return self.sdk().realtime.connect(model=model)


@contextmanager
def site_of(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Site]:
    """A server with the cascade over fakes."""
    with ExitStack() as stack:
        stt = stack.enter_context(FakeDeepgram(ear=LoudEar))
        chat = stack.enter_context(FakeOpenAI())
        tts = stack.enter_context(FakeCartesia())
        config = f"""
providers:
  deepgram: {{base_url: "{stt.url}", api_key: {KEY}}}
  openai: {{base_url: "{chat.base_url}", api_key: k}}
  cartesia: {{base_url: "{tts.url}", api_key: k}}
cascades:
  support: {{stt: deepgram/nova-3, chat: openai/gpt-4.1-mini, tts: "cartesia/sonic-3:v"}}
"""
        server = stack.enter_context(running(folder, config, environment))
        yield Site(server, stt, chat, tts)


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of(tmp_path_factory.mktemp("cascade")) as site:
        yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    running_site.forget()
    return running_site


def encoded(pcm: bytes) -> str:
    return base64.b64encode(pcm).decode()


async def play(connection: Any, pcm: bytes, pace: float = 0.0) -> None:
    size = 2 * RATE // 20
    for at in range(0, len(pcm), size):
        await connection.input_audio_buffer.append(audio=encoded(pcm[at : at + size]))
        if pace:
            await asyncio.sleep(pace)


async def until(connection: Any, kind: str) -> list[Any]:
    events = []
    async with asyncio.timeout(30):
        async for event in connection:
            events.append(event)
            if event.type == kind:
                return events
    raise AssertionError([event.type for event in events])


def audio(events: list[Any]) -> bytes:
    deltas = (event.delta for event in events if event.type == "response.output_audio.delta")
    return b"".join(base64.b64decode(delta) for delta in deltas)


async def test_openais_client_speaks_and_hears(site: Site) -> None:
    async with site.connect() as connection:
        created = await connection.recv()
        assert created.type == "session.created"
        assert created.session.model == MODEL
        await connection.session.update(
            session={
                "type": "realtime",
                "instructions": "Be brief.",
                "audio": {"input": {"transcription": {"model": "whisper-1"}}},
            }
        )
        await play(connection, QUESTION)
        events = await until(connection, "response.done")
    heard = [
        event.transcript
        for event in events
        if event.type == "conversation.item.input_audio_transcription.completed"
    ]
    assert heard == [ASKED]
    assert audio(events) == render(SAID, RATE)
    response = events[-1].response
    assert response.status == "completed"
    assert response.output[0].content[0].transcript == SAID
    assert site.chat.received[-1].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
    ]


async def test_a_function_is_called_by_openais_client(site: Site) -> None:
    site.chat.script("tools")
    async with site.connect() as connection:
        await connection.session.update(session={"type": "realtime", "tools": [TOOL]})
        await play(connection, QUESTION)
        events = await until(connection, "response.done")
        calls = [item for item in events[-1].response.output if item.type == "function_call"]
        assert calls[0].name == "get_time"
        for call in calls:
            await connection.conversation.item.create(
                item={"type": "function_call_output", "call_id": call.call_id, "output": "noon"}
            )
        await connection.response.create()
        events = await until(connection, "response.done")
    assert events[-1].response.status == "completed"
    roles = [message["role"] for message in site.chat.received[-1].body["messages"]]
    assert roles == ["user", "assistant", *["tool"] * len(calls)]


async def test_telephone_audio_goes_both_ways(site: Site) -> None:
    pcm = spoken(VOCABULARY[:2], g711.RATE) + hush(0.8, g711.RATE)
    form: Any = {"type": "audio/pcmu"}
    async with site.connect() as connection:
        await connection.session.update(
            session={
                "type": "realtime",
                "audio": {"input": {"format": form}, "output": {"format": form}},
            }
        )
        await connection.input_audio_buffer.append(audio=encoded(g711.to_ulaw(pcm)))
        events = await until(connection, "response.done")
    assert audio(events) == g711.to_ulaw(render(SAID, g711.RATE))
    said = f"{' '.join(VOCABULARY[:2]).capitalize()}."
    assert site.chat.received[-1].body["messages"][-1]["content"] == said


async def test_a_part_that_is_down_is_told_and_the_session_goes_on(site: Site) -> None:
    site.chat.script("status:400")
    async with site.connect() as connection:
        await connection.response.create()
        events = await until(connection, "response.done")
        assert events[-1].response.status == "failed"
        assert any(event.type == "error" for event in events)
        await connection.response.create()
        events = await until(connection, "response.done")
        assert events[-1].response.status == "completed"


async def test_it_is_listed_and_what_is_none_is_refused(site: Site) -> None:
    async with site.sdk() as sdk:
        assert MODEL in [model.id async for model in sdk.models.list()]
        assert (await sdk.models.retrieve(MODEL)).owned_by == "cascade"
    with pytest.raises(Exception, match="404"):
        async with site.connect("cascade/nobody"):
            pass


async def test_each_part_has_its_record_and_the_session_has_none_of_their_use(site: Site) -> None:
    async with site.connect() as connection:
        await play(connection, QUESTION)
        await until(connection, "response.done")
    assert site.stt.wait_until(lambda: site.server.metric("parley_open_sessions") == 0)
    for route in ("stt", "tts", "chat", "realtime"):
        assert site.server.metric("parley_requests_total", route=route) >= 1, route


def test_the_documents_example_is_a_program_that_works(site: Site, tmp_path: Path) -> None:
    text = (ROOT / "deploy/realtime.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "speech.pcm").write_bytes(QUESTION)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PARLEY_URL": f"{site.server.url}/v1", "TOKEN": site.token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == SAID, done.stderr


# -- LiveKit's client, unmodified


def jobs(client: Client, site: Site, *given: dict[str, Any]) -> list[Event]:
    arguments = [f"--job={json.dumps({'job': 'one', 'model': MODEL, **job})}" for job in given]
    environment = site.server.agent_environment()
    return client.drive("drive_realtime", *arguments, environment=environment)


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def test_livekits_model_speaks_and_has_its_tools_called(current_client: Client, site: Site) -> None:
    site.chat.script("tools", "text", "text")
    events = jobs(current_client, site, {"turns": [{"say": "Rain?"}, {"speak": 1.0}], "tool": True})
    assert not [event for event in events if event["event"] in ("failed", "gave_up", "crashed")]
    first, second, third = of(events, "reply")
    assert "weather" in first["calls"]
    assert second["text"] == third["text"] == SAID
    assert second["audio"] == third["audio"] == len(render(SAID, RATE))
    assert [event["input"] for event in of(events, "used")][1:] == [9, 9, 9]
    last = site.chat.received[-1].body["messages"]
    assert [message["role"] for message in last].count("tool") >= 1
    assert last[-1] == {"role": "user", "content": "Well."}


CHOSEN = {
    recording.label: recording
    for recording in recordings()
    if recording.path.stem in ("interruption-libri-1723", "backchannel-ami-okay-tst01")
}


@pytest.fixture(scope="module")
def overlaps(
    current_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, list[Event]], Site]]:
    """An agent that counts, and recorded callers who speak meanwhile: label -> events."""
    # people are not told from a room's noise by loudness alone
    environment = {"PARLEY_CACHE": str(fetched("silero-vad"))}
    with site_of(tmp_path_factory.mktemp("overlaps"), environment) as site:
        site.chat.default = "long-text:150"
        site.tts.speed = 4.0
        events = current_client.drive(
            "drive_session",
            *(recording.argument for recording in CHOSEN.values()),
            f"--realtime={MODEL}",
            environment=site.server.agent_environment(),
        )
        found = {
            label: [event for event in events if event.get("clip") == str(recording.path)]
            for label, recording in CHOSEN.items()
        }
        yield found, site


Overlaps = tuple[dict[str, list[Event]], Site]


def test_a_recorded_caller_interrupts_the_agent(overlaps: Overlaps) -> None:
    events = overlaps[0]["interruption"]
    (reply,) = of(events, "replied")
    assert reply["interrupted"]
    assert of(events, "answered")
    assert of(events, "failed") == []


def test_a_recorded_backchannel_does_not(overlaps: Overlaps) -> None:
    events = overlaps[0]["backchannel"]
    (reply,) = of(events, "replied")
    assert not reply["interrupted"]
    assert of(events, "failed") == []


def test_the_model_is_told_what_the_caller_heard_and_said(overlaps: Overlaps) -> None:
    asked = [exchange.body["messages"] for exchange in overlaps[1].chat.received]
    after = max(asked, key=lambda told: sum(one["role"] == "user" for one in told))
    # the same as the client was told, whatever the recogniser made of the second turn
    turns = [
        one["text"] for one in of(overlaps[0]["interruption"], "item") if one["role"] == "user"
    ]
    assert len(turns) == 2
    assert [one["content"] for one in after if one["role"] == "user"] == turns
    # on a busy machine the caller may cut in before the first word: then there is none
    said = [one["content"] for one in after if one["role"] == "assistant"]
    assert len(said) <= 1
    heard = " ".join(said).split()
    assert heard == [f"w{number}" for number in range(len(heard))]
    assert 10 < len(heard) < 100
