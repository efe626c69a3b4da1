"""A caller on /stt without a client package: plays samples in real time, keeps all it is told."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import aiohttp

from gateway.server.auth import mint
from tests.end_to_end.server import Server

RATE = 16_000
FRAME_S = 0.05
TRANSCRIPTS = ("interim_transcript", "preflight_transcript", "final_transcript")


async def converse(
    server: Server,
    pcm: bytes,
    *,
    rate: int = RATE,
    speed: float = 1.0,
    timeout_s: float = 120.0,
    updates: dict[int, dict[str, Any]] | None = None,
    vanishes_after_s: float | None = None,
    request_id: str | None = None,
    **create: Any,
) -> list[dict[str, Any]]:
    """The messages of a session that plays `pcm`, finalizes and closes; `updates` are settings
    sent before the frame of that number. Each message has the time "at" in seconds. The client
    goes away without a goodbye after `vanishes_after_s`. Server and providers are told
    `request_id`."""
    token = mint(server.api_key, server.api_secret, identity="test", ttl_s=600)
    told: list[dict[str, Any]] = []
    headers = {"Authorization": f"Bearer {token}"}
    if request_id is not None:
        headers["X-Request-Id"] = request_id
    began = time.monotonic()
    async with (
        asyncio.timeout(timeout_s),
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(f"{server.url}/v1/stt") as socket,
    ):
        settings = {"sample_rate": str(rate), "encoding": "pcm_s16le", **create.pop("settings", {})}
        await socket.send_json({"type": "session.create", "settings": settings, **create})

        async def play() -> None:
            size = 2 * round(rate * FRAME_S)
            for i in range(0, len(pcm), size):
                if updates and i // size in updates:
                    update = {"type": "session.update", "settings": updates[i // size]}
                    await socket.send_json(update)
                audio = base64.b64encode(pcm[i : i + size]).decode()
                await socket.send_json({"type": "input_audio", "audio": audio})
                due = began + (i / size + 1) * FRAME_S / speed
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await socket.send_json({"type": "session.finalize"})
            await socket.send_json({"type": "session.close"})

        playing = [asyncio.create_task(play())]
        if vanishes_after_s is not None:
            playing.append(asyncio.create_task(vanish(socket, vanishes_after_s)))
        try:
            async for message in socket:
                told.append({**json.loads(message.data), "at": round(time.monotonic() - began, 2)})
        finally:
            for task in playing:
                task.cancel()
            await asyncio.gather(*playing, return_exceptions=True)
        told.append({"type": "close", "code": socket.close_code})
    for one in told:
        check_fields(one)
    return told


async def vanish(socket: aiohttp.ClientWebSocketResponse, after_s: float) -> None:
    """Cut the connection."""
    await asyncio.sleep(after_s)
    connection = socket._response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def check_fields(message: dict[str, Any]) -> None:
    """What kills a client's stream or makes it drop the message (see the contract)."""
    assert None not in message.values(), message
    if message["type"] in TRANSCRIPTS:
        assert message["transcript"], message
        for name in ("start", "duration", "confidence"):
            assert isinstance(message[name], int | float), message
            assert message[name] >= 0, message
        assert isinstance(message.get("speaker_id", ""), str)
        assert isinstance(message.get("language", ""), str)
        for word in message["words"]:
            assert None not in word.values(), message
            assert word["end"] >= word["start"], message
            assert isinstance(word.get("speaker_id", ""), str)
    if message["type"] == "error":
        assert isinstance(message["code"], int), message


def words(told: list[dict[str, Any]]) -> list[str]:
    text = " ".join(one["transcript"] for one in told if one["type"] == "final_transcript")
    return text.lower().replace(".", "").split()
