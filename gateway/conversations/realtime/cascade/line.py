"""A line that is served by parts of this process: both sides speak the client's protocol. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.realtime import ClientEvent, InProcess, Line, LineFailed, ServerEvent

PROVIDER: Final = "cascade"
"""In place of a provider's name, in the log and in usage records."""

KIND: Final = "cascade"
"""Of its opener, see `InProcess`."""

_AUDIO: Final = "response.output_audio.delta"
_AUDIO_BEGINS: Final = f'{{"type":"{_AUDIO}"'


def attempt_of(model: str) -> Attempt:
    """The one deployment of the cascade that callers know as `model`."""
    return Attempt(PROVIDER, model, names=frozenset({model}))


class Cascades:
    """In place of a provider's adapter."""

    def line(self, attempt: Attempt) -> Line:
        return CascadeLineForm()


class CascadeLineForm:
    """Says what passes on a cascade's line."""

    def dial(self) -> InProcess:
        return InProcess(KIND)

    def opening(self) -> Sequence[str]:
        return ()

    def encode(self, event: ClientEvent) -> Sequence[str]:
        return (event.text,)

    def decode(self, frame: str | bytes) -> Sequence[ServerEvent | LineFailed]:
        assert isinstance(frame, str)
        if frame.startswith(_AUDIO_BEGINS):  # the longest, and nothing in it is looked at
            return (ServerEvent(_AUDIO, {}, frame),)
        body: dict[str, Any] = orjson.loads(frame)
        if body["type"] == "response.done":
            # what the client is told that it used is counted already: by the parts
            body = {**body, "response": {**body["response"], "usage": None}}
        return (ServerEvent(body["type"], body, frame),)

    def closed(self, code: int, reason: str) -> Failure:
        return Failure(Kind.INTERNAL, reason or "the session's parts have ended")
