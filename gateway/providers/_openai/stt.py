"""Servers with OpenAI's POST /audio/transcriptions: speaches, LocalAI, vLLM, Groq, OpenAI."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.audio.pcm import wav
from gateway.providers._shared import options
from gateway.providers._shared.options import TEXT, TEXTS, Table
from gateway.providers._shared.stt import (
    failure_of_status,
    number,
    objects,
    parsed,
    said,
    text_of,
)
from gateway.providers._shared.utterances import CUTTING, UtteranceRecognizer, cutting
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.dial import Dial, join_url
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.stt import LocalTarget, Recognizer, Transcript, Word

OPTIONS: Final[Table] = {
    "prompt": TEXT,
    "keywords": TEXTS,
    "temperature": options.number(0, 1),
    **CUTTING,
}

RATE: Final = 16_000
NO_SPEECH: Final = 0.6
LOGPROB_MIN: Final = -1.0
"""What is more probably no speech and was guessed badly: Whisper invents words in silence."""

_LANGUAGES: Final[Mapping[str, str]] = {
    "english": "en", "german": "de", "spanish": "es", "french": "fr", "italian": "it",
    "portuguese": "pt", "dutch": "nl", "polish": "pl", "russian": "ru", "turkish": "tr",
    "japanese": "ja", "chinese": "zh", "korean": "ko", "hindi": "hi", "arabic": "ar",
}  # fmt: skip
"""OpenAI's whisper-1 gives names; the clients know these too, but expect codes."""


class Transcriptions:
    """The adapter of one provider. `billed`: each request costs money, so that interims, which
    send an utterance again and again, have to be asked for (`interim_results`)."""

    def __init__(self, account: Account, *, billed: bool = False) -> None:
        self._account = account
        self._billed = billed

    def check(self, given: Mapping[str, Any]) -> Failure | None:
        return options.check(given, OPTIONS)

    def translate(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return options.translated(extra, terms="keywords", speakers=None)

    def recognizer(self, attempt: Attempt, rate: int) -> Recognizer:
        given = options.known(attempt.options, OPTIONS)
        engine = LocalTarget(
            TranscriptionRequest(self._account, attempt, given),
            cutting(given, interims=not self._billed),
            prompt=given.get("prompt", ""),
        )
        return UtteranceRecognizer(attempt, engine)


class TranscriptionRequest:
    """Recordings to POST and answers to read, for one session."""

    def __init__(self, account: Account, attempt: Attempt, given: Mapping[str, Any]) -> None:
        self._url = join_url(account.base_url, "audio/transcriptions")
        self._headers = {
            **({"authorization": f"Bearer {account.api_key}"} if account.api_key else {}),
            **account.headers,
        }
        self._model = attempt.model
        language = options.base_language(attempt.language)
        self._language = None if language == "multi" else language
        self._keywords: list[str] = given.get("keywords", [])
        self._temperature = given.get("temperature")
        # gpt-4o-transcribe and its kin know no other form
        self._verbose = not attempt.model.startswith("gpt-")

    def request(self, pcm: bytes, prompt: str) -> Dial:
        fields = [("model", self._model)]
        if self._language is not None:
            fields.append(("language", self._language))
        hints = " ".join(filter(None, [", ".join(self._keywords), prompt]))
        if hints:
            fields.append(("prompt", hints))
        if self._temperature is not None:
            fields.append(("temperature", f"{self._temperature:g}"))
        if self._verbose:
            fields += [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")]
        else:
            fields.append(("response_format", "json"))
        boundary, body = _multipart(fields, wav(pcm, RATE))
        kind = f"multipart/form-data; boundary={boundary}"
        return Dial(self._url, {"content-type": kind, **self._headers}, body=body)

    def read(
        self, status: int, headers: Mapping[str, str], body: bytes
    ) -> Transcript | Failure | None:
        if status in (400, 422) and self._verbose:
            self._verbose = False  # a model without segments: once more, for the text alone
            return None
        if status != 200:
            return failure_of_status(status, _reason(body))
        if not headers.get("content-type", "").startswith("application/json"):
            text = body.decode("utf-8", "replace").strip()
            return Transcript("" if text.startswith("<") else text)
        answer = parsed(body)
        if "text" not in answer:
            return Failure(Kind.PROTOCOL_ERROR, "the server's answer has no text")
        return _transcript(answer, headers.get("x-request-id"))


def _multipart(fields: list[tuple[str, str]], recording: bytes) -> tuple[str, bytes]:
    """A boundary and the body. The boundary is a hash of what stands between, so that nothing a
    caller says (`prompt`) can hold it and go on with fields of its own."""
    content = hashlib.blake2b(recording, digest_size=16)
    content.update(repr(fields).encode("utf-8", "replace"))
    boundary = f"parley-{content.hexdigest()}"
    parts = [
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        ).encode()
        for name, value in fields
    ]
    parts += [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audio.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n".encode(),
        recording,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return boundary, b"".join(parts)


def _reason(body: bytes) -> str:
    try:
        answer = loads(body)
    except orjson.JSONDecodeError:
        return ""
    match answer:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            return said(message)
        case {"detail": str(message)}:
            return said(message)
        case _:
            return ""


def _transcript(answer: dict[str, Any], request_id: str | None) -> Transcript:
    segments = objects(answer.get("segments"))
    if segments and all(_invented(segment) for segment in segments):
        return Transcript("")
    given = objects(answer.get("words"))
    if not given:  # LocalAI keeps them in the segments
        given = [word for segment in segments for word in objects(segment.get("words"))]
    words = []
    for word in given:
        start, end = number(word.get("start")), number(word.get("end"))
        text = (text_of(word.get("word")) or text_of(word.get("text"))).strip()
        if text and start is not None and end is not None:
            words.append(Word(text, start, end, number(word.get("probability")) or 1.0))
    logprobs = [
        logprob for one in segments if (logprob := number(one.get("avg_logprob"))) is not None
    ]
    language = text_of(answer.get("language")).lower()
    speakers = [text_of(segment.get("speaker")) for segment in segments]
    return Transcript(
        text_of(answer.get("text")).strip(),
        language=_LANGUAGES.get(language, language if 2 <= len(language) <= 3 else None),
        confidence=math.exp(min(0.0, sum(logprobs) / len(logprobs))) if logprobs else 1.0,
        words=tuple(words),
        speaker=next(filter(None, speakers), None),
        request_id=request_id,
    )


def _invented(segment: dict[str, Any]) -> bool:
    no_speech, logprob = number(segment.get("no_speech_prob")), number(segment.get("avg_logprob"))
    return (
        no_speech is not None
        and logprob is not None
        and no_speech > NO_SPEECH
        and logprob < LOGPROB_MIN
    )
