"""Providers for `gateway bench`: they answer at once with as little work as can be, so that what
is measured is the gateway. `python -m gateway.cli.bench_floor` prints its port on the loopback
interface and serves until its standard input ends.

POST /v1/chat/completions   OpenAI's: a stream of TOKENS tokens, apart in time for the model PACED
WS   /each/v1/listen        Deepgram's: a result for every frame
WS   /paced/v1/listen       the same, four results a second of audio
WS   /tts/websocket         Cartesia's: one piece of audio, or PIECES in real time for PACED
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from typing import Final

import uvloop
from aiohttp import WSMsgType, web

PACED: Final = "paced"
AT_ONCE: Final = "at-once"

TOKENS: Final = 50
TOKENS_A_S: Final = 50

RATE: Final = 16_000
"""Of what is heard, in samples a second, 16 bits each."""

FRAME_S: Final = 0.05
FRAMES_A_RESULT: Final = 5
"""Of the paced recogniser."""

VOICE_RATE: Final = 24_000
PIECE_S: Final = 0.1
PIECES: Final = 10

_PIECE: Final = base64.b64encode(
    bytes(range(240)) * (int(VOICE_RATE * PIECE_S) * 2 // 240)
).decode()


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "bench",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


_BEGIN: Final = _event({"role": "assistant", "content": ""})
_TOKENS: Final = [_event({"content": f" token{i}"}) for i in range(TOKENS)]
_END: Final = (
    _event({}, "stop")
    + b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"bench","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":50,'
    b'"total_tokens":70}}\n\ndata: [DONE]\n\n'
)


async def chat(request: web.Request) -> web.StreamResponse:
    """A reply."""
    asked = await request.json()
    reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await reply.prepare(request)
    if asked["model"] == PACED:
        await reply.write(_BEGIN)
        for token in _TOKENS:
            await reply.write(token)
            await asyncio.sleep(1 / TOKENS_A_S)
        await reply.write(_END)
    else:
        await reply.write(_BEGIN + b"".join(_TOKENS) + _END)
    return reply


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": AT_ONCE, "object": "model"}]})


async def listen(request: web.Request) -> web.WebSocketResponse:
    """A recogniser: its words say how many frames it has heard."""
    every = 1 if request.path.startswith("/each/") else FRAMES_A_RESULT
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    frames, heard_s, told_s = 0, 0.0, 0.0
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data:
            frames += 1
            heard_s += len(message.data) / 2 / RATE
            if frames % every == 0:
                await socket.send_str(result(frames, told_s, heard_s))
                told_s = heard_s
        elif message.type is WSMsgType.TEXT and json.loads(message.data).get("type") == (
            "CloseStream"
        ):
            break
    return socket


def result(frames: int, begin_s: float, end_s: float) -> str:
    """A final of Deepgram's for the audio between two times."""
    word = {
        "word": f"word{frames}",
        "start": begin_s,
        "end": end_s,
        "confidence": 0.99,
    }
    return json.dumps(
        {
            "type": "Results",
            "start": begin_s,
            "duration": end_s - begin_s,
            "is_final": True,
            "speech_final": True,
            "channel": {
                "alternatives": [
                    {"transcript": f"word{frames}", "confidence": 0.99, "words": [word]}
                ]
            },
            "metadata": {"request_id": "bench"},
        }
    )


async def speak(request: web.Request) -> web.WebSocketResponse:
    """A voice: each text is answered by the same audio."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    lasts: dict[str, asyncio.Event] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def say(name: str, pieces: int, last: asyncio.Event) -> None:
        chunk = json.dumps(
            {"type": "chunk", "context_id": name, "data": _PIECE, "done": False, "status_code": 206}
        )
        with contextlib.suppress(ConnectionError):
            for number in range(pieces):
                await socket.send_str(chunk)
                if number + 1 < pieces:
                    await asyncio.sleep(PIECE_S)
            await last.wait()
            done = {"type": "done", "context_id": name, "done": True, "status_code": 200}
            await socket.send_str(json.dumps(done))

    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        asked = json.loads(message.data)
        name = asked["context_id"]
        if asked.get("transcript") and name not in lasts:
            lasts[name] = asyncio.Event()
            pieces = PIECES if asked.get("model_id") == PACED else 1
            task = asyncio.create_task(say(name, pieces, lasts[name]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if not asked.get("continue") and name in lasts:
            lasts.pop(name).set()
    for task in tasks:
        task.cancel()
    return socket


async def serve() -> None:
    """Until standard input ends."""
    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/each/v1/listen", listen)
    app.router.add_get("/paced/v1/listen", listen)
    app.router.add_get("/tts/websocket", speak)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), _read, ended)
    await ended.wait()
    await runner.cleanup()


def _read(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        ended.set()


if __name__ == "__main__":
    uvloop.run(serve())
