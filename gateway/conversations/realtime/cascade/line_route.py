"""A cascade as a line of /realtime: the core, and the parts that this server serves to itself."""

from __future__ import annotations

import asyncio
import math
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pybase64
from google.protobuf.message import DecodeError
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.audio.resample import Resampler
from gateway.conversations.realtime.cascade.core import Cascade, Event
from gateway.conversations.realtime.cascade.parts import (
    AskInterruption,
    AskModel,
    AskTurn,
    Close,
    Finalize,
    Finalized,
    Guessed,
    Hear,
    Heard,
    HearingFailed,
    Interrupts,
    Listen,
    ModelDone,
    ModelFailed,
    ModelSaid,
    Order,
    SaidAll,
    Say,
    Speech,
    Spoke,
    SpokeWords,
    StopModel,
    StopSaying,
    Tell,
    Trouble,
    TurnEnds,
    VoiceDone,
    VoiceFailed,
)
from gateway.conversations.realtime.cascade.protocol import Settings
from gateway.engines.speech import SpeechListener
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX
from gateway.engines.utterances import UtteranceEngines
from gateway.engines.vad import RATE
from gateway.runtime.loop import Inbox, Performed, drive
from gateway.server.admission import RequestContext
from gateway.server.host import ReplyHost, SocketHost
from gateway.server.inside import Closed, InsideRequest, InsideSocket
from gateway.settings.cascades import CascadeConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import (
    ConnectionFailed,
    SocketClosed,
    SocketFrame,
    Text,
)
from gateway.upstreams.realtime import Sink

EVENTS_MAX: Final = 64
"""Events of one cascade that wait: of its client, and of its parts. Then they wait to be read."""

RECENT_S: Final = 8.0
"""Input that is kept for the models of turns and interruptions."""

WINDOW_BYTES_MAX: Final = 2 * round(INTERRUPTION_WINDOW_S_MAX * RATE)
"""Of the model of interruptions."""

HEAR_BYTES_MAX: Final = 48_000
"""Audio of one message to the recogniser: a second at 24 kHz. It takes 5 s at most."""

RETRY_S: Final = 0.5
RETRY_S_MAX: Final = 8.0
"""A recogniser that failed is opened again after so long, then twice as long, and so on; meanwhile
nobody hears the caller."""

LINE_BYTES_MAX: Final = 4 << 20
"""Longest event of a chat model's stream."""

ENGINE_S_MAX: Final = 0.9
"""A model of turns or interruptions that has not answered by then has failed."""

_CREATED_AT = struct.Struct("<Q")
_INACTIVE: Final = 2007
"""Code of an error of /stt: nothing came from the client for too long. The next audio opens it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The routes that serve the parts. They are made anew with each configuration."""

    stt: SocketHost
    tts: SocketHost
    chat: ReplyHost
    bargein: SocketHost
    eot: SocketHost


Post = Callable[[Event], None]


class CascadeLine:
    """One session, as `gateway.upstreams.realtime.Connection` describes it."""

    def __init__(
        self,
        request: RequestContext,
        model: str,
        config: CascadeConfig,
        parts: Parts,
        engines: UtteranceEngines,
    ) -> None:
        self._core = Cascade(secrets.token_hex(5), Settings(model, config.instructions))
        self._inbox: Inbox[Event] = Inbox(EVENTS_MAX)
        post = self._inbox.post
        self._recogniser = _Recogniser(request, config, parts.stt, post)
        self._voice = _Voice(request, config, parts.tts, self._inbox)
        self._model = _Model(request, config, parts.chat, self._inbox)
        self._ear = _Ear(request, parts, engines, post)
        self._listening = Listen(speech=False, language=None, voice_rate=None)
        self._sink: Sink | None = None
        self._number = 0
        self._driving: asyncio.Task[None] | None = None
        self._over = False

    # -- the connection

    def write(self, frame: str) -> bool:
        if self._over:
            raise ConnectionError("the session has ended")
        self._inbox.post(Text(frame))
        return not (self._inbox.full or self._recogniser.full)

    async def drained(self) -> None:
        if not self._over:
            await self._recogniser.drained()
        while not self._over and self._inbox.full:
            await self._inbox.room()
        if self._over:
            raise ConnectionError("the session has ended")

    async def listen(self, attempt: int, sink: Sink) -> None:
        self._sink, self._number = sink, attempt
        for order in self._core.begin():
            waits = self.perform(order)
            if waits is not None:
                await waits
        self._driving = asyncio.create_task(drive(self._core, self._inbox, self.perform))
        try:
            await asyncio.wait((self._driving,))
            if not self._driving.cancelled() and self._driving.exception() is not None:
                failure = Failure(Kind.INTERNAL, "internal error")
                sink(ConnectionFailed(attempt, failure))
                raise self._driving.exception()  # type: ignore[misc]
        finally:
            self._over = True
            self._driving.cancel()

    def may_end(self, now: float) -> bool:
        """Whether nobody speaks, and nothing is waited for."""
        return self._core.may_end(now)

    def abort(self) -> None:
        self._over = True
        if self._driving is not None:
            self._driving.cancel()

    async def close(self) -> None:
        self.abort()
        tasks = [task for task in (self._driving,) if task is not None]
        for part in (self._recogniser, self._voice, self._model, self._ear):
            tasks += part.leave()
        self._inbox.close()
        if tasks:
            # they end at once, and count what they used; who waits for that may be cancelled
            await asyncio.wait(tasks)

    # -- what the core decides

    def perform(self, order: Order) -> Performed:
        match order:
            case Tell(text):
                assert self._sink is not None
                waits = self._sink(SocketFrame(self._number, text))
                return None if waits is None else _true_after(waits)
            case Hear(pcm, rate):
                self._recogniser.hear(pcm, rate, self._listening.language)
                self._ear.hear(pcm, rate)
                if self._listening.voice_rate is not None:
                    self._voice.prepare(self._listening.voice_rate)
            case Listen():
                self._listening = order
                self._ear.listen(speech=order.speech)
                self._recogniser.use(order.language)
            case Finalize():
                self._recogniser.finalize()
            case AskInterruption(number, since_ms):
                self._ear.ask_interruption(number, since_ms)
            case AskTurn(number, since_ms):
                self._ear.ask_turn(number, since_ms)
            case AskModel(number, body):
                self._model.ask(number, body)
                if self._listening.voice_rate is not None:
                    self._voice.prepare(self._listening.voice_rate)
            case StopModel():
                self._model.stop()
            case Say(number, text, rate, voice):
                self._voice.say(number, text, rate, voice)
            case SaidAll():
                self._voice.said_all()
            case StopSaying():
                self._voice.stop()
            case Close(code, reason):
                return self._end(code, reason)
        return None

    async def _end(self, code: int, reason: str) -> bool:
        assert self._sink is not None
        waits = self._sink(SocketClosed(self._number, code, reason))
        if waits is not None:
            await waits
        return False


async def _true_after(waits: Any) -> bool:
    await waits
    return True


def _trouble(closed: Closed) -> Trouble:
    """Why a part was refused, or ended."""
    if closed.status:
        try:
            error = orjson.loads(closed.body)["error"]
            return Trouble(str(error["message"]), str(error["code"]), str(error["type"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return Trouble(f"a part of the session was refused with status {closed.status}")
    if closed.code is None:
        return Trouble("a part of the session broke off", Kind.CONNECTION_LOST.value)
    return Trouble(closed.reason or "a part of the session ended", Kind.CONNECTION_LOST.value)


def _told(message: Mapping[str, Any]) -> Trouble:
    """An `error` of /stt or /tts."""
    status = message.get("code")
    is_callers = isinstance(status, int) and 400 <= status < 500
    return Trouble(
        str(message.get("message", "")),
        str(message.get("kind") or Kind.UPSTREAM_ERROR.value),
        "invalid_request_error" if is_callers else "server_error",
    )


class _Recogniser:
    """/stt."""

    def __init__(
        self, request: RequestContext, config: CascadeConfig, host: SocketHost, post: Post
    ) -> None:
        self._request = request
        self._config = config
        self._host = host
        self._post = post
        self._socket: InsideSocket | None = None
        self._rate = 0
        self._language: str | None = None
        self._heard_ms = 0.0  # of the input
        self._opened_ms = 0.0  # where the socket's clock begins
        self._failures = 0
        self._retry_at = 0.0
        self._trouble: Trouble | None = None
        self._quiet = False
        self._owed = 0  # finalizes without an answer
        self._ending: list[asyncio.Task[None]] = []

    @property
    def full(self) -> bool:
        return self._socket is not None and self._socket.full

    async def drained(self) -> None:
        """It takes audio again."""
        if self._socket is not None:
            await self._socket.drained()

    def use(self, language: str | None) -> None:
        """From now on the caller speaks this language; None: whatever."""
        if language == self._language:
            return
        self._language = language
        if self._socket is not None and language is not None:
            told = {"type": "session.update", "settings": {"language": language}}
            self._socket.say(orjson.dumps(told).decode())

    def hear(self, pcm: bytes, rate: int, language: str | None) -> None:
        self._language = language
        length_ms = len(pcm) / 2 / rate * 1000
        if self._socket is not None and self._rate != rate:
            self._leave()
        if self._socket is None and time.monotonic() >= self._retry_at:
            self._open(rate)
        self._heard_ms += length_ms
        socket = self._socket
        if socket is None:
            return
        for at in range(0, len(pcm), HEAR_BYTES_MAX):
            audio = pybase64.b64encode(pcm[at : at + HEAR_BYTES_MAX]).decode()
            socket.say(f'{{"type":"input_audio","audio":"{audio}"}}')

    def finalize(self) -> None:
        if self._socket is None:
            # nobody has heard it; that was told when it failed
            self._post(Finalized())
            return
        self._owed += 1
        self._socket.say('{"type":"session.finalize"}')

    def _open(self, rate: int) -> None:
        self._rate, self._opened_ms = rate, self._heard_ms
        self._trouble, self._quiet = None, False
        socket = InsideSocket(
            self._host, self._request, "/stt", self._config.stt, self._hear, self._closed
        )
        settings: dict[str, Any] = {"sample_rate": str(rate), "encoding": "pcm_s16le"}
        if self._language is not None:
            settings["language"] = self._language
        create = {"type": "session.create", "model": self._config.stt, "settings": settings}
        socket.say(orjson.dumps(create).decode())
        self._socket = socket

    def _leave(self) -> None:
        if self._socket is None:
            return
        self._socket.leave()
        self._ending = [task for task in self._ending if not task.done()]
        self._ending.append(self._socket.task)
        self._socket = None
        while self._owed:
            self._owed -= 1
            self._post(Finalized())

    def _hear(self, message: str | bytes) -> None:
        told = orjson.loads(message)
        match told.get("type"):
            case "final_transcript":
                self._failures = 0
                start_ms = self._opened_ms + 1000 * told["start"]
                end_ms = start_ms + 1000 * told["duration"]
                if text := told["transcript"].strip():
                    self._post(Heard(text, start_ms, end_ms))
            case "interim_transcript" | "preflight_transcript":
                if told["transcript"].strip():
                    ends_s = told["start"] + told["duration"]
                    self._post(Guessed(self._opened_ms + 1000 * ends_s))
            case "session.finalized":
                self._owed -= 1
                self._post(Finalized())
            case "error":
                self._trouble = _told(told)
                self._quiet = told.get("code") == _INACTIVE

    def _closed(self, closed: Closed) -> None:
        self._socket = None
        self._owed = 0
        if self._quiet:
            return
        self._retry_at = time.monotonic() + min(RETRY_S * 2**self._failures, RETRY_S_MAX)
        self._failures += 1
        self._post(HearingFailed(self._trouble or _trouble(closed)))

    def leave(self) -> list[asyncio.Task[None]]:
        self._post = _nobody
        self._leave()
        return self._ending


def _nobody(event: Event) -> None:
    """The session is over."""


class _Model:
    """/chat/completions: one answer at a time."""

    def __init__(
        self, request: RequestContext, config: CascadeConfig, host: ReplyHost, inbox: Inbox[Event]
    ) -> None:
        self._request = request
        self._config = config
        self._host = host
        self._inbox = inbox
        self._asked: InsideRequest | None = None
        self._number = 0
        self._rest = b""
        self._failed = False
        self._ending: list[asyncio.Task[None]] = []

    def ask(self, number: int, body: dict[str, Any]) -> None:
        self.stop()
        self._number, self._rest, self._failed = number, b"", False
        self._asked = InsideRequest(
            self._host,
            self._request,
            "/chat/completions",
            orjson.dumps({"model": self._config.chat, **body}),
            self._hear,
            self._ended,
        )

    def stop(self) -> None:
        if self._asked is None:
            return
        self._asked.leave()
        self._ending = [task for task in self._ending if not task.done()]
        self._ending.append(self._asked.task)
        self._asked = None

    async def _hear(self, piece: bytes) -> None:
        number = self._number
        *events, self._rest = (self._rest + piece).split(b"\n\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        for event in events:
            if not event.startswith((b"data: {", b"data:{")):  # relayed as the provider wrote it
                continue
            chunk = orjson.loads(event[5:])
            error = chunk.get("error")
            if error is not None:
                self._failed = self._failed or number == self._number  # or it was stopped
                trouble = Trouble(
                    str(error.get("message")), str(error.get("code")), str(error.get("type"))
                )
                await self._inbox.put(ModelFailed(number, trouble))
            else:
                await self._inbox.put(ModelSaid(number, chunk))

    def _ended(self, closed: Closed) -> None:
        self._asked = None
        if self._failed:
            return
        if closed.code == 1000:
            self._inbox.post(ModelDone(self._number))
        else:
            self._inbox.post(ModelFailed(self._number, _trouble(closed)))

    def leave(self) -> list[asyncio.Task[None]]:
        self.stop()
        return self._ending


class _Voice:
    """/tts: one utterance at a time. An interrupted one costs its socket, as it does a client's."""

    def __init__(
        self, request: RequestContext, config: CascadeConfig, host: SocketHost, inbox: Inbox[Event]
    ) -> None:
        self._request = request
        self._config = config
        self._host = host
        self._inbox = inbox
        self._socket: InsideSocket | None = None
        self._rate = 0
        self._number = 0  # of the utterance; 0: none
        self._trouble: Trouble | None = None
        self._ending: list[asyncio.Task[None]] = []

    def prepare(self, rate: int) -> None:
        """Have a socket open."""
        if self._socket is not None and (self._rate == rate or self._number):
            return
        self._leave()
        self._rate, self._trouble = rate, None
        self._socket = InsideSocket(
            self._host, self._request, "/tts", self._config.tts, self._hear, self._closed
        )
        create = {
            "type": "session.create",
            "model": self._config.tts,
            "sample_rate": str(rate),
            "encoding": "pcm_s16le",
        }
        self._socket.say(orjson.dumps(create).decode())

    def say(self, number: int, text: str, rate: int, voice: str | None) -> None:
        self.prepare(rate)
        self._number = number
        said: dict[str, Any] = {"type": "input_transcript", "transcript": text}
        if voice is not None:
            said["generation_config"] = {"voice": voice}
        assert self._socket is not None
        self._socket.say(orjson.dumps(said).decode())

    def said_all(self) -> None:
        if self._socket is not None:
            self._socket.say('{"type":"session.flush"}')

    def stop(self) -> None:
        self._number = 0
        self._leave()

    def _leave(self) -> None:
        if self._socket is None:
            return
        self._socket.leave()
        self._ending = [task for task in self._ending if not task.done()]
        self._ending.append(self._socket.task)
        self._socket = None

    async def _hear(self, message: str | bytes) -> None:
        told = orjson.loads(message)
        number = self._number
        match told.get("type"):
            case "output_audio":
                await self._inbox.put(Spoke(number, told["audio"]))
            case "output_alignment":
                entries = told.get("words")
                key = "word"
                if entries is None:
                    entries, key = told.get("chars", ()), "char"
                words = tuple((one[key], one["start"], one["end"]) for one in entries)
                await self._inbox.put(SpokeWords(number, words))
            case "done":
                self._number = 0
                await self._inbox.put(VoiceDone(number))
            case "error":
                self._trouble = _told(told)

    def _closed(self, closed: Closed) -> None:
        self._socket = None
        number, self._number = self._number, 0
        if number:
            self._inbox.post(VoiceFailed(number, self._trouble or _trouble(closed)))

    def leave(self) -> list[asyncio.Task[None]]:
        self.stop()
        return self._ending


class _Ear:
    """The voice detector, and the models of turns and interruptions: they hear 16 kHz."""

    def __init__(
        self, request: RequestContext, parts: Parts, engines: UtteranceEngines, post: Post
    ) -> None:
        self._engines = engines
        self._post = post
        self._interruptions = _Interruptions(request, parts.bargein, post)
        self._turns = _Turns(request, parts.eot, post)
        self._resampler: Resampler | None = None
        self._rate = 0
        self._recent = bytearray()
        self._heard_s = 0.0
        self._listener: SpeechListener | None = None
        self._listens_from_s = 0.0

    def listen(self, *, speech: bool) -> None:
        if speech == (self._listener is not None):
            return
        if self._listener is not None:
            self._listener.leave()
            self._listener = None
        if speech:
            self._listens_from_s = self._heard_s
            self._listener = self._engines.speech(self._detected)

    def _detected(self, until_s: float, probability: float) -> None:
        self._post(Speech(1000 * (self._listens_from_s + until_s), probability))

    def hear(self, pcm: bytes, rate: int) -> None:
        if self._listener is None:
            self._heard_s += len(pcm) / 2 / rate
            return
        if rate != self._rate:
            self._rate = rate
            self._resampler = Resampler(rate, RATE)
        assert self._resampler is not None
        pcm = self._resampler.feed(pcm)
        self._heard_s += len(pcm) / 2 / RATE
        self._recent += pcm
        del self._recent[: -2 * round(RECENT_S * RATE)]
        self._listener.feed(pcm)

    def _since(self, since_ms: float) -> bytes:
        samples = math.ceil((self._heard_s - since_ms / 1000) * RATE)
        return bytes(self._recent[-2 * max(1, samples) :])

    def ask_interruption(self, number: int, since_ms: float) -> None:
        # more has come than the voice detector has heard: the newest counts
        self._interruptions.ask(number, self._since(since_ms)[-WINDOW_BYTES_MAX:])

    def ask_turn(self, number: int, since_ms: float) -> None:
        self._turns.ask(number, self._since(since_ms))

    def leave(self) -> list[asyncio.Task[None]]:
        self._post = _nobody
        self.listen(speech=False)
        return [*self._interruptions.leave(), *self._turns.leave()]


class _Judge:
    """A socket to one of the models; opened when it is first asked, and again if it was closed."""

    path = ""

    def __init__(self, request: RequestContext, host: SocketHost, post: Post) -> None:
        self._request = request
        self._host = host
        self._post = post
        self._socket: InsideSocket | None = None
        self._question = 0  # without an answer
        self._late: asyncio.TimerHandle | None = None

    def ask(self, number: int, pcm: bytes) -> None:
        if self._socket is None:
            self._socket = InsideSocket(
                self._host, self._request, self.path, None, self.hear, self._closed
            )
            self._socket.say(self.create())
        self._question = number
        for message in self.asked(number, pcm):
            self._socket.say(message)
        if self._late is not None:
            self._late.cancel()
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(ENGINE_S_MAX, self._too_late, number)

    def create(self) -> str | bytes:
        raise NotImplementedError

    def asked(self, number: int, pcm: bytes) -> list[str | bytes]:
        raise NotImplementedError

    def hear(self, message: str | bytes) -> None:
        raise NotImplementedError

    def answer(self, number: int, answer: bool | None) -> None:
        raise NotImplementedError

    def _too_late(self, number: int) -> None:
        if self._question == number:
            self._question = 0
            self.answer(number, None)

    def answered(self, number: int, answer: bool | None) -> None:
        """Its word on a question."""
        if self._question == number:
            self._question = 0
        self.answer(number, answer)

    def _closed(self, closed: Closed) -> None:
        self._socket = None
        question, self._question = self._question, 0
        if question:
            self.answer(question, None)

    def leave(self) -> list[asyncio.Task[None]]:
        self._post = _nobody
        if self._late is not None:
            self._late.cancel()
        if self._socket is None:
            return []
        self._socket.leave()
        return [self._socket.task]


class _Interruptions(_Judge):
    """/bargein."""

    path = "/bargein"

    def create(self) -> str:
        return '{"type":"session.create","settings":{"sample_rate":16000}}'

    def asked(self, number: int, pcm: bytes) -> list[str | bytes]:
        return [_CREATED_AT.pack(number) + pcm]

    def hear(self, message: str | bytes) -> None:
        told = orjson.loads(message)
        if told.get("type") in ("bargein_detected", "inference_done"):
            self.answered(told["created_at"], told["type"] == "bargein_detected")

    def answer(self, number: int, answer: bool | None) -> None:
        self._post(Interrupts(number, answer))


class _Turns(_Judge):
    """/eot."""

    path = "/eot"
    _threshold = 0.5

    def create(self) -> bytes:
        settings = pb.SessionSettings(sample_rate=RATE, encoding=pb.AUDIO_ENCODING_PCM_S16LE)
        create = pb.SessionCreate(settings=settings)
        return pb.ClientMessage(session_create=create).SerializeToString()

    def asked(self, number: int, pcm: bytes) -> list[str | bytes]:
        # it hears each turn from its beginning, whatever it heard before
        start = pb.InferenceStart(request_id=str(number))
        return [
            pb.ClientMessage(session_flush=pb.SessionFlush()).SerializeToString(),
            pb.ClientMessage(input_audio=pb.InputAudio(audio=pcm)).SerializeToString(),
            pb.ClientMessage(inference_start=start).SerializeToString(),
        ]

    def hear(self, message: str | bytes) -> None:
        assert isinstance(message, bytes)
        try:
            told = pb.ServerMessage.FromString(message)
        except DecodeError:
            return
        match told.WhichOneof("message"):
            case "session_created":
                self._threshold = told.session_created.default_threshold
            case "eot_prediction":
                over = told.eot_prediction.probability >= self._threshold
                self.answered(int(told.request_id), over)

    def answer(self, number: int, answer: bool | None) -> None:
        self._post(TurnEnds(number, answer))
