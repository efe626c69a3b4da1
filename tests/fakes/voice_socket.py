"""What the fake voices on a WebSocket share: the handshake, the reading loop, ways to break off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSMsgType, web

from tests.fakes.base import Exchange
from tests.fakes.voices import FakeVoice, Fault, break_off, refusal


class VoiceSocket:
    """One connection: frames in, frames out, a task for each utterance."""

    def __init__(self, fake: SocketVoiceFake, request: web.Request, exchange: Exchange) -> None:
        self.fake, self.request, self.exchange = fake, request, exchange
        self.socket = web.WebSocketResponse(compress=False)
        self.tasks: set[asyncio.Task[None]] = set()

    async def send(self, frame: str | bytes) -> None:
        self.exchange.said.append(frame[:200])
        if self.socket.closed:
            return
        try:
            if isinstance(frame, str):
                await self.socket.send_str(frame)
            else:
                await self.socket.send_bytes(frame)
        except ConnectionError:
            pass

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def fail(self, fault: Fault) -> None:
        """The faults that are the connection's; a provider's own error is the fake's."""
        if fault.kind == "garbage":
            await self.send("{not json")
        elif fault.kind == "close":
            await self.socket.close(code=1011, message=b"internal")
        else:
            break_off(self.request, fault)

    async def frames(self) -> AsyncIterator[str | bytes]:
        async for message in self.socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.exchange.heard.append(message.data)
                yield message.data


class SocketVoiceFake(FakeVoice):
    """Scenarios of connections: status:<n>, hang. Of utterances: reset, close, hole, error,
    garbage, silent, each with `:seconds`."""

    def problem(self, request: web.Request) -> web.Response | None:
        """Why the handshake is refused, if it is."""
        raise NotImplementedError

    async def talk(self, line: VoiceSocket) -> None:
        """The conversation on an open socket."""
        raise NotImplementedError

    async def serve(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        scenario = self.next_scripted()
        refused = refusal(scenario) or self.problem(request)
        if refused is not None:
            return refused
        line = VoiceSocket(self, request, exchange)
        await line.socket.prepare(request)
        try:
            if scenario == "hang":
                async for _ in line.frames():
                    pass
            else:
                await self.talk(line)
        finally:
            self.closed.append(time.monotonic())
            for task in list(line.tasks):
                task.cancel()
        return line.socket
