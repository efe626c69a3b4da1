"""Audio of texts that are said again and again, as the session sees it. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import orjson

from gateway.conversations.tts.protocol import Style
from gateway.upstreams.tts import Timed


@dataclass(frozen=True, slots=True)
class Clip:
    """A spoken text: s16le samples at the rate it was asked for, and its words."""

    pcm: bytes
    words: tuple[Timed, ...] = ()


class Clips(Protocol):
    """What the session asks of a cache."""

    def get(self, style: Style, rate: int, text: str) -> Clip | None: ...

    def put(self, style: Style, rate: int, text: str, clip: Clip) -> None: ...


def clip_name(style: Style, rate: int, text: str) -> str:
    """The same for the same text, spoken in the same way."""
    asked = [style.model, style.voice, style.language, style.extra, rate, text.strip()]
    encoded = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(encoded).hexdigest()
