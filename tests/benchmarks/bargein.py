"""What an interruption window costs over the real WebSocket, and how soon it is answered.

Sessions send 10 windows a second as the clients do (growing to 3 s, then sliding by 100 ms). The
gateway is pinned to one core, the callers to another. The floor is bare ONNX Runtime on the same
windows in this process: each window whole, and with state carried (100 ms of new audio).
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

from gateway.engines.interruption.engine import load_model
from gateway.server.auth import mint
from gateway.settings.bargein import BargeinConfig
from tests.benchmarks.tools import (
    cpu_s,
    free_port,
    other_model,
    percentile,
    process,
    rss_mb,
    table,
)

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
STEP, LONGEST, FIRST = 1600, 48000, 18624
PERIOD_S = 0.1
_TEXT = 1  # opcode of RFC 6455
_HEADER = struct.Struct(">BBQ4x")  # a masked binary frame of 64-bit length; a mask of 0 is no work
_AUDIO_S = 30


def noise() -> bytes:
    """Half a minute of speech-like noise as s16le: bursts, so that no window is like another."""
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 3000, 16000 * _AUDIO_S)
    envelope = np.repeat(rng.random(_AUDIO_S * 8), 2000)
    return (samples * envelope).astype("<i2").tobytes()


class Caller:
    """One session over a plain socket: sends windows on time, notes when answers come."""

    refused = 0

    def __init__(self, audio: bytes, offset: int) -> None:
        self._audio = audio
        self._at = offset
        self._length = FIRST
        self.sent: dict[int, float] = {}
        self.delays: list[float] = []
        self.stale = 0
        self._count = 0

    async def connect(self, port: int, token: str) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        self._writer.write(
            f"GET /bargein HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(head.decode())
        create = b'{"type":"session.create","settings":{"sample_rate":16000,"num_channels":1}}'
        self._writer.write(bytes([0x81, 0x80 | len(create)]) + bytes(4) + create)
        await self._message()

    def next_window(self) -> memoryview:
        """It grows to 3 s, then slides by 100 ms."""
        if self._at + 2 * LONGEST > len(self._audio):
            self._at, self._length = 0, FIRST  # the agent speaks anew
        window = memoryview(self._audio)[self._at : self._at + 2 * self._length]
        grown = min(LONGEST, self._length + STEP)
        self._at += 2 * (STEP - (grown - self._length))
        self._length = grown
        return window

    async def _message(self) -> bytes:
        """The next text; pings, of which one comes every 20 s, are passed over."""
        while True:
            kind, length = await self._reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
            content = await self._reader.readexactly(length)
            if kind & 0x0F == _TEXT:
                return content

    def send(self) -> None:
        window = self.next_window()
        self._count += 1
        created_at = self._count
        self.sent[created_at] = time.perf_counter()
        self._writer.write(_HEADER.pack(0x82, 0xFF, 8 + len(window)))
        self._writer.write(struct.pack("<Q", created_at))
        self._writer.write(window)

    async def listen(self) -> None:
        while True:
            try:
                message = await self._message()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            _, _, rest = message.partition(b'"created_at":')
            created_at = int(rest.partition(b",")[0])
            self.delays.append(time.perf_counter() - self.sent.pop(created_at))
            self.stale += b'"prediction_duration":0.000000' in message

    async def talk(self, seconds: float) -> None:
        begin = time.perf_counter() + random.random() * PERIOD_S
        listening = asyncio.create_task(self.listen())
        for i in range(int(seconds / PERIOD_S)):
            await asyncio.sleep(max(0.0, begin + i * PERIOD_S - time.perf_counter()))
            self.send()
        deadline = time.perf_counter() + 5
        while self.sent and time.perf_counter() < deadline:
            await asyncio.sleep(0.02)
        listening.cancel()
        self._writer.close()


class OlderCaller(Caller):
    """One that posts each window, as clients before 1.6 do, on a connection that it keeps."""

    async def connect(self, port: int, token: str) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._head = f"Host: x\r\nAuthorization: Bearer {token}\r\nContent-Length: "

    def send(self) -> None:
        window = self.next_window()
        self._count += 1
        self.sent[self._count] = time.perf_counter()
        path = f"/bargein?threshold=0.5&min_frames=2&created_at={self._count}"
        self._writer.write(f"POST {path} HTTP/1.1\r\n{self._head}{len(window)}\r\n\r\n".encode())
        self._writer.write(window)

    async def _message(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if b" 200 " not in head.partition(b"\r\n")[0]:
            self.refused += 1
            return f'"created_at":{min(self.sent)},'.encode()
        return body


async def load(
    kind: type[Caller], port: int, sessions: int, seconds: float, audio: bytes
) -> list[Caller]:
    """Run `sessions` callers side by side."""
    token = mint(KEY, SECRET, identity="agent", ttl_s=3600)
    callers = [kind(audio, 2 * 400 * (i * 37 % 200)) for i in range(sessions)]
    for caller in callers:
        await caller.connect(port, token)
    await asyncio.gather(*(caller.talk(seconds) for caller in callers))
    return callers


def floor(audio: bytes, windows: int) -> list[tuple[object, ...]]:
    """CPU ms per window of bare ONNX Runtime."""
    other = os.environ.get("PARLEY_TEST_BARGEIN_MODEL")
    model = load_model(BargeinConfig(model=Path(other) if other else None))
    samples = np.frombuffer(audio, np.int16)
    blank = model.blank_state()[None]
    rows: list[tuple[object, ...]] = []
    for name, length in (("whole 3 s window", LONGEST), ("100 ms, state carried", STEP)):
        state = blank
        began = time.thread_time()
        for i in range(windows):
            at = (i * STEP) % (samples.size - length)
            _, state = model.run(samples[None, at : at + length], state)
        used_ms = 1000 * (time.thread_time() - began) / windows
        rows.append((f"bare ONNX Runtime, {name}", "", used_ms, "", "", "", "", "", ""))
    return rows


def main(*, quick: bool = False) -> None:
    """Print the table."""
    audio = noise()
    seconds = 3.0 if quick else 12.0
    rows = floor(audio, 100 if quick else 500)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        config = folder / "gateway.yaml"
        config.write_text(f"keys: {{{KEY}: {SECRET}}}\n" + other_model())
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
        began = time.perf_counter()
        gateway = stack.enter_context(
            process(command, ready, core=first, log=folder / "gateway.log")
        )
        started_s = time.perf_counter() - began
        idle_mb = rss_mb(gateway.pid)
        plan = [("WebSocket", Caller, sessions) for sessions in (1, 50, 100, 200, 400)]
        plan += [("HTTP", OlderCaller, sessions) for sessions in (1, 50, 100, 200)]
        for name, kind, sessions in plan:
            before = cpu_s(gateway.pid)
            callers = uvloop.run(load(kind, port, sessions, seconds, audio))
            used = cpu_s(gateway.pid) - before
            delays = [delay for caller in callers for delay in caller.delays]
            rows.append(
                (
                    f"Parley, {name}",
                    sessions,
                    1000 * used / max(1, len(delays)),
                    1000 * percentile(delays, 0.5),
                    1000 * percentile(delays, 0.99),
                    f"{100 * sum(caller.stale for caller in callers) / max(1, len(delays)):.1f}",
                    sum(len(caller.sent) for caller in callers),
                    sum(caller.refused for caller in callers),
                    f"{rss_mb(gateway.pid):.0f}",
                )
            )
        os.sched_setaffinity(0, cores)
    table(
        "bargein: one window of 10 a second and session, gateway on one core",
        (
            "server",
            "sessions",
            "CPU ms/window",
            "p50 ms",
            "p99 ms",
            "stale %",
            "unanswered",
            "refused",
            "RSS MB",
        ),
        rows,
    )
    print(f"  cold start to ready: {started_s:.2f} s; resident memory idle: {idle_mb:.0f} MB")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
