"""The route: a session, its client and its providers, over connections that are values."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.conversations.tts.actions import Action, SendToClient
from gateway.conversations.tts.route import (
    EVENTS_MAX,
    PREPARATIONS_MAX,
    TtsConversation,
    TtsRoute,
)
from gateway.routing.breaker import Breaker
from gateway.routing.catalogue import Catalogue
from gateway.runtime.connector import SocketSink
from gateway.runtime.loop import Performed
from gateway.server.admission import Admission, SessionLimiter
from gateway.server.auth import Authenticator, mint
from gateway.server.host import SocketHost
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.prices import Prices
from gateway.upstreams.adapters import Adapters
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import ConnectionFailed, SocketEvent, SocketFrame
from gateway.upstreams.tts import SpeechRequest

SECRET = "s" * 32
PCM = bytes(range(256)) * 9
BROKEN = Failure(Kind.CONNECTION_LOST, "broke off")


class Socket:
    """A provider with Cartesia's protocol: what it was told, and what it is made to say."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.said: asyncio.Queue[SocketEvent] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def send(self, frame: str | bytes) -> None:
        self.told.put_nowait(json.loads(frame))

    async def listen(self, attempt: int, sink: SocketSink) -> None:
        while True:
            full = sink((await self.said.get())._replace(attempt=attempt))
            if full is not None:
                await full

    async def close(self) -> None:
        self.closed.set()

    def abort(self) -> None: ...

    def say(self, context: str, count: int = 1) -> None:
        data = base64.b64encode(PCM).decode()
        chunk = json.dumps({"type": "chunk", "context_id": context, "data": data})
        for _ in range(count):
            self.said.put_nowait(SocketFrame(0, chunk))

    def done(self, context: str) -> None:
        self.said.put_nowait(SocketFrame(0, json.dumps({"type": "done", "context_id": context})))

    async def asked(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.told.get(), 60)


class Connector:
    """Opens sockets."""

    def __init__(self) -> None:
        self.sockets: list[Socket] = []

    async def websocket(
        self, dial: Dial, open_timeout_s: float, message_bytes_max: int = 0
    ) -> Socket:
        self.sockets.append(Socket())
        return self.sockets[-1]


class Client:
    """The client's end of the WebSocket. While `reads` is not set, a send to it waits."""

    def __init__(self, host: SocketHost) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        token = mint("key", SECRET, identity="agent", ttl_s=600)
        scope = {
            "type": "websocket",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
            "query_string": b"model=both",
        }
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(host(scope, self._incoming.get, self._send))

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.reads.wait()
        self._outgoing.put_nowait(dict(message))

    def say(self, message: dict[str, Any]) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def text(self, text: str) -> None:
        self.say({"type": "input_transcript", "transcript": text})

    def flush(self) -> None:
        self.say({"type": "session.flush"})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def next(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self._outgoing.get(), 60)
        told: dict[str, Any] = json.loads(message["text"]) if "text" in message else message
        return told

    async def created(self) -> None:
        assert (await self.next())["type"] == "websocket.accept"
        self.say({"type": "session.create", "model": "both", "sample_rate": "24000"})
        assert (await self.next())["type"] == "session.created"

    async def audio(self) -> bytes:
        """Of one utterance, to its `done`."""
        pcm = b""
        while (message := await self.next())["type"] != "done":
            pcm += base64.b64decode(message.get("audio", ""))
        return pcm


class Setup:
    def __init__(self, tmp_path: Path, tts: str) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"keys: {{key: {SECRET}}}\n"
            "providers: {one: {type: cartesia, api_key: k}}\n"
            "models: {both: [{provider: one, model: m}]}\n"
            f"tts: {tts}\n"
        )
        config = load(path, {})
        self.metrics, self.connector = Metrics(), Connector()
        admission = Admission(
            Authenticator({"key": SECRET}), SessionLimiter(config.limits), self.metrics
        )
        accounts = config.accounts()
        catalogue = Catalogue(config.models, accounts, "tts")
        self.route = TtsRoute(
            config.tts,
            catalogue,
            Adapters(accounts),
            Breaker(catalogue.deployments()),
            self.connector,  # type: ignore[arg-type]
            Prices(config.prices),
            self.metrics,
            config.limits.session_idle_s,
        )
        self.host = SocketHost(self.route, admission, config.limits)
        self.clients: list[Client] = []

    async def client(self) -> Client:
        self.clients.append(Client(self.host))
        await self.clients[-1].created()
        return self.clients[-1]

    def tried(self, outcome: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "parley_upstream_attempts_total",
            {"route": "tts", "provider": "one", "outcome": outcome},
        )
        return value or 0.0


Make = Callable[..., Setup]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Setup] = []

    def setup(tts: str = "{}") -> Setup:
        made.append(Setup(tmp_path, tts))
        return made[-1]

    yield setup
    for one in made:
        for client in one.clients:
            client.reads.set()
            client.leave()
            await asyncio.wait_for(client.task, 60)
        await one.route.close()


async def test_utterances_are_spoken_over_one_socket_that_was_open_before_the_text(
    make: Make,
) -> None:
    setup = make()
    client = await setup.client()
    for _ in range(2):
        client.text("Hello. ")
        client.flush()
        (socket,) = setup.connector.sockets
        context = (await socket.asked())["context_id"]
        assert (await socket.asked())["continue"] is False
        socket.say(context)
        socket.done(context)
        assert await client.audio() == PCM
    assert setup.tried("ok") == 2


async def test_a_session_that_names_many_voices_is_connected_ahead_for_a_few(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make()
    voices: list[str | None] = []
    reserve = setup.route.reserve

    def noted(provider: str, request: SpeechRequest) -> Callable[[], None] | None:
        voices.append(request.voice)
        return reserve(provider, request)

    monkeypatch.setattr(setup.route, "reserve", noted)
    client = await setup.client()
    for i in range(3 * PREPARATIONS_MAX):
        for _ in range(2):  # the same once more is no other voice
            create = {"model": "both", "sample_rate": "24000", "voice": f"v{i}"}
            client.say({"type": "session.create", **create})
            assert (await client.next())["type"] == "session.created"
    assert len(set(voices)) == PREPARATIONS_MAX


async def test_a_client_that_leaves_has_its_synthesis_cancelled(make: Make) -> None:
    setup = make()
    client = await setup.client()
    client.text("Hello. ")
    (socket,) = setup.connector.sockets
    await socket.asked()
    client.leave()
    assert (await socket.asked())["cancel"] is True
    await asyncio.wait_for(client.task, 60)
    assert not socket.closed.is_set()


async def test_a_session_that_is_cancelled_before_it_has_said_something_leaves_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, perform = make(), TtsConversation.perform

    def cancelled(self: TtsConversation, action: Action) -> Performed:
        if isinstance(action, SendToClient) and "error" in action.text:
            client.task.cancel()
        return perform(self, action)

    monkeypatch.setattr(TtsConversation, "perform", cancelled)
    client = await setup.client()
    client.say({"type": "nonsense"})
    with pytest.raises(asyncio.CancelledError):
        await client.task
    setup.clients.remove(client)
    gc.collect()  # a coroutine that nobody awaited would warn here


async def test_a_socket_is_read_no_faster_than_its_client_reads(make: Make) -> None:
    setup = make()
    client = await setup.client()
    client.text("Hello. ")
    (socket,) = setup.connector.sockets
    context = (await socket.asked())["context_id"]
    client.reads.clear()
    count = 10 * EVENTS_MAX
    socket.say(context, count)
    unread = -1
    while unread != socket.said.qsize():
        unread = socket.said.qsize()
        for _ in range(10):
            await asyncio.sleep(0)
    assert unread > 8 * EVENTS_MAX
    client.reads.set()
    client.flush()
    socket.done(context)
    assert await client.audio() == PCM * count


async def test_a_dead_socket_is_replaced_and_the_try_is_counted(make: Make) -> None:
    setup = make()
    client = await setup.client()
    client.text("Hello. ")
    client.flush()
    (socket,) = setup.connector.sockets
    context = (await socket.asked())["context_id"]
    socket.say(context)
    socket.done(context)
    await client.audio()
    client.text("Again. ")
    client.flush()
    while (await socket.asked())["context_id"] == context:
        pass
    socket.said.put_nowait(ConnectionFailed(0, BROKEN))
    while len(setup.connector.sockets) < 2:
        await asyncio.sleep(0)
    fresh = setup.connector.sockets[1]
    asked = await fresh.asked()
    assert asked["transcript"] == "Again. "
    fresh.say(asked["context_id"])
    fresh.done(asked["context_id"])
    assert await client.audio() == PCM
    assert setup.tried(Kind.CONNECTION_LOST.value) == 1
    assert setup.tried("ok") == 2


async def test_a_text_in_the_cache_needs_no_provider(make: Make, tmp_path: Path) -> None:
    setup = make(f'{{cache: {{enabled: true, directory: "{tmp_path / "clips"}"}}}}')
    for number in range(2):
        client = await setup.client()
        client.text("Hello. ")
        client.flush()
        if number == 0:
            (socket,) = setup.connector.sockets
            context = (await socket.asked())["context_id"]
            socket.say(context)
            socket.done(context)
        assert await client.audio() == PCM
    assert setup.tried("ok") == 1


async def test_without_a_token_there_is_no_session(make: Make) -> None:
    setup = make()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "headers": [], "query_string": b""}
    await setup.host(scope, asyncio.Queue().get, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 401
