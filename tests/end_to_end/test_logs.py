"""What the log says of a call that failed: the real server, each conversation."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.openai_speech import FakeSpeechServer
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken


class Place:
    """A server and the providers behind it."""

    def __init__(self, stack: ExitStack, folder: Any) -> None:
        self.llm = stack.enter_context(FakeOpenAI())
        self.other = stack.enter_context(FakeOpenAI())
        self.ear = stack.enter_context(FakeDeepgram())
        self.deaf = stack.enter_context(FakeDeepgram())
        self.voice = stack.enter_context(FakeCartesia())
        self.hoarse = stack.enter_context(FakeSpeechServer())
        self.server = stack.enter_context(
            running(
                folder,
                f"""
bargein: {{model: {frame_model.write(folder / "m.onnx")}}}
usage: {{enabled: false}}
local_stand_in: false
chat: {{rounds: 1}}
stt: {{retries: 0, local_last: false}}
tts: {{rounds: 1}}
providers:
  llm: {{type: openai-compatible, base_url: "{self.llm.base_url}", api_key: k}}
  other: {{type: openai-compatible, base_url: "{self.other.base_url}", api_key: k}}
  ear: {{type: deepgram, base_url: "{self.ear.url}", api_key: {KEY}}}
  deaf: {{type: deepgram, base_url: "{self.deaf.url}", api_key: {KEY}}}
  refused: {{type: deepgram, base_url: "{self.ear.url}", api_key: wrong}}
  voice: {{type: cartesia, base_url: "{self.voice.url}", api_key: k}}
  hoarse: {{type: openai-compatible, base_url: "{self.hoarse.base_url}", api_key: k}}
models:
  both: [{{provider: llm, model: mini}}, {{provider: other, model: mini}}]
  one: [{{provider: other, model: one}}]
  ears: [{{provider: deaf, model: nova-3}}, {{provider: ear, model: nova-3}}]
  refused-ear: [{{provider: refused, model: nova-3}}]
  voices:
    - {{provider: hoarse, model: tts, options: {{voice: v}}}}
    - {{provider: voice, model: sonic-3, options: {{voice: v}}}}
  hoarse-voice: [{{provider: hoarse, model: tts-2, options: {{voice: v}}}}]
""",
            )
        )

    def line(self, request_id: str) -> dict[str, Any]:
        """The last line of the request, once it is there."""
        log = self.server.logged(f'"request_id":"{request_id}"')
        lines = [json.loads(one) for one in log.splitlines()]
        (found,) = [one for one in lines if one.get("request_id") == request_id]
        return dict(found)

    def told(self, message: str, provider: str, model: str) -> dict[str, Any]:
        """The first line with this message about a deployment, once it is there."""
        begin = f'"message":"{message}","provider":"{provider}","model":"{model}"'
        lines = self.server.logged(begin).splitlines()
        return dict(next(json.loads(one) for one in lines if begin in one))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, tmp_path_factory.mktemp("logs"))


def headers(server: Server, request_id: str) -> dict[str, str]:
    token = mint(server.api_key, server.api_secret, identity="agent-7", ttl_s=600)
    return {"Authorization": f"Bearer {token}", "X-Request-ID": request_id}


async def post(place: Place, path: str, request_id: str, body: dict[str, Any]) -> int:
    async with (
        aiohttp.ClientSession(place.server.url) as http,
        http.post(f"/v1{path}", json=body, headers=headers(place.server, request_id)) as reply,
    ):
        await reply.read()
        assert reply.headers["x-request-id"] == request_id
        return reply.status


async def talk(
    place: Place, path: str, request_id: str, *messages: dict[str, Any] | bytes, until: str
) -> list[dict[str, Any]]:
    """Say all this on a WebSocket; what was told until a message of this type, or the end."""
    told = []
    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession(place.server.url) as http,
        http.ws_connect(f"/v1{path}", headers=headers(place.server, request_id)) as socket,
    ):
        for message in messages:
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_json(message)
        async for answer in socket:
            told.append(json.loads(answer.data))
            if told[-1]["type"] == until:
                break
    return told


def frames(pcm: bytes) -> list[str]:
    """In base64, 50 ms each."""
    return [base64.b64encode(pcm[i : i + 1600]).decode() for i in range(0, len(pcm), 1600)]


def wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(16_000)
        written.writeframes(pcm)
    return file.getvalue()


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


async def test_a_reply_that_another_served_says_who_failed_why_and_when(place: Place) -> None:
    place.llm.script("status:500")
    assert await post(place, "/chat/completions", "call-1", chat("both")) == 200
    line = place.line("call-1")
    assert (line["level"], line["outcome"], line["provider"]) == ("info", "ok", "other")
    assert line["failures"].startswith("llm:upstream_error@")
    assert line["client"] == "127.0.0.1"
    assert "llm:req_" in line["upstream_ids"]
    assert line["said"].startswith("llm: ")
    for fake in (place.llm, place.other):
        assert fake.received[-1].headers["x-request-id"] == "call-1"


async def test_a_reply_that_nobody_served_is_a_warning_with_the_providers_id(place: Place) -> None:
    place.other.script("status:503", "status:503")
    assert await post(place, "/chat/completions", "call-2", chat("one")) == 503
    line = place.line("call-2")
    assert (line["level"], line["outcome"]) == ("warning", "upstream_error")
    assert line["failures"].startswith("other:upstream_error@")
    assert line["upstream_ids"].startswith("other:req_")
    assert line["error"]


async def test_a_caller_who_asks_for_what_is_not_there_is_told_with_its_reason(
    place: Place,
) -> None:
    for number, (path, body) in enumerate(
        (
            ("/chat/completions", chat("nobody/has-this")),
            ("/chat/completions", {"model": "one"}),
            ("/embeddings", {"model": "nobody/has-this", "input": "x"}),
            ("/audio/speech", {"model": "nobody/has-this", "input": "x"}),
            ("/decisions", {}),
            ("/eot/multi", {}),
        )
    ):
        name = f"call-3-{number}"
        assert 400 <= await post(place, path, name, body) < 500, path
        line = place.line(name)
        assert line["level"] == "warning", line
        assert line["error"], line
        assert line["client"] == "127.0.0.1"


async def test_a_recogniser_that_was_replaced_stands_in_the_line_with_both_names(
    place: Place,
) -> None:
    place.deaf.script("drop:0.5", "status:500", "status:500")
    pcm = spoken(VOCABULARY[:3]) + hush(1.0)
    audio = [{"type": "input_audio", "audio": frame} for frame in frames(pcm)]
    settings = {"sample_rate": "16000", "encoding": "pcm_s16le"}
    create = {"type": "session.create", "model": "ears", "settings": settings}
    told = await talk(
        place,
        "/stt",
        "call-4",
        create,
        *audio,
        {"type": "session.finalize"},
        {"type": "session.close"},
        until="session.closed",
    )
    assert any(one["type"] == "final_transcript" for one in told)
    line = place.line("call-4")
    assert line["level"] == "info"
    assert line["failures"].startswith("deaf:")
    assert float(line["failures"].rpartition("@")[2]) > 0
    assert "ear:" in line["upstream_ids"]
    assert place.ear.received[-1].headers["x-request-id"] == "call-4"


async def test_a_recogniser_with_a_wrong_key_is_an_error_on_each_way_in(place: Place) -> None:
    create = {"type": "session.create", "model": "refused-ear", "settings": {}}
    told = await talk(place, "/stt", "call-5", create, until="error")
    assert told[-1]["type"] == "error"
    line = place.line("call-5")
    assert (line["level"], line["outcome"]) == ("error", "upstream_auth")
    assert line["failures"].startswith("refused:upstream_auth@")
    form = aiohttp.FormData({"model": "refused-ear"})
    form.add_field("file", wav(spoken(VOCABULARY[:1])), filename="a.wav")
    async with (
        aiohttp.ClientSession(place.server.url) as http,
        http.post(
            "/v1/audio/transcriptions", data=form, headers=headers(place.server, "call-6")
        ) as reply,
    ):
        assert reply.status == 502
    line = place.line("call-6")
    assert (line["level"], line["outcome"]) == ("error", "upstream_auth")
    assert place.told("a deployment rests", "refused", "nova-3")["level"] == "error"


async def test_a_voice_that_was_replaced_stands_in_the_line(place: Place) -> None:
    place.hoarse.script("status:500")
    create = {"type": "session.create", "model": "voices", "extra": {}}
    told = await talk(
        place,
        "/tts?model=voices",
        "call-7",
        create | {"sample_rate": "24000", "encoding": "pcm_s16le"},
        {"type": "input_transcript", "transcript": "One two three. "},
        {"type": "session.flush"},
        until="done",
    )
    assert told[-1]["type"] == "done"
    line = place.line("call-7")
    assert line["failures"].startswith("hoarse:upstream_error@")
    assert place.hoarse.received[-1].headers["x-request-id"] == "call-7"


async def test_a_voice_that_nobody_replaces_is_a_warning_on_each_way_in(place: Place) -> None:
    place.hoarse.script("status:500")
    body = {"model": "hoarse-voice", "input": "One."}
    assert await post(place, "/audio/speech", "call-8", body) >= 500
    line = place.line("call-8")
    assert (line["level"], line["outcome"]) == ("warning", "upstream_error")
    assert line["failures"].startswith("hoarse:upstream_error@")
    place.hoarse.script("status:500")
    create = {"type": "session.create", "model": "hoarse-voice", "extra": {}}
    told = await talk(
        place,
        "/tts?model=hoarse-voice",
        "call-9",
        create,
        {"type": "input_transcript", "transcript": "One two three. "},
        {"type": "session.flush"},
        until="error",
    )
    assert told[-1]["type"] == "error"
    line = place.line("call-9")
    assert line["failures"].startswith("hoarse:upstream_error@")


async def test_what_an_interruption_session_says_wrong_is_a_warning(place: Place) -> None:
    told = await talk(place, "/bargein", "call-10", {"type": "no.such"}, until="error")
    assert told[-1]["type"] == "error"
    line = place.line("call-10")
    assert (line["level"], line["outcome"]) == ("warning", "bad_request")
    assert line["error"]


async def test_older_interruption_and_end_of_turn_are_told_likewise(place: Place) -> None:
    async with (
        aiohttp.ClientSession(place.server.url) as http,
        http.post(
            "/v1/bargein?threshold=much", data=b"\0\0", headers=headers(place.server, "call-13")
        ) as reply,
    ):
        assert reply.status == 400
        assert reply.headers["x-request-id"] == "call-13"
    line = place.line("call-13")
    assert (line["level"], line["outcome"]) == ("warning", "bad_request")
    async with (
        aiohttp.ClientSession(place.server.url) as http,
        http.post(
            "/v1/bargein?threshold=0.5",
            data=bytes(32_000),
            headers=headers(place.server, "call-14"),
        ) as reply,
    ):
        assert (reply.status, reply.headers["x-request-id"]) == (200, "call-14")
    assert place.line("call-14")["level"] == "info"
    async with aiohttp.ClientSession(place.server.url) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect("/v1/eot", headers=headers(place.server, "call-15"))
        assert refused.value.status == 503
    line = place.line("call-15")
    assert (line["level"], line["outcome"]) == ("warning", "not_served")
    assert line["error"]


async def test_who_has_no_token_is_a_warning_with_the_address(place: Place) -> None:
    async with (
        aiohttp.ClientSession(place.server.url) as http,
        http.post("/v1/chat/completions", headers={"X-Request-ID": "call-11"}) as reply,
    ):
        assert reply.status == 401
    line = place.line("call-11")
    assert (line["level"], line["message"], line["client"]) == ("warning", "refused", "127.0.0.1")


async def test_a_deployment_that_works_again_is_told(place: Place) -> None:
    # a Retry-After of a second: it rests, and its first success ends that
    place.other.script("rate-limited:seconds:1", "rate-limited:seconds:1")
    await post(place, "/chat/completions", "call-12", chat("one"))
    assert place.told("a deployment rests", "other", "one")["level"] == "warning"
    async with asyncio.timeout(60):
        while await post(place, "/chat/completions", "again", chat("one")) != 200:
            await asyncio.sleep(0.2)
    assert place.told("a deployment works again", "other", "one")["level"] == "warning"
