"""`gateway check --live` tries each provider with what its own adapters dial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from gateway.cli.credentials import Trial, try_account
from gateway.upstreams.provider import Account, Modality, find, type_names
from tests.fakes.anthropic_messages import FakeAnthropic
from tests.fakes.assemblyai_stt import FakeAssemblyAI
from tests.fakes.base import Exchange, FakeServer, Handler
from tests.fakes.cartesia_stt import FakeCartesia
from tests.fakes.cartesia_tts import FakeCartesia as FakeCartesiaVoice
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.deepgram_tts import FakeDeepgramVoice
from tests.fakes.elevenlabs_stt import FakeElevenLabs
from tests.fakes.elevenlabs_tts import FakeElevenLabs as FakeElevenLabsVoice
from tests.fakes.fishaudio_tts import FakeFishAudio
from tests.fakes.google_stt import FakeGoogleLive
from tests.fakes.inworld_stt import FakeInworld
from tests.fakes.inworld_tts import FakeInworld as FakeInworldVoice
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.openai_live import KEY as LIVE_KEY
from tests.fakes.openai_live import FakeLive
from tests.fakes.openai_realtime import KEY as REALTIME_KEY
from tests.fakes.openai_realtime import FakeRealtime
from tests.fakes.openai_stt import FakeOpenAIRealtime
from tests.fakes.rime_tts import FakeRime
from tests.fakes.speech import KEY
from tests.fakes.speechmatics_stt import FakeSpeechmatics
from tests.fakes.xai_stt import FakeXai
from tests.fakes.xai_tts import FakeXaiVoice
from tests.ports import Port

WRONG = "wr0ng-key-that-nobody-may-see"
SETTLE_S = 0.05

RECOGNISERS: dict[str, Callable[[], FakeServer]] = {
    "assemblyai": FakeAssemblyAI,
    "cartesia": FakeCartesia,
    "deepgram": FakeDeepgram,
    "elevenlabs": FakeElevenLabs,
    "google": FakeGoogleLive,
    "inworld": FakeInworld,
    "openai": FakeOpenAIRealtime,
    "speechmatics": FakeSpeechmatics,
    "xai": FakeXai,
}
VOICES: dict[str, Callable[[], FakeServer]] = {
    "cartesia": FakeCartesiaVoice,
    "deepgram": FakeDeepgramVoice,
    "elevenlabs": FakeElevenLabsVoice,
    "fishaudio": FakeFishAudio,
    "inworld": FakeInworldVoice,
    "rime": FakeRime,
    "xai": FakeXaiVoice,
}
PATHS = {"openai": "/v1", "xai": "/v1", "google": "/v1beta/openai"}


@pytest.fixture(scope="module")
def openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


async def tried(
    type_name: str,
    base_url: str,
    key: str = KEY,
    *,
    modality: Modality = "chat",
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> Trial:
    made = find(type_name).settings(type=type_name, **settings)
    account = Account(type_name, type_name, base_url, key, headers or {}, settings=made)
    trials = await try_account(account, {}, SETTLE_S)
    (found,) = [trial for trial in trials if trial.modality == modality]
    assert WRONG not in repr(trials)
    return found


async def test_a_provider_that_lists_its_models_is_fine(openai: FakeOpenAI) -> None:
    trial = await tried("openai", openai.base_url)
    assert (trial.state, trial.detail) == ("ok", "the key is accepted; 2 models")


async def test_models_that_the_vendor_no_longer_lists_are_named(openai: FakeOpenAI) -> None:
    trial = await tried("openai", openai.base_url)
    assert "gpt-4o" in trial.unlisted
    assert "gpt-4.1-mini" not in trial.unlisted
    assert "tts-1" in trial.unlisted


async def test_a_provider_with_paths_of_its_own_is_asked_there(openai: FakeOpenAI) -> None:
    # Anthropic's list is where OpenAI's is, one folder up from what its base URL says
    assert (await tried("anthropic", openai.url)).state == "ok"
    (asked,) = [one for one in openai.received if "x-api-key" in one.headers]
    assert asked.path == "/v1/models"


async def test_a_refusal_says_its_status() -> None:
    with FakeAnthropic() as fake:  # which serves no list
        trial = await tried("anthropic", fake.base_url)
    assert trial.state == "failed"
    assert trial.detail.startswith("refused with status 404")


@pytest.mark.parametrize("type_name", type_names())
async def test_a_provider_that_is_not_there_is_never_ok(type_name: str) -> None:
    vendor = find(type_name)
    with Port() as nobodys:
        url = f"http://127.0.0.1:{nobodys.number}/v1"
        settings = vendor.settings(type=type_name)
        account = Account(type_name, type_name, url, WRONG, settings=settings)
        trials = await try_account(account, {}, SETTLE_S)
    assert all(trial.state != "ok" for trial in trials)
    if vendor.available is None:
        assert any("cannot be reached" in trial.detail for trial in trials)
    assert WRONG not in repr(trials)
    for trial in trials:
        if trial.state == "not tried":
            assert trial.detail


@pytest.mark.parametrize("type_name", RECOGNISERS)
async def test_a_recogniser_takes_a_good_key_and_refuses_a_wrong_one(type_name: str) -> None:
    with RECOGNISERS[type_name]() as fake:
        url = fake.url + PATHS.get(type_name, "")
        good = await tried(type_name, url, modality="stt")
        wrong = await tried(type_name, url, WRONG, modality="stt")
    assert good.state == "ok", good
    assert wrong.state == "failed"
    assert wrong.detail == "refused with status 401: the key is not accepted"


@pytest.mark.parametrize("type_name", VOICES)
async def test_a_voice_takes_a_good_key_and_refuses_a_wrong_one(type_name: str) -> None:
    with VOICES[type_name]() as fake:
        url = fake.url + PATHS.get(type_name, "")
        good = await tried(type_name, url, modality="tts")
        fake.script(*["status:401"] * 4)
        wrong = await tried(type_name, url, WRONG, modality="tts")
    assert good.state == "ok", good
    assert wrong.state == "failed"
    assert "status 401: the key is not accepted" in wrong.detail


@pytest.mark.parametrize("type_name", ["openai", "xai"])
async def test_speech_to_speech_takes_a_good_key_and_refuses_a_wrong_one(type_name: str) -> None:
    with FakeRealtime() as fake:
        good = await tried(type_name, fake.base_url, REALTIME_KEY, modality="realtime")
        wrong = await tried(type_name, fake.base_url, WRONG, modality="realtime")
        fake.script("invalid-key")
        told = await tried(type_name, fake.base_url, REALTIME_KEY, modality="realtime")
        assert not fake.connections()[0].heard
    assert good.state == "ok", good
    assert wrong.detail == "refused with status 401: the key is not accepted"
    assert (told.state, REALTIME_KEY in told.detail) == ("failed", False)


async def test_a_duplex_model_takes_a_good_key_and_refuses_a_wrong_one() -> None:
    with FakeLive() as fake:
        good = await tried("openai", fake.base_url, LIVE_KEY, modality="duplex")
        wrong = await tried("openai", fake.base_url, WRONG, modality="duplex")
    assert good.state == "ok", good
    assert wrong.detail == "refused with status 401: the key is not accepted"


async def test_what_can_only_be_tried_for_money_is_told_as_not_tried(openai: FakeOpenAI) -> None:
    trial = await tried(
        "openai-compatible", openai.base_url, modality="stt", stt_models=["whisper-1"]
    )
    assert trial.state == "not tried"
    assert trial.detail == "every request is billed; the key is that of chat"


class Odd(FakeServer):
    """Answers `GET /v1/models` as it is told; records what else is asked."""

    def __init__(self, answer: Callable[[], web.StreamResponse] = web.Response) -> None:
        super().__init__()
        self.answer = answer

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [("GET", "/{path:.*}", self._answer)]

    async def _answer(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        return self.answer()


@pytest.mark.parametrize(
    ("type_name", "modality"),
    [("openai", "chat"), ("anthropic", "chat"), ("azure-openai", "chat"), ("elevenlabs", "stt"),
     ("elevenlabs", "tts"), ("deepgram", "stt"), ("cartesia", "tts")],
)  # fmt: skip
async def test_no_key_goes_where_a_redirect_leads(type_name: str, modality: Modality) -> None:
    with Odd() as elsewhere, Odd() as fake:
        there = {"Location": f"{elsewhere.url}/v1/models"}
        fake.answer = lambda: web.Response(status=307, headers=there)
        trial = await tried(type_name, f"{fake.url}/v1", WRONG, modality=modality)
        assert fake.received
        assert not elsewhere.received
    assert trial.state == "failed"
    assert "redirects elsewhere" in trial.detail


async def test_a_page_in_place_of_a_list_is_not_ok() -> None:
    with Odd() as fake:
        fake.answer = lambda: web.Response(text="<html>Sign in</html>", content_type="text/html")
        trial = await tried("openai", f"{fake.url}/v1")
    assert trial.state == "failed"
    assert "is base_url right?" in trial.detail


async def test_a_key_that_comes_back_in_an_answer_is_not_shown() -> None:
    with Odd() as fake:
        fake.answer = lambda: web.json_response(
            {"error": {"message": f"bad key {WRONG} for team {WRONG}-2"}}, status=401
        )
        trial = await tried("openai", f"{fake.url}/v1", WRONG, headers={"x-team": f"{WRONG}-2"})
    assert trial.detail.startswith("refused with status 401: the key is not accepted: bad key ***")


async def test_a_user_and_password_in_an_address_are_not_shown() -> None:
    with Port() as nobodys:
        url = f"http://me:{WRONG}@127.0.0.1:{nobodys.number}/v1?k={WRONG}"
        trial = await tried("openai", url)
    assert "127.0.0.1" in trial.detail


async def test_the_configured_model_is_the_one_that_is_tried() -> None:
    with FakeDeepgram() as fake:
        settings = find("deepgram").settings(type="deepgram")
        account = Account("ears", "deepgram", fake.url, KEY, settings=settings)
        await try_account(account, {"stt": [("ears", "nova-2-medical")]}, SETTLE_S)
        asked = [one.query.get("model") for one in fake.received if one.path == "/v1/listen"]
    assert asked == ["nova-2-medical"]


async def test_a_recogniser_that_closes_instead_of_greeting_is_not_ok() -> None:
    class Closing(Odd):
        async def _answer(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.close(code=1008, message=f"Unauthorized: {WRONG}".encode())
            return socket

    with Closing() as fake:
        trial = await tried("assemblyai", fake.url, WRONG, modality="stt")
    assert trial.state == "failed"
    assert trial.detail.startswith("closed the connection")


async def test_voices_are_held_against_a_list_of_their_own() -> None:
    class Listing(Odd):
        async def _answer(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
            if request.path == "/v1/models":
                assert request.headers["xi-api-key"] == KEY
                return web.json_response([{"model_id": "eleven_turbo_v2_5"}])
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket

    with Listing() as fake:
        trial = await tried("elevenlabs", fake.url, modality="tts")
    assert trial.state == "ok"
    assert "eleven_flash_v2" in trial.unlisted
    assert "eleven_turbo_v2_5" not in trial.unlisted
