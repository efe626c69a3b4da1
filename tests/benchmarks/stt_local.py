"""How well and how fast the engine on this machine hears: word error rate, real-time factor.

Recordings with a text of four words or more are those of tests/recordings, or of a folder with more
that PARLEY_AUDIO names. Each goes through voice detector, cutter and Whisper as on /stt.
"""

from __future__ import annotations

import re
import time

import numpy as np

from gateway.engines import whisper
from gateway.engines.segmenter import CHUNK, Segmenter, Transcribe
from gateway.engines.vad import SileroVad, VadRequest, VadState
from gateway.upstreams.stt import EndpointingConfig, FinalTranscript
from tests.benchmarks.tools import percentile, table
from tests.collection import collection, listed
from tests.fetched_weights import fetched

RECORDINGS = 60
RECORDINGS_QUICK = 10


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def _distance(said: list[str], heard: list[str]) -> int:
    """Words to change, leave out or put in."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            change = before + (word != other)
            before, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def _heard(vad: SileroVad, pcm: bytes) -> str:
    """What /stt's local engine makes of a recording."""
    pcm += bytes(2 * CHUNK * 20)  # 0.64 s of silence
    pcm = pcm[: len(pcm) // (2 * CHUNK) * 2 * CHUNK]
    cutter = Segmenter(EndpointingConfig(interim_s=None))
    out = []
    (probabilities,) = vad.run([VadRequest(VadState(), pcm)])
    for i, probability in enumerate(probabilities):
        out += cutter.hear(pcm[2 * CHUNK * i : 2 * CHUNK * (i + 1)], probability)
    out += cutter.finish()
    texts = []
    while out:
        one = out.pop(0)
        if isinstance(one, Transcribe):
            answer = whisper.transcribe(one.pcm, "en", one.prompt, True).transcript
            out += cutter.answered(one.number, answer)
        elif isinstance(one, FinalTranscript):
            texts.append(one.transcript.text)
    return " ".join(texts)


def main(*, quick: bool = False) -> None:
    if not whisper.installed():
        print("\nstt_local: needs the extra `local`")
        return
    models = fetched("silero-vad", "whisper-base") / "models"
    from faster_whisper.audio import decode_audio

    whisper.load(str(models / "whisper-base"), "cpu", "int8", 2)
    vad = SileroVad(models / "silero-vad" / "silero_vad_16k.onnx")
    folder = collection()
    rows = [row for row in listed(folder) if len(row["text"].split()) > 3]
    count = RECORDINGS_QUICK if quick else RECORDINGS
    rows = rows[:: max(1, len(rows) // count)][:count]
    wrong = total = 0
    took, audio_s = [], 0.0
    for row in rows:
        samples = decode_audio(str(folder / row["path"]), sampling_rate=16_000)
        began = time.perf_counter()
        heard = _words(_heard(vad, (samples * 32767).astype(np.int16).tobytes()))
        took.append(time.perf_counter() - began)
        audio_s += len(samples) / 16_000
        said = _words(row["text"])
        wrong += _distance(said, heard)
        total += len(said)
    table(
        f"/stt, local engine: {len(rows)} recordings, {audio_s:.0f} s, {total} words",
        ("", "WER %", "real-time factor", "s/recording p50", "p95"),
        [
            [
                "whisper-base int8",
                100 * wrong / max(1, total),
                sum(took) / audio_s,
                percentile(took, 0.5),
                percentile(took, 0.95),
            ]
        ],
    )
