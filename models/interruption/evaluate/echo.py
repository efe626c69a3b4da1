"""Does an agent interrupt itself? What cancellers leave of its voice, and callers who talk over it.

    python -m models.interruption.data.echoes --audio FOLDER --side eval --count 450
    python -m models.interruption.evaluate.echo [--residuals FOLDER] [--audio FOLDER]

Tables in Markdown, of calls that `echoes` made of held-out people and rooms, once without what
/tts sent and once with it; and of real residuals, which are to be had without it alone. As clients
do, a window is asked about for each 100 ms from where a VAD hears speech, with 1 s of what was
before. `--residuals` is `baseline/icassp2021/clean` of microsoft/AEC-Challenge (MIT): what one
canceller left on 98 devices, of which a quarter (by name) is for evaluation alone. With `--audio`,
held-out people in real conversations (`trials.py`), beside an agent whose voice does not reach
their microphones: it must not matter.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile
from numpy.typing import NDArray

from gateway.engines.interruption.decision import first_detection
from gateway.engines.interruption.model import INTERFACE, BargeinModel, Question
from gateway.engines.interruption.own_voice import FRAME_S, SILENCE, Comparison, Speaker, Voice
from gateway.engines.onnx import FrameModel
from models.interruption.cache import PUBLISHED, cache_folder, existing
from models.interruption.data import echoes
from models.interruption.data.echoes import AGENTS, Voices
from models.interruption.data.splits import Side
from models.interruption.evaluate import scoring, trials
from models.interruption.pretrained.silero import VAD_FRAME, speech_probabilities
from models.interruption.sound import as_float

RATE = 16_000
STEP_S = 0.1
WINDOW_S = 3.0
BEFORE_S = 1.0
SILENCE_S = 0.55  # ends what a client's VAD takes for one stretch of speech
CUT_S = 3.0  # an echo is looked at for so long
FOUND_S = 1.0

Samples = NDArray[np.int16]


def stretches(samples: Samples) -> list[tuple[float, float]]:
    """Seconds from and to which a client's VAD hears speech."""
    speech = speech_probabilities(as_float(samples)) >= 0.5
    frame_s = VAD_FRAME / RATE
    found: list[list[float]] = []
    for i in np.flatnonzero(speech[1:] & speech[:-1]):
        start, end = float(i) * frame_s, float(i + 2) * frame_s
        if found and start - found[-1][1] < SILENCE_S:
            found[-1][1] = end
        else:
            found.append([start, end])
    return [(start, min(end + SILENCE_S, samples.size / RATE)) for start, end in found]


def voice_of(scene: echoes.Scene) -> Voice:
    """All that /tts sent; each frame says itself from when on it can have been played."""
    voice = SILENCE
    for sent_s, samples in sorted(scene.sent, key=lambda piece: piece[0]):
        begins_at, marks = Speaker(RATE).say(samples.astype("<i2").tobytes(), sent_s)
        earliest = begins_at + FRAME_S * np.arange(len(marks), dtype=np.float64)
        voice = voice.with_more(marks, earliest, 0.0)
    return voice


def detections(
    model: BargeinModel, samples: Samples, stretch: tuple[float, float], voice: Voice | None
) -> Iterator[float]:
    """Seconds at which the answer was that somebody interrupts, with the server's own code."""
    track = model.track(None if voice is None else partial(lambda known: known, voice))
    begin = max(0, round((stretch[0] - BEFORE_S) * RATE))
    step = round(STEP_S * RATE)
    for end in range(round(stretch[0] * RATE) + step, round(stretch[1] * RATE) + 1, step):
        window = samples[max(begin, end - round(WINDOW_S * RATE)) : end]
        question = Question(track, window.astype("<i2").tobytes(), heard_at=end / RATE)
        (answer,) = model.run([question])
        newest = answer[-4 - 1 :]  # what was found in older frames was told then
        if first_detection(newest, 0.5, 2) is not None:
            yield end / RATE


@dataclass
class Counts:
    """Of one canceller: whether each echo was taken for the caller; whether each caller was found
    in time, and after how many seconds."""

    cut: list[bool]
    found: list[bool]
    clean: list[bool]
    waits: list[float]

    def row(self, name: str) -> str:
        def share(values: list[bool]) -> str:
            return f"{np.mean(values):.2f} | {len(values)}" if values else "- | 0"

        median = f"{1000 * np.median(self.waits):.0f}" if self.waits else "-"
        return (
            f"| {name} | {share(self.cut)} | {share(self.found)} | {median} | {share(self.clean)} |"
        )


HEAD = (
    "| canceller | echoes taken for the caller | n | callers over echo, by 1 s | n | median ms "
    "| callers without echo, by 1 s | n |\n|---|---|---|---|---|---|---|---|"
)


def made(model: BargeinModel, scenes: list[echoes.Scene], *, known: bool) -> dict[str, Counts]:
    """By canceller; `known`: with what /tts sent."""
    out: dict[str, Counts] = defaultdict(lambda: Counts([], [], [], []))
    for scene in scenes:
        count = out[scene.canceller]
        voice = voice_of(scene) if known else None
        floor_s = scene.floor_s
        found: list[float] = []
        samples = scene.heard.astype(np.int16)
        for stretch in stretches(samples):
            at = list(detections(model, samples, stretch, voice))
            found += at
            alone = scene.kind == "echo" or (scene.kind == "double" and stretch[0] < floor_s - 1)
            if alone:
                until = min(stretch[0] + CUT_S, floor_s if scene.kind == "double" else np.inf)
                count.cut.append(any(one <= until for one in at))
        if scene.kind == "echo":
            continue
        after = [one - floor_s for one in found if one >= floor_s]
        in_time = bool(after) and after[0] <= FOUND_S
        (count.found if scene.kind == "double" else count.clean).append(in_time)
        if after and scene.kind == "double":
            count.waits.append(after[0])
    return dict(out)


def is_held_out(device: str) -> bool:
    return crc32(b"aec" + device.encode()) % 4 == 0


def residuals(model: BargeinModel, folder: Path, *, held_out: bool = True) -> dict[str, list[bool]]:
    """Whether each stretch that sounds like speech is taken for a caller within CUT_S, by whether
    one was there."""
    out: dict[str, list[bool]] = defaultdict(list)
    for path in sorted(folder.glob("*.wav")):
        device, kind = path.stem[:22], path.stem[23:]
        if is_held_out(device) is not held_out:
            continue
        samples, _ = soundfile.read(path, dtype="int16")
        for stretch in stretches(samples)[:3]:
            at = list(detections(model, samples, stretch, None))
            name = "far end alone" if kind.startswith("farend") else "both talk"
            out[name].append(any(one <= stretch[0] + CUT_S for one in at))
    return dict(out)


def beside(path: Path, audio: Path) -> dict[str, dict[bool, list[float]]]:
    """Seconds until each turn and backchannel of real conversations is taken for an interruption,
    inf where it is not, by whether an agent spoke meanwhile whose voice is not in the channel."""
    voices, rng = Voices(audio, Side.EVAL), np.random.default_rng(1)
    tested = scoring.Model(path)
    out: dict[str, dict[bool, list[float]]] = {}
    real = [t for t in trials.ami(audio) if t.table == "ami" and t.held_out]
    for trial in [*trials.held_out_interviews(cache_folder() / "more"), *real]:
        said = np.concatenate([voices.draw(rng, AGENTS[:2])[0] for _ in range(3)])
        pcm = np.round(np.clip(said, -1, 1) * 32767).astype("<i2").tobytes()
        begins_at, marks = Speaker(RATE).say(pcm, -3.0)
        earliest = begins_at + FRAME_S * np.arange(len(marks), dtype=np.float64)
        voice = SILENCE.with_more(marks, earliest, -3.0)
        alone = tested.streamed(trial.samples)
        comparison, judged = Comparison(), []
        ends = [scoring.frames_at(STEP_S), *range(scoring.frames_at(2 * STEP_S), len(alone) + 1, 4)]
        for start, end in itertools.pairwise([0, *ends]):
            part = trial.samples[start * 400 : end * 400]
            given = alone[start:end].astype(np.float32)
            judged.append(comparison.judged(given, part, voice, end * FRAME_S))
        kinds = out.setdefault(f"{trial.table}, {trial.kind}", {False: [], True: []})
        for known, found in ((False, alone), (True, np.concatenate(judged).astype(np.float64))):
            after = scoring.decided_after_s(found, 0.5, scoring.MIN_FRAMES)
            kinds[known].append(np.inf if after is None else after)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=PUBLISHED)
    parser.add_argument("--residuals", type=Path)
    parser.add_argument("--count", type=int, help="scenes, by default all")
    parser.add_argument("--audio", type=existing)
    arguments = parser.parse_args()
    model = BargeinModel(FrameModel(arguments.model, interface=INTERFACE))
    paths = sorted((cache_folder() / "echoes" / Side.EVAL).glob("[0-9]*.npz"))[: arguments.count]
    scenes = [echoes.load(path) for path in paths if ".part" not in path.name]
    for known in (False, True):
        print(f"\n{'With' if known else 'Without'} what /tts sent:\n\n{HEAD}")
        for name, count in sorted(made(model, scenes, known=known).items()):
            print(count.row(name))
    if arguments.residuals:
        print("\n| real residuals | taken for the caller | n |\n|---|---|---|")
        for name, cut in residuals(model, arguments.residuals).items():
            print(f"| {name} | {np.mean(cut):.2f} | {len(cut)} |")
    if arguments.audio:
        print("\n| real conversations | n | by 1 s | beside an agent's voice |\n|---|---|---|---|")
        for name, waits in beside(arguments.model, arguments.audio).items():
            shares = [
                f"{np.mean(np.array(waits[known]) <= FOUND_S):.2f}" for known in (False, True)
            ]
            print(f"| {name} | {len(waits[True])} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
