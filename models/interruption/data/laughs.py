"""People's laughs out of recorded conversations, found by a detector where nobody says a word.

    git clone --bare https://github.com/jrgillick/laughter-detection \\
        FOLDER/jrgillick+laughter-detection
    python -m models.interruption.data.laughs --repositories FOLDER

Looked through are the meetings: those that `interviews` wrote, in what lies between the
recogniser's words, and those of the audio folder, in what lies between what is transcribed. In two
hours of medical interviews what the detector took for laughs were words and breaths, by their
spectrograms; they are left out. What comes out lies in the cache as `more/train/laugh/` with
`more/train/laughs.csv`, which has the manifest's columns; `speaker` is the recording, since nobody
knows who of its people laughs. What the detector says is kept beside the pieces, so that the same
command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data import interviews, splits
from models.interruption.data.collect import COLUMNS, LAUGHS, RATE, Clone, Pinned, Row
from models.interruption.pretrained import laughter
from models.interruption.pretrained.laughter import Laughter
from models.interruption.pretrained.silero import speech_seconds

FOLDER = "laugh"
DETECTOR = Pinned("jrgillick/laughter-detection", "5d5e0327916959d832d95ffbef5f484efc93d799")
LICENCE = "CC BY 4.0"  # of all that is looked through

_MEETING = "ES2002a-"  # how the names of meetings among the interviews begin
_STEPS = 100  # in a second: levels, words and pieces are known in 10 ms
_SOUNDS_DB = 30.0  # below the loud moments of the recording
_LETTER_S, _WORD_S = 0.1, 0.2  # a word is no longer than its letters need
_BESIDE_S = 0.1  # a recogniser's times are rough
_EVERY = 4  # looks of the detector
_LAUGH = 0.6  # the detector's mean over a piece
_PART = 0.45  # and in each part of it
_GAP_S = 0.25  # between two bursts of one laugh
_LENGTH_S = (0.6, 4.0)  # what was shorter were words and breaths
_BURSTS_S = (0.11, 0.22)  # from one to the next
_RHYTHM = 0.2
_MARGIN_S = 0.05

_NEAR = 5  # steps of 10 ms on both sides

Span = tuple[float, float]
Said = tuple[str, float, float]  # text, from, to


@dataclass(frozen=True)
class Recording:
    name: str
    path: Path
    said: Sequence[Said]


class Heard(NamedTuple):
    """What the detector says: [n] seconds, rising, and P(laughter) there."""

    at_s: NDArray[np.float64]
    probability: NDArray[np.float32]


def recordings(more: Path, audio: Path) -> Iterator[Recording]:
    """Meetings of which it is known when words are said."""
    for kept in sorted((more / "train" / interviews.FOLDER).glob(f"{_MEETING}*.words.json")):
        name = kept.name.removesuffix(".words.json")
        words = [
            said
            for text, start, end, _ in json.loads(kept.read_text())
            for said in ends_of(text, start, end)
        ]
        yield Recording(name, kept.with_name(f"{name}.flac"), words)
    said = defaultdict(list)
    with (audio / "train" / "conversation_ami" / "segments.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            said[row["path"]].append((row["auto_text"], float(row["start_s"]), float(row["end_s"])))
    for path, segments in sorted(said.items()):
        yield Recording(Path(path).stem, audio / path, segments)


def ends_of(text: str, start_s: float, end_s: float) -> Iterator[Said]:
    """Where a recogniser's word may sound: its span, or both ends of one that is too long for it,
    since a recogniser counts pauses and laughs into the word before or after."""
    longest = _WORD_S + _LETTER_S * len(text.strip())
    if end_s - start_s <= 2 * longest:
        yield text, start_s, end_s
    else:
        yield text, start_s, start_s + longest
        yield text, end_s - longest, end_s


def laughed(text: str) -> bool:
    """Whether it is a laugh as recognisers write it, such as "Ha ha."."""
    words = [interviews.plain(word).replace("-", "") for word in text.split()]
    return bool(words) and all(re.fullmatch("a?(ha)+h?|(he)+h?", word) for word in words)


def wordless(levels: NDArray[np.float32], said: Sequence[Said]) -> NDArray[np.bool_]:
    """Of each 10 ms: does something sound, and nobody says a word?"""
    sounds = levels > np.percentile(levels, 95) - _SOUNDS_DB
    for text, start, end in said:
        if not laughed(text):
            sounds[max(int((start - _BESIDE_S) * _STEPS), 0) : int((end + _BESIDE_S) * _STEPS)] = 0
    return np.asarray(sounds)


def levels_of(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decibels of each whole 10 ms."""
    parts = sound[: len(sound) // 160 * 160].reshape(-1, 160)
    return np.asarray(10 * np.log10((parts**2).mean(axis=1) + 1e-9))


def pieces(free: NDArray[np.bool_], heard: Heard) -> Iterator[tuple[Span, float]]:
    """Laughs, seconds from and to, and the detector's mean over each.

    The detector hears a second at once, so a piece ends where the sound ends or a word begins, and
    is as long as the detector is sure all along.
    """
    if not len(heard.at_s):
        return
    times = np.arange(len(free)) / _STEPS
    track = np.interp(times, heard.at_s, heard.probability, left=0, right=0)
    likely = free & (track >= _PART)
    edges = np.flatnonzero(np.diff(likely, prepend=False, append=False)).reshape(-1, 2)
    joined: list[list[int]] = []
    for begin, end in edges:
        if joined and begin - joined[-1][1] <= _GAP_S * _STEPS:
            joined[-1][1] = int(end)
        else:
            joined.append([int(begin), int(end)])
    for begin, end in joined:
        end = min(end, begin + int(_LENGTH_S[1] * _STEPS))
        mean = float(track[begin:end].mean())
        if end - begin >= _LENGTH_S[0] * _STEPS and mean >= _LAUGH:
            yield (begin / _STEPS, end / _STEPS), mean


def rhythm(levels: NDArray[np.float32]) -> float:
    """How evenly bursts follow each other: about 0 for a word or a breath, 1 for a drum.

    The levels, less what they are around each 0.3 s, one burst later, where they should be the
    same, and half of that, where they should be the opposite.
    """
    shape = np.hanning(33)
    floor = np.maximum(levels, levels.max() - _SOUNDS_DB)
    around = np.convolve(np.pad(floor, len(shape) // 2, mode="edge"), shape / shape.sum(), "valid")
    swing = floor - around

    def alike(lag: int) -> float:
        first, second = swing[:-lag], swing[lag:]
        return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-9))

    lags = range(int(_BURSTS_S[0] * _STEPS), int(_BURSTS_S[1] * _STEPS) + 1)
    return max((alike(lag) - alike(lag // 2)) / 2 for lag in lags if len(swing) > 2 * lag)


def heard(kept: Path, sound: NDArray[np.float32], free: NDArray[np.bool_], ear: Laughter) -> Heard:
    """The detector's answers where there are no words, kept: a minute of one core and more."""
    if not kept.exists():
        at = np.arange(0, 1 + len(sound) // 2 // laughter.HOP, _EVERY)
        step = np.minimum((at * laughter.FRAME_S * _STEPS).astype(int), len(free) - 1)
        near = np.convolve(free, np.ones(2 * _NEAR + 1), "same")[step] > 0.5
        found = ear.at(resampled(sound), at[near])
        np.savez(kept, at_s=at[near] * laughter.FRAME_S, probability=found)
    with np.load(kept) as answers:
        return Heard(answers["at_s"], answers["probability"])


def voice_band(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """300 Hz to 4 kHz: without the hum of a room and its hiss."""
    from scipy.signal import butter, sosfilt  # needed here only; the evaluation goes without

    band = butter(2, [300, 4000], "band", fs=RATE, output="sos")
    return np.asarray(sosfilt(band, sound), np.float32)


def resampled(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(sound, 1, RATE // laughter.RATE), np.float32)


def cut(recording: Recording, out: Path, ear: Laughter) -> Iterator[Row]:
    """Writes the laughs of one recording to `out` / laugh and says what they are."""
    sound, _ = soundfile.read(recording.path, dtype="float32")
    free = wordless(levels_of(sound), recording.said)
    answers = heard(out / FOLDER / f"{recording.name}.npz", sound, free, ear)
    for (start, end), mean in pieces(free, answers):
        name = f"{FOLDER}/{recording.name}@{start:.2f}.flac"
        before = min(start, _MARGIN_S)
        piece = sound[int((start - before) * RATE) : int((end + _MARGIN_S) * RATE)]
        even = rhythm(levels_of(voice_band(piece)))
        if even < _RHYTHM:
            continue
        soundfile.write(out / name, piece, RATE, subtype="PCM_16")
        spoken = speech_seconds(piece * (0.5 / max(float(np.abs(piece).max()), 1e-3)))
        yield dict(zip(COLUMNS, (
            f"train/{name}", FOLDER, FOLDER, recording.name, f"{len(piece) / RATE:.3f}",
            f"{before:.3f}", "", str(RATE), "", recording.path.name, LICENCE,
            f"P(laughter) {mean:.2f}, rhythm {even:.2f}, Silero hears speech in {spoken:.2f} s",
        ), strict=True))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=Path, required=True, help="folder of clones")
    add_audio(parser)
    arguments = parser.parse_args()
    more = cache_folder() / "more"
    (more / "train" / FOLDER).mkdir(parents=True, exist_ok=True)
    clone = Clone(arguments.repositories, DETECTOR)
    ear = Laughter(clone.read(path) for path in laughter.CHECKPOINTS)
    rows: list[Row] = []
    for recording in recordings(more, arguments.audio):
        found = list(cut(recording, more / "train", ear))
        rows += found
        print(f"{recording.name}: {len(found)} laughs", flush=True)
    for side in splits.Side:
        ones = Counter(row["speaker"] for row in rows if splits.side(row) is side)
        print(f"{side}: {ones.total()} laughs of {len(ones)} recordings")
    with (more / "train" / LAUGHS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
