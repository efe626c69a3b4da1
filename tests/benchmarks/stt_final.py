"""How soon after the end of speech the engine on this machine has its final, and what that costs.

Real speech goes through detector, cutter and Whisper (one thread), but the clock is reckoned: audio
comes in real time, and a transcription takes the CPU seconds that it was measured to take. So other
load on the machine does not count. "Plain" is one transcription of each whole utterance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.engines import whisper
from gateway.engines.segmenter import CHUNK, CHUNK_S, Out, Segmenter, Transcribe
from gateway.engines.utterances import SLOW_SHARE
from gateway.engines.vad import SileroVad, VadRequest, VadState
from gateway.providers.local.stt import EARLY_S
from gateway.upstreams.stt import EndpointingConfig, FinalTranscript, Transcript
from tests.benchmarks.stt_local import _distance, _words
from tests.benchmarks.tools import percentile, table
from tests.collection import collection, listed
from tests.fetched_weights import fetched

RECORDINGS = 30
RECORDINGS_QUICK = 8
TAIL_CHUNKS = 40
"""1.3 s of silence after each recording."""


@dataclass
class Engine:
    """One worker that does requests in order, on a reckoned clock."""

    free_at: float = 0.0
    share: float = 0.0
    cpu_s: float = 0.0
    asked: list[tuple[float, Transcribe, Transcript]] = field(default_factory=list)

    def ask(self, request: Transcribe, now: float) -> bool:
        """Whether it is taken: interims are not while another one runs, or on a slow machine."""
        if request.interim and (self.free_at > now or self.share > SLOW_SHARE):
            return False
        began = time.process_time()
        answer = whisper.transcribe(request.pcm, "en", request.prompt, not request.interim)
        took = time.process_time() - began
        self.cpu_s += took
        self.share = took / max(1.0, len(request.pcm) / 32_000)
        self.free_at = max(now, self.free_at) + took
        self.asked.append((self.free_at, request, answer.transcript))
        return True


@dataclass
class Heard:
    """Of one recording: its finals, and for each how long after the last speech it came."""

    texts: list[str] = field(default_factory=list)
    after_s: list[float] = field(default_factory=list)


def heard(
    pcm: bytes, probabilities: list[float], cutting: EndpointingConfig, engine: Engine
) -> Heard:
    """A recording through cutter and engine."""
    cutter, told = Segmenter(cutting), Heard()
    engine.free_at, engine.asked = 0.0, []
    speech_end = 0.0

    def take(out: list[Out], now: float) -> None:
        while out:
            one = out.pop(0)
            if isinstance(one, Transcribe):
                if not engine.ask(one, now):
                    out += cutter.answered(one.number, None)
            elif isinstance(one, FinalTranscript) and one.transcript.text:
                told.texts.append(one.transcript.text)
                told.after_s.append(now - speech_end)

    def settle(now: float) -> None:
        while engine.asked and engine.asked[0][0] <= now:
            at, request, answer = engine.asked.pop(0)
            take(cutter.answered(request.number, answer), at)

    for i, probability in enumerate(probabilities):
        now = (i + 1) * CHUNK_S
        settle(now)
        take(cutter.hear(pcm[2 * CHUNK * i : 2 * CHUNK * (i + 1)], probability), now)
        if probability >= cutting.threshold:
            speech_end = now
    while engine.asked:
        settle(engine.asked[0][0])
    return told


def main(*, quick: bool = False) -> None:
    if not whisper.installed():
        print("\nstt_final: needs the extra `local`")
        return
    models = fetched("silero-vad", "whisper-base") / "models"
    from faster_whisper.audio import decode_audio

    whisper.load(str(models / "whisper-base"), "cpu", "int8", 1)
    vad = SileroVad(models / "silero-vad" / "silero_vad_16k.onnx")
    folder = collection()
    rows = [row for row in listed(folder) if len(row["text"].split()) > 3]
    count = RECORDINGS_QUICK if quick else RECORDINGS
    rows = rows[:: max(1, len(rows) // count)][:count]
    ways = {
        "final at the end": EndpointingConfig(interim_s=None),
        "final begun at the pause": EndpointingConfig(interim_s=None, early_s=EARLY_S),
    }
    ways |= {f"{name}, interims": replace(one, interim_s=1.0) for name, one in ways.items()}
    engines = {name: Engine() for name in ways}
    wrong = dict.fromkeys(ways, 0)
    after: dict[str, list[float]] = {name: [] for name in ways}
    total, audio_s, plain_s = 0, 0.0, 0.0
    for row in rows:
        samples = decode_audio(str(folder / row["path"]), sampling_rate=16_000)
        pcm = (samples * 32767).astype(np.int16).tobytes() + bytes(2 * CHUNK * TAIL_CHUNKS)
        pcm = pcm[: len(pcm) // (2 * CHUNK) * 2 * CHUNK]
        (probabilities,) = vad.run([VadRequest(VadState(), pcm)])
        said = _words(row["text"])
        total += len(said)
        audio_s += len(pcm) / 32_000
        began = time.process_time()
        whisper.transcribe(pcm, "en", "", True)
        plain_s += time.process_time() - began
        for name, cutting in ways.items():
            told = heard(pcm, probabilities, cutting, engines[name])
            after[name] += told.after_s[-1:]
            wrong[name] += _distance(said, _words(" ".join(told.texts)))
    table(
        f"/stt, local engine: from the end of speech to the final; {len(rows)} recordings, "
        f"{audio_s:.0f} s; one plain transcription of each: {plain_s / len(rows):.2f} CPU s",
        ("", "s p50", "s p95", "CPU s/audio s", "CPU x plain", "WER %"),
        [
            [
                name,
                percentile(after[name], 0.5),
                percentile(after[name], 0.95),
                engines[name].cpu_s / audio_s,
                engines[name].cpu_s / plain_s,
                100 * wrong[name] / max(1, total),
            ]
            for name in ways
        ],
    )
