"""What is fed, and what has to hold: whatever comes, the outcome is events or a Failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from random import Random
from typing import Any, get_args

import orjson

from gateway.conversations.bargein import protocol as bargein
from gateway.conversations.chat import protocol as chat
from gateway.conversations.chat.session import Begin, ChatSession
from gateway.conversations.eot import protocol as eot
from gateway.conversations.realtime import messages as realtime
from gateway.conversations.stt import protocol as stt
from gateway.conversations.tts import protocol as tts
from gateway.settings.chat import ChatConfig
from gateway.upstreams import stt as heard
from gateway.upstreams import tts as spoken
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import MESSAGE_CHARS_MAX, Failure, error_body
from gateway.upstreams.events import BodyChunk, BodyEnd, ResponseHead
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, Modality, find, type_names
from tests.fuzz import generate
from tests.fuzz.sessions import (
    BargeinStage,
    CascadeStage,
    ChatStage,
    EotStage,
    RealtimeStage,
    Stage,
    SttStage,
    TtsStage,
)

Target = Callable[[Random], None]
"""Feeds one conversation, made from this chance; raises if something does not hold."""

MESSAGES = 6
"""In one conversation."""

STATUSES = (200, 204, 301, 400, 401, 403, 404, 408, 413, 418, 422, 429, 451, 500, 503, 529, 999)


def vendors(modality: Modality) -> list[str]:
    return [name for name in type_names() if modality in find(name).offers]


def adapter_of(vendor: str, modality: Modality) -> Any:
    """The adapter of a provider of this vendor."""
    found = find(vendor)
    given: dict[str, Any] = {"type": vendor, "api_key": "key"}
    if found.base_url is None:
        given["base_url"] = "http://127.0.0.1:9/v1"
    account: Account[Any] = found.account("p", found.settings.model_validate(given))
    return found.offers[modality].adapter(account)


def words_of(vendor: str) -> tuple[str, ...]:
    """What this vendor's module, and what it shares with others, speak of."""
    own = generate.words_of(f"gateway.providers.{vendor.replace('-', '_')}")
    others = generate.words_of("gateway.providers._shared", "gateway.providers._openai")
    return own * max(1, 3 * len(others) // len(own)) + others


def samples_of(vendor: str, modality: Modality) -> generate.Samples:
    """Messages of this vendor, as its tests and its fake have them."""
    name = vendor.replace("-", "_")
    found = generate.samples_of(
        f"providers/{name}/test_{modality}.py",
        f"providers/test_{name}.py",
        f"fakes/{name}_*.py",
    )
    shared = generate.samples_of(f"providers/_openai/test_{modality}.py") if not found else ()
    if modality == "chat" and len(found) < 5:
        shared = generate.samples_of("providers/_openai/*.py", "providers/_shared/*.py")
    return found + shared


# -- what has to hold


def assert_failure(failure: Any) -> None:
    """It can be told to a client."""
    assert isinstance(failure, Failure), failure
    assert isinstance(failure.message, str), failure
    assert len(failure.message) <= 2 * MESSAGE_CHARS_MAX, failure
    orjson.dumps(error_body(failure))
    assert failure.retry_after_s is None or math.isfinite(failure.retry_after_s), failure


def assert_plain(value: Any) -> None:
    """No number in it, however deep, is NaN or infinite; every text can be written."""
    if isinstance(value, Failure):
        assert_failure(value)
    elif isinstance(value, float):
        assert math.isfinite(value), value
    elif isinstance(value, str):
        value.encode()
    elif isinstance(value, (tuple, list)):
        for one in value:
            assert_plain(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if field.name != "extra":  # what cannot be said of it is left out
                assert_plain(getattr(value, field.name))


def assert_heard(events: Any) -> None:
    for event in events:
        assert isinstance(event, get_args(heard.RecognizerEvent)), event
        assert_plain(event)


def assert_spoken(events: Any) -> None:
    for event in events:
        assert isinstance(event, get_args(spoken.SynthesisEvent)), event
        assert_plain(event)


# -- targets


def stt_target(vendor: str) -> Target:
    adapter, words = adapter_of(vendor, "stt"), words_of(vendor)
    samples = samples_of(vendor, "stt")

    def feed(chance: Random) -> None:
        recognizer = adapter.recognizer(Attempt("p", "m", language="en"), 16000)
        leads = recognizer.dial()
        recognizer.opening()
        for _ in range(chance.randrange(1, MESSAGES)):
            asks = (heard.Audio(bytes(640)), heard.FLUSH, heard.FINISH, heard.KEEP_ALIVE)
            if isinstance(leads, Dial):
                recognizer.encode(chance.choice(asks))
                noise = chance.randrange(4) == 0
                frame = (
                    generate.data(chance, words, samples)
                    if noise
                    else generate.text(chance, words, samples)
                )
                assert_heard(recognizer.decode(frame))
            elif hasattr(leads.transcriber, "read"):
                body, status = generate.data(chance, words, samples), chance.choice(STATUSES)
                read = leads.transcriber.read(status, generate.headers(chance, words), body)
                assert read is None or isinstance(read, (heard.Transcript, Failure))
                assert_plain(read)
        code = chance.choice((1000, 1006, 1008, 1011, 3000, 4000, 4008, 4999))
        assert_failure(recognizer.closed(code, chance.choice(words)))

    return feed


def tts_target(vendor: str) -> Target:
    adapter, words = adapter_of(vendor, "tts"), words_of(vendor)
    samples = samples_of(vendor, "tts")
    request = spoken.SpeechRequest("m", None, "en", 24000)

    def by_socket(chance: Random) -> None:
        dialogue = adapter.dialogue()
        dialogue.begin("u1", request)
        speaks = True
        for _ in range(chance.randrange(1, MESSAGES)):
            step = chance.randrange(4) if speaks else 3
            if step == 0:
                dialogue.say("u1", "Hello. ")
            elif step == 1:
                dialogue.finish("u1")
                speaks = False
            elif step == 2 and not chance.randrange(4):
                dialogue.cancel("u1")
                speaks = False
            noise = chance.randrange(4) == 0
            frame = (
                generate.data(chance, words, samples)
                if noise
                else generate.text(chance, words, samples)
            )
            for context, event in dialogue.decode(frame):
                assert context is None or isinstance(context, str), context
                assert_spoken((event,))
                if isinstance(event, (spoken.Finished, spoken.Failed)):
                    speaks = False
        assert_failure(dialogue.closed(chance.choice((1000, 1008, 4000)), chance.choice(words)))

    def by_request(chance: Random) -> None:
        reader = adapter.reader(request)
        reader.head(generate.headers(chance, words))
        for _ in range(chance.randrange(MESSAGES)):
            assert_spoken(reader.feed(generate.data(chance, words, samples)))
        assert_spoken(reader.finish())
        body, status = generate.data(chance, words, samples), chance.choice(STATUSES)
        assert_failure(adapter.failure(status, generate.headers(chance, words), body))

    return by_socket if isinstance(adapter, spoken.SocketVoice) else by_request


def chat_target(vendor: str) -> Target:
    adapter, words = adapter_of(vendor, "chat"), words_of(vendor)
    samples = samples_of(vendor, "chat")
    config = ChatConfig(rounds=1)

    def feed(chance: Random) -> None:
        stream = bool(chance.randrange(4))
        body = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        request = ChatRequest(body, "p/m", stream)
        attempt = Attempt("p", "m")
        session = ChatSession(request, (attempt,), {"p": adapter}, config, 0.0)
        session.handle(Begin(), 0.0)
        status = 200 if chance.randrange(3) else chance.choice(STATUSES)
        session.handle(ResponseHead(1, status, generate.headers(chance, words)), 0.1)
        for _ in range(chance.randrange(MESSAGES)):
            session.handle(BodyChunk(1, generate.data(chance, words, samples)), 0.2)
        session.handle(BodyEnd(1), 0.3)
        if session.report.failure is not None:
            assert_failure(session.report.failure)
        for one in session.report.tries:
            if one.usage is not None:
                assert 0 <= one.usage.prompt < 1 << 63
                assert 0 <= one.usage.completion < 1 << 63

    return feed


def client_target(module: str, read: Callable[[bytes], Any]) -> Target:
    words = generate.words_of(module, "gateway.conversations.messages")
    name = module.split(".")[-2]
    samples = generate.samples_of(f"conversations/{name}/test_protocol.py")

    def feed(chance: Random) -> None:
        said = read(generate.text(chance, words, samples).encode(errors="surrogatepass"))
        if isinstance(said, Failure):
            assert_failure(said)
            assert 400 <= said.status < 500

    return feed


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


_PROTOCOLS: dict[str, Callable[[bytes], Any]] = {
    "chat": chat.read_request,
    "stt": lambda data: stt.read_message(_text(data)),
    "tts": lambda data: tts.read_message(_text(data), None),
    "bargein": lambda data: bargein.read_message(_text(data)),
    "eot": eot.read_message,
}


def session_target(make: Callable[[Random], Stage]) -> Target:
    def feed(chance: Random) -> None:
        make(chance).play()

    return feed


def _sessions() -> dict[str, Target]:
    """Whole sessions of all routes."""
    found: dict[str, Callable[[Random], Stage]] = {}
    for name in vendors("stt"):
        if name != "local":
            found[f"session/stt/{name}"] = partial(
                SttStage,
                adapter=adapter_of(name, "stt"),
                words=words_of(name),
                samples=samples_of(name, "stt"),
            )
    for name in vendors("chat"):
        if name != "local":
            found[f"session/chat/{name}"] = partial(
                ChatStage,
                adapter=adapter_of(name, "chat"),
                words=words_of(name),
                samples=samples_of(name, "chat"),
            )
    for name, stage in (("tts", TtsStage), ("bargein", BargeinStage)):
        words = generate.words_of(f"gateway.conversations.{name}.protocol")
        samples = generate.samples_of(f"conversations/{name}/test_protocol.py")
        found[f"session/{name}"] = partial(stage, words=words, samples=samples)
    found["session/eot"] = EotStage
    found["session/cascade"] = partial(
        CascadeStage,
        words=generate.words_of("gateway.conversations.realtime.cascade.protocol"),
        samples=generate.samples_of("conversations/realtime/cascade/test_*.py"),
    )
    modalities: tuple[Modality, ...] = ("realtime", "duplex")
    for modality in modalities:
        found |= {
            f"session/{modality}/{name}": partial(
                RealtimeStage,
                adapter=adapter_of(name, modality),
                words=words_of(name) + generate.words_of("gateway.conversations.realtime.messages"),
                samples=samples_of(name, modality)
                + generate.samples_of("providers/_openai/test_realtime.py"),
                duplex=modality == "duplex",
            )
            for name in vendors(modality)
            if name != "local"
        }
    return {name: session_target(make) for name, make in found.items()}


def targets() -> dict[str, Target]:
    """All of them by name."""
    found: dict[str, Target] = {
        f"client/{name}": client_target(f"gateway.conversations.{name}.protocol", read)
        for name, read in _PROTOCOLS.items()
    }
    found["client/realtime"] = client_target(
        "gateway.conversations.realtime.messages", lambda data: realtime.read_event(_text(data))
    )
    found |= _sessions()
    found |= {f"stt/{name}": stt_target(name) for name in vendors("stt")}
    found |= {f"tts/{name}": tts_target(name) for name in vendors("tts") if name != "local"}
    found |= {f"chat/{name}": chat_target(name) for name in vendors("chat") if name != "local"}
    return found
