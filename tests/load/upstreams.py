"""Providers that fail at random, each with one that does not behind it, and their configuration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fakes import frame_model, turn_model
from tests.fakes.base import FakeServer
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.speech import KEY, Connection
from tests.fakes.voices import Utterance

SHARE = 0.25
"""Of requests, connections and utterances, so many fail, unless another is said."""

BEFORE_CONTENT = (
    "status:500", "status:503", "rate-limited:seconds:1", "reset-before-headers",
    "reset-before-content", "cut-before-content", "ends-before-content", "error-before-content",
    "garbage", "html", "hang-before-first-token",
)  # fmt: skip
"""Another deployment can answer instead."""

AFTER_CONTENT = ("reset-after-content", "cut-after-content", "error-after-content")
"""Nobody can: the caller has heard half of the answer."""

OF_SPEECH = (
    "drop:{at}", "close:{at}:1011:internal", "stall:{at}", "error:{at}", "garbage:{at}",
    "no-read:{at}", "status:503", "status:429",
)  # fmt: skip
OF_UTTERANCES = ("reset:{at}", "close:{at}", "error:{at}", "hole:{at}", "garbage:{at}", "silent")

KEPT = 50
"""Exchanges and connections that a fake remembers: they hold all that was said."""


class FlakyChat(FakeOpenAI):
    def __init__(self, chance: Random, share: float, faults: tuple[str, ...]) -> None:
        super().__init__()
        self._chance, self._share, self._faults = chance, share, faults

    def next_scripted(self) -> str | None:
        return self._chance.choice(self._faults) if self._chance.random() < self._share else "text"


class FlakyRecognizer(FakeDeepgram):
    def __init__(self, chance: Random, share: float) -> None:
        super().__init__()
        self._chance, self._share = chance, share

    def next_scripted(self) -> str | None:
        if self._chance.random() >= self._share:
            return ""
        return self._chance.choice(OF_SPEECH).format(at=f"{self._chance.uniform(0.2, 3.0):.2f}")


class FlakyVoice(FakeCartesia):
    def __init__(self, chance: Random, share: float) -> None:
        super().__init__()
        self._chance, self._share = chance, share

    def next_scripted(self) -> str | None:
        return "status:503" if self._chance.random() < self._share / 4 else None

    def utterance(self, odd: bool = False) -> Utterance:
        if self._chance.random() < self._share:
            at = f"{self._chance.uniform(0.0, 1.0):.2f}"
            self.utterances(self._chance.choice(OF_UTTERANCES).format(at=at))
        return super().utterance(odd)


@dataclass
class Upstreams:
    """The fakes, and the configuration of a server that asks them."""

    fakes: list[FakeServer]
    config: str

    async def hang_up(self) -> None:
        """Cut every connection that a server keeps for later, and refuse new ones."""
        await asyncio.gather(*(asyncio.to_thread(_hang_up, fake) for fake in self.fakes))

    async def listen(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(fake.listen) for fake in self.fakes))

    def recognised(self, request_id: str, began: float) -> list[str]:
        """What each recogniser that was asked for this call took, heard and said, a line each, with
        the seconds since `began`."""
        lines: list[str] = []
        for fake in self.fakes:
            if not isinstance(fake, FakeDeepgram):
                continue
            name = "flaky" if isinstance(fake, FlakyRecognizer) else "sound"
            by_exchange = {id(one.exchange): one for one in fake.connections}
            for exchange in tuple(fake.received):
                if exchange.headers.get("x-request-id") != request_id:
                    continue
                at = f"{exchange.started_at - began:.3f}"
                lines.append(f"{at} {name} {exchange.scenario or 'well'}")
                if (connection := by_exchange.get(id(exchange))) is not None:
                    lines += _recognised(connection, began)
        return lines

    def forget(self) -> None:
        """Let go of what was said: half an hour of it is gigabytes."""
        for fake in self.fakes:
            while len(fake.received) > KEPT:
                fake.received.popleft()
            if isinstance(fake, FakeDeepgram):
                del fake.connections[:-KEPT]


def _recognised(connection: Connection, began: float) -> list[str]:
    exchange = connection.exchange
    audio_s = sum(len(one) for one in exchange.heard if isinstance(one, bytes)) / 32_000
    words = " ".join(f"{word.text} {word.start:.2f}" for word in connection.ear.words)
    asked = " ".join(one for one in exchange.heard if isinstance(one, str))
    lines = [f"    took {audio_s:.2f} s {asked}", f"    heard {words}"]
    for at, text in zip(connection.said_at, exchange.said, strict=False):
        message = json.loads(text)
        if message["type"] == "Results":
            kind = "final" if message["is_final"] else "interim"
            words = message["channel"]["alternatives"][0]["transcript"]
            lines.append(f"    {at - began:.3f} {kind} {words!r}")
    if exchange.ended_at is not None:
        lines.append(f"    {exchange.ended_at - began:.3f} over")
    return lines


def _hang_up(fake: FakeServer) -> None:
    fake.refuse()
    fake.hang_up()


@contextmanager
def failing(folder: Path, seed: int, workers: int, share: float = SHARE) -> Iterator[Upstreams]:
    """All of them, running. Models: `flaky/chat`, `flaky/stt` and `flaky/tts` have a sound
    deployment behind one that fails, `alone/chat` has none."""
    chance = Random(seed)
    bargein = frame_model.write(folder / "bargein.onnx")
    turn = turn_model.write(folder / "turn.onnx")
    with ExitStack() as stack:
        start = stack.enter_context
        chat, alone = (FlakyChat(chance, share, of) for of in (BEFORE_CONTENT, AFTER_CONTENT))
        fakes: list[FakeServer] = [
            start(chat),
            start(alone),
            start(FakeOpenAI()),
            start(FlakyRecognizer(chance, share)),
            start(FakeDeepgram()),
            start(FlakyVoice(chance, share)),
            start(FakeCartesia()),
        ]
        names = ("chat-flaky", "chat-alone", "chat", "stt-flaky", "stt", "tts-flaky", "tts")
        kinds = ("openai-compatible",) * 3 + ("deepgram",) * 2 + ("cartesia",) * 2
        providers = "".join(
            f"  {name}: {{type: {kind}, api_key: {KEY},"
            f" base_url: '{fake.url}{'/v1' if name.startswith('chat') else ''}'}}\n"
            for name, kind, fake in zip(names, kinds, fakes, strict=True)
        )
        config = f"""
server: {{workers: {workers}, shutdown_grace_s: 20}}
usage: {{url: 'sqlite:{folder}/usage.db', running_s: 5}}
bargein: {{model: '{bargein}'}}
eot: {{model: '{turn}'}}
chat: {{first_token_timeout_s: 2}}
stt: {{local_last: false}}
tts: {{first_audio_timeout_s: 2, hole_timeout_s: 2, match_loudness: false}}
providers:
{providers}
models:
  flaky/chat: [{{provider: chat-flaky, model: m}}, {{provider: chat, model: m}}]
  alone/chat: [{{provider: chat-alone, model: m}}]
  flaky/stt: [{{provider: stt-flaky, model: nova-3}}, {{provider: stt, model: nova-3}}]
  flaky/tts: [{{provider: tts-flaky, model: sonic-3}}, {{provider: tts, model: sonic-3}}]
"""
        yield Upstreams(fakes, config)
