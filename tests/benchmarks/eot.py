"""What an end-of-turn prediction costs over the real WebSocket, and how soon it is answered.

Sessions send audio all the time, 50 ms a message as the clients do, and ask once in PERIOD_S: a
user who talks pauses about so often. Questions of different sessions fall where they fall. The
gateway is pinned to one core, the callers to another. The floor is bare ONNX Runtime on the same
features, the file as it is published; then what Parley makes of it, in this process.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import struct
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import uvloop
from livekit.protocol.agent_pb import agent_inference as pb

from gateway.engines.onnx import open_session
from gateway.engines.turn_detection.model import Question, TurnModel
from gateway.server.auth import mint
from gateway.weights import fetch
from tests.benchmarks.bargein import KEY, SECRET, noise
from tests.benchmarks.tools import cpu_s, free_port, percentile, process, rss_mb, table

INPUT = "input_features"
FRAME_BYTES = 1600
FRAME_S = 0.05
PERIOD_S = 5.0
TURN_S = 4.0
"""After an answer the turn is flushed: so much is heard when the next question comes, about."""


class Caller:
    """One session over a plain socket: sends audio on time, asks, notes when answers come."""

    def __init__(self, audio: bytes, offset: int) -> None:
        self._audio = audio
        self._at = offset
        self.sent: dict[str, float] = {}
        self.delays: list[float] = []
        self.none = 0
        self.inference_s: list[float] = []

    async def connect(self, port: int, token: str) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        self._writer.write(
            f"GET /eot HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(head.decode())
        self._say(session_create=pb.SessionCreate(settings=pb.SessionSettings(sample_rate=16000)))
        await self._message()

    def _say(self, **said: object) -> None:
        message = pb.ClientMessage(**said)  # type: ignore[arg-type]
        message.created_at.GetCurrentTime()
        data = message.SerializeToString()
        if len(data) < 126:
            head = struct.pack(">BB4x", 0x82, 0x80 | len(data))
        else:
            head = struct.pack(">BBH4x", 0x82, 0xFE, len(data))
        self._writer.write(head + data)

    async def _message(self) -> pb.ServerMessage:
        _, length = await self._reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
        return pb.ServerMessage.FromString(await self._reader.readexactly(length))

    def hear(self) -> None:
        audio = pb.InputAudio(
            audio=self._audio[self._at : self._at + FRAME_BYTES], num_samples=FRAME_BYTES // 2
        )
        audio.created_at.GetCurrentTime()
        self._say(input_audio=audio)
        self._at = (self._at + FRAME_BYTES) % (len(self._audio) - FRAME_BYTES)

    def ask(self, number: int) -> None:
        self.sent[str(number)] = time.perf_counter()
        self._say(inference_start=pb.InferenceStart(request_id=str(number)))

    async def listen(self) -> None:
        while True:
            try:
                message = await self._message()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self.delays.append(time.perf_counter() - self.sent.pop(message.request_id))
            took = message.eot_prediction.inference_stats.inference_duration.ToNanoseconds()
            if took:
                self.inference_s.append(took / 1e9)
            else:
                self.none += 1
            self._say(session_flush=pb.SessionFlush())

    async def talk(self, seconds: float, ask: bool) -> None:
        phase = random.random()
        begin = time.perf_counter() + phase * FRAME_S
        listening = asyncio.create_task(self.listen())
        steps = round(PERIOD_S / FRAME_S)
        # the first questions are spread over the period as all later ones
        for i in range(-round(TURN_S / FRAME_S), round(seconds / FRAME_S)):
            due = begin + (i + TURN_S / FRAME_S) * FRAME_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.hear()
            if ask and i >= 0 and (i + round(phase * steps)) % steps == 0:
                self.ask(i)
        deadline = time.perf_counter() + 5
        while self.sent and time.perf_counter() < deadline:
            await asyncio.sleep(0.02)
        listening.cancel()
        self._writer.close()


async def load(port: int, sessions: int, seconds: float, audio: bytes, ask: bool) -> list[Caller]:
    """Run `sessions` callers side by side."""
    token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
    callers = [Caller(audio, 2 * 400 * (i * 37 % 200)) for i in range(sessions)]
    for caller in callers:
        await caller.connect(port, token)
    await asyncio.gather(*(caller.talk(seconds, ask) for caller in callers))
    return callers


def floor(path: Path, audio: bytes, times: int) -> list[tuple[object, ...]]:
    """CPU ms per prediction of bare ONNX Runtime."""
    model = TurnModel(path)
    samples = audio[: 2 * round(TURN_S * 16000)]
    features = model.prepared(samples)[None]
    bare = open_session(path, 1)
    rows: list[tuple[object, ...]] = []
    for name, count, run in (
        ("bare ONNX Runtime, features ready", 1, lambda: bare.run(None, {INPUT: features})),
        ("the graph as Parley runs it", 1, lambda: model._model.run(features)),
        ("that, 4 at once", 4, lambda: model._model.run(np.repeat(features, 4, 0))),
        ("that, with the features of 4 s", 1, lambda: model.run([Question(samples)])),
        ("features of 4 s alone", 1, lambda: model.prepared(samples)),
        ("features of 8 s alone", 1, lambda: model.prepared(audio)),
    ):
        run()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            run()
        used_ms = 1000 * (time.process_time() - cpu) / times / count
        rows.append((name, "", used_ms, 1000 * (time.perf_counter() - began) / times, *[""] * 5))
    return rows


def main(*, quick: bool = False) -> None:
    """Print the table."""
    audio = noise()
    seconds = 5.0 if quick else 15.0
    path = fetch.fetch("smart-turn") / fetch.WEIGHTS["smart-turn"].files[0].name
    rows = floor(path, audio, 10 if quick else 30)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        config = folder / "gateway.yaml"
        config.write_text(f"keys: {{{KEY}: {SECRET}}}\n")
        command = [
            sys.executable,
            "-m",
            "gateway",
            "serve",
            "--admin-port=0",
            "--config",
            str(config),
        ]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        ready = f"http://127.0.0.1:{port}/readyz"
        cores = os.sched_getaffinity(0)
        first, *others = sorted(cores)
        if others:
            os.sched_setaffinity(0, others)
        gateway = stack.enter_context(
            process(command, ready, core=first, log=folder / "gateway.log")
        )
        for sessions, ask in ((1, True), (50, False), (50, True), (200, False), (200, True)):
            before, began = cpu_s(gateway.pid), time.perf_counter()
            callers = uvloop.run(load(port, sessions, seconds, audio, ask))
            used, took = cpu_s(gateway.pid) - before, time.perf_counter() - began
            delays = [delay for caller in callers for delay in caller.delays]
            none = sum(caller.none for caller in callers)
            inference_s = [one for caller in callers for one in caller.inference_s]
            rows.append(
                (
                    "Parley" if ask else "Parley, audio only",
                    sessions,
                    1000 * used / len(delays) if delays else "",
                    1000 * percentile(delays, 0.5) if delays else "",
                    1000 * percentile(delays, 0.99) if delays else "",
                    1000 * percentile(inference_s, 0.5) if inference_s else "",
                    f"{100 * none / len(delays):.1f}" if delays else "",
                    f"{100 * used / took:.0f}",
                    f"{rss_mb(gateway.pid):.0f}",
                )
            )
            if sum(len(caller.sent) for caller in callers):
                raise RuntimeError("a question was not answered")
        os.sched_setaffinity(0, cores)
    table(
        f"eot: one question in {PERIOD_S:g} s and session, gateway on one core",
        (
            "server",
            "sessions",
            "CPU ms/prediction",
            "p50 ms",
            "p99 ms",
            "model p50 ms",
            "no prediction %",
            "core %",
            "RSS MB",
        ),
        rows,
    )


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
