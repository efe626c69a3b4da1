"""`gateway bench`: what this installation adds, what a core of it carries, and how fast the
providers are. Starts a server of its own on the loopback interface; one that runs is left alone."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import secrets
import struct
import sys
import tempfile
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import yaml
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.cli.bench_floor import (
    AT_ONCE,
    FRAME_S,
    FRAMES_A_RESULT,
    PACED,
    PIECE_S,
    RATE,
    TOKENS_A_S,
    VOICE_RATE,
)
from gateway.cli.bench_server import BenchError, Running, providers, server
from gateway.config import Config, load

EXIT_DONE, EXIT_FAILED = 0, 1

ANSWER_S: Final = 20.0
"""How long one answer may take."""

SECONDS_MIN: Final = 4.0
"""With less there are too few answers to speak of a p99."""

ANSWERS_MIN: Final = 10
"""Of each, however slow they are."""

EARS: Final = 8
"""Sessions of /stt that are asked by turns: each hears in real time, since audio that comes faster
is held back from providers."""

SESSIONS: Final = 20
"""So many are open at once where it is measured what a core carries."""

ROUTES: Final = ("chat", "stt", "tts", "bargein")

IDLE_SHARE, ADDED_SHARE, CARRIES_SHARE = 0.04, 0.09, 0.13
"""Of the seconds: to see what an idle server costs, and for each route."""

TURN_S: Final = 2.0
"""So much is heard on /eot before the first question."""

WINDOW_S: Final = 3.0
WINDOW_STEP_S: Final = 0.1

_KEY: Final = "APIbench"


@dataclass(frozen=True, slots=True)
class Added:
    """What a route adds. Times in seconds: from the caller's request to `what`, of `answers` each
    way, one at a time and in turn."""

    route: str
    what: str
    answers: int
    floor_p50_s: float
    floor_p99_s: float
    through_p50_s: float
    through_p99_s: float

    @property
    def added_p50_s(self) -> float:
        return self.through_p50_s - self.floor_p50_s

    @property
    def added_p99_s(self) -> float:
        return self.through_p99_s - self.floor_p99_s


@dataclass(frozen=True, slots=True)
class Carries:
    """What a core carries of a route. `cpu_s`: CPU seconds of the server for a second of a
    session, None where this system does not tell; `sessions` were open at once for `seconds`."""

    route: str
    a_session: str
    sessions: int
    seconds: float
    cpu_s: float | None

    @property
    def a_core(self) -> int | None:
        """Sessions that use up one core."""
        return int(1 / self.cpu_s) if self.cpu_s else None


@dataclass(frozen=True, slots=True)
class Model:
    """The interruption model, bare: CPU seconds for WINDOW_STEP_S of new audio, with its state
    carried, and for a whole window."""

    name: str
    version: str
    step_p50_s: float
    step_p99_s: float
    window_p50_s: float


@dataclass(slots=True)
class Results:
    """All of it."""

    added: list[Added] = field(default_factory=list)
    carries: list[Carries] = field(default_factory=list)
    model: Model | None = None
    ready_s: float = 0.0
    """From the start of a server to its readiness."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of at least one are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def measured_config(config: Config, address: str, folder: Path) -> Config:
    """The configuration of the measured server: the installation's own options of /bargein, /eot
    and the log, and the bench's providers at `address`. What it keeps lies in `folder`."""
    speech = {"type": "deepgram", "api_key": "bench"}
    file = folder / "bench.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "keys": {_KEY: secrets.token_urlsafe(32)},
                "server": {"drain_delay_s": 0, "shutdown_grace_s": 1},
                "usage": {"enabled": False, "spill": str(folder / "spill")},
                "local_stand_in": False,
                "stt": {"local_last": False},
                "providers": {
                    "talk": {
                        "type": "openai-compatible",
                        "api_key": "bench",
                        "base_url": f"http://{address}/v1",
                    },
                    "each": speech | {"base_url": f"http://{address}/each"},
                    "paced": speech | {"base_url": f"http://{address}/paced"},
                    "voice": {
                        "type": "cartesia",
                        "api_key": "bench",
                        "base_url": f"http://{address}",
                    },
                },
                "models": {
                    "bench/chat": [{"provider": "talk", "model": AT_ONCE}],
                    "bench/chat-paced": [{"provider": "talk", "model": PACED}],
                    "bench/stt": [{"provider": "each", "model": "nova-3"}],
                    "bench/stt-paced": [{"provider": "paced", "model": "nova-3"}],
                    "bench/tts": [{"provider": "voice", "model": AT_ONCE}],
                    "bench/tts-paced": [{"provider": "voice", "model": PACED}],
                },
            }
        )
    )
    measured = load(file, {})  # and no provider of the environment's
    return measured.model_copy(
        update={"log": config.log, "bargein": config.bargein, "eot": config.eot}
    )


# -- callers: one question at a time


Ask = Callable[[], Awaitable[float]]
"""Asks once: seconds to the answer."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Those who ask the server, and the same of its providers."""

    http: aiohttp.ClientSession
    server: Running
    address: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.server.token}"}

    def socket(self, path: str) -> Any:
        """A WebSocket of the server."""
        return self.http.ws_connect(
            f"{self.server.url}{path}", headers=self.headers, max_msg_size=0
        )

    def provider(self, path: str) -> Any:
        """One of a provider."""
        return self.http.ws_connect(f"http://{self.address}{path}", max_msg_size=0)

    # chat

    async def reply(self, url: str, model: str) -> float:
        """Seconds to the first token of a reply, which is read to its end."""
        body = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": "Tell me about the weather in Oslo."}],
        }
        began, first = time.perf_counter(), 0.0
        async with self.http.post(
            f"{url}/v1/chat/completions", json=body, headers=self.headers
        ) as reply:
            async for piece in reply.content.iter_any():
                if not first and b'"content":' in piece:
                    first = time.perf_counter() - began
        if not first:
            raise BenchError(f"chat: no reply (status {reply.status})")
        return first

    @asynccontextmanager
    async def chat(self, *, through: bool) -> AsyncIterator[Ask]:
        url, model = (
            (self.server.url, "bench/chat") if through else (f"http://{self.address}", AT_ONCE)
        )
        yield lambda: self.reply(url, model)

    # stt

    @asynccontextmanager
    async def stt(self, *, through: bool) -> AsyncIterator[Ask]:
        path = "/stt" if through else "/each/v1/listen"
        async with AsyncExitStack() as stack:
            sockets: list[Any] = []
            for _ in range(EARS):
                open_ = self.socket if through else self.provider
                sockets.append(await stack.enter_async_context(open_(path)))
                if through:
                    await _create_stt(sockets[-1], "bench/stt")
            asked = 0
            due = [0.0] * EARS

            async def ask() -> float:
                nonlocal asked
                turn, number = asked % EARS, asked // EARS + 1
                asked += 1
                await asyncio.sleep(max(0.0, due[turn] - time.perf_counter()))
                began = time.perf_counter()
                due[turn] = began + FRAME_S
                await (_send_frame(sockets[turn]) if through else sockets[turn].send_bytes(_FRAME))
                await _until(sockets[turn], f'word{number}"')
                return time.perf_counter() - began

            yield ask

    # tts

    @asynccontextmanager
    async def tts(self, *, through: bool) -> AsyncIterator[Ask]:
        path = "/tts" if through else "/tts/websocket"
        async with (self.socket if through else self.provider)(path) as socket:
            if through:
                await _create_tts(socket, "bench/tts")
                yield lambda: _say(socket)
            else:
                yield lambda: _say_bare(socket)

    # bargein

    @asynccontextmanager
    async def bargein(self) -> AsyncIterator[Ask]:
        async with self.socket("/bargein") as socket:
            await _create_bargein(socket)
            windows = _windows()
            number = 0

            async def ask() -> float:
                nonlocal number
                number += 1
                window = next(windows)
                began = time.perf_counter()
                await socket.send_bytes(struct.pack("<Q", number) + window)
                await _until(socket, f'"created_at":{number},')
                return time.perf_counter() - began

            yield ask


_FRAME: Final = (3000 * np.sin(0.2 * np.arange(int(RATE * FRAME_S)))).astype("<i2").tobytes()
_FRAME_MESSAGE: Final = json.dumps(
    {"type": "input_audio", "audio": base64.b64encode(_FRAME).decode()}
)


async def _until(socket: Any, text: str) -> str:
    """The next message with this in it. Raises BenchError for an error, or the end."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise BenchError(f"the connection was closed ({socket.close_code})")
            told: str = message.data
            if text in told:
                return told
            if '"type":"error"' in told.replace(" ", ""):
                raise BenchError(f"refused: {json.loads(told).get('message')}")


async def _create_stt(socket: Any, model: str) -> None:
    settings = {"sample_rate": str(RATE), "encoding": "pcm_s16le"}
    await socket.send_json({"type": "session.create", "model": model, "settings": settings})
    await _until(socket, "session.created")


def _send_frame(socket: Any) -> Awaitable[None]:
    sent: Awaitable[None] = socket.send_str(_FRAME_MESSAGE)
    return sent


async def _create_tts(socket: Any, model: str) -> None:
    create = {"type": "session.create", "sample_rate": str(VOICE_RATE), "encoding": "pcm_s16le"}
    await socket.send_json(create | {"model": model, "voice": "v", "extra": {}})
    await _until(socket, "session.created")


async def _say(socket: Any) -> float:
    """Seconds to the first audio of an utterance, which is heard to its end."""
    began = time.perf_counter()
    await socket.send_json({"type": "input_transcript", "transcript": "One sentence. "})
    await socket.send_json({"type": "session.flush"})
    await _until(socket, '"output_audio"')
    first = time.perf_counter() - began
    await _until(socket, '"done"')
    return first


async def _say_bare(socket: Any) -> float:
    """The same as the gateway asks it of a provider."""
    began = time.perf_counter()
    asked = {"context_id": secrets.token_hex(4), "model_id": AT_ONCE, "continue": True}
    await socket.send_json(asked | {"transcript": "One sentence. "})
    await socket.send_json(asked | {"transcript": "", "continue": False})
    await _until(socket, '"chunk"')
    first = time.perf_counter() - began
    await _until(socket, '"type": "done"')
    return first


async def _create_bargein(socket: Any) -> None:
    settings = {"sample_rate": RATE, "num_channels": 1, "encoding": "s16le"}
    await socket.send_json({"type": "session.create", "settings": settings})
    await _until(socket, "session.created")


def _windows() -> Iterator[bytes]:
    """Windows as a client sends them, for ever: they grow to WINDOW_S, then slide."""
    noise = np.random.default_rng(5).normal(0, 3000, int(RATE * 30)).astype("<i2").tobytes()
    step, longest = (2 * int(RATE * one) for one in (WINDOW_STEP_S, WINDOW_S))
    while True:
        for end in range(12 * step, len(noise), step):
            yield noise[max(0, end - longest) : end]


async def in_turn(
    floor_ask: Ask, through_ask: Ask, seconds: float
) -> tuple[list[float], list[float]]:
    """What both take, asked by turns for so long; the first ones do not count: they connect."""
    took: tuple[list[float], list[float]] = ([], [])
    for ask in (floor_ask, through_ask) * EARS:
        await ask()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(took[1]) < ANSWERS_MIN:
        for times, ask in zip(took, (floor_ask, through_ask), strict=True):
            times.append(await ask())
    return took


# -- load: many sessions as callers have them


Session = Callable[[Callers, float], Coroutine[Any, Any, None]]
"""One session, until the time of `time.perf_counter` that it is given."""


async def _chat_session(callers: Callers, ends: float) -> None:
    while time.perf_counter() < ends:
        await callers.reply(callers.server.url, "bench/chat-paced")


async def _stt_session(callers: Callers, ends: float) -> None:
    async with callers.socket("/stt") as socket:
        await _create_stt(socket, "bench/stt-paced")
        reading = asyncio.create_task(_read_all(socket))
        await _in_time(ends, FRAME_S, lambda: _send_frame(socket))
        reading.cancel()


async def _tts_session(callers: Callers, ends: float) -> None:
    async with callers.socket("/tts") as socket:
        await _create_tts(socket, "bench/tts-paced")
        while time.perf_counter() < ends:
            await _say(socket)


async def _bargein_session(callers: Callers, ends: float) -> None:
    async with callers.socket("/bargein") as socket:
        await _create_bargein(socket)
        windows = _windows()
        reading = asyncio.create_task(_read_all(socket))
        number = 0

        def send() -> Awaitable[None]:
            nonlocal number
            number += 1
            sent: Awaitable[None] = socket.send_bytes(struct.pack("<Q", number) + next(windows))
            return sent

        await _in_time(ends, WINDOW_STEP_S, send)
        reading.cancel()


async def _read_all(socket: Any) -> None:
    async for _ in socket:
        pass


async def _in_time(ends: float, every_s: float, send: Callable[[], Awaitable[None]]) -> None:
    # each at its own moment: a crowd that speaks at once is no crowd of callers
    due = time.perf_counter() + every_s * secrets.randbelow(1000) / 1000
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await send()
        due += every_s


_SESSIONS: Final[Mapping[str, tuple[str, Session]]] = {
    "chat": (f"a reply under way, {TOKENS_A_S} tokens a second", _chat_session),
    "stt": (
        f"a caller who speaks, {1 / FRAME_S:.0f} frames and "
        f"{1 / FRAME_S / FRAMES_A_RESULT:.0f} results a second",
        _stt_session,
    ),
    "tts": (f"a voice that speaks, {1 / PIECE_S:.0f} pieces a second", _tts_session),
    "bargein": (
        f"a caller who talks over the agent, {1 / WINDOW_STEP_S:.0f} windows a second",
        _bargein_session,
    ),
}


async def crowd(callers: Callers, route: str, seconds: float, idle: float) -> Carries:
    """SESSIONS of a route for so long. `idle`: CPU seconds a second of the server without any."""
    a_session, session = _SESSIONS[route]
    began, ends = time.perf_counter(), time.perf_counter() + seconds
    before = callers.server.cpu_s()
    async with asyncio.TaskGroup() as group:
        for _ in range(SESSIONS):
            group.create_task(session(callers, ends))
    took, after = time.perf_counter() - began, callers.server.cpu_s()
    if before is None or after is None:
        return Carries(route, a_session, SESSIONS, took, None)
    used = max(1e-9, (after - before) / took - idle)
    return Carries(route, a_session, SESSIONS, took, used / SESSIONS)


# -- the interruption model


def model_times(config: Config, seconds: float) -> tuple[Model, list[float]]:
    """The model alone, in this process, with the options of the configuration; and the times of
    the steps."""
    from gateway.engines.interruption.engine import load_model

    model = load_model(config.bargein)
    windows = _windows()
    blank = model.blank_state()[None]
    step = int(RATE * WINDOW_STEP_S)
    state = blank
    steps: list[float] = []
    whole: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or not whole:
        samples = np.frombuffer(next(windows), "<i2")[None]
        for kept, heard, start in ((steps, samples[:, -step:], state), (whole, samples, blank)):
            began = time.perf_counter()
            _, after = model.run(heard, start)
            kept.append(time.perf_counter() - began)
            if kept is steps:
                state = after
    card = model.card
    return (
        Model(
            card.name,
            card.version,
            percentile(steps, 0.5),
            percentile(steps, 0.99),
            percentile(whole, 0.5),
        ),
        steps,
    )


# -- end of turn


async def eot_times(callers: Callers, seconds: float) -> tuple[list[float], list[float]] | None:
    """How long the model took by what the server says, and how long its answers took; None where
    no end-of-turn model is served."""
    try:
        socket = await callers.socket("/eot")
    except aiohttp.WSServerHandshakeError:
        return None
    model: list[float] = []
    answers: list[float] = []
    async with socket:
        settings = pb.SessionSettings(sample_rate=RATE)
        await _say_eot(socket, session_create=pb.SessionCreate(settings=settings))
        await _hear_eot(socket)
        for _ in range(round(TURN_S / FRAME_S)):
            await _say_eot(socket, input_audio=_eot_frame())
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends or len(answers) < ANSWERS_MIN:
            await _say_eot(socket, input_audio=_eot_frame())
            began = time.perf_counter()
            asked = pb.InferenceStart(request_id=str(len(answers)))
            await _say_eot(socket, inference_start=asked)
            told = await _hear_eot(socket)
            answers.append(time.perf_counter() - began)
            took = told.eot_prediction.inference_stats.inference_duration
            model.append(took.ToNanoseconds() / 1e9)
    return model, answers


def _eot_frame() -> pb.InputAudio:
    audio = pb.InputAudio(audio=_FRAME, num_samples=len(_FRAME) // 2)
    audio.created_at.GetCurrentTime()
    return audio


async def _say_eot(socket: Any, **said: Any) -> None:
    message = pb.ClientMessage(**said)
    message.created_at.GetCurrentTime()
    await socket.send_bytes(message.SerializeToString())


async def _hear_eot(socket: Any) -> pb.ServerMessage:
    """The next message. Raises BenchError for an error, or the end."""
    async with asyncio.timeout(ANSWER_S):
        message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise BenchError(f"the connection was closed ({socket.close_code})")
    told = pb.ServerMessage.FromString(message.data)
    if told.WhichOneof("message") == "error":
        raise BenchError(f"refused: {told.error.message}")
    return told


# -- all of it


_WHAT: Final = {"chat": "first token", "stt": "words", "tts": "first audio"}


async def measure(callers: Callers, config: Config, seconds: float) -> Results:
    """What the server adds and carries, in about `seconds`."""
    results = Results()
    for route in ("chat", "stt", "tts"):
        way = getattr(callers, route)
        async with way(through=False) as bare, way(through=True) as through:
            times = await in_turn(bare, through, ADDED_SHARE * seconds)
        results.added.append(_added(route, _WHAT[route], *times))
    results.model, steps = model_times(config, ADDED_SHARE * seconds / 2)
    async with callers.bargein() as through:
        _, windows = await in_turn(through, through, ADDED_SHARE * seconds / 2)
    results.added.append(_added("bargein", "answer", steps, windows))
    if (questions := await eot_times(callers, ADDED_SHARE * seconds)) is not None:
        results.added.append(_added("eot", "answer", *questions))

    before, began = callers.server.cpu_s(), time.perf_counter()
    await asyncio.sleep(IDLE_SHARE * seconds)
    after = callers.server.cpu_s()
    idle = 0.0
    if before is not None and after is not None:
        idle = (after - before) / (time.perf_counter() - began)
    for route in ROUTES:
        results.carries.append(await crowd(callers, route, CARRIES_SHARE * seconds, idle))
    return results


def _added(route: str, what: str, bare: Sequence[float], through: Sequence[float]) -> Added:
    return Added(
        route,
        what,
        min(len(bare), len(through)),
        percentile(bare, 0.5),
        percentile(bare, 0.99),
        percentile(through, 0.5),
        percentile(through, 0.99),
    )


async def bench(config: Config, seconds: float) -> Results:
    """Start everything, measure, stop everything. Raises BenchError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-bench-")))
        address = stack.enter_context(providers())
        began = time.perf_counter()
        running = stack.enter_context(
            server(measured_config(config, address, folder), folder, "bench")
        )
        ready_s = time.perf_counter() - began
        with told_apart():
            async with asking() as http:
                results = await measure(Callers(http, running, address), config, seconds)
        results.ready_s = ready_s
        return results


def asking() -> aiohttp.ClientSession:
    """Where the callers ask."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=ANSWER_S),
        trust_env=False,
    )


@contextmanager
def told_apart() -> Iterator[None]:
    """What goes wrong while it is measured, as a BenchError."""
    try:
        yield
    except (ExceptionGroup, *_WRONG) as error:
        errors = list(leaves(error))
        if not all(isinstance(one, _WRONG) for one in errors):
            raise
        said = "; ".join(dict.fromkeys(str(one) or type(one).__name__ for one in errors))
        raise BenchError(f"it could not be measured: {said}") from error


_WRONG: Final = (BenchError, aiohttp.ClientError, TimeoutError, OSError)


def leaves(error: Exception) -> Iterator[Exception]:
    """The errors of a group and of those in it; else the error itself."""
    if isinstance(error, ExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def as_json(results: Results) -> dict[str, Any]:
    """All of it; times in seconds."""
    return {
        "ready_s": results.ready_s,
        "added": [
            asdict(one) | {"added_p50_s": one.added_p50_s, "added_p99_s": one.added_p99_s}
            for one in results.added
        ],
        "carries": [asdict(one) | {"a_core": one.a_core} for one in results.carries],
        "model": None if results.model is None else asdict(results.model),
    }


def as_text(results: Results) -> str:
    """The tables for people."""
    added = [
        (
            one.route,
            one.what,
            f"{one.answers}",
            *(
                _ms(value)
                for value in (
                    one.floor_p50_s,
                    one.floor_p99_s,
                    one.through_p50_s,
                    one.through_p99_s,
                    one.added_p50_s,
                    one.added_p99_s,
                )
            ),
        )
        for one in results.added
    ]
    carries = [
        (
            one.route,
            "-" if one.a_core is None else f"{one.a_core:,}",
            "-" if one.cpu_s is None else f"{1000 * one.cpu_s:.2f}",
            one.a_session,
        )
        for one in results.carries
    ]
    lines = [
        "Added latency in ms: one caller at a time, asked by turns of the server and of the bare",
        "providers behind it (bargein, eot: of the model alone)",
        *table(
            ("route", "to", "n", "floor p50", "p99", "here p50", "p99", "added p50", "p99"), added
        ),
        "",
        "What one core carries: 1 / CPU seconds of the server for a second of a session, with",
        f"{SESSIONS} open at once; plan for half of it",
        *table(("route", "sessions", "CPU ms/s", "a session is"), carries),
    ]
    if (model := results.model) is not None:
        lines += [
            "",
            f"Interruption model {model.name} {model.version}: {_ms(model.step_p50_s)} ms for "
            f"{1000 * WINDOW_STEP_S:.0f} ms of new audio (p99 {_ms(model.step_p99_s)}), "
            f"{_ms(model.window_p50_s)} ms for a whole window of {WINDOW_S:g} s",
        ]
    lines.append(f"A server is ready {results.ready_s:.1f} s after its start")
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names of columns and rows: text to the left, numbers to the right."""
    cells = [tuple(columns), *rows]
    wide = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, wide, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _is_number(text: str) -> bool:
    return not text.strip("-0123456789.,")


def run(args: argparse.Namespace) -> int:
    """The command; its exit status. Raises ConfigError."""
    config = load(args.config, dev=True)
    try:
        if args.providers:
            return _providers(config, args)
        results = asyncio.run(bench(config, max(SECONDS_MIN, args.seconds)))
    except BenchError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(as_json(results), indent=2) if args.json else as_text(results))
    return EXIT_DONE


def _providers(config: Config, args: argparse.Namespace) -> int:
    """The providers side by side, if that is agreed to. Raises BenchError."""
    from gateway.cli import bench_providers as side_by_side

    speech = None if args.speech is None else side_by_side.speech_of(args.speech)
    speech_s = side_by_side.SPEECH_S_MAX if speech is None else len(speech) / 2 / RATE
    chosen = side_by_side.targets(config)
    if not chosen:
        print("no provider is configured", file=sys.stderr)
        return EXIT_FAILED
    costs = side_by_side.bill(config, chosen, speech_s)
    print(side_by_side.told(chosen, costs, speech_s), file=sys.stderr)
    if not args.yes and not _agreed():
        print("nothing was asked (--yes goes on without a question)", file=sys.stderr)
        return EXIT_FAILED
    tried = asyncio.run(side_by_side.try_all(config, chosen, speech))
    if args.json:
        print(json.dumps(side_by_side.as_json(tried, costs), indent=2))
    else:
        columns = ("", "provider", "model", "to", "best ms", "median", "worst", "")
        print("\n".join(table(columns, side_by_side.rows(tried))))
    return EXIT_DONE if any(one.first_s for one in tried) else EXIT_FAILED


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    print("go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
