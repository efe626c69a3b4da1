"""What one connection without a token can do: how long it stops all others, and what it fills."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from tests.benchmarks.tools import cpu_s, free_port, process, rss_mb, table

KEY, SECRET = "APIbench", "bench-secret-bench-secret-bench-secret"
PIECE_BYTES = 1 << 20
PROBE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def repeated(head: bytes, piece: bytes, megabytes: int) -> Iterator[bytes]:
    """`head`, and then so much of `piece` over and over."""
    yield head
    many = piece * (PIECE_BYTES // len(piece))
    for _ in range(megabytes):
        yield many


POST = b"POST /chat/completions HTTP/1.1\r\nhost: x\r\n"
ATTACKS = {
    "header lines": (b"GET / HTTP/1.1\r\n", b"a: bcdefghijk\r\n"),
    "one header value": (b"GET / HTTP/1.1\r\na: ", b"x"),
    "URL": (b"GET /", b"x"),
    "empty lines": (b"", b"\r\n"),
    "pipelined requests": (b"", b"GET /x HTTP/1.1\r\n\r\n"),
    "1-byte chunks": (POST + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trailers": (POST + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a: bcdefghijk\r\n"),
}
"""What comes first, and what then comes without end."""


async def probe(port: int, worst: list[float]) -> None:
    """Ask for /healthz all the time; note how long it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            began = time.perf_counter()
            writer.write(PROBE)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                line for line in head.split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(int(length[15:]))
            worst.append(time.perf_counter() - began)
            await asyncio.sleep(0.002)
    finally:
        writer.close()


async def attack(port: int, pieces: Iterator[bytes], patience_s: float) -> tuple[str, float]:
    """The status line that it was answered with, and how many MB went out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.readline())
    sent = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(patience_s):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
            await asyncio.wait((answer,))
    await asyncio.sleep(0)
    status = "none"
    if answer.done() and not answer.exception():
        status = answer.result()[9:12].decode() or "none"
    answer.cancel()
    writer.transport.abort()
    return status, sent / 1e6


async def one(
    port: int, pid: int, name: str, megabytes: int, patience_s: float
) -> tuple[object, ...]:
    head, piece = ATTACKS[name]
    times: list[float] = []
    probing = asyncio.create_task(probe(port, times))
    await asyncio.sleep(0.2)
    before, cpu = rss_mb(pid), cpu_s(pid)
    status, sent = await attack(port, repeated(head, piece, megabytes), patience_s)
    rss = rss_mb(pid)
    while len(times) < 50:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    return name, sent, status, 1000 * max(times), cpu_s(pid) - cpu, rss - before


def main(quick: bool = False) -> None:
    megabytes, patience_s = (8, 5.0) if quick else (64, 20.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "parley.yaml"
        config.write_text(f"keys: {{{KEY}: {SECRET}}}\nusage: {{enabled: false}}\n")
        for name in ATTACKS:
            port = free_port()
            command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
            command += ["--host", "127.0.0.1", "--port", str(port)]
            with process(command, f"http://127.0.0.1:{port}/healthz") as running:
                rows.append(uvloop.run(one(port, running.pid, name, megabytes, patience_s)))
    table(
        f"Hostile HTTP: up to {megabytes} MB on one connection without a token",
        ("sent without end", "MB taken", "answer", "/healthz worst ms", "CPU s", "RSS + MB"),
        rows,
    )
