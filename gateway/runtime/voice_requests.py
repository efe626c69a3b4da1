"""Synthesis over HTTP: a request for each text, heard strictly in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import Any, Final

from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import BodyChunk, BodyEnd, ConnectionFailed, ResponseHead
from gateway.upstreams.request_ids import named, told_id
from gateway.upstreams.tts import (
    Audio,
    Failed,
    Finished,
    PartSpoken,
    RequestVoice,
    Sink,
    SpeechRequest,
    SynthesisEvent,
)

PIECES_MAX: Final = 64
"""Pieces of a body that wait to be heard; then its connection is read no further."""

ERROR_BODY_BYTES_MAX: Final = 64 << 10
"""Bytes of an error body that are read; the rest is not worth waiting for."""


_NO_AUDIO: Final = Failure(Kind.PROTOCOL_ERROR, "the provider sent no audio for the text")
"""Servers that fail once they have answered 200 end with nothing: that text was not spoken."""


class RequestSynthesis:
    """A `LiveSynthesis` by HTTP requests. `look_ahead` of them run ahead of the one that is heard,
    so that the provider has begun when its turn comes. A body is read no further while the sink
    asks to wait."""

    def __init__(
        self,
        connector: Connector,
        connect_timeout_s: float,
        voice: RequestVoice,
        request: SpeechRequest,
        sink: Sink,
        request_id: str = "",
    ) -> None:
        """`request_id`: what the provider is told of whose request it is."""
        self._connector = connector
        self._connect_timeout_s = connect_timeout_s
        self._voice = voice
        self._request = request
        self._id = request_id
        self._sink: Sink | None = sink
        self._texts: deque[str] = deque()
        self._running: deque[tuple[Inbox[Any], asyncio.Task[None]]] = deque()
        self._finished = False
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def say(self, text: str) -> None:
        self._texts.append(text)
        self._start()
        self._more.set()

    def finish(self) -> None:
        self._finished = True
        self._more.set()

    def cancel(self, *, suspect: bool = False) -> None:
        self._sink = None
        self._task.cancel()
        for _, task in self._running:  # a task that has not begun cancels nobody
            task.cancel()

    def _start(self) -> None:
        while self._texts and len(self._running) <= self._voice.traits.look_ahead:
            inbox: Inbox[Any] = Inbox(PIECES_MAX)
            dial = named(self._voice.dial(self._request, self._texts.popleft()), self._id)
            task = asyncio.create_task(
                self._connector.request(dial, 0, inbox, self._connect_timeout_s)
            )
            self._running.append((inbox, task))

    async def _run(self) -> None:
        try:
            while True:
                self._start()
                if self._running:
                    failure = await self._hear(self._running[0][0])
                    if failure is not None:
                        await self._tell(Failed(failure))
                        return
                    await self._running.popleft()[1]
                    await self._tell(PartSpoken())
                elif self._finished:
                    await self._tell(Finished())
                    return
                else:
                    self._more.clear()
                    await self._more.wait()
        finally:
            tasks = [task for _, task in self._running]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, heard: SynthesisEvent) -> None:
        if self._sink is not None:
            full = self._sink(heard)
            if full is not None:
                await full

    async def _hear(self, inbox: Inbox[Any]) -> Failure | None:
        """One answer to its end."""
        reader = self._voice.reader(self._request)
        refused: ResponseHead | None = None
        body = bytearray()
        sounds = False
        while True:
            event = await inbox.next(None, time.monotonic)
            match event:
                case ResponseHead() if event.status == 200:
                    reader.head(event.headers)
                case ResponseHead():
                    refused = event
                case BodyChunk(data=data) if refused is not None:
                    body += data
                    if len(body) > ERROR_BODY_BYTES_MAX:
                        return self._refusal(refused, bytes(body))
                case BodyChunk(data=data):
                    for heard in reader.feed(data):
                        if isinstance(heard, Failed):
                            return heard.failure
                        sounds = sounds or (isinstance(heard, Audio) and bool(heard.pcm))
                        await self._tell(heard)
                case BodyEnd():
                    if refused is not None:
                        return self._refusal(refused, bytes(body))
                    for heard in reader.finish():
                        if isinstance(heard, Failed):
                            return heard.failure
                        sounds = sounds or (isinstance(heard, Audio) and bool(heard.pcm))
                        await self._tell(heard)
                    return None if sounds else _NO_AUDIO
                case ConnectionFailed(failure=failure):
                    return failure

    def _refusal(self, head: ResponseHead, body: bytes) -> Failure:
        if head.status < 400:
            return Failure(
                Kind.PROTOCOL_ERROR,
                f"the provider answered with status {head.status}",
                upstream_status=head.status,
                upstream_id=told_id(head.headers),
            )
        failure = self._voice.failure(head.status, head.headers, body)
        return replace(failure, upstream_id=told_id(head.headers))
