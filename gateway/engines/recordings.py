"""Callers' recordings as samples: WAV in a thread, everything else in a process of its own.

FFmpeg's decoders (the package `av`, which faster-whisper brings) are large and read what strangers
send, so they run apart, with bounds on time and memory.

    python -m gateway.engines.recordings < recording > samples
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import sys
from typing import Final

import numpy as np
import soxr

from gateway.audio.wav import WavError, read_wav
from gateway.upstreams.errors import Failure, Kind, presentable

RATE: Final = 16_000

SECONDS_MAX: Final = 1800.0
"""Longest recording; 58 MB of samples."""

DECODE_S_MAX: Final = 60
"""Seconds, and CPU seconds, that decoding may take."""

MEMORY_BYTES_MAX: Final = 2 << 30
"""Address space of the decoding process."""

NICE: Final = 5
"""It yields to the process that relays audio."""


async def samples(recording: bytes) -> bytes | Failure:
    """s16le mono samples at RATE, or what is wrong with the recording."""
    if recording[:4] in (b"RIFF", b"RF64"):
        return await asyncio.to_thread(_wav, recording)
    if importlib.util.find_spec("av") is None:
        return _bad("only WAV is read here; faster-whisper brings the decoders of other formats")
    return await _decoded(recording)


def _bad(message: str) -> Failure:
    return Failure(Kind.BAD_REQUEST, f"file: {message}", param="file")


def _wav(recording: bytes) -> bytes | Failure:
    try:
        found, rate = read_wav(recording)
    except WavError as error:
        return _bad(str(error))
    if len(found) > SECONDS_MAX * rate:
        return _bad(f"it is longer than {SECONDS_MAX:g} s")
    if rate != RATE:
        found = soxr.resample(found, rate, RATE)
    return (np.clip(found, -1, 1) * 32767).astype(np.int16).tobytes()


async def _decoded(recording: bytes) -> bytes | Failure:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.engines.recordings"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DECODE_S_MAX):
            decoded, said = await process.communicate(recording)
    except TimeoutError:
        return _bad("it could not be decoded in time")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return decoded
    reason = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return _bad(f"it cannot be decoded: {presentable(reason)[:200]}")


def _decode(recording: bytes) -> bytes:
    """Raises whatever FFmpeg does."""
    import av

    decoded = bytearray()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(io.BytesIO(recording), "r", metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise ValueError("there is no audio in it")
        for frame in (*container.decode(audio=0), None):
            for out in resampler.resample(frame):
                decoded += out.to_ndarray().tobytes()
            if len(decoded) > SECONDS_MAX * RATE * 2:
                raise ValueError(f"it is longer than {SECONDS_MAX:g} s")
    return bytes(decoded)


def main() -> None:
    """The process: a recording on standard input, samples on standard output."""
    import resource

    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (DECODE_S_MAX, DECODE_S_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    try:
        decoded = _decode(sys.stdin.buffer.read())
    except Exception as error:  # whatever the decoders raise: the last line is told
        sys.exit(f"{error}"[:500])
    sys.stdout.buffer.write(decoded)


if __name__ == "__main__":
    main()
