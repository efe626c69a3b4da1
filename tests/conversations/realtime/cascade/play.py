"""A cascade with parts that say what a test lets them say."""

from __future__ import annotations

import base64
import json
from typing import Any, TypeVar

from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from gateway.conversations.realtime.cascade.core import Cascade, Event
from gateway.conversations.realtime.cascade.parts import (
    AskModel,
    Finalized,
    Heard,
    ModelDone,
    ModelSaid,
    Order,
    Say,
    Speech,
    Spoke,
    Tell,
    VoiceDone,
)
from gateway.conversations.realtime.cascade.protocol import Settings
from gateway.upstreams.events import DEADLINE_PASSED, Text

_EVENTS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

OrderT = TypeVar("OrderT")

CHUNK_MS = 32.0


class Play:
    """`now` is the clock; every event is checked against OpenAI's own types."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.told: list[dict[str, Any]] = []
        self.orders: list[Order] = []
        self.cascade = Cascade("test", Settings("cascade/test", **settings))
        self.input_ms = 0.0
        self._took(self.cascade.begin())

    def _took(self, orders: list[Order]) -> None:
        for order in orders:
            if isinstance(order, Tell):
                told = json.loads(order.text)
                _EVENTS.validate_python(told, strict=False)
                self.told.append(told)
            else:
                self.orders.append(order)

    def happens(self, *events: Event) -> None:
        for event in events:
            self._took(self.cascade.handle(event, self.now))

    def says(self, kind: str, **fields: Any) -> None:
        """The client says it."""
        self.happens(Text(json.dumps({"type": kind, **fields})))

    def updates(self, **session: Any) -> None:
        self.says("session.update", session={"type": "realtime", **session})

    def turns(self, **turns: Any) -> None:
        self.updates(audio={"input": {"turn_detection": turns or None}})

    # -- the caller

    def hears(self, seconds: float, probability: float) -> None:
        """The caller sends so much audio, in which the detector finds so much speech. The clock
        goes on with it."""
        for _ in range(round(seconds * 1000 / CHUNK_MS)):
            self.now += CHUNK_MS / 1000
            self.input_ms += CHUNK_MS
            pcm = bytes(2 * round(24 * CHUNK_MS))
            self.says("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())
            self.happens(Speech(self.input_ms, probability))

    def speaks(self, text: str, seconds: float = 1.0, silence_s: float = 0.6) -> None:
        """A whole turn, and the recogniser's words for it."""
        began_ms = self.input_ms
        self.hears(seconds, 0.9)
        self.hears(silence_s, 0.0)
        self.words(text, began_ms, began_ms + 1000 * seconds)

    def words(self, text: str, start_ms: float, end_ms: float) -> None:
        if text:
            self.happens(Heard(text, start_ms, end_ms))
        self.happens(Finalized())

    # -- the parts

    def model(self, *chunks: str | dict[str, Any], done: bool = True) -> None:
        """The chat model's answer to what it was asked last: texts, or deltas."""
        number = self.asked.number
        for chunk in chunks:
            delta = {"content": chunk} if isinstance(chunk, str) else chunk
            self.happens(ModelSaid(number, {"choices": [{"delta": delta}]}))
        if done:
            usage = {"prompt_tokens": 12, "completion_tokens": 5}
            self.happens(
                ModelSaid(number, {"choices": [{"delta": {}, "finish_reason": "stop"}]}),
                ModelSaid(number, {"choices": [], "usage": usage}),
                ModelDone(number),
            )

    def voice(self, seconds: float, *, done: bool = True, rate: int = 24_000) -> None:
        """The voice's audio for what it was given last."""
        number = self.last(Say).number
        pcm = bytes(2 * round(rate * seconds))
        self.happens(Spoke(number, base64.b64encode(pcm).decode()))
        if done:
            self.happens(VoiceDone(number))

    def answers(self, text: str, seconds: float) -> None:
        """A whole response."""
        self.model(text)
        self.voice(seconds)

    # -- what came of it

    @property
    def asked(self) -> AskModel:
        return self.last(AskModel)

    def last(self, kind: type[OrderT]) -> OrderT:
        return self.all(kind)[-1]

    def all(self, kind: type[OrderT]) -> list[OrderT]:
        return [order for order in self.orders if isinstance(order, kind)]

    def kinds(self) -> list[str]:
        return [told["type"] for told in self.told]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [told for told in self.told if told["type"] == kind]

    def only(self, kind: str) -> dict[str, Any]:
        (found,) = self.of(kind)
        return found

    def forget(self) -> None:
        self.told.clear()
        self.orders.clear()

    @property
    def said(self) -> str:
        """What the voice was given."""
        return "".join(order.text for order in self.all(Say))

    def deadline(self) -> None:
        assert self.cascade.deadline is not None
        self.now = self.cascade.deadline
        self.happens(DEADLINE_PASSED)
