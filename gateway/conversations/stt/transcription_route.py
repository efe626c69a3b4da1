"""POST /audio/transcriptions: OpenAI's form, over the recognisers of /stt.

To its session the request is a client that plays a recording, faster than anybody speaks: in
pieces that end where it is quiet, each of which is finalized before the next one is sent.
"""

from __future__ import annotations

import asyncio
import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

import numpy as np
import orjson
from pydantic import BeforeValidator, Field, TypeAdapter

from gateway.conversations.messages import Expected, Message, Name, required, validated
from gateway.conversations.stt.actions import Action, Linger, SendToClient
from gateway.conversations.stt.multipart import Form, read_form
from gateway.conversations.stt.protocol import Language
from gateway.conversations.stt.route import EVENTS_MAX, SttConversation, SttRoute
from gateway.conversations.stt.session import Event, SttSession
from gateway.engines import recordings
from gateway.engines.recordings import RATE
from gateway.runtime.loop import Gate, Inbox
from gateway.server.admission import RequestContext
from gateway.server.asgi import header, refuse
from gateway.server.host import ReplyLink
from gateway.telemetry.outcome import Outcome
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Text

BODY_BYTES_MAX: Final = 25 << 20
"""OpenAI's own bound."""

AT_ONCE: Final = 16
"""Recordings that a process holds at a time: some 80 MB each at most."""

PIECE_S: Final = 24.0
"""What is sent at a time; recognisers of whole utterances hear 30 s at most."""

CUT_WITHIN_S: Final = 6.0
"""A piece ends where it is quietest in its last so many seconds."""

QUIET_S: Final = 0.1
"""Resolution of that."""

FRAME_BYTES: Final = RATE * 2 // 5
"""Audio of one message: 0.2 s."""

TAIL_S: Final = 0.5
"""Silence after the recording, so that its last word ends."""

Format = Literal["json", "verbose_json", "text", "srt", "vtt"]


def _no_stream(value: Any) -> Any:
    if value in (True, "true", "True", "1"):
        raise ValueError
    return value


class Request(Message):
    """The fields of the form. `temperature`, `include` and the like are nobody's here."""

    model: Name = required()
    language: Language = None
    prompt: Annotated[str | None, Field(max_length=4000), Expected("at most 4000 characters")] = (
        None
    )
    response_format: Annotated[Format | None, Expected("json, verbose_json, text, srt or vtt")] = (
        None
    )
    stream: Annotated[Any, BeforeValidator(_no_stream), Expected("false: none is streamed")] = None


_REQUEST: Final = TypeAdapter(Request)


class TranscriptionRoute:
    """One for each process."""

    name: Final = "stt"
    events_max: Final = EVENTS_MAX
    body_bytes_max: Final = BODY_BYTES_MAX

    def __init__(self, stt: SttRoute) -> None:
        self._stt = stt
        self._open = 0

    async def open(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> TranscriptionConversation | Failure:
        if self._open >= AT_ONCE:
            return Failure(
                Kind.OVERLOADED,
                "too many recordings are being transcribed",
                retry_after_s=5,
                bound=Bound.RECORDINGS,
            )
        self._open += 1
        try:
            return await self._opened(request, body, link)
        except BaseException:
            self._open -= 1
            raise

    async def _opened(
        self, request: RequestContext, body: bytes, link: ReplyLink[Event]
    ) -> TranscriptionConversation | Failure:
        read = _read(header(request.scope, b"content-type") or "", body)
        pcm = await recordings.samples(read[1]) if not isinstance(read, Failure) else read
        if isinstance(read, Failure) or isinstance(pcm, Failure):
            self._open -= 1
            assert isinstance(pcm, Failure)
            return pcm
        asked, form = read[0], read[2]
        listener = _Listener(link)
        inner = self._stt.open(request, listener)
        if isinstance(inner, Failure):
            self._open -= 1
            return inner
        create = {
            "type": "session.create",
            "model": asked.model,
            "settings": {
                "sample_rate": str(RATE),
                "language": asked.language,
                # the rest is one recording: words that may change are of no use
                "extra": {"interim_results": False}
                | ({"prompt": asked.prompt} if asked.prompt else {}),
            },
        }
        link.inbox.post(Text(orjson.dumps(create).decode()))
        return TranscriptionConversation(self, inner, link, listener, asked, form, pcm)

    def ended(self) -> None:
        """A recording is held no longer."""
        self._open -= 1


def _read(content_type: str, body: bytes) -> tuple[Request, bytes, Form] | Failure:
    form = read_form(content_type, body)
    if isinstance(form, Failure):
        return form
    given = {name: values[-1] or None for name, values in form.fields.items()}
    asked = validated(given, _REQUEST)
    if isinstance(asked, Failure):
        return asked
    recording = form.files.get("file")
    if not recording:
        return Failure(Kind.BAD_REQUEST, "file: expected a recording", param="file")
    return asked, recording, form


class _Listener:
    """The client of the inner session."""

    def __init__(self, link: ReplyLink[Event]) -> None:
        self.inbox: Inbox[Event] = link.inbox
        self.gate: Gate[Event] = Gate(link.inbox)
        self.spawn = link.spawn
        self.gone = False

    @property
    def client(self) -> _Listener:
        return self

    def say_now(self, text: str) -> None:
        """Nothing: what is told is gathered before it comes here."""

    async def close(self, code: int, reason: str = "") -> None:
        self.gone = True


class TranscriptionConversation:
    """One request's I/O: that of /stt, but for what the client gets."""

    def __init__(
        self,
        route: TranscriptionRoute,
        inner: SttConversation,
        link: ReplyLink[Event],
        listener: _Listener,
        asked: Request,
        form: Form,
        pcm: bytes,
    ) -> None:
        self._route = route
        self._inner = inner
        self._link = link
        self._asked = asked
        self._words = "word" in form.fields.get("timestamp_granularities[]", ())
        self._seconds = len(pcm) / 2 / RATE
        self._finals: list[dict[str, Any]] = []
        self._settled = asyncio.Event()
        link.spawn(self._play(listener.gate, pcm))

    @property
    def session(self) -> SttSession:
        return self._inner.session

    async def _play(self, gate: Gate[Event], pcm: bytes) -> None:
        for piece in pieces(pcm):
            for at in range(0, len(piece), FRAME_BYTES):
                audio = binascii.b2a_base64(piece[at : at + FRAME_BYTES], newline=False).decode()
                await gate.put(Text(f'{{"type":"input_audio","audio":"{audio}"}}'))
            self._settled.clear()
            await gate.put(Text('{"type":"session.finalize"}'))
            await self._settled.wait()
        await gate.put(Text('{"type":"session.close"}'))

    async def perform(self, action: Action) -> bool:
        if isinstance(action, Linger):
            return True  # the answer is one piece
        if not isinstance(action, SendToClient):
            waits = self._inner.perform(action)
            if waits is None or await waits:
                return True
            return await self._fail("the recogniser ended early")
        told: dict[str, Any] = orjson.loads(action.text)
        match told["type"]:
            case "final_transcript":
                self._finals.append(told)
            case "session.finalized":
                self._settled.set()
            case "session.closed":
                await self._answer()
                return False
            case "error":
                return await self._fail(str(told.get("message", "")))
        return True

    async def _answer(self) -> None:
        form = self._asked.response_format or "json"
        kind, body = written(form, self._finals, self._seconds, words=self._words)
        length = str(len(body)).encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", length)]
        await self._link.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._link.send({"type": "http.response.body", "body": body})

    async def _fail(self, message: str) -> bool:
        if not self.session.report.left:
            failure = self.session.report.failure or Failure(Kind.UPSTREAM_ERROR, message)
            await refuse({"type": "http"}, self._link.send, failure)
        return False

    async def close(self) -> Outcome:
        self._route.ended()
        # the recording is this server's to send
        return replace(await self._inner.close(), bounds=())


def pieces(pcm: bytes) -> Iterator[bytes]:
    """The recording and a little silence, cut where it is quiet."""
    pcm += bytes(2 * round(TAIL_S * RATE))
    window = round(QUIET_S * RATE)
    at, size = 0, 2 * round(PIECE_S * RATE)
    while len(pcm) - at > size:
        first = at + size - 2 * round(CUT_WITHIN_S * RATE)
        tail = np.frombuffer(pcm[first : at + size], np.int16).astype(np.float32)
        tail = tail[: len(tail) // window * window].reshape(-1, window)
        quietest = int(np.argmin(np.sum(tail * tail, axis=1)))
        until = first + 2 * (quietest * window + window // 2)
        yield pcm[at:until]
        at = until
    yield pcm[at:]


# -- the answer


def written(
    form: Format, finals: list[dict[str, Any]], seconds: float, *, words: bool = False
) -> tuple[str, bytes]:
    """Content type and body of the answer. `finals`: messages of /stt. `words`: whether
    `verbose_json` lists them."""
    text = " ".join(final["transcript"].strip() for final in finals)
    match form:
        case "text":
            return "text/plain; charset=utf-8", f"{text}\n".encode()
        case "srt":
            return "text/plain; charset=utf-8", _subtitles(finals, ",", numbered=True).encode()
        case "vtt":
            body = "WEBVTT\n\n" + _subtitles(finals, ".", numbered=False)
            return "text/vtt; charset=utf-8", body.encode()
        case "verbose_json":
            return "application/json", orjson.dumps(_verbose(text, finals, seconds, words=words))
    usage = {"type": "duration", "seconds": math.ceil(seconds)}
    return "application/json", orjson.dumps({"text": text, "usage": usage})


def _verbose(
    text: str, finals: list[dict[str, Any]], seconds: float, *, words: bool
) -> Mapping[str, Any]:
    languages = [final["language"] for final in finals if final.get("language")]
    answer: dict[str, Any] = {
        "task": "transcribe",
        "language": max(languages, key=languages.count, default=""),
        "duration": round(seconds, 3),
        "text": text,
        "segments": [_segment(i, final) for i, final in enumerate(finals)],
        "usage": {"type": "duration", "seconds": math.ceil(seconds)},
    }
    if words:
        answer["words"] = [
            {"word": word["word"], "start": word["start"], "end": word["end"]}
            for final in finals
            for word in final["words"]
        ]
    return answer


def _segment(number: int, final: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the fields that OpenAI's clients require; those of Whisper's that nobody tells are what
    they are of an ordinary text."""
    start, end = _span(final)
    return {
        "id": number,
        "seek": round(100 * start),
        "start": start,
        "end": end,
        "text": final["transcript"],
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(math.log(max(1e-4, final["confidence"])), 4),
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


def _span(final: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of the recording: of the words, where they are told."""
    start, end = final["start"], round(final["start"] + final["duration"], 3)
    if final["words"]:
        start, end = final["words"][0]["start"], final["words"][-1]["end"]
    return start, max(start, end)


def _subtitles(finals: list[dict[str, Any]], point: str, *, numbered: bool) -> str:
    lines = []
    for i, final in enumerate(finals, 1):
        start, end = (_clock(at, point) for at in _span(final))
        number = f"{i}\n" if numbered else ""
        # a blank line would end the subtitle
        said = " ".join(final["transcript"].replace("-->", "->").split())
        lines.append(f"{number}{start} --> {end}\n{said}\n\n")
    return "".join(lines)


def _clock(seconds: float, point: str) -> str:
    whole = round(1000 * seconds)
    minutes, milliseconds = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
