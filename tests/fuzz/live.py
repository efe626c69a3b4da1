"""A real server between hostile clients and hostile providers.

What has to hold: it answers nothing with 500, ends no session by a fault of its own, logs no
traceback, and once everybody has gone it has given back sessions, descriptors and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from gateway.server.auth import mint
from gateway.upstreams.provider import Modality
from tests.benchmarks.tools import rss_mb
from tests.end_to_end.server import Server, running
from tests.fuzz import generate, sessions, targets

CALLERS = 12
"""At the same time."""

SETTLE_S = 40.0
"""In this time sessions and connections have to be gone."""

RSS_MB_MAX = 200.0
DESCRIPTORS_MAX = 150
"""More than at the beginning: connections to providers that are kept for the next request."""

STATUSES = (200, 200, 200, 200, 204, 302, 400, 401, 404, 418, 429, 500, 503, 599)


@dataclass
class Result:
    """`findings`: what did not hold, in words."""

    inputs: int = 0
    findings: list[str] = field(default_factory=list)
    rss_mb: tuple[float, float] = (0.0, 0.0)
    descriptors: tuple[int, int] = (0, 0)


class Provider:
    """All vendors at once, each under its name."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{vendor}/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        chance, vendor = self._chance, request.match_info["vendor"]
        if vendor not in _vendors():
            return web.Response(status=404)
        words = targets.words_of(vendor)
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._talk(request, words, vendor)
        await request.read()
        samples = targets.samples_of(vendor, "chat")
        response = web.StreamResponse(status=chance.choice(STATUSES))
        for name, value in generate.headers(chance, words).items():
            if value.isprintable() and value.isascii():
                response.headers[name] = value
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            for _ in range(chance.randrange(8)):
                await response.write(sessions.provider_body(chance, words, samples) or b"\n")
                await asyncio.sleep(chance.choice((0.0, 0.0, 0.01)))
            if not chance.randrange(8) and request.transport is not None:
                request.transport.abort()
        return response

    async def _talk(
        self, request: web.Request, words: sessions.Words, vendor: str
    ) -> web.StreamResponse:
        chance = self._chance
        if not chance.randrange(8):
            return web.Response(status=chance.choice((302, 401, 403, 429, 500)))
        modality: Modality = chance.choice(("stt", "tts"))
        samples = targets.samples_of(vendor, modality)
        offered = request.headers.get("sec-websocket-protocol", "").split(",")[0].strip()
        socket = web.WebSocketResponse(protocols=(offered,) if offered else ())
        with contextlib.suppress(ConnectionError):
            await socket.prepare(request)
            for _ in range(chance.randrange(60)):
                frame = sessions.provider_frame(chance, words, samples)
                if isinstance(frame, bytes):
                    await socket.send_bytes(frame)
                else:
                    await socket.send_str(frame.encode(errors="replace").decode())
                await asyncio.sleep(chance.choice((0.0, 0.0, 0.01, 0.05)))
            if chance.randrange(3):
                await socket.close(code=chance.choice((1000, 1008, 1011, 4000)), message=b"no")
            elif request.transport is not None:
                request.transport.abort()
        return socket


class Caller:
    """One of many, who does one thing after the other until the time is up."""

    def __init__(self, server: Server, result: Result, seed: int) -> None:
        self._server = server
        self._result = result
        self._chance = Random(seed)
        token = mint(server.api_key, server.api_secret, identity="fuzz", ttl_s=86400)
        self._headers = {"authorization": f"Bearer {token}"}
        self._words = generate.words_of(
            "gateway.conversations.chat.protocol", "gateway.conversations.messages"
        )

    async def run(self, until: float) -> None:
        things: tuple[Callable[[aiohttp.ClientSession], Awaitable[None]], ...] = (
            self._chat, self._chat, self._post, self._odd, self._stt, self._tts, self._bargein,
        )  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as client:
            while time.monotonic() < until:
                thing = self._chance.choice(things)
                try:
                    await thing(client)
                except TimeoutError:
                    self._found(f"{thing.__name__}: no end after 30 s")
                except (aiohttp.ClientError, ConnectionError, ValueError):
                    pass  # an answer that was broken off, a URL that the client does not send

    def _found(self, what: str) -> None:
        if len(self._result.findings) < 50 and what not in self._result.findings:
            self._result.findings.append(what)

    def _model(self, modality: Modality) -> str:
        names = [name for name in targets.vendors(modality) if name != "local"]
        return f"{self._chance.choice(names)}/m"

    def _body(self, usual: dict[str, Any]) -> bytes:
        chance = self._chance
        kind = chance.randrange(6)
        if kind == 0:
            return generate.text(chance, self._words).encode(errors="replace")
        made = generate.nearly(chance, usual, self._words) if kind < 4 else usual
        return json.dumps(made).encode(errors="replace")

    async def _send(self, client: aiohttp.ClientSession, path: str, body: bytes) -> None:
        self._result.inputs += 1
        async with client.post(self._server.url + path, data=body) as response:
            text = await response.read()
            if response.status == 500:
                self._found(f"500 of {path}: {body[:300]!r} -> {text[:200]!r}")

    async def _chat(self, client: aiohttp.ClientSession) -> None:
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
        usual: dict[str, Any] = {
            "model": self._model("chat"),
            "messages": messages,
            "stream": bool(self._chance.randrange(3)),
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "fallback": [self._model("chat"), self._model("chat")],
            "temperature": 0.5,
        }
        await self._send(client, "/chat/completions", self._body(usual))

    async def _post(self, client: aiohttp.ClientSession) -> None:
        usual: dict[str, dict[str, Any]] = {
            "/embeddings": {"model": self._model("chat"), "input": ["one", "two"]},
            "/audio/speech": {"model": self._model("tts"), "input": "Hello.", "voice": "v"},
            "/eot/multi": {"items": [{"role": "user", "content": "hello"}]},
        }
        path = self._chance.choice(list(usual))
        await self._send(client, path, self._body(usual[path]))

    async def _odd(self, client: aiohttp.ClientSession) -> None:
        chance = self._chance
        self._result.inputs += 1
        path = chance.choice(
            (
                "/models",
                "/models/x",
                "/v1/models/",
                "/bargein",
                "/stt",
                "/metrics",
                "//x",
                "/%2e%2e/",
                "/x" * 99,
            )
        )
        query = chance.choice(("", "?a=b", "?sample_rate=1e999&threshold=nan", "?route=x&route=y"))
        method = chance.choice(("GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE"))
        body = chance.randbytes(chance.randrange(200)) if method in ("POST", "PUT") else None
        url = self._server.url + path + query
        async with client.request(method, url, data=body) as response:
            await response.read()
            if response.status == 500:
                self._found(f"500 of {method} {path}{query}")

    async def _stt(self, client: aiohttp.ClientSession) -> None:
        create = {
            "type": "session.create",
            "model": self._model("stt"),
            "settings": {"sample_rate": 16000},
        }
        await self._talk(client, "/stt", create, sessions.STT_USUAL)

    async def _tts(self, client: aiohttp.ClientSession) -> None:
        create = {
            "type": "session.create",
            "model": self._model("tts"),
            "voice": f"v{self._chance.randrange(5)}",
            "sample_rate": 24000,
            "encoding": "pcm_s16le",
        }
        await self._talk(client, "/tts", create, sessions.TTS_USUAL)

    async def _bargein(self, client: aiohttp.ClientSession) -> None:
        settings = {"sample_rate": 16000, "num_channels": 1, "min_frames": 2, "encoding": "s16le"}
        create = {"type": "session.create", "settings": settings}
        windows = tuple(
            struct.pack("<Q", i) + bytes(size) for i, size in enumerate((0, 1, 3200, 32000))
        )
        await self._talk(client, "/bargein", create, windows)

    async def _talk(
        self, client: aiohttp.ClientSession, path: str, create: dict[str, Any], usual: Any
    ) -> None:
        chance = self._chance
        async with client.ws_connect(self._server.url + path, max_msg_size=0) as socket:
            listening = asyncio.create_task(self._listen(socket, path))
            try:
                await socket.send_str(json.dumps(create))
                for _ in range(chance.randrange(40)):
                    self._result.inputs += 1
                    if chance.randrange(15):
                        said = chance.choice(usual)
                    else:
                        said = generate.frame(chance, self._words)
                    if isinstance(said, bytes):
                        await socket.send_bytes(said)
                    else:
                        text = said if isinstance(said, str) else json.dumps(said)
                        await socket.send_str(text.encode(errors="replace").decode())
                    await asyncio.sleep(chance.choice((0.0, 0.0, 0.005, 0.05)))
                if not chance.randrange(3):  # without a goodbye
                    response = socket._response
                    if (
                        response.connection is not None
                        and response.connection.transport is not None
                    ):
                        response.connection.transport.abort()
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse, path: str) -> None:
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE and message.extra == "internal error":
                self._found(f"an internal error ended a session of {path}")
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return


def _vendors() -> frozenset[str]:
    modalities: tuple[Modality, ...] = ("chat", "stt", "tts")
    return frozenset(name for one in modalities for name in targets.vendors(one)) - {"local"}


def _config(port: int) -> str:
    url = f"http://127.0.0.1:{port}"
    providers = {
        name: {
            "type": name,
            "api_key": "key-of-this-vendor",
            "base_url": f"{url}/{name}",
        }
        for name in sorted(_vendors())
    }
    return yaml.safe_dump(
        {
            "providers": providers,
            "usage": {"enabled": False},
            "chat": {"total_timeout_s": 5, "idle_timeout_s": 2},
            "limits": {"session_s_max": 20, "session_idle_s": 10},
            "server": {"shutdown_grace_s": 5, "drain_delay_s": 0},
        }
    )


async def _gone(server: Server) -> float:
    """Sessions that are still open after SETTLE_S."""
    ends = time.monotonic() + SETTLE_S
    while True:
        left = await asyncio.to_thread(server.metric, "parley_open_sessions")
        if not left or time.monotonic() > ends:
            return left
        await asyncio.sleep(0.5)


async def _fuzz(seconds: float, seed: int, folder: Path) -> Result:
    result = Result()
    provider = Provider(seed)
    await provider.start()
    with running(folder, _config(provider.port)) as server:
        pid = server.process.pid
        descriptors = Path(f"/proc/{pid}/fd")
        for round_ in range(2):  # the first one fills caches and pools
            until = time.monotonic() + seconds / 2
            callers = [Caller(server, result, seed + 100 * round_ + i) for i in range(CALLERS)]
            await asyncio.gather(*(caller.run(until) for caller in callers))
            left = await _gone(server)
            if left:
                result.findings.append(f"{left:g} sessions are still open")
            if round_ == 0:
                before = rss_mb(pid), len(os.listdir(descriptors))
        after = rss_mb(pid), len(os.listdir(descriptors))
        result.rss_mb = before[0], after[0]
        result.descriptors = before[1], after[1]
        if after[0] - before[0] > RSS_MB_MAX:
            result.findings.append(f"memory grew from {before[0]:.0f} to {after[0]:.0f} MB")
        if after[1] - before[1] > DESCRIPTORS_MAX:
            result.findings.append(f"descriptors grew from {before[1]} to {after[1]}")
        log = server.log
    await provider.stop()
    told = log.read_text(errors="replace")
    if "key-of-this-vendor" in told:
        result.findings.append("a provider's key stands in the log")
    at = told.find("Traceback")
    if at >= 0:
        result.findings.append(f"a traceback in the log: {told[at : at + 3000]}")
    return result


def fuzz(seconds: float, seed: int) -> Result:
    """Feed a server of its own for so long. Linux alone: it looks into /proc."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_fuzz(seconds, seed, Path(folder)))
