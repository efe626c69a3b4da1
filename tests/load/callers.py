"""Callers of each kind, who do one thing after the other until the time is up."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from random import Random
from typing import Any
from uuid import uuid4

import aiohttp
from websockets.exceptions import WebSocketException

from gateway.server.auth import mint
from tests.benchmarks import bargein, eot
from tests.end_to_end import stt_caller
from tests.end_to_end.server import Server
from tests.end_to_end.tts_wire import opened
from tests.fakes.openai_chat import WORDS
from tests.fakes.tones import VOCABULARY, hush, spoken
from tests.fakes.voices import render, times_said
from tests.load.tally import Kind
from tests.load.upstreams import Upstreams

CALL_S_MAX = 60.0
"""A call that has not ended after so long has failed."""

TOKEN_S = 600

VANISHING = 0.15
"""Of the clients, so many go away without a goodbye in the middle of a call."""

NUMBERS = {"chat": 6, "chat-alone": 1, "stt": 6, "tts": 4, "bargein": 3, "eot": 2}
"""Callers of each kind at the same time."""

SENTENCES = (
    "The first of them is here. ", "Then comes a second sentence. ", "A third one follows it. ",
    "And this is how it ends. ",
)  # fmt: skip

ERRORS = (
    aiohttp.ClientError, WebSocketException, OSError, TimeoutError, AssertionError, ValueError,
    RuntimeError, EOFError,
)  # fmt: skip
"""How a call fails, seen from a caller."""


@cache
def _noise() -> bytes:
    return bargein.noise()


class Caller:
    """What one caller does."""

    def __init__(
        self,
        server: Server,
        kind: str,
        tally: Kind,
        seed: int,
        vanishing: float = VANISHING,
        upstreams: Upstreams | None = None,
    ) -> None:
        """`upstreams`: whom the server asks, to tell what became of lost words."""
        self._upstreams = upstreams
        self._server = server
        self._kind = kind
        self._tally = tally
        self._chance = Random(seed)
        self._vanishing = vanishing
        self._audio = _noise()
        self._token_until = 0.0
        self._minted = ""

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            await self.call()
            await asyncio.sleep(self._chance.uniform(0.0, 0.3))

    async def call(self) -> None:
        """One call."""
        calls: dict[str, Callable[[bool], Awaitable[None]]] = {
            "chat": self._chat,
            "chat-alone": self._chat_alone,
            "stt": self._stt,
            "tts": self._tts,
            "bargein": self._bargein,
            "eot": self._eot,
        }
        vanishes = self._chance.random() < self._vanishing
        self._tally.calls += 1
        try:
            async with asyncio.timeout(CALL_S_MAX):
                await calls[self._kind](vanishes)
        except ERRORS as error:
            if vanishes:
                self._tally.vanished += 1
            else:
                self._tally.fail(f"{type(error).__name__}: {error}")

    def _token(self) -> str:
        """One for some time: the server remembers thousands, which would look like a leak."""
        if time.monotonic() > self._token_until:
            self._token_until = time.monotonic() + TOKEN_S / 2
            key, secret = self._server.api_key, self._server.api_secret
            self._minted = mint(key, secret, identity=self._kind, ttl_s=TOKEN_S)
        return self._minted

    def _served(self, said: list[str], heard: list[str]) -> int:
        """How many words were lost."""
        self._tally.served += 1
        self._tally.words += len(said)
        if lost := sum((Counter(said) - Counter(heard)).values()):
            self._tally.lose(lost, f"{said} as {heard}")
        return lost

    # -- chat

    async def _chat(self, vanishes: bool) -> None:
        told = await self._reply("flaky/chat", vanishes)
        if told is None:
            return
        text, wrong = told
        if wrong:
            self._tally.fail(wrong)
        else:
            self._served("".join(WORDS).split(), text.split())

    async def _chat_alone(self, vanishes: bool) -> None:
        """The only provider may break off: the caller is told so, and loses the rest."""
        told = await self._reply("alone/chat", vanishes)
        if told is None:
            return
        text, wrong = told
        if not wrong:
            self._served("".join(WORDS).split(), text.split())
        elif text:
            self._tally.broken += 1
        else:
            self._tally.fail(wrong)

    async def _reply(self, model: str, vanishes: bool) -> tuple[str, str] | None:
        """The text, and what was wrong with the answer. None: the client has gone."""
        body = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "Say hello."}],
        }
        headers = {"Authorization": f"Bearer {self._token()}"}
        text, done, wrong = "", False, ""
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self._server.url}/v1/chat/completions", json=body) as response,
        ):
            if response.status != 200:
                return "", f"status {response.status}: {(await response.text())[:120]}"
            try:
                async for line in response.content:
                    if vanishes and (text or self._chance.random() < 0.3):
                        response.close()
                        self._tally.vanished += 1
                        return None
                    if not line.startswith(b"data: "):
                        continue
                    if line.startswith(b"data: [DONE]"):
                        done = True
                        continue
                    event = json.loads(line[6:])
                    if "error" in event:
                        wrong = f"an error in the stream: {event['error'].get('code')}"
                    for choice in event.get("choices", ()):
                        text += (choice.get("delta") or {}).get("content") or ""
            except aiohttp.ClientError:
                wrong = wrong or "broken off"
        return text, wrong or ("" if done else "no [DONE]")

    # -- speech

    async def _stt(self, vanishes: bool) -> None:
        choice = self._chance.sample(VOCABULARY, self._chance.randint(6, 12))
        cut = len(choice) // 2
        pcm = hush(0.3) + spoken(choice[:cut]) + hush(0.8) + spoken(choice[cut:]) + hush(1.0)
        request_id, began = uuid4().hex, time.monotonic()
        told = await stt_caller.converse(
            self._server,
            pcm,
            request_id=request_id,
            model="flaky/stt",
            timeout_s=CALL_S_MAX,
            vanishes_after_s=self._chance.uniform(0.1, 3.0) if vanishes else None,
            settings={"language": "en"},
        )
        if vanishes:
            self._tally.vanished += 1
            return
        errors = [one for one in told if one["type"] == "error"]
        if errors or told[-1].get("code") != 1000:
            self._tally.fail(f"{errors or told[-1]}")
        elif self._served(choice, stt_caller.words(told)):
            # it waits for lines of the log
            story = await asyncio.to_thread(self._story, choice, told, request_id, began)
            self._tally.tell(story)

    def _story(
        self, said: list[str], told: list[dict[str, Any]], request_id: str, began: float
    ) -> list[str]:
        """How a recording was recognised: what the client was told, what the providers heard and
        said, and the server's own lines; with seconds since `began`, which `told` has too."""
        texts = [f"{one.get('at')} {one['type']} {one.get('transcript', '')}" for one in told]
        lines = [f"said {' '.join(said)}", "the client was told", *texts, "the providers"]
        if self._upstreams is not None:
            lines += self._upstreams.recognised(request_id, began)
        log = self._server.logged(request_id).splitlines()
        return [*lines, "the log", *(one for one in log if request_id in one)]

    async def _tts(self, vanishes: bool) -> None:
        texts = self._chance.sample(SENTENCES, self._chance.randint(1, 3))
        async with opened(self._server, "flaky/tts") as client:
            for _ in range(2):
                try:
                    async with asyncio.timeout(
                        self._chance.uniform(0.01, 1.0) if vanishes else CALL_S_MAX
                    ):
                        heard = await client.say(*texts)
                except TimeoutError:
                    client.socket.transport.abort()
                    if not vanishes:
                        raise
                    self._tally.vanished += 1
                    return
                if heard.types[-1] != "done":
                    self._tally.fail(f"{heard.messages[-1]}")
                    return
                self._spoken(texts, heard.audio)
        self._tally.served += 1

    def _spoken(self, texts: list[str], audio: bytes) -> None:
        """Each sentence is heard in full: with its pauses, or with longer ones between its words.
        What was cut off before a failover is said again."""
        for text in texts:
            self._tally.words += len(text.split())
            if render(text) not in audio and not times_said(text, audio):
                self._tally.lose(len(text.split()), f"{text!r} of {texts}")

    # -- detectors

    async def _bargein(self, vanishes: bool) -> None:
        caller = bargein.Caller(self._audio, 800 * self._chance.randrange(200))
        await caller.connect(self._server.port, self._token())
        talking = asyncio.create_task(caller.talk(self._chance.uniform(2.0, 5.0)))
        if await self._goes(vanishes, talking, caller):
            return
        self._asked(len(caller.delays) + len(caller.sent), len(caller.sent))

    async def _eot(self, vanishes: bool) -> None:
        caller = eot.Caller(self._audio, 1600 * self._chance.randrange(100))
        await caller.connect(self._server.port, self._token())
        talking = asyncio.create_task(caller.talk(6.0, True))
        if await self._goes(vanishes, talking, caller):
            return
        self._asked(len(caller.delays) + len(caller.sent), len(caller.sent))

    async def _goes(
        self, vanishes: bool, talking: asyncio.Task[None], caller: bargein.Caller | eot.Caller
    ) -> bool:
        """Whether the client went away before it was through."""
        if vanishes:
            await asyncio.sleep(self._chance.uniform(0.1, 2.0))
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            caller._writer.transport.abort()
            self._tally.vanished += 1
            return True
        await talking
        return False

    def _asked(self, questions: int, unanswered: int) -> None:
        self._tally.words += questions
        if unanswered:
            self._tally.lose(unanswered, "questions without an answer")
        else:
            self._tally.served += 1
