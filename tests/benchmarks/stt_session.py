"""Whether a long session hears as well as many short ones: word error rate, loops, inventions.

The recogniser on this machine (voice detector, cutter, Whisper base with one thread) hears each
sentence in a session of its own, and then all of them in one, with coughs and noise in between;
wide band and telephone (8 kHz, mu-law). A *loop* is a final that repeats itself; an *invention* is
a final in a cough, in noise, or with more than twice the words of its sentence. Recordings are
those of tests/recordings, or of a folder with more that PARLEY_AUDIO names (the table wants 100).
The clock plays no part, and nothing is transcribed twice that is the same to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import soxr

from gateway.engines import whisper
from gateway.engines.segmenter import CHUNK, Out, Segmenter, Transcribe
from gateway.engines.vad import SileroVad, VadRequest, VadState
from gateway.providers.local.stt import EARLY_S
from gateway.upstreams.stt import EndpointingConfig, FinalTranscript
from tests.benchmarks.stt_local import _distance, _words
from tests.benchmarks.tools import percentile, table
from tests.collection import collection, listed
from tests.fetched_weights import fetched

RATE = 16_000
SENTENCES = 100
SENTENCES_QUICK = 8
PAUSE_CHUNKS = 16
"""0.5 s of silence before and after each recording."""

NOISE_S = 3.0
EVERY = 5
"""After so many sentences comes a cough or noise."""


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

    def piece(pcm: bytes, said: tuple[str, ...]) -> Piece:
        quiet = bytes(2 * CHUNK * PAUSE_CHUNKS)
        whole = -len(pcm) % (2 * CHUNK)
        return Piece(quiet + pcm + bytes(whole) + quiet, said)

    spoken = [row for row in rows if len(row["text"].split()) > 3]
    spoken = spoken[:: max(1, len(spoken) // count)][:count]
    quiet = [row for row in rows if row["label"] in ("cough", "noise")]
    found = []
    for i, row in enumerate(spoken):
        found.append(piece(samples(row), tuple(_words(row["text"]))))
        if i % EVERY == EVERY - 1 and quiet:
            row = quiet[7 * (i // EVERY) % len(quiet)]
            found.append(piece(samples(row)[: round(NOISE_S * RATE) * 2], ()))
    return found


class Ear:
    """Whisper, which remembers what it made of what."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str | None, str | None], whisper.Heard] = {}
        self.cpu_s: list[float] = []

    def hear(self, pcm: bytes, language: str | None, remembered: str | None) -> whisper.Heard:
        asked = (pcm, language, remembered)
        if asked not in self._known:
            began = time.process_time()
            self._known[asked] = whisper.transcribe(pcm, language, "", True, remembered)
            self.cpu_s.append(time.process_time() - began)
        return self._known[asked]


class Session:
    """One stream of audio, as engines/utterances.py has it."""

    def __init__(self, vad: SileroVad, ear: Ear, language: str | None) -> None:
        self._vad, self._ear, self._language = vad, ear, language
        self._state, self._memory = VadState(), whisper.LanguageMemory()
        self._cutter = Segmenter(EndpointingConfig(interim_s=None, early_s=EARLY_S))

    def hear(self, pcm: bytes) -> list[str]:
        """The finals of a piece, which begins and ends with silence."""
        (probabilities,) = self._vad.run([VadRequest(self._state, pcm)])
        finals: list[str] = []
        for i, probability in enumerate(probabilities):
            self._take(self._cutter.hear(pcm[2 * CHUNK * i :][: 2 * CHUNK], probability), finals)
        self._take(self._cutter.flush(), finals)
        return finals

    def _take(self, out: list[Out], finals: list[str]) -> None:
        while out:
            one = out.pop(0)
            if isinstance(one, Transcribe):
                heard = self._ear.hear(one.pcm, self._language, self._memory.language)
                self._memory.heard(heard, len(one.pcm) / 2 / RATE)
                out += self._cutter.answered(one.number, heard.transcript)
            elif isinstance(one, FinalTranscript) and one.transcript.text:
                finals.append(one.transcript.text)


def measured(
    vad: SileroVad, ear: Ear, played: Sequence[Piece], language: str | None
) -> list[Score]:
    """A session for each piece, and one for all."""
    single, whole, long = Score(), Score(), Session(vad, ear, language)
    for piece in played:
        single.add(piece, Session(vad, ear, language).hear(piece.pcm))
        whole.add(piece, long.hear(piece.pcm))
    return [single, whole]


def main(*, quick: bool = False) -> None:
    if not whisper.installed():
        print("\nstt_session: needs the extra `local`")
        return
    models = fetched("silero-vad", "whisper-base") / "models"
    whisper.load(str(models / "whisper-base"), "cpu", None, 1)
    vad, ear = SileroVad(models / "silero-vad" / "silero_vad_16k.onnx"), Ear()
    wide = pieces(SENTENCES_QUICK if quick else SENTENCES)
    narrow = [Piece(telephone(piece.pcm), piece.said) for piece in wide]
    ways: list[tuple[str, list[Piece], str | None]] = [
        ("wide band, en", wide, "en"),
        ("telephone, en", narrow, "en"),
        ("wide band, language not given", wide[: len(wide) // 4], None),
    ]
    rows = []
    for name, played, language in ways:
        single, whole = measured(vad, ear, played, language)
        for kind, score in (("sessions of their own", single), ("one session", whole)):
            rows.append([f"{name}: {kind}", score.wer, len(score.loops), len(score.invented)])
            for text in (*score.loops, *score.invented):
                print(f"{name}, {kind}: {text[:120]!r}")
    spoken = sum(1 for piece in wide if piece.said)
    table(
        f"/stt, local engine: {spoken} sentences, {len(wide) - spoken} coughs and noises; "
        f"CPU s a transcription: p50 {percentile(ear.cpu_s, 0.5):.2f}, max {max(ear.cpu_s):.2f}",
        ("", "WER %", "loops", "inventions"),
        rows,
    )
