"""What the recognisers share that hear whole utterances, cut by our own voice detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.providers._shared import options
from gateway.providers._shared.options import FLAG, Table
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.stt import (
    Capabilities,
    EndpointingConfig,
    LocalTarget,
    RecognizerEvent,
    Request,
)

CUTTING: Final[Table] = {
    "silence_ms": options.whole(100, 5000),
    "interim_results": FLAG,
    "interim_ms": options.whole(300, 10_000),
    "vad_threshold": options.number(0.05, 0.95),
}
"""Options of the cutting, for every such recogniser; the names are ours."""


def cutting(given: Mapping[str, Any], *, interims: bool = True) -> EndpointingConfig:
    """How a client wants it cut. `interims`: whether an utterance is transcribed while it is open,
    where the client does not say."""
    default = EndpointingConfig()
    interim_s: float | None = given.get("interim_ms", 1000) / 1000
    if not given.get("interim_results", interims):
        interim_s = None
    return EndpointingConfig(
        silence_s=given.get("silence_ms", 1000 * default.silence_s) / 1000,
        interim_s=interim_s,
        threshold=given.get("vad_threshold", default.threshold),
    )


class UtteranceRecognizer:
    """To the session a connection like any other: requests go out as they are, what is heard comes
    in as it is."""

    traits = Capabilities(
        rates=(16_000,),
        replay_rate=float("inf"),
        flush_is_answered=True,
        final_within_s=20.0,  # a final waits for those of other sessions
        deaf_after_s=90.0,  # utterances of 28 s, without interims
    )
    rate = 16_000

    def __init__(self, attempt: Attempt, engine: LocalTarget) -> None:
        self.attempt = attempt
        self._engine = engine

    def dial(self) -> Dial | LocalTarget:
        return self._engine

    def opening(self) -> Sequence[Any]:
        return ()

    def encode(self, request: Request) -> Sequence[Any]:
        return (request,)

    def decode(self, frame: Any) -> Sequence[RecognizerEvent]:
        return tuple(frame)

    def closed(self, code: int, reason: str) -> Failure:
        return Failure(Kind.CONNECTION_LOST, "the engine ended")

    def update(self, attempt: Attempt) -> Sequence[Any] | None:
        return () if attempt == self.attempt else None
