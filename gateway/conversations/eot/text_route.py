"""POST /eot/multi: the end of a turn by its words, as LiveKit's MultilingualModel asks it.

Two kinds of requests come to the one address, both without an Authorization header:
    {"items": [{"type": "message", "role": "user", "content": ["text", ...]}, ...],
     "jobId": "...", "workerId": "...", "agentId"?: "..."}
        the conversation so far, answered with {"probability": 0..1} that its last message of the
        user ends the turn. A negative number stands for "no prediction". Among the items are
        function calls and hand-overs, among the parts of a content images and audio (objects).
    {"language": "en-US"}
        answered with {"threshold": x}, null if the language is not supported: the plugin then asks
        no further.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, BeforeValidator, TypeAdapter

from gateway.conversations.messages import (
    Expected,
    Message,
    Name,
    bad_request,
    parse,
    required,
    too_many,
    validated,
)
from gateway.engines.batcher import Batcher, Timing
from gateway.engines.turn_detection.text import Turn, load
from gateway.server.admission import RequestContext
from gateway.settings.eot import EotConfig
from gateway.telemetry.metrics import BatchMetrics, Metrics
from gateway.telemetry.outcome import EngineRun
from gateway.upstreams.errors import Failure

_logger = logging.getLogger(__name__)

NO_PREDICTION: Final = -1.0
"""The plugin takes a negative number for none, and goes on without a detector."""

ITEMS_MAX: Final = 1000
"""A longer conversation is refused; the plugin sends six."""

STALE_S: Final = 1.0
ANSWER_S_MAX: Final = 1.5
"""Then "no prediction" is the answer; the plugin gives up after 2 s."""

CONFIGURE: Final = (
    "/eot/multi was asked and answers `no prediction`: no text model is configured. The agent goes "
    "on as one without LiveKit's text plugin, which runs no weights of its own while "
    "LIVEKIT_REMOTE_EOT_URL is set. Name a model as eot.text.model, or let the agent use the audio "
    "detector (inference.TurnDetector)"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request for a probability."""

    turns: Sequence[Turn]


@dataclass(frozen=True, slots=True)
class Language:
    """A request for a threshold."""

    tag: str


def _texts(content: Any) -> list[str] | None:
    """The texts of a message (images and audio are objects among them), None if it has no list."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [part for part in content if isinstance(part, str)]
    return None


def _few_enough(items: list[Any]) -> list[Any]:
    if len(items) > ITEMS_MAX:
        raise too_many(f"at most {ITEMS_MAX}")
    return items


class _Body(Message):
    items: Annotated[
        Annotated[list[Any], Expected("a list of messages")], AfterValidator(_few_enough)
    ] = required()


class _Item(Message):
    """An item of the conversation. What is not said by a `role` has a content of any form."""

    type: Any = "message"
    role: Annotated[str | None, Expected("a string")] = None
    content: Annotated[Any, BeforeValidator(_texts)] = None


class _LanguageBody(Message):
    language: Name = required()


_BODY: Final = TypeAdapter(_Body)
_ITEM: Final = TypeAdapter(_Item)
_LANGUAGE: Final = TypeAdapter(_LanguageBody)

_ROLES: Final = frozenset({"user", "assistant"})


def read_request(body: bytes) -> Conversation | Language | Failure:
    """The body of a request."""
    parsed = parse(body, "the body")
    if isinstance(parsed, Failure):
        return parsed
    if "items" not in parsed and isinstance(parsed.get("language"), str):
        asked = validated(parsed, _LANGUAGE)
        return asked if isinstance(asked, Failure) else Language(asked.language)
    request = validated(parsed, _BODY)
    if isinstance(request, Failure):
        return request
    turns = []
    for i, given in enumerate(request.items):
        item = validated(given, _ITEM, f"items[{i}]")
        if isinstance(item, Failure):
            return item
        if item.type != "message" or item.role not in _ROLES:
            continue  # function calls, hand-overs, instructions
        if item.content is None:
            place = f"items[{i}].content"
            return bad_request(f"{place}: expected a list of texts", place)
        text = "\n".join(item.content)
        if text:
            turns.append(Turn(item.role, text))
    return Conversation(turns)


class EotMultiRoute:
    """The route. One for each process. Raises ModelError if the configured model is none."""

    name: Final = "eot_multi"

    def __init__(self, config: EotConfig, metrics: Metrics, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self.anonymous = config.anonymous_networks
        self._verdicts = {
            name: metrics.turn_answers.labels("text", name)
            for name in ("finished", "unfinished", "none")
        }
        self._told = False
        self.model = load(config.text)
        self._batcher: Batcher[Sequence[Turn], float] | None = None
        if self.model is not None:
            self._batcher = Batcher(
                self.model.run,
                batch_max=1,
                observer=BatchMetrics(metrics, "turn_text"),
                stale_s=STALE_S,
                name="turn-text",
            )

    async def answer(self, request: RequestContext, body: bytes) -> bytes | Failure:
        asked = read_request(body)
        if self.model is None and not self._told:
            self._told = True
            _logger.warning(CONFIGURE)
        match asked:
            case Failure():
                return asked
            case Language(tag):
                threshold = self.model.threshold(tag) if self.model is not None else None
                return orjson.dumps({"threshold": threshold})
            case Conversation(turns):
                began = time.monotonic()
                probability = await self._probability(turns)
                if self._batcher is not None:
                    failed = probability == NO_PREDICTION
                    run = EngineRun("turn_text", began, time.monotonic(), {}, failed)
                    request.outcome = replace(request.outcome, runs=(run,))
                self._verdicts[self._verdict(probability)].inc()
                return orjson.dumps({"probability": probability})

    def _verdict(self, probability: float) -> str:
        threshold = self.model.threshold("en") if self.model is not None else None
        if probability < 0 or threshold is None:
            return "none"
        return "finished" if probability >= threshold else "unfinished"

    async def _probability(self, turns: Sequence[Turn]) -> float:
        """What the model says, or NO_PREDICTION if it has no time."""
        if self._batcher is None or not turns:
            return NO_PREDICTION
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def answered(
            question: Sequence[Turn], probability: float | None, timing: Timing | None
        ) -> None:
            if not waiter.done():
                waiter.set_result(NO_PREDICTION if probability is None else probability)

        place = self._batcher.place(answered)
        place.ask(turns)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await waiter
        except TimeoutError:
            return NO_PREDICTION
        finally:
            place.leave()

    def close(self) -> None:
        if self._batcher is not None:
            self._batcher.close()
