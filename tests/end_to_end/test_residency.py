"""What a region demands is kept by every route of the real server, also when all inside fails."""

from __future__ import annotations

import asyncio
import io
import secrets
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI

PAIR = ("APIclinic", secrets.token_hex(24))
PATIENCE_S = 60
OUTSIDE = "outside_region"


@dataclass
class Site:
    """Of each kind one provider inside, which may fail, and one outside, which would serve."""

    server: Server
    inside: FakeOpenAI
    outside: tuple[Any, ...]

    def nobody_outside_was_asked(self) -> bool:
        # connections are opened ahead of need with a look at a list, which says nothing of a caller
        asked = (exchange.path for one in self.outside for exchange in one.received)
        return all(path.endswith("/models") for path in asked)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("residency")
    model = frame_model.write(folder / "m.onnx")
    with (
        FakeOpenAI() as inside,
        FakeOpenAI() as chat,
        FakeDeepgram() as ears,
        FakeCartesia() as voice,
    ):
        config = f"""
bargein: {{model: {model}}}
usage: {{enabled: false}}
local_stand_in: false
providers:
  inside: {{type: openai, base_url: "{inside.base_url}", api_key: k, region: eu}}
  openai: {{base_url: "{chat.base_url}", api_key: k, region: us}}
  deepgram: {{base_url: "{ears.url}", api_key: k}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
models:
  m: [{{provider: inside, model: gpt-4.1-mini}}, {{provider: openai, model: gpt-4.1-mini}}]
  abroad: [{{provider: openai, model: gpt-4.1-mini}}]
  clinic: [{{provider: openai, model: gpt-4.1-mini}}, {{provider: inside, model: gpt-4.1-mini}}]
stt: {{fallback: [deepgram/nova-3], local_last: false}}
residency:
  keys: {{{PAIR[0]}: eu}}
  models: {{clinic: [eu, ch]}}
"""
        with running(folder, config, pair=PAIR) as server:
            yield Site(server, inside, (chat, ears, voice))


@pytest.fixture(autouse=True)
def _forgetful(site: Site) -> None:
    for one in (site.inside, *site.outside):
        one.forget()


def client(site: Site) -> aiohttp.ClientSession:
    token = mint(*PAIR, identity="agent", ttl_s=600)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    headers = {"Authorization": f"Bearer {token}"}
    return aiohttp.ClientSession(site.server.url, headers=headers, timeout=timeout)


async def chat(http: aiohttp.ClientSession, model: str, **more: Any) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], **more}
    async with http.post("/chat/completions", json=body) as response:
        return response.status, await response.json()


async def test_a_reply_that_fails_inside_fails(site: Site) -> None:
    async with client(site) as http:
        assert (await chat(http, "m"))[0] == 200
        site.inside.script(*["status:500"] * 20)
        status, told = await chat(http, "m", fallback={"models": [{"model": "abroad"}]})
        assert status >= 500, told
        for model in ("abroad", "clinic"):
            status, told = await chat(http, model)
            assert (status, told["error"]["code"] == OUTSIDE) in ((403, True), (503, False))
        assert (await chat(http, "abroad"))[1]["error"]["message"] == (
            "no provider inside eu serves 'abroad'"
        )
    assert site.nobody_outside_was_asked()


async def test_a_header_narrows_what_a_key_may(site: Site) -> None:
    async with client(site) as http:
        for region, status in (("eu", 200), ("eu, us", 200), ("us", 403), ("mars", 403)):
            http.headers["X-Parley-Region"] = region
            assert (await chat(http, "m"))[0] == status
        http.headers["X-Parley-Region"] = "e u"
        assert (await chat(http, "m"))[0] == 400
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect("/stt")
        assert refused.value.status == 400
    assert site.nobody_outside_was_asked()


async def test_lists_show_what_may_be_asked_for(site: Site) -> None:
    async with client(site) as http:
        async with http.get("/models") as response:
            listed = {one["id"]: one["owned_by"] for one in (await response.json())["data"]}
        assert set(listed.values()) == {"inside"}
        assert {"m", "clinic"} <= listed.keys()
        assert "abroad" not in listed
        async with http.get("/models/abroad") as response:
            assert response.status == 403


async def test_embeddings_and_speech_by_rest(site: Site) -> None:
    recording = io.BytesIO()
    with wave.open(recording, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    form = aiohttp.FormData({"model": "deepgram/nova-3"})
    form.add_field("file", recording.getvalue(), filename="a.wav")
    async with client(site) as http:
        for path, given in (
            ("/embeddings", {"json": {"model": "openai/text-embedding-3-small", "input": "x"}}),
            ("/audio/speech", {"json": {"model": "cartesia/sonic-3", "input": "x"}}),
            ("/audio/transcriptions", {"data": form}),
        ):
            async with http.post(path, **given) as response:
                told = await response.text()
                assert response.status >= 400, (path, told)
                assert "eu" in told, (path, told)
    assert site.nobody_outside_was_asked()


@pytest.mark.parametrize("model", ["deepgram/nova-3", "deepgram/nova-3:de", "auto"])
async def test_a_recogniser_outside_hears_nothing(site: Site, model: str) -> None:
    async with client(site) as http, http.ws_connect("/stt") as socket:
        given = {"sample_rate": "16000", "num_channels": "1", "encoding": "pcm_s16le"}
        create = {"type": "session.create", "settings": given, "model": model}
        site.inside.script(*["status:500"] * 50)
        await socket.send_json(create)
        told: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            async for message in socket:
                told.append(message.json())
                if told[-1]["type"] == "error":
                    break
                await socket.send_bytes(bytes(3200))
    if model != "auto":
        assert told[-1]["type"] == "error"
        assert told[-1]["message"] == f"no provider inside eu serves {model!r}"
    assert site.nobody_outside_was_asked()


async def test_an_update_does_not_lead_outside(site: Site) -> None:
    async with client(site) as http, http.ws_connect("/stt") as socket:
        given = {"sample_rate": "16000", "num_channels": "1", "encoding": "pcm_s16le"}
        create = {"type": "session.create", "settings": given, "model": "inside/whisper-1"}
        await socket.send_json(create)
        assert (await socket.receive_json())["type"] == "session.created"
        update = {"type": "session.update", "settings": {"model": "deepgram/nova-3"}}
        await socket.send_json(update)
        async with asyncio.timeout(PATIENCE_S):
            told = await socket.receive_json()
        assert told["type"] == "session.update_refused"
        assert "inside eu" in told["message"]
        await socket.send_json({"type": "session.close"})
    assert site.nobody_outside_was_asked()


async def test_a_voice_outside_says_nothing(site: Site) -> None:
    async with client(site) as http, http.ws_connect("/tts?model=cartesia/sonic-3") as socket:
        fallback = {"models": [{"model": "cartesia/sonic-2", "voice": "v"}]}
        await socket.send_json(
            {
                "type": "session.create",
                "sample_rate": "24000",
                "model": "cartesia/sonic-3",
                "voice": "v",
                "fallback": fallback,
            }
        )
        await socket.send_json({"type": "input_transcript", "transcript": "Hello there."})
        await socket.send_json({"type": "session.flush"})
        async with asyncio.timeout(PATIENCE_S):
            while (told := await socket.receive_json())["type"] != "error":
                pass
        assert "inside eu" in told["message"]
    assert site.nobody_outside_was_asked()
