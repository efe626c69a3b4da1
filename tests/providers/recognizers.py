"""A recogniser of a vendor as a session has it, and what it makes of the vendor's messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import find
from gateway.upstreams.stt import (
    Failed,
    FinalTranscript,
    InterimTranscript,
    Recognizer,
    RecognizerEvent,
    SttUpstream,
    Transcript,
)

KEY = "secret-key"


def upstream(vendor: str) -> SttUpstream:
    """The adapter of a provider of `vendor`, at the vendor's own address."""
    found = find(vendor)
    given = {} if found.base_url else {"base_url": "http://127.0.0.1/v1"}
    settings = found.settings(type=vendor, api_key=KEY, **given)
    assert found.stt is not None
    adapter: SttUpstream = found.stt.adapter(found.account(vendor, settings))
    return adapter


def attempt(vendor: str, model: str, language: str | None = "en", **extra: Any) -> Attempt:
    return Attempt(vendor, model, extra, language=language)


def recognizer(
    vendor: str, model: str, language: str | None = "en", rate: int = 16_000, **extra: Any
) -> Recognizer:
    return upstream(vendor).recognizer(attempt(vendor, model, language, **extra), rate)


def dial(one: Recognizer) -> Dial:
    dialled = one.dial()
    assert isinstance(dialled, Dial)
    return dialled


def hear(one: Recognizer, *messages: Mapping[str, Any] | str | bytes) -> list[RecognizerEvent]:
    """What it hears in these messages; objects travel as JSON text."""
    return [
        event
        for message in messages
        for event in one.decode(
            json.dumps(message) if isinstance(message, Mapping) else message  # as it came
        )
    ]


def kinds(events: list[RecognizerEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def final(events: list[RecognizerEvent]) -> Transcript:
    (transcript,) = [one.transcript for one in events if isinstance(one, FinalTranscript)]
    return transcript


def interim(events: list[RecognizerEvent]) -> Transcript:
    (transcript,) = [one.transcript for one in events if isinstance(one, InterimTranscript)]
    return transcript


def failed(events: list[RecognizerEvent]) -> Failure:
    (event,) = events
    assert isinstance(event, Failed)
    return event.failure
