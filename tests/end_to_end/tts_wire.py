"""A bare client of /tts that keeps every message: what the real clients do not show."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from websockets.asyncio.client import ClientConnection, connect

from tests.end_to_end.server import Server


def token(server: Server) -> str:
    now = int(time.time())
    claims = {
        "iss": server.api_key,
        "sub": "agent",
        "nbf": now - 5,
        "exp": now + 600,
        "inference": {"perform": True},
    }
    return jwt.encode(claims, server.api_secret, algorithm="HS256")


@dataclass
class Heard:
    """One utterance. Times are seconds since its first text was sent."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)  # when each text was sent
    audio: bytes = b""

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def words(self) -> list[dict[str, Any]]:
        return [word for message in self.messages for word in message.get("words", [])]

    @property
    def first_audio_s(self) -> float | None:
        for message, at in zip(self.messages, self.times, strict=True):
            if message["type"] == "output_audio":
                return at
        return None


class WireClient:
    """One connection."""

    def __init__(self, socket: ClientConnection, create: dict[str, Any]) -> None:
        self.socket = socket
        self.create = create

    async def say(self, *texts: str, waits_for_audio: bool = False, **more: Any) -> Heard:
        """One utterance, to its `done` or `error`. With `waits_for_audio` nothing more is written
        after the first text until something is heard."""
        heard, began, audible = Heard(), time.monotonic(), asyncio.Event()

        async def write() -> None:
            for text in texts:
                heard.written.append(time.monotonic() - began)
                await self.send({"type": "input_transcript", "transcript": text, **more})
                if waits_for_audio:
                    await audible.wait()
            await self.send({"type": "session.flush"})

        writing = asyncio.create_task(write())
        async with asyncio.timeout(120):
            async for raw in self.socket:
                message = json.loads(raw)
                heard.messages.append(message)
                heard.times.append(time.monotonic() - began)
                if message["type"] == "output_audio":
                    heard.audio += base64.b64decode(message["audio"])
                    audible.set()
                if message["type"] in ("done", "error"):
                    break
        await writing
        return heard

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    async def receive(self, timeout_s: float = 60.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            message: dict[str, Any] = json.loads(await self.socket.recv())
            return message


class opened:
    """A connection with `session.create` sent and `session.created` received."""

    def __init__(
        self,
        server: Server,
        model: str,
        rate: int = 24000,
        fallback: list[dict[str, Any]] | None = None,
        **more: Any,
    ) -> None:
        create: dict[str, Any] = {
            "type": "session.create",
            "sample_rate": str(rate),
            "encoding": "pcm_s16le",
            "model": model,
            "extra": {},
            **more,
        }
        if fallback:
            create["fallback"] = {"models": fallback}
        self._create = create
        self._connect = connect(
            f"{server.url.replace('http', 'ws', 1)}/v1/tts?model={model}",
            additional_headers={"Authorization": f"Bearer {token(server)}"},
            compression=None,
            max_size=None,
        )

    async def __aenter__(self) -> WireClient:
        socket = await self._connect.__aenter__()
        client = WireClient(socket, self._create)
        await client.send(self._create)
        created = await client.receive()
        assert created["type"] == "session.created", created
        return client

    async def __aexit__(self, *exception: Any) -> None:
        await self._connect.__aexit__(*exception)
