"""The line with its parts: the routes of a gateway in this process, fakes of providers behind."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from gateway.app import Gateway
from gateway.config import load
from gateway.conversations.realtime.cascade import line_route
from gateway.conversations.realtime.cascade.line_route import CascadeLine, Parts, _Model
from gateway.conversations.realtime.cascade.parts import ModelDone, ModelSaid
from gateway.runtime.loop import Inbox
from gateway.server.admission import RequestContext
from gateway.server.inside import Closed
from gateway.settings.cascades import CascadeConfig
from gateway.upstreams.events import SocketFrame
from tests.fakes import energy_model, frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import WORDS, FakeOpenAI
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.fakes.voices import render
from tests.test_gateway import SECRET, scope

RATE = 24_000
FRAME = 2 * RATE // 20
REPLY = "".join(WORDS)
EVENTS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


class Fakes:
    def __init__(self, stack: ExitStack) -> None:
        self.stt = stack.enter_context(FakeDeepgram())
        self.chat = stack.enter_context(FakeOpenAI())
        self.tts = stack.enter_context(FakeCartesia())


class Caller:
    """A client of the line."""

    def __init__(self, line: CascadeLine) -> None:
        self.line = line
        self.told: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self.listening = asyncio.create_task(line.listen(1, self._take))

    def _take(self, event: Any) -> None:
        assert isinstance(event, SocketFrame)
        assert isinstance(event.data, str)
        told = json.loads(event.data)
        EVENTS.validate_python(told)
        self.told.append(told)
        self._came.set()

    def says(self, kind: str, **fields: Any) -> None:
        self.line.write(json.dumps({"type": kind, **fields}))

    def turns(self, **turns: Any) -> None:
        audio = {"input": {"turn_detection": turns or None, "transcription": {"model": "x"}}}
        self.says("session.update", session={"type": "realtime", "audio": audio})

    async def plays(self, pcm: bytes, pace: float = 0.0) -> None:
        for at in range(0, len(pcm), FRAME):
            audio = base64.b64encode(pcm[at : at + FRAME]).decode()
            self.says("input_audio_buffer.append", audio=audio)
            await asyncio.sleep(pace)

    async def speaks(self, *words: str, silence_s: float = 0.8) -> None:
        await self.plays(spoken(words, RATE) + hush(silence_s, RATE))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [told for told in self.told if told["type"] == kind]

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while len(found := self.of(kind)) < count:
                self._came.clear()
                await self._came.wait()
        return found[count - 1]

    @property
    def audio(self) -> bytes:
        deltas = self.of("response.output_audio.delta")
        return b"".join(base64.b64decode(one["delta"]) for one in deltas)

    async def leave(self) -> None:
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        await self.line.close()


class Site:
    def __init__(self, folder: Path, fakes: Fakes, bargein: Path, more: str = "") -> None:
        self.fakes = fakes
        file = folder / "c.yaml"
        file.write_text(f"""
keys: {{key: {SECRET}}}
bargein: {{model: {bargein}}}
usage: {{url: "sqlite:{folder}/usage.db", flush_s: 0.05}}
providers:
  deepgram: {{base_url: "{fakes.stt.url}", api_key: {KEY}}}
  openai: {{base_url: "{fakes.chat.base_url}", api_key: k}}
  cartesia: {{base_url: "{fakes.tts.url}", api_key: k}}
{more}
""")
        self.gateway = Gateway(load(file, {"PARLEY_CACHE": str(folder)}))
        self.whole: RequestContext | None = None
        self.callers: list[Caller] = []

    def call(self, **config: Any) -> Caller:
        admitted = self.gateway.admission.admit(scope("websocket", "/bargein"), "bargein")
        assert isinstance(admitted, RequestContext)
        self.whole = admitted
        given = {
            "stt": "deepgram/nova-3",
            "chat": "openai/gpt-4.1-mini",
            "tts": "cartesia/sonic-3:v",
        }
        hosts: Any = self.gateway.installation.hosts
        line = CascadeLine(
            admitted,
            "cascade/test",
            CascadeConfig(**given | config),
            Parts(
                stt=hosts["WEBSOCKET", "/stt"],
                tts=hosts["WEBSOCKET", "/tts"],
                chat=hosts["POST", "/chat/completions"],
                bargein=hosts["WEBSOCKET", "/bargein"],
                eot=hosts["WEBSOCKET", "/eot"],
            ),
            self.gateway.engines,
        )
        self.callers.append(Caller(line))
        return self.callers[-1]

    async def close(self) -> None:
        for caller in self.callers:
            await caller.leave()
        if self.whole is not None:
            with self.whole:
                pass
        await self.gateway.close()
        for _ in range(10):  # transports are closed in the turns of the loop that follow
            await asyncio.sleep(0)


def sentence(words: tuple[str, ...]) -> str:
    """What the fake recogniser makes of these words."""
    return f"{' '.join(words).capitalize()}."


@pytest.fixture(autouse=True)
def _nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice detector that goes by loudness alone: the words here are tones."""
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with ExitStack() as stack:
        made = Site(tmp_path, Fakes(stack), frame_model.write(tmp_path / "m.onnx"))
        yield made
        await made.close()


@pytest.fixture
async def interruptible(tmp_path: Path) -> AsyncIterator[Site]:
    """With a model of interruptions that takes what is loud for one."""
    with ExitStack() as stack:
        made = Site(tmp_path, Fakes(stack), energy_model.write(tmp_path / "m.onnx"))
        yield made
        await made.close()


async def test_a_spoken_turn_is_answered_in_words_and_sound(site: Site) -> None:
    caller = site.call()
    caller.turns(type="server_vad", silence_duration_ms=400)
    await caller.speaks(*VOCABULARY[:3])
    done = await caller.until("response.done")
    completed = await caller.until("conversation.item.input_audio_transcription.completed")
    assert completed["transcript"] == sentence(VOCABULARY[:3])
    assert done["response"]["status"] == "completed"
    assert done["response"]["usage"]["total_tokens"] == 15
    assert "".join(one["delta"] for one in caller.of("response.output_audio_transcript.delta")) == (
        REPLY
    )
    wanted = site.fakes.chat.received[-1].body["messages"]
    assert wanted == [{"role": "user", "content": sentence(VOCABULARY[:3])}]
    assert (
        b"".join(render(text, RATE) for text in ("Hello there, ", "how can I help?"))
        in (
            caller.audio,
            render(REPLY, RATE),
        )
        or len(caller.audio) > RATE
    )


async def test_a_second_turn_goes_over_the_same_sockets(site: Site) -> None:
    caller = site.call()
    caller.turns(type="server_vad", silence_duration_ms=400, interrupt_response=False)
    await caller.speaks(*VOCABULARY[:2])
    await caller.until("response.done")
    await caller.speaks(*VOCABULARY[2:4])
    await caller.until("response.done", 2)
    messages = site.fakes.chat.received[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[2]["content"] == sentence(VOCABULARY[2:4])
    assert len(site.fakes.stt.received) == 1
    assert len(site.fakes.tts.received) == 1


async def test_manual_turns_and_text_alone(site: Site) -> None:
    caller = site.call()
    caller.turns()
    caller.says("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    await caller.plays(spoken(VOCABULARY[:2], RATE) + hush(0.1, RATE))
    caller.says("input_audio_buffer.commit")
    caller.says("response.create")
    done = await caller.until("response.done")
    assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": REPLY}]
    assert site.fakes.chat.received[-1].body["messages"][0]["content"] == sentence(VOCABULARY[:2])
    assert not site.fakes.tts.said


async def test_an_interruption_stops_the_voice(interruptible: Site) -> None:
    site = interruptible
    site.fakes.tts.speed = 1.0  # as fast as it is heard
    site.fakes.chat.script("long-text:60")
    caller = site.call()
    caller.turns(type="server_vad", silence_duration_ms=400)
    caller.says("response.create")
    await caller.until("response.output_audio.delta", 5)
    await caller.plays(spoken(VOCABULARY[:8], RATE), pace=0.03)
    done = await caller.until("response.done")
    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    await caller.until("input_audio_buffer.speech_started")
    truncated = await caller.until("conversation.item.truncated")
    said = len(caller.audio) / 2 / RATE * 1000
    assert 0 < truncated["audio_end_ms"] <= said + 1
    assert site.fakes.tts.wait_until(lambda: not site.fakes.tts.speaking)


async def test_a_backchannel_does_not(site: Site) -> None:
    site.fakes.tts.speed = 1.0
    caller = site.call()
    caller.turns(type="server_vad", silence_duration_ms=400)
    caller.says("response.create")
    await caller.until("response.output_audio.delta", 2)
    await caller.plays(spoken(VOCABULARY[:1], RATE) + hush(0.6, RATE), pace=0.03)
    done = await caller.until("response.done")
    assert done["response"]["status"] == "completed"
    assert not caller.of("input_audio_buffer.speech_started")


async def test_a_part_that_is_refused_fails_the_response_alone(site: Site) -> None:
    site.fakes.chat.script("status:400")
    caller = site.call()
    caller.says("response.create")
    done = await caller.until("response.done")
    assert done["response"]["status"] == "failed"
    assert (await caller.until("error"))["error"]["code"] == (
        done["response"]["status_details"]["error"]["code"]
    )
    caller.says("response.create")
    assert (await caller.until("response.done", 2))["response"]["status"] == "completed"


async def test_a_voice_that_nobody_serves_fails_the_response_alone(site: Site) -> None:
    caller = site.call(tts="nobody/nothing")
    caller.says("response.create")
    done = await caller.until("response.done")
    assert done["response"]["status"] == "failed"
    caller.says("response.create", response={"output_modalities": ["text"]})
    assert (await caller.until("response.done", 2))["response"]["status"] == "completed"


async def test_a_recogniser_that_nobody_serves_is_told_and_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_route, "RETRY_S", 0.0)
    caller = site.call(stt="nobody/nothing")
    await caller.speaks(VOCABULARY[0])
    assert (await caller.until("error"))["error"]["code"] == "model_not_found"
    await caller.speaks(VOCABULARY[0])
    await caller.until("error", 2)
    assert not caller.listening.done()


async def test_each_part_is_counted_for_the_callers_key(site: Site) -> None:
    caller = site.call()
    caller.turns(type="server_vad", silence_duration_ms=400)
    await caller.speaks(*VOCABULARY[:3])
    await caller.until("response.done")
    await caller.leave()
    assert site.gateway.admission.open_requests == 1
    samples = [s for m in site.gateway.metrics.registry.collect() for s in m.samples]
    ended = {
        s.labels["route"]
        for s in samples
        if s.name == "parley_requests_total" and s.labels.get("outcome") in ("ok", "left")
    }
    assert {"stt", "tts", "chat"} <= ended


async def test_the_end_of_a_line_leaves_nothing_running(site: Site) -> None:
    caller = site.call()
    site.fakes.chat.script("endless")
    caller.says("response.create")
    await caller.until("response.output_audio_transcript.delta")
    await caller.leave()
    left = {
        task
        for task in asyncio.all_tasks()
        if "inside" in repr(task.get_coro()) or "_Inside" in repr(task.get_coro())
    }
    assert not left
    with pytest.raises(ConnectionError):
        caller.line.write("{}")
    assert site.fakes.chat.wait_until(lambda: site.fakes.chat.received[-1].disconnected_early)


async def test_a_model_whose_events_have_no_space_is_heard() -> None:
    inbox: Inbox[Any] = Inbox()
    config = CascadeConfig(stt="deepgram/nova-3", chat="openai/m", tts="cartesia/sonic-3:v")
    model = _Model(cast(Any, None), config, cast(Any, None), inbox)
    await model._hear(b': keepalive\n\ndata:{"choices":[]}\n\ndata:[DONE]\n\n')
    assert len(inbox) == 1
    assert await inbox.next(None, lambda: 0.0) == ModelSaid(0, {"choices": []})


async def test_the_error_of_a_stopped_answer_is_not_that_of_the_next() -> None:
    class Silent:
        async def serve_part(self, *args: Any) -> None:
            await asyncio.Future()

    inbox: Inbox[Any] = Inbox(1)
    config = CascadeConfig(stt="deepgram/nova-3", chat="openai/m", tts="cartesia/sonic-3:v")
    request = cast(Any, SimpleNamespace(scope={"headers": []}))
    model = _Model(request, config, cast(Any, Silent()), inbox)
    model.ask(1, {})
    inbox.post(ModelDone(0))  # nobody reads it: what comes waits
    error = b'data: {"error":{"message":"lost"}}\n\n'
    hearing = asyncio.create_task(model._hear(b'data: {"choices":[]}\n\n' + error))
    await asyncio.sleep(0)
    model.ask(2, {})
    for _ in range(3):
        await inbox.next(None, lambda: 0.0)
    await hearing
    model._ended(Closed(code=1000))
    assert len(inbox) == 1
    assert await inbox.next(None, lambda: 0.0) == ModelDone(2)
    for task in model.leave():
        task.cancel()
