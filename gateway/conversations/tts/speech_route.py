"""POST /audio/speech: OpenAI's form, over the voices of /tts.

To its session the request is a client that says one text and ends the utterance; what the session
tells is written as audio.
"""

from __future__ import annotations

import binascii
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, TypeAdapter

from gateway.audio.pcm import wav
from gateway.conversations.messages import (
    Expected,
    Message,
    Name,
    at_most,
    parse,
    required,
    validated,
)
from gateway.conversations.tts.actions import Action, Event, SendToClient
from gateway.conversations.tts.protocol import TEXT_CHARS_MAX
from gateway.conversations.tts.route import EVENTS_MAX, TtsConversation, TtsRoute
from gateway.conversations.tts.session import TtsSession
from gateway.runtime.loop import Inbox
from gateway.server.admission import RequestContext
from gateway.server.asgi import refuse
from gateway.server.host import ReplyLink
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Text

RATE: Final = 24_000
"""Of OpenAI's `pcm`."""

BODY_BYTES_MAX: Final = 1 << 17
"""TEXT_CHARS_MAX characters of four bytes, and the rest."""

ENDLESS: Final = 0x7FFFFFFF - 36
"""Bytes of audio that the head of a WAV names whose end is not known yet; players take what
comes."""


_TEXT: Final = f"a text of at most {TEXT_CHARS_MAX} characters"


class Request(Message):
    """What a client asks for; `instructions` and `stream_format` are nobody's here."""

    model: Name = required()
    input: Annotated[
        str,
        Field(min_length=1, max_length=TEXT_CHARS_MAX),
        Expected(_TEXT),
        at_most(TEXT_CHARS_MAX, _TEXT),
    ] = required()
    voice: Annotated[str | None, Expected("the name of a voice")] = None
    response_format: Annotated[
        Literal["wav", "pcm"] | None, Expected("wav (the default here) or pcm")
    ] = None
    speed: Annotated[float | None, Expected("a number")] = None


_REQUEST: Final = TypeAdapter(Request)


class SpeechRoute:
    """One for each process."""

    name: Final = "tts"
    events_max: Final = EVENTS_MAX
    body_bytes_max: Final = BODY_BYTES_MAX

    def __init__(self, tts: TtsRoute) -> None:
        self._tts = tts

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> SpeechConversation | Failure:
        parsed = parse(body, "the body")
        if isinstance(parsed, Failure):
            return parsed
        asked = validated(parsed, _REQUEST)
        if isinstance(asked, Failure):
            return asked
        inner = self._tts.conversation(request, asked.model, _Listener(link))
        if isinstance(inner, Failure):
            return inner
        create = {
            "type": "session.create",
            "sample_rate": RATE,
            "model": asked.model,
            "voice": asked.voice,
            "extra": {} if asked.speed is None else {"speed": asked.speed},
        }
        for message in (
            create,
            {"type": "input_transcript", "transcript": asked.input},
            {"type": "session.flush"},
        ):
            link.inbox.post(Text(orjson.dumps(message).decode()))
        return SpeechConversation(inner, link, is_wav=asked.response_format != "pcm")


class _Listener:
    """The client of the inner conversation: one that has nothing more to say."""

    def __init__(self, link: ReplyLink[Event]) -> None:
        self.inbox: Inbox[Event] = link.inbox
        self.gone = False

    @property
    def client(self) -> _Listener:
        return self

    def said(self, text: str) -> bool:
        """Nothing is said: what is told is written as audio before it comes here."""
        return True

    async def say(self, text: str) -> None:
        """As `said`."""

    async def close(self, code: int, reason: str = "") -> None:
        self.gone = True

    def cut(self) -> None:
        self.gone = True


class SpeechConversation:
    """One request's I/O: that of /tts, but for what the client gets."""

    def __init__(self, inner: TtsConversation, link: ReplyLink[Event], *, is_wav: bool) -> None:
        self._inner = inner
        self._link = link
        self._is_wav = is_wav
        self._started = False

    @property
    def session(self) -> TtsSession:
        return self._inner.session

    async def perform(self, action: Action) -> bool:
        if not isinstance(action, SendToClient):
            waits = self._inner.perform(action)
            if waits is None or await waits:
                return True
            return await self._fail("the utterance ended early")
        told: dict[str, Any] = orjson.loads(action.text)
        match told["type"]:
            case "output_audio":
                await self._write(binascii.a2b_base64(told["audio"]))
            case "done":
                await self._start()
                await self._link.send({"type": "http.response.body", "body": b""})
                return False
            case "error":
                return await self._fail(str(told.get("message", "")))
        return True

    async def _start(self) -> None:
        if self._started:
            return
        self._started = True
        kind = b"audio/wav" if self._is_wav else b"audio/pcm"
        headers = [(b"content-type", kind)]
        await self._link.send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._is_wav:
            await self._write(endless_head())

    async def _write(self, data: bytes) -> None:
        await self._start()
        await self._link.send({"type": "http.response.body", "body": data, "more_body": True})

    async def _fail(self, message: str) -> bool:
        """Tell it if nothing was sent yet; else break off, without the end of the body."""
        if not self._started and not self.session.report.left:
            failure = self.session.report.failure or Failure(Kind.UPSTREAM_ERROR, message)
            await refuse({"type": "http"}, self._link.send, failure)
        return False

    async def close(self) -> Outcome:
        return await self._inner.close()


def endless_head() -> bytes:
    """The head of a WAV file of unknown length."""
    head = bytearray(wav(b"", RATE))
    head[4:8] = (36 + ENDLESS).to_bytes(4, "little")
    head[40:44] = ENDLESS.to_bytes(4, "little")
    return bytes(head)
