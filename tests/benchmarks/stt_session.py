"""Whether a long session hears as well as many short ones: word error rate, loops, inventions.

The recogniser on this machine (Whisper base, one thread), behind the real server. Each sentence is
heard in a session of its own, and then all of them in one, with coughs and noise in between; wide
band and telephone (8 kHz, mu-law). A *loop* is a final that repeats itself; an *invention* is a
final in a cough, in noise, or with more than twice the words of its sentence. Recordings are those
of tests/recordings, or of a folder with more that PARLEY_AUDIO names (the table wants 100).
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import soxr

from gateway.engines import whisper
from gateway.server.auth import mint
from tests.benchmarks.stt_local import _distance, _words
from tests.benchmarks.tools import table
from tests.collection import collection, listed
from tests.end_to_end.server import Server, running
from tests.fetched_weights import fetched

RATE = 16_000
SENTENCES = 100
SENTENCES_QUICK = 8
PAUSE_S = 0.8
FRAME_BYTES = RATE * 2 // 20
NOISE_S = 3.0
EVERY = 5
"""After so many sentences comes a cough or noise."""

CONFIG = """
stt: {open_timeout_s: 60}
providers: {local: {whisper_threads: 1}}
usage: {enabled: false}
"""


@dataclass(frozen=True)
class Piece:
    """A recording of a session; `said` is empty where nobody speaks."""

    pcm: bytes
    said: tuple[str, ...]


@dataclass
class Score:
    """Of the finals of one way."""

    wrong: int = 0
    total: int = 0
    loops: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)

    def add(self, piece: Piece, finals: Sequence[str]) -> None:
        heard = _words(" ".join(finals))
        self.wrong += _distance(list(piece.said), heard) if piece.said else 0
        self.total += len(piece.said)
        self.loops += [one for one in finals if whisper.repeats(one)]
        if heard and (not piece.said or len(heard) > 2 * len(piece.said) + 2):
            self.invented.append(" ".join(finals))

    @property
    def wer(self) -> float:
        return 100 * self.wrong / max(1, self.total)


def telephone(pcm: bytes) -> bytes:
    """What is left of samples at 16 kHz after 8 kHz and mu-law (G.711, 8 bits), at 16 kHz."""
    narrow = soxr.resample(np.frombuffer(pcm, np.int16).astype(np.float32) / 32768, RATE, 8000)
    steps = np.log1p(255 * np.abs(np.clip(narrow, -1, 1))) / np.log(256)
    coded = np.round(127 * steps) / 127
    heard = np.sign(narrow) * (np.power(256, coded) - 1) / 255
    wide = soxr.resample(heard.astype(np.float32), 8000, RATE)
    return bytes((np.clip(wide, -1, 1) * 32767).astype(np.int16))


def pieces(count: int) -> list[Piece]:
    """The session: sentences, and what is no speech between them."""
    from faster_whisper.audio import decode_audio

    folder = collection()
    rows = listed(folder)

    def samples(row: dict[str, str]) -> bytes:
        heard = decode_audio(str(folder / row["path"]), sampling_rate=RATE)
        return bytes((heard * 32767).astype(np.int16))

    spoken = [row for row in rows if len(row["text"].split()) > 3]
    spoken = spoken[:: max(1, len(spoken) // count)][:count]
    quiet = [row for row in rows if row["label"] in ("cough", "noise")]
    found = []
    for i, row in enumerate(spoken):
        found.append(Piece(samples(row), tuple(_words(row["text"]))))
        if i % EVERY == EVERY - 1 and quiet:
            row = quiet[7 * (i // EVERY) % len(quiet)]
            found.append(Piece(samples(row)[: round(NOISE_S * RATE) * 2], ()))
    return found


async def session(server: Server, played: Sequence[Piece], language: str | None) -> list[list[str]]:
    """The finals of each piece, all in one session."""
    token = mint(server.api_key, server.api_secret, identity="benchmark", ttl_s=3600)
    settings: dict[str, Any] = {"sample_rate": str(RATE), "encoding": "pcm_s16le"}
    settings |= {"language": language or "multi", "extra": {"interim_results": False}}
    create = {"type": "session.create", "model": "local/whisper", "settings": settings}
    found = []
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        http.ws_connect(f"{server.url}/v1/stt") as socket,
    ):
        await socket.send_json(create)
        for piece in played:
            pcm = piece.pcm + bytes(round(PAUSE_S * RATE) * 2)
            for at in range(0, len(pcm), FRAME_BYTES):
                audio = base64.b64encode(pcm[at : at + FRAME_BYTES]).decode()
                await socket.send_json({"type": "input_audio", "audio": audio})
            await socket.send_json({"type": "session.finalize"})
            finals = []
            async for message in socket:
                told = json.loads(message.data)
                if told["type"] == "final_transcript":
                    finals.append(told["transcript"])
                elif told["type"] == "session.finalized":
                    break
                elif told["type"] == "error":
                    raise RuntimeError(told["message"])
            found.append(finals)
    return found


async def measured(server: Server, played: Sequence[Piece], language: str | None) -> list[Score]:
    """A session for each piece, and one for all."""
    single, whole = Score(), Score()
    for piece in played:
        ((*finals,),) = await session(server, [piece], language)
        single.add(piece, finals)
    for piece, finals in zip(played, await session(server, played, language), strict=True):
        whole.add(piece, finals)
    return [single, whole]


def main(*, quick: bool = False) -> None:
    if not whisper.installed():
        print("\nstt_session: needs the extra `local`")
        return
    environment = {"PARLEY_CACHE": str(fetched("silero-vad", "whisper-base"))}
    wide = pieces(SENTENCES_QUICK if quick else SENTENCES)
    narrow = [Piece(telephone(piece.pcm), piece.said) for piece in wide]
    ways: list[tuple[str, list[Piece], str | None]] = [
        ("wide band, en", wide, "en"),
        ("telephone, en", narrow, "en"),
        ("wide band, language not given", wide[: len(wide) // 4], None),
    ]
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), CONFIG, environment) as server,
    ):
        for name, played, language in ways:
            single, whole = asyncio.run(measured(server, played, language))
            for kind, score in (("sessions of their own", single), ("one session", whole)):
                rows.append([f"{name}: {kind}", score.wer, len(score.loops), len(score.invented)])
                for text in (*score.loops, *score.invented):
                    print(f"{name}, {kind}: {text[:120]!r}")
    spoken = sum(1 for piece in wide if piece.said)
    table(
        f"/stt, local engine: {spoken} sentences, {len(wide) - spoken} coughs and noises",
        ("", "WER %", "loops", "inventions"),
        rows,
    )
