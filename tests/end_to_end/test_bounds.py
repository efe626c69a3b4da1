"""Every bound that a caller can come to, driven once: it is refused clearly, and counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.audio.pcm import wav
from gateway.conversations.chat.responses_socket import WAITING_MAX
from gateway.conversations.messages import FALLBACKS_MAX
from gateway.conversations.stt.session import CREATE_S, SttSession
from gateway.conversations.stt.transcription_route import AT_ONCE
from gateway.server.auth import mint
from gateway.settings.stt import SttConfig
from gateway.upstreams.bounds import Bound
from gateway.upstreams.events import DEADLINE_PASSED
from tests.end_to_end.server import Server, running
from tests.end_to_end.stt_caller import converse
from tests.end_to_end.tts_wire import opened
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.lemonslice_avatar import KEY, FakeLemonSlice
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.tones import hush

PATIENCE_S = 60.0
POLL_S = 0.05
BODY_BYTES = 1_000_000
ADDRESS_MOST = 3
DESCRIPTORS = 160

LIMITS = {
    "usual": f"{{chat_body_bytes: {BODY_BYTES}, body_timeout_s: 1}}",
    "one": "{sessions: 1}",
    "one-each": "{sessions: 4, sessions_per_key: 1}",
    "few-connections": f"{{connections_per_address: {ADDRESS_MOST}}}",
    "short": "{session_s_max: 3}",
    "never-idle": "{session_idle_s: 1}",
    "few-descriptors": "{}",
}

Servers = dict[str, Server]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A server for each of LIMITS, with a chat provider that never stops, a voice, and a recogniser
    that never answers."""
    model = frame_model.write(tmp_path_factory.mktemp("model") / "m.onnx")
    with ExitStack() as stack:
        start = stack.enter_context
        llm, voice = start(FakeOpenAI(default="endless:0")), start(FakeCartesia())
        faces = start(FakeLemonSlice())
        silent = start(socket.create_server(("127.0.0.1", 0)))
        found = {}
        for name, limits in LIMITS.items():
            config = f"""
bargein: {{model: '{model}'}}
limits: {limits}
avatar: {{sessions_per_key: 1}}
stt: {{replay_s: 5, local_last: false, open_timeout_s: 8, retries: 0}}
providers:
  openai: {{base_url: '{llm.base_url}', api_key: k}}
  llm: {{type: openai-compatible, base_url: '{llm.base_url}', api_key: k}}
  cartesia: {{base_url: '{voice.url}', api_key: k}}
  lemonslice: {{base_url: '{faces.url}', api_key: {KEY}}}
  deepgram: {{base_url: 'http://127.0.0.1:{silent.getsockname()[1]}', api_key: k}}
models:
  chat: [{{provider: openai, model: gpt-4.1-mini}}]
  silent: [{{provider: llm, model: hang-before-first-token}}]
  voice: [{{provider: cartesia, model: sonic-3}}]
  ears: [{{provider: deepgram, model: nova-3}}]
"""
            prefix: tuple[str, ...] = ()
            if name == "few-descriptors":
                prefix = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
            found[name] = start(running(tmp_path_factory.mktemp(name), config, prefix=prefix))
        yield found


# -- clients


def _headers(server: Server) -> dict[str, str]:
    token = mint(server.api_key, server.api_secret, identity="test", ttl_s=600)
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def _raw(
    server: Server, data: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.close()


async def _status(server: Server, data: bytes) -> tuple[int, str]:
    """Status, and code of the error, of what is answered to `data`."""
    async with asyncio.timeout(PATIENCE_S), _raw(server, data) as (reader, _):
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        error = json.loads(body)["error"] if body.startswith(b"{") else {}
        return int(head.split()[1]), error.get("code", "")


async def _post(server: Server, path: str, **more: Any) -> tuple[int, str]:
    headers = _headers(server)
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as http,
        http.post(path, **more) as answer,
    ):
        told = await answer.json() if answer.status != 200 else {}
        return answer.status, told.get("error", {}).get("code", "")


def _socket(server: Server, path: str, **more: Any) -> connect:
    url = server.url.replace("http", "ws", 1) + path
    return connect(url, additional_headers=_headers(server), compression=None, **more)


async def _close_code(socket: ClientConnection) -> int:
    """With which the server closes; what it says before is read."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await socket.recv()
    return socket.close_code or 0


async def _until_open(server: Server, count: int, route: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            got = await asyncio.to_thread(server.metric, "parley_open_sessions", route=route)
            if got == count:
                return
            await asyncio.sleep(POLL_S)


CREATE = {"type": "session.create", "settings": {"sample_rate": 16000, "num_channels": 1}}
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
UNFINISHED = b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: 100\r\n\r\n{"


# -- each bound


async def sessions(servers: Servers) -> None:
    async with _socket(servers["one"], "/bargein"):
        assert await _post(servers["one"], "/chat/completions", json=HELLO) == (
            429, "too_many_sessions",
        )  # fmt: skip


async def sessions_per_key(servers: Servers) -> None:
    async with _socket(servers["one-each"], "/bargein"):
        told = await _post(servers["one-each"], "/chat/completions", json=HELLO)
    assert told == (429, "too_many_sessions")


async def sessions_anonymous(servers: Servers) -> None:
    server = servers["one-each"]
    async with _raw(server, UNFINISHED % (b"/eot/multi", b"")):
        await _until_open(server, 1, "eot_multi")
        told = await _status(server, UNFINISHED % (b"/eot/multi", b"connection: close\r\n"))
    assert told == (429, "too_many_sessions")


async def connections_per_address(servers: Servers) -> None:
    server = servers["few-connections"]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(ADDRESS_MOST):
            await stack.enter_async_context(_raw(server, b""))
        told = await _status(server, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert told == (429, "too_many_connections")


async def descriptors(servers: Servers) -> None:
    server = servers["few-descriptors"]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(DESCRIPTORS):
            await stack.enter_async_context(_raw(server, b""))
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(_reached, server, Bound.DESCRIPTORS):
                await asyncio.sleep(POLL_S)
        assert (await asyncio.to_thread(server.get, "/healthz"))[0] == 200, "the operator's port"


async def head_bytes(servers: Servers) -> None:
    lines = b"".join(b"x-%d: %b\r\n" % (i, b"a" * 4000) for i in range(40))
    told = await _status(servers["usual"], b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert told == (431, "too_large")


async def head_lines(servers: Servers) -> None:
    lines = b"".join(b"x-%d: a\r\n" % i for i in range(200))
    told = await _status(servers["usual"], b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert told == (431, "too_large")


async def head_time(servers: Servers) -> None:
    """Ten seconds: nothing else comes to it."""
    assert await _status(servers["usual"], b"GET / HTTP/1.1\r\nhost: x\r\n") == (408, "idle")


async def url_bytes(servers: Servers) -> None:
    data = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n" % (b"a" * 9000)
    assert await _status(servers["usual"], data) == (414, "too_large")


async def token_chars(servers: Servers) -> None:
    data = (
        b"POST /chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n"
        b"authorization: Bearer %b\r\n\r\n" % (b"a" * 5000)
    )
    assert await _status(servers["usual"], data) == (401, "unauthenticated")


async def body_bytes(servers: Servers) -> None:
    told = await _post(servers["usual"], "/chat/completions", data=b" " * (BODY_BYTES + 1))
    assert told == (413, "too_large")


async def body_time(servers: Servers) -> None:
    server = servers["usual"]
    token = f"authorization: {_headers(server)['Authorization']}\r\n".encode()
    assert await _status(server, UNFINISHED % (b"/chat/completions", token)) == (408, "idle")


async def json_values(servers: Servers) -> None:
    told = await _post(servers["usual"], "/chat/completions", json={**HELLO, "x": [0] * 60_000})
    assert told == (413, "too_large")


async def field_size(servers: Servers) -> None:
    many = {**HELLO, "fallback": ["chat"] * (FALLBACKS_MAX + 1)}
    assert await _post(servers["usual"], "/chat/completions", json=many) == (400, "bad_request")


async def recordings(servers: Servers) -> None:
    async def transcribe() -> tuple[int, str]:
        form = aiohttp.FormData({"model": "ears"})
        form.add_field("file", wav(hush(0.5), 16_000), filename="a.wav")
        return await _post(servers["usual"], "/audio/transcriptions", data=form)

    waiting = [asyncio.create_task(transcribe()) for _ in range(AT_ONCE + 1)]
    try:
        done, _ = await asyncio.wait(
            waiting, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        assert [one.result() for one in done] == [(503, "upstream_overloaded")]
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def avatars_per_key(servers: Servers) -> None:
    body = {
        "provider": "lemonslice",
        "livekit_url": "wss://x.livekit.cloud",
        "room_name": "room-1",
        "room_sid": "RM_1",
        "avatar_identity": "avatar",
        "agent_identity": "agent-1",
        "avatar_id": "agent_abc",
    }
    told = [await _post(servers["usual"], "/avatar/sessions", json=body) for _ in range(2)]
    assert told == [(200, ""), (429, "too_many_sessions")]


async def waiting_requests(servers: Servers) -> None:
    async with _socket(servers["usual"], "/responses?model=silent") as socket:
        for _ in range(WAITING_MAX + 2):
            await socket.send(json.dumps({"type": "response.create", "input": "hello"}))
        async with asyncio.timeout(PATIENCE_S):
            told = json.loads(await socket.recv())
            while told["type"] != "error":
                told = json.loads(await socket.recv())
        assert "wait on this connection already" in json.dumps(told)


async def message_bytes(servers: Servers) -> None:
    async with _socket(servers["usual"], "/bargein") as socket:
        await socket.send(bytes((1 << 20) + 1))
        assert await _close_code(socket) == 1009


async def message_fragments(servers: Servers) -> None:
    async with _socket(servers["usual"], "/bargein") as socket:
        with contextlib.suppress(ConnectionClosed):
            await socket.send([b"x"] * 2000)
        assert await _close_code(socket) == 1009


async def message_audio(servers: Servers) -> None:
    told = await _stt(servers, 6.0, frame_s=6.0)
    assert told["code"] == 413


async def _stt(servers: Servers, seconds: float, frame_s: float) -> dict[str, Any]:
    """The first message after the greeting."""
    import base64

    async with _socket(servers["usual"], "/stt") as socket:
        settings = {"sample_rate": "16000", "encoding": "pcm_s16le"}
        await socket.send(
            json.dumps({"type": "session.create", "model": "ears", "settings": settings})
        )
        frame = base64.b64encode(hush(frame_s)).decode()
        for _ in range(round(seconds / frame_s)):
            await socket.send(json.dumps({"type": "input_audio", "audio": frame}))
        created = json.loads(await socket.recv())
        assert created["type"] == "session.created", created
        told: dict[str, Any] = json.loads(await socket.recv())
        return told


async def create_time(servers: Servers) -> None:
    """Half a minute, which a session without a socket need not wait for."""
    session = SttSession(SttConfig(), lambda asked: (), {}, None, "s", 0.0)  # type: ignore[arg-type]
    session.handle(DEADLINE_PASSED, CREATE_S)
    assert session.report.failure is not None
    assert session.report.failure.bound is Bound.CREATE_TIME


async def session_idle(servers: Servers) -> None:
    async with _socket(servers["never-idle"], "/bargein") as socket:
        told = json.loads(await socket.recv())
        assert told["type"] == "error"
        assert "nothing was heard for 1 s" in told["message"]
        assert await _close_code(socket) == 1000


async def session_time(servers: Servers) -> None:
    async with opened(servers["short"], "voice") as client:
        assert await _close_code(client.socket) == 1012
        assert "limits.session_s_max" in (client.socket.close_reason or "")


async def audio_ahead(servers: Servers) -> None:
    """The client is slowed down, so it is told nothing."""
    with pytest.raises(TimeoutError):
        await converse(servers["usual"], hush(10.0), model="ears", speed=100.0, timeout_s=5.0)


async def utterance_chars(servers: Servers) -> None:
    async with opened(servers["usual"], "voice") as client:
        for _ in range(6):
            await client.send({"type": "input_transcript", "transcript": " " * 20_000})
        told = await client.receive()
        while told["type"] != "error":
            told = await client.receive()
        assert "more than 100000 characters" in told["message"]


async def bad_windows(servers: Servers) -> None:
    async with _socket(servers["usual"], "/bargein") as socket:
        await socket.send(json.dumps(CREATE))
        for _ in range(8):
            await socket.send(b"short")
        assert await _close_code(socket) == 1008


async def slow_reader(servers: Servers) -> None:
    """Five seconds: nothing else comes to it."""
    server = servers["usual"]
    body = json.dumps({**HELLO, "stream": True}).encode()
    head = (
        f"POST /chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        f"authorization: {_headers(server)['Authorization']}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 10)
    try:
        writer.write(head.encode() + body)
        assert b" 200 " in await reader.readline()
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(_reached, server, Bound.SLOW_READER):
                await asyncio.sleep(POLL_S)
    finally:
        writer.close()


DRIVERS: dict[Bound, Callable[[Servers], Awaitable[None]]] = {
    Bound.SESSIONS: sessions,
    Bound.SESSIONS_PER_KEY: sessions_per_key,
    Bound.SESSIONS_ANONYMOUS: sessions_anonymous,
    Bound.CONNECTIONS_PER_ADDRESS: connections_per_address,
    Bound.DESCRIPTORS: descriptors,
    Bound.HEAD_BYTES: head_bytes,
    Bound.HEAD_LINES: head_lines,
    Bound.HEAD_TIME: head_time,
    Bound.URL_BYTES: url_bytes,
    Bound.TOKEN_CHARS: token_chars,
    Bound.BODY_BYTES: body_bytes,
    Bound.BODY_TIME: body_time,
    Bound.JSON_VALUES: json_values,
    Bound.FIELD_SIZE: field_size,
    Bound.RECORDINGS: recordings,
    Bound.AVATARS_PER_KEY: avatars_per_key,
    Bound.WAITING_REQUESTS: waiting_requests,
    Bound.MESSAGE_BYTES: message_bytes,
    Bound.MESSAGE_FRAGMENTS: message_fragments,
    Bound.MESSAGE_AUDIO: message_audio,
    Bound.CREATE_TIME: create_time,
    Bound.SESSION_IDLE: session_idle,
    Bound.SESSION_TIME: session_time,
    Bound.AUDIO_AHEAD: audio_ahead,
    Bound.UTTERANCE_CHARS: utterance_chars,
    Bound.BAD_WINDOWS: bad_windows,
    Bound.SLOW_READER: slow_reader,
}

WITHOUT_A_SOCKET = {Bound.CREATE_TIME}


def _reached(server: Server, bound: Bound) -> float:
    return server.metric("parley_bound_reached_total", bound=bound.value)


def test_there_is_a_driver_for_every_bound() -> None:
    assert set(DRIVERS) == set(Bound)


def test_every_bound_is_counted_from_the_start(servers: Servers) -> None:
    told = servers["usual"].get("/metrics")[1]
    for bound in Bound:
        assert f'parley_bound_reached_total{{bound="{bound}"}}' in told


@pytest.mark.parametrize("bound", DRIVERS)
async def test_a_bound_is_told_clearly_and_counted(servers: Servers, bound: Bound) -> None:
    def count() -> float:
        return sum(_reached(server, bound) for server in servers.values())

    before = await asyncio.to_thread(count)
    await DRIVERS[bound](servers)
    if bound in WITHOUT_A_SOCKET:
        return
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(count) == before:
            await asyncio.sleep(POLL_S)
