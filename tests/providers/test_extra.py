"""What a client puts into `extra` never replaces what is the request's own, at no provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from gateway.conversations.chat.protocol import read_request
from gateway.conversations.stt import protocol as stt
from gateway.conversations.stt.planning import SttPlanner
from gateway.conversations.tts import protocol as tts
from gateway.conversations.tts.planning import TtsPlanner
from gateway.routing.catalogue import Catalogue
from gateway.settings.stt import SttConfig
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Modality, find, type_names
from gateway.upstreams.tts import RequestVoice, SocketVoice, SpeechRequest
from tests.providers.test_every_vendor import account

FOREIGN = "somebody-elses"
NAMES = (
    "model models model_id modelId model_name input messages transcript text stream callback "
    "callback_url callbackUrl callback_method webhook container codec encoding sample_rate "
    "samplingRate audioFormat response_format output_format stream_format"
).split()
EXTRA = dict.fromkeys(NAMES, FOREIGN)


def vendors(modality: Modality) -> list[str]:
    return [name for name in type_names() if modality in find(name).offers]


def adapter_of(vendor: str, modality: Modality) -> Any:
    return find(vendor).offers[modality].adapter(account(vendor))


def shown(dial: Dial, *frames: Any) -> str:
    """All that a provider is told."""
    return repr((dial.url, dict(dial.headers), dial.body, frames))


@pytest.mark.parametrize("vendor", vendors("tts"))
def test_tts(vendor: str) -> None:
    adapter = adapter_of(vendor, "tts")
    created = tts.read_message(
        orjson.dumps({"type": "session.create", "model": "p/m", "extra": EXTRA}).decode(), None
    )
    assert isinstance(created, tts.Create)
    plan = TtsPlanner(Catalogue({}, {"p": account(vendor)}, "tts"), {"p": vendor}).plan(
        created.style, ()
    )
    assert not isinstance(plan, Failure)
    request = SpeechRequest(plan[0].model, plan[0].voice, None, 24000, plan[0].options)
    if isinstance(adapter, SocketVoice):
        told = shown(adapter.dial(request), adapter.dialogue().begin("u1", request))
    elif isinstance(adapter, RequestVoice):
        told = shown(adapter.dial(request, "Hello."))
    else:
        told = repr(request.options)
    assert FOREIGN not in told


@pytest.mark.parametrize("vendor", vendors("stt"))
def test_stt(vendor: str) -> None:
    adapter = adapter_of(vendor, "stt")
    for settings in ({"extra": EXTRA}, {}):
        created = stt.read_message(
            orjson.dumps(
                {
                    "type": "session.create",
                    "model": "p/m",
                    "settings": settings,
                    "fallback": [{"model": "p/other", "extra": EXTRA}],
                }
            ).decode()
        )
        assert isinstance(created, stt.Create)
        catalogue = Catalogue({}, {"p": account(vendor)}, "stt")
        plan = SttPlanner(catalogue, SttConfig(), {"p": adapter})(created.asked)
        assert not isinstance(plan, Failure)
        for attempt in plan:
            recognizer = adapter.recognizer(attempt, 16000)
            dial = recognizer.dial()
            if isinstance(dial, Dial):
                told = shown(dial, list(recognizer.opening()))
            elif hasattr(dial.transcriber, "request"):
                told = shown(dial.transcriber.request(b"\0" * 640, ""))
            else:
                told = repr(dial)
            assert FOREIGN not in told


@pytest.mark.parametrize("vendor", vendors("chat"))
def test_chat(vendor: str) -> None:
    adapter = adapter_of(vendor, "chat")
    body: Mapping[str, Any] = {
        "model": "p/asked",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }
    for name in ("model", "models", "messages", "input", "stream", "n", "callback_url"):
        fallback = {"model": "p/m", "extra": {name: FOREIGN}}
        assert isinstance(read_request(orjson.dumps({**body, "fallback": [fallback]})), Failure)
    request = read_request(orjson.dumps({**body, "input": FOREIGN}))
    assert isinstance(request, ChatRequest)
    dial = adapter.dial(request, Attempt("p", "the-model"))
    sent = orjson.loads(dial.body or b"{}")
    assert sent.get("model", "the-model") == "the-model"
    assert "the-model" in dial.url + repr(dial.body) or vendor == "local"
    assert "p/asked" not in dial.url + repr(dial.body)
