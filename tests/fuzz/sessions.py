"""Whole sessions: a hostile client and hostile providers at once, in any order, with any pauses.

What has to hold: an event never raises, what is said to the client can be said, a session that has
ended says no more, and one whose client has left ends, however long that takes.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import orjson
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.conversations.bargein import session as bargein
from gateway.conversations.chat import session as chat
from gateway.conversations.eot import session as eot
from gateway.conversations.realtime import session as realtime
from gateway.conversations.realtime.cascade import parts
from gateway.conversations.realtime.cascade.core import Cascade
from gateway.conversations.realtime.cascade.protocol import Settings as CascadeSettings
from gateway.conversations.realtime.duplex import DuplexSession
from gateway.conversations.realtime.session import RealtimeSession
from gateway.conversations.stt import actions as stt
from gateway.conversations.stt.protocol import Asked
from gateway.conversations.stt.session import SttSession
from gateway.conversations.tts import actions as tts
from gateway.conversations.tts.protocol import Style
from gateway.conversations.tts.session import TtsSession
from gateway.engines.types import FrameModelCard, Prediction, Thresholds
from gateway.routing.breaker import Breaker
from gateway.settings.chat import ChatConfig
from gateway.settings.realtime import RealtimeConfig
from gateway.settings.stt import SttConfig
from gateway.settings.tts import TtsConfig
from gateway.upstreams import tts as spoken
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    DEADLINE_PASSED,
    Binary,
    BodyChunk,
    BodyEnd,
    ClientLeft,
    ConnectionFailed,
    ResponseHead,
    SocketClosed,
    SocketFrame,
    SocketOpened,
    Text,
)
from gateway.upstreams.plan import Attempt, Plan
from tests.fuzz import generate

STEPS = 60
"""Events of one session."""

END_STEPS = 400
"""Deadlines after which a session whose client has left must have ended."""

Samples = generate.Samples
Words = tuple[str, ...]


def pause_s(chance: Random) -> float:
    """Mostly none, sometimes hours."""
    if not chance.randrange(40):
        return chance.choice((1.0, 3.0, 30.0, 4000.0))
    return chance.choice((0.0, 0.0, 0.0, 0.001, 0.05, 0.2))


def failure(chance: Random) -> Failure:
    return Failure(chance.choice(list(Kind)), chance.choice(("no", "", "é" * 400)))


def assert_closable(code: int, reason: str) -> None:
    assert code in range(1000, 1016) or code in range(3000, 5000), code
    assert code not in (1005, 1006, 1015), code
    reason.encode()


class Stage:
    """A session and its clock. Subclasses make events and understand actions."""

    def __init__(self, chance: Random, session: Any) -> None:
        self.chance = chance
        self.session = session
        self.now = 100.0
        self.over = False
        self.left = False

    def event(self, event: Any) -> None:
        actions = self.session.handle(event, self.now)
        for action in actions:
            if not self.over:
                self.act(action)
        deadline = self.session.deadline
        assert deadline is None or not math.isnan(deadline), deadline

    def act(self, action: Any) -> None:
        raise NotImplementedError

    def next(self) -> Any:
        """The next event."""
        raise NotImplementedError

    def play(self) -> None:
        for _ in range(self.chance.randrange(1, STEPS)):
            if self.over:
                return
            self.now += pause_s(self.chance)
            deadline = self.session.deadline
            if deadline is not None and deadline <= self.now:  # the loop hears of it first
                self.event(DEADLINE_PASSED)
                continue
            self.event(self.next())
        self.left = True
        self.event(ClientLeft(1006))
        for _ in range(END_STEPS):
            deadline = self.session.deadline
            if self.over or deadline is None:
                return
            self.now = max(self.now, deadline)
            self.event(DEADLINE_PASSED)
        raise AssertionError("the session does not end after its client has left")


def client_text(chance: Random, words: Words, samples: Samples, usual: Sequence[Any]) -> Text:
    """Mostly what clients say, in any order; sometimes what none would. That ends most sessions, so
    it is rare."""
    kind = chance.randrange(20)
    if kind > 1:
        return Text(json.dumps(chance.choice(usual)))
    if kind:
        return Text(json.dumps(generate.nearly(chance, chance.choice(usual), words)))
    text = generate.text(chance, words, samples)
    return Text(text.encode(errors="replace").decode())


def provider_frame(chance: Random, words: Words, samples: Samples) -> str | bytes:
    """Mostly what this provider says."""
    if samples and chance.randrange(4):
        return json.dumps(chance.choice(samples))
    return generate.frame(chance, words, samples)


def provider_body(chance: Random, words: Words, samples: Samples) -> bytes:
    """A piece of a stream, mostly of events that this provider sends."""
    kind = chance.randrange(8)
    if samples and kind > 1:
        event = chance.choice(samples)
        named = f"event: {event['type']}\n" if isinstance(event.get("type"), str) else ""
        return f"{named}data: {json.dumps(event)}\n\n".encode(errors="replace")
    return b"data: [DONE]\n\n" if kind else generate.data(chance, words, samples)


# -- /stt

_TONE = b"".join(struct.pack("<h", int(8000 * math.sin(0.2 * i))) for i in range(800))
_STT_CREATE: tuple[Any, ...] = (
    {"type": "session.create", "model": "p/m", "settings": {"sample_rate": 16000}},
    {"type": "session.create", "model": "q/m", "settings": {"sample_rate": 48000}},
)
STT_USUAL: tuple[Any, ...] = (
    {"type": "session.update", "settings": {"language": "fr"}},
    {"type": "session.update", "settings": {}, "model": "q/m"},
    {"type": "session.finalize"},
    *(
        {"type": "input_audio", "audio": base64.b64encode(pcm).decode()}
        for pcm in (_TONE, _TONE, bytes(1600), b"")
    ),
)
_STT_LAST: tuple[Any, ...] = (
    *_STT_CREATE,
    {"type": "session.close"},
    {"type": "input_audio", "audio": "AA=="},
)


class SttStage(Stage):
    def __init__(self, chance: Random, adapter: Any, words: Words, samples: Samples) -> None:
        session = SttSession(
            SttConfig(), self.planned, {"p": adapter, "q": adapter}, Breaker(), "stt_1", 100.0
        )
        super().__init__(chance, session)
        self._words, self._samples = words, samples
        self._open: list[int] = []
        self._dialled: list[int] = []
        self._begun = False

    def planned(self, asked: Asked) -> Plan | Failure:
        plan = (Attempt("p", "m", asked.extra, None, asked.language), Attempt("q", "m"))
        return plan if self.chance.randrange(8) else failure(self.chance)

    def act(self, action: Any) -> None:
        match action:
            case stt.SendToClient(text):
                assert "null" not in {repr(value) for value in orjson.loads(text)}
                assert "NaN" not in text
            case stt.Open(number, dial, timeout_s):
                assert timeout_s > 0
                if isinstance(dial, Dial):
                    self._dialled.append(number)
            case stt.Send(_, frames):
                assert all(frame is not None for frame in frames)
            case stt.Drop(number):
                for known in (self._open, self._dialled):
                    if number in known:
                        known.remove(number)
            case stt.Close(code, reason):
                assert_closable(code, reason)
                self.over = True

    def next(self) -> Any:
        chance = self.chance
        if not self._begun:
            self._begun = bool(chance.randrange(8))
            if self._begun:
                return Text(json.dumps(chance.choice(_STT_CREATE)))
        kind = chance.randrange(10)
        if kind < 4:
            usual = STT_USUAL if chance.randrange(20) else _STT_LAST
            return client_text(chance, self._words, self._samples, usual)
        if kind == 4 and not chance.randrange(20):
            return Binary(chance.randbytes(chance.randrange(9)))
        if self._dialled and kind < 7:
            number = chance.choice(self._dialled)
            self._dialled.remove(number)
            if not chance.randrange(4):
                return ConnectionFailed(number, failure(chance))
            self._open.append(number)
            return SocketOpened(number)
        known = self._open or [chance.randrange(1, 5)]
        number = chance.choice(known)
        if kind == 9 and not chance.randrange(3):
            if number in self._open:
                self._open.remove(number)
            code = chance.choice((1000, 1006, 1008, 1011, 4000, 4999))
            return SocketClosed(number, code, chance.choice(self._words))
        return SocketFrame(number, provider_frame(chance, self._words, self._samples))


# -- /tts

TTS_USUAL: tuple[Any, ...] = (
    {"type": "session.create", "model": "p/m", "voice": "v", "sample_rate": 24000,
     "encoding": "pcm_s16le"},
    {"type": "session.create", "model": "p/m", "sample_rate": 8000, "encoding": "pcm_s16le",
     "fallback": {"models": [{"model": "q/m"}]}},
    {"type": "input_transcript", "transcript": "Hello there. "},
    {"type": "input_transcript", "transcript": "中文。 and ünlaut, 12.5! "},
    {"type": "input_transcript", "transcript": ""},
    {"type": "session.flush"},
    {"type": "session.cancel"},
    {"type": "session.update", "voice": "w"},
    {"type": "session.close"},
)  # fmt: skip


class TtsStage(Stage):
    def __init__(self, chance: Random, words: Words, samples: Samples) -> None:
        traits = {
            "p": spoken.Capabilities(
                rates=(24000,), text_chars_max=chance.choice((20, 400)), marks=chance.random() < 0.5
            ),
            "q": spoken.Capabilities(rates=(16000,), text_chars_max=400, expires_s=0.7),
        }
        config = TtsConfig.model_validate({"cache": {"enabled": chance.random() < 0.5}})
        super().__init__(
            chance,
            TtsSession("tts_1", self.planned, traits, Breaker(), config, None, 600.0, 100.0),
        )
        self._words, self._samples = words, samples
        self._running: list[int] = []
        self._asked: list[str] = []
        self._begun = False

    def planned(self, style: Style, fallback: tuple[Style, ...]) -> Plan | Failure:
        if not self.chance.randrange(8):
            return failure(self.chance)
        return tuple(
            Attempt(name, "m", one.extra, one.voice, one.language)
            for name, one in zip(("p", "q"), (style, *fallback), strict=False)
        )

    def act(self, action: Any) -> None:
        match action:
            case tts.SendToClient(text, audio_s):
                assert "NaN" not in text
                assert isinstance(orjson.loads(text), dict)
                assert math.isfinite(audio_s)
            case tts.Begin(number):
                self._running.append(number)
            case tts.LookUp(key):
                self._asked.append(key)
            case tts.Close(code, reason):
                assert_closable(code, reason)
                self.over = True

    def next(self) -> Any:
        chance = self.chance
        if not self._begun:
            self._begun = True
            return Text(json.dumps(chance.choice(TTS_USUAL[:2])))
        kind = chance.randrange(10)
        if kind < 5:
            usual = TTS_USUAL if not chance.randrange(20) else TTS_USUAL[2:-3]
            return client_text(chance, self._words, self._samples, usual)
        if kind == 5:
            return tts.Unblocked() if chance.randrange(20) else Binary(b"\0")
        if kind == 6 and self._asked:
            return tts.Found(self._asked.pop(), None)
        number = chance.choice(self._running or [chance.randrange(1, 5)])
        start = chance.choice((0.0, 0.1, -1.0, 1e6))
        heard: Any = chance.choice(
            (
                spoken.Audio(bytes(2 * chance.randrange(2000))),
                spoken.Audio(b""),
                spoken.Words((spoken.Timed("Hello", start, start + 0.1),)),
                spoken.Chars((spoken.Timed("H", start, start),)),
                spoken.PartSpoken(),
                spoken.Restart(),
                spoken.Retried(failure(chance)),
                spoken.Failed(failure(chance)),
                spoken.Finished(),
            )
        )
        return tts.Spoke(number, heard)


# -- /realtime and /live/sessions

_PCM = base64.b64encode(bytes(4800)).decode()
_RESPONSES = {"type": "responses", "responses": {"model": "openai/m", "tools": []}}
_REALTIME_USUAL: tuple[Any, ...] = (
    {"type": "session.update", "session": {"model": "x", "audio": {"input": {
        "format": {"type": "audio/pcmu"}, "transcription": {"model": "w"}}}}},
    {"type": "input_audio_buffer.append", "audio": _PCM},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": {"id": "i", "type": "message"}},
    {"type": "conversation.item.truncate", "item_id": "i", "audio_end_ms": 5},
    {"type": "response.create"},
    {"type": "response.cancel"},
    {"type": "session.start", "session": {"model": "p/m", "delegation": _RESPONSES}},
    {"type": "session.update", "session": {"delegation": _RESPONSES}},
    {"type": "session.input_audio.append", "audio": _PCM},
    {"type": "session.close"},
)  # fmt: skip
_REALTIME_HEARD: tuple[Any, ...] = (
    {"type": "session.created", "session": {}},
    {"type": "session.updated", "session": {}},
    {"type": "conversation.item.added", "item": {"id": "j"}},
    {"type": "input_audio_buffer.speech_started", "item_id": "j"},
    {"type": "input_audio_buffer.speech_stopped", "item_id": "j"},
    {"type": "input_audio_buffer.committed", "item_id": "j"},
    {"type": "conversation.item.input_audio_transcription.completed",
     "usage": {"type": "duration", "seconds": 1.5}},
    {"type": "response.created", "response": {"id": "r"}},
    {"type": "response.output_audio.delta", "delta": _PCM},
    {"type": "response.done", "response": {"id": "r", "status": "completed", "usage": {
        "input_tokens": 5, "output_tokens": 4, "input_token_details": {"audio_tokens": 3}}}},
    {"type": "response.done", "response": {"id": "r", "status": "failed", "status_details": {
        "error": {"code": "server_error", "message": "x"}}}},
    {"type": "error", "error": {"code": "insufficient_quota", "message": "m"}},
    {"type": "error", "error": {"code": "x", "message": "m", "event_id": "e"}},
    {"type": "session.started", "session": {}},
    {"type": "session.usage.updated", "usage": {"seconds": 3.5}},
    {"type": "session.closed", "usage": {"seconds": 4}},
    {"type": "response.event", "delegation_id": "d", "event": {"type": "response.created"}},
    {"type": "response.event", "delegation_id": "d", "event": {"type": "response.completed",
        "response": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 4}}}},
)  # fmt: skip


class RealtimeStage(Stage):
    def __init__(
        self, chance: Random, adapter: Any, words: Words, samples: Samples, *, duplex: bool
    ) -> None:
        plan: Plan = (Attempt("p", "m"), Attempt("q", "m", {"voice": "v"}))
        named = bool(chance.randrange(2))
        shared = ({"p": adapter, "q": adapter}, RealtimeConfig(), Breaker(), "rt_1", 100.0)
        charged = bool(chance.randrange(2))
        session = (
            DuplexSession(
                plan if named else None, *shared, charged=charged,
                planner=lambda model: plan if chance.randrange(4) else failure(chance),
                permits=lambda attempt: bool(chance.randrange(4)),
            )
            if duplex
            else RealtimeSession(plan, *shared, charged=charged)
        )  # fmt: skip
        super().__init__(chance, session)
        self._words, self._samples = words, samples
        self._plan = plan
        self._owed: list[Any] = [realtime.Begin()]
        self._dialled: list[int] = []
        self._open: list[int] = []

    def act(self, action: Any) -> None:
        match action:
            case realtime.SendToClient(text):
                assert isinstance(orjson.loads(text), dict)
            case realtime.Send(_, frames):
                assert all(isinstance(frame, str) for frame in frames)
            case realtime.Open(number):
                self._dialled.append(number)
            case realtime.Drop(number):
                for known in (self._open, self._dialled):
                    if number in known:
                        known.remove(number)
            case realtime.Admit(plan):
                refused = not self.chance.randrange(6)
                self._owed.append(realtime.Admitted(failure(self.chance) if refused else plan))
            case realtime.Meter():
                empty = not self.chance.randrange(6)
                self._owed.append(realtime.Metered(failure(self.chance) if empty else None))
            case realtime.Refuse(refused):
                assert isinstance(refused, Failure)
                self.over = True
            case realtime.Close(code, reason):
                assert_closable(code, reason)
                self.over = True
        assert self.session.used(self.now) is not None

    def next(self) -> Any:
        chance = self.chance
        if self._owed:
            return self._owed.pop(0)
        kind = chance.randrange(10)
        if self._dialled and kind < 5:
            number = self._dialled.pop(0)
            if not chance.randrange(4):
                return ConnectionFailed(number, failure(chance))
            self._open.append(number)
            return SocketOpened(number)
        if kind < 4:
            return client_text(chance, self._words, self._samples, _REALTIME_USUAL)
        if kind == 4 and not chance.randrange(10):
            return Binary(chance.randbytes(chance.randrange(9)))
        number = chance.choice(self._open or [chance.randrange(1, 5)])
        if kind == 9 and not chance.randrange(3):
            code = chance.choice((1000, 1001, 1006, 1008, 1011, 3000, 4999))
            return SocketClosed(number, code, chance.choice(self._words))
        if kind > 5 and chance.randrange(6):
            usual = chance.choice(_REALTIME_HEARD)
            told = usual if chance.randrange(8) else generate.nearly(chance, usual, self._words)
            return SocketFrame(number, json.dumps(told))
        return SocketFrame(number, generate.frame(chance, self._words, self._samples))


# -- /bargein and /eot


class BargeinStage(Stage):
    def __init__(self, chance: Random, words: Words, samples: Samples) -> None:
        card = FrameModelCard("m", "1", 16000, 400, 0.6)
        super().__init__(chance, bargein.BargeinSession(card, 0.6, "bargein_1", 60.0, 100.0))
        self._words, self._samples = words, samples
        self._asked: list[int] = []
        self._begun = False

    def act(self, action: Any) -> None:
        match action:
            case bargein.SendToClient(text):
                assert isinstance(orjson.loads(text), dict)
            case bargein.Ask(created_at):
                self._asked.append(created_at)
            case bargein.Close(code, reason):
                assert_closable(code, reason)
                self.over = True

    def next(self) -> Any:
        chance = self.chance
        settings = {"sample_rate": 16000, "num_channels": 1, "min_frames": 2, "encoding": "s16le"}
        create = {"type": "session.create", "settings": settings}
        if not self._begun:
            self._begun = True
            return Text(json.dumps(create))
        kind = chance.randrange(6)
        if kind == 0 and not chance.randrange(4):
            usual = (create, {"type": "session.close"})
            return client_text(chance, self._words, self._samples, usual)
        if kind < 3 and self._asked:
            count = chance.choice((0, 1, 3, 40))
            values = np.full(count, chance.choice((0.0, 0.9, math.nan)), np.float32)
            known = values if chance.randrange(4) else None
            return bargein.Answered(self._asked.pop(0), known)
        size = chance.choice((1600, 3200, 3200, 3200, 96000, 2_000_000))
        if not chance.randrange(20):
            size = chance.choice((0, 1, 7, 9))
        head = struct.pack("<Q", chance.choice((0, 7, (1 << 64) - 1, chance.getrandbits(64))))
        return Binary(head[: 8 if chance.randrange(20) else chance.randrange(8)] + bytes(size))


class EotStage(Stage):
    def __init__(self, chance: Random) -> None:
        thresholds = Thresholds(default=0.5, languages={"en": 0.4})
        session = eot.EotSession(thresholds, 32000, 60.0, 100.0, lambda now: round(now * 1e9))
        super().__init__(chance, session)
        self._asked: list[int] = []
        self._begun = False

    def act(self, action: Any) -> None:
        match action:
            case eot.SendToClient(data):
                pb.ServerMessage.FromString(data)
            case eot.Ask(number):
                self._asked.append(number)
            case eot.Close(code, reason):
                assert_closable(code, reason)
                self.over = True

    def next(self) -> Any:
        chance = self.chance
        if self._asked and not chance.randrange(3):
            probability = chance.choice((0.0, 0.9, 1.0, math.nan))
            number = self._asked.pop(0)
            return eot.Predicted(number, Prediction(probability, preprocess_s=0.0, inference_s=0.1))
        odd = not chance.randrange(30)
        if odd and chance.randrange(2):
            return Text("{}") if chance.randrange(2) else Binary(chance.randbytes(20))
        settings = pb.SessionSettings(
            sample_rate=chance.choice((0, 8000, 1 << 31)) if odd else 16000,
            encoding=None if odd else pb.AUDIO_ENCODING_PCM_S16LE,
        )
        create = {"session_create": pb.SessionCreate(settings=settings)}
        audio = pb.InputAudio(audio=bytes(chance.choice((0, 640, 640, 70000))), num_samples=320)
        name = chance.choice(("", "r", "x" * 999))
        said: dict[str, Any] = chance.choice(
            (
                {"input_audio": audio},
                {"input_audio": audio},
                {"inference_start": pb.InferenceStart(request_id=name)},
                {"inference_start": pb.InferenceStart(request_id="r")},
                {"inference_stop": pb.InferenceStop(request_id="r")},
                {"session_flush": pb.SessionFlush()},
                *(({"session_close": pb.SessionClose()}, create, {}) if odd else ()),
            )
        )
        if not self._begun:
            self._begun, said = True, create
        message = pb.ClientMessage(**said)
        if chance.randrange(2):
            message.created_at.seconds = chance.choice((0, 1, 100, 4000))
        if not chance.randrange(10):
            message.created_at.seconds = chance.choice((-1, 1 << 40, -(1 << 62), (1 << 63) - 1))
            message.created_at.nanos = chance.choice((0, -1, 1 << 30))
        data = bytearray(message.SerializeToString())
        if data and odd:
            data[chance.randrange(len(data))] = chance.randrange(256)
        return Binary(bytes(data))


# -- /chat/completions


class ChatStage(Stage):
    def __init__(self, chance: Random, adapter: Any, words: Words, samples: Samples) -> None:
        stream = bool(chance.randrange(4))
        body = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        request = ChatRequest(body, "p/m", stream, usage=chance.random() < 0.5)
        plan = tuple(Attempt(f"p{i}", "m") for i in range(chance.randrange(1, 4)))
        upstreams = {one.provider: adapter for one in plan}
        super().__init__(chance, chat.ChatSession(request, plan, upstreams, ChatConfig(), 100.0))
        self._words, self._samples = words, samples
        self._stream = stream
        self._open: list[int] = []
        self._headed: list[int] = []
        self._begun = self._started = False

    def act(self, action: Any) -> None:
        match action:
            case chat.Open(attempt):
                self._open.append(attempt)
            case chat.Drop(attempt) | chat.Leave(attempt):
                for known in (self._open, self._headed):
                    if attempt in known:
                        known.remove(attempt)
            case chat.Start():
                assert not self._started
                self._started = True
            case chat.Write(data):
                assert self._started
                data.decode()
            case chat.Reply(body):
                assert isinstance(orjson.loads(body), dict)
                self.over = True
            case chat.Refuse(refused):
                assert 400 <= refused.status < 600
                assert not self._started
                self.over = True
            case chat.Finish() | chat.BreakOff():
                assert self._started or self.left
                self.over = True

    def next(self) -> Any:
        chance = self.chance
        if not self._begun:
            self._begun = True
            return chat.Begin()
        number = chance.choice(self._open or [chance.randrange(1, 9)])
        kind = chance.randrange(8)
        if kind == 0:
            return ConnectionFailed(number, failure(chance))
        if number not in self._headed:
            self._headed.append(number)
            status = 200 if chance.randrange(3) else chance.choice((204, 400, 429, 500, 999))
            return ResponseHead(number, status, generate.headers(chance, self._words))
        if kind == 1:
            return BodyEnd(number)
        return BodyChunk(number, provider_body(chance, self._words, self._samples))


# -- a cascade on /realtime


def _said(**fields: Any) -> dict[str, Any]:
    return fields


_MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
CASCADE_USUAL: tuple[Any, ...] = (
    *(
        _said(type="input_audio_buffer.append", audio=base64.b64encode(_TONE).decode())
        for _ in range(4)
    ),
    _said(type="input_audio_buffer.commit"),
    _said(type="input_audio_buffer.clear"),
    _said(type="response.create"),
    _said(type="response.create", response={"conversation": "none", "input": [_MESSAGE]}),
    _said(type="response.cancel"),
    _said(type="output_audio_buffer.clear"),
    _said(type="conversation.item.create", item={"id": "a", **_MESSAGE}),
    _said(type="conversation.item.create", previous_item_id="root", item=_MESSAGE),
    _said(
        type="conversation.item.create",
        item={"type": "function_call_output", "call_id": "c1", "output": "x"},
    ),
    _said(type="conversation.item.delete", item_id="a"),
    _said(type="conversation.item.retrieve", item_id="a"),
    *(
        _said(type="session.update", session=session)
        for session in (
            {"type": "realtime", "output_modalities": ["text"]},
            {"type": "realtime", "output_modalities": ["audio"]},
            {"type": "realtime", "audio": {"input": {"turn_detection": None}}},
            {"turn_detection": {"type": "semantic_vad"}, "input_audio_format": "g711_ulaw"},
            {"turn_detection": {"type": "server_vad"}, "input_audio_format": "pcm16"},
            {"audio": {"output": {"format": {"type": "audio/pcma"}}}},
            {"input_audio_transcription": {"model": "x"}},
        )
    ),
)


class CascadeStage(Stage):
    """A hostile client, and parts that say anything at any time."""

    def __init__(self, chance: Random, words: Words, samples: Samples) -> None:
        super().__init__(chance, Cascade("fuzz", CascadeSettings("cascade/x")))
        self._words, self._samples = words, samples
        self._heard_ms = 0.0
        self._numbers = [0]
        self._items: list[str] = []
        for action in self.session.begin():
            self.act(action)

    def act(self, action: Any) -> None:
        match action:
            case parts.Tell(text):
                told = orjson.loads(text)
                assert told["event_id"]
                if told["type"] == "conversation.item.added":
                    self._items.append(told["item"]["id"])
            case parts.Hear(pcm, rate):
                self._heard_ms += len(pcm) / 2 / rate * 1000
            case parts.AskModel(number, body):
                assert body["messages"]
                orjson.dumps(body)
                self._numbers.append(number)
            case parts.AskInterruption(number, since_ms) | parts.AskTurn(number, since_ms):
                assert since_ms >= 0
                self._numbers.append(number)
            case parts.Say(number, text, rate, _):
                assert text
                assert rate in (8000, 24_000)

    def next(self) -> Any:
        chance = self.chance
        if chance.randrange(2):
            if self._items and not chance.randrange(6):
                item = chance.choice(self._items)
                kind = chance.choice(("truncate", "delete", "retrieve"))
                told = {"type": f"conversation.item.{kind}", "item_id": item, "audio_end_ms": 1}
                return Text(json.dumps(told))
            return client_text(chance, self._words, self._samples, CASCADE_USUAL)
        number = chance.choice(self._numbers[-3:])
        trouble = parts.Trouble("no")
        call = {"index": chance.randrange(3), "id": "c1", "function": {"name": "f"}}
        return chance.choice(
            (
                parts.Speech(self._heard_ms, chance.choice((0.0, 0.9, 0.9))),
                parts.Heard("one two", self._heard_ms - 100, self._heard_ms),
                parts.Guessed(self._heard_ms),
                parts.Finalized(),
                parts.HearingFailed(trouble),
                parts.Interrupts(number, chance.choice((True, False, None))),
                parts.TurnEnds(number, chance.choice((True, False, None))),
                parts.ModelSaid(number, {"choices": [{"delta": {"content": "One, two. "}}]}),
                parts.ModelSaid(number, {"choices": [{"delta": {"tool_calls": [call]}}]}),
                parts.ModelSaid(number, generate.nearly(chance, {"choices": [{}]}, self._words)),
                parts.ModelDone(number),
                parts.ModelFailed(number, trouble),
                parts.Spoke(number, base64.b64encode(_TONE).decode()),
                parts.SpokeWords(number, (("One", 0.0, 0.1),)),
                parts.VoiceDone(number),
                parts.VoiceFailed(number, trouble),
            )
        )

    def play(self) -> None:
        for _ in range(self.chance.randrange(1, 4 * STEPS)):
            self.now += pause_s(self.chance)
            deadline = self.session.deadline
            late = deadline is not None and deadline <= self.now
            self.event(DEADLINE_PASSED if late else self.next())
