"""What every Python driver shares: JSON lines out, wave files in, a session for the client."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

_started_at = time.monotonic()


def say(event: str, **fields: Any) -> None:
    """Print one event as a JSON line, stamped with the seconds since the driver started."""
    line = {"event": event, "at": round(time.monotonic() - _started_at, 4), **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def error_fields(error: BaseException) -> dict[str, Any]:
    """What the client knows about a failure, above all whether it would try again."""
    return {
        "kind": type(error).__name__,
        "message": str(error)[:500],
        "status": getattr(error, "status_code", None),
        "retryable": getattr(error, "retryable", None),
    }


def read_wave(path: str) -> tuple[bytes, int]:
    """Samples (mono, 16 bit) and sample rate of a wave file."""
    with wave.open(path, "rb") as file:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            raise SystemExit(f"{path}: mono 16-bit samples are needed")
        return file.readframes(file.getnframes()), file.getframerate()


def pieces(samples: bytes, rate: int, piece_ms: int) -> Iterator[bytes]:
    """The samples in pieces of one length; what is left over at the end is padded with silence."""
    size = rate * piece_ms // 1000 * 2
    for start in range(0, len(samples), size):
        yield samples[start : start + size].ljust(size, b"\0")


def microphone(samples: bytes, file_rate: int, rate: int) -> bytes:
    """The recording at the rate at which a room hands out its participants' audio."""
    import livekit.rtc as rtc

    if file_rate == rate:
        return samples
    resampler = rtc.AudioResampler(file_rate, rate, quality=rtc.AudioResamplerQuality.HIGH)
    frame = rtc.AudioFrame(samples, file_rate, 1, len(samples) // 2)
    return b"".join(bytes(out.data) for out in [*resampler.push(frame), *resampler.flush()])


class Pace:
    """Lets a loop go on in real time, without drift."""

    def __init__(self, speed: float) -> None:
        self._speed, self._due = speed, time.perf_counter()

    async def wait(self, seconds: float) -> None:
        self._due += seconds / self._speed
        await asyncio.sleep(max(0.0, self._due - time.perf_counter()))


def http_session() -> AbstractAsyncContextManager[Any]:
    """Where the client takes its HTTP session from when no job gives it one."""
    from livekit.agents.utils import http_context

    opens = getattr(http_context, "open", None)
    return opens() if opens is not None else _older_http_session()


@asynccontextmanager
async def _older_http_session() -> AsyncIterator[None]:
    """The same before 1.5."""
    from livekit.agents.utils import http_context

    http_context._new_session_ctx()
    try:
        yield
    finally:
        await http_context._close_http_ctx()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a driver to its end; what it did not catch itself becomes an event."""
    try:
        asyncio.run(main())  # type: ignore[arg-type]
    except Exception as error:
        say("crashed", **error_fields(error))
        raise SystemExit(1) from error
