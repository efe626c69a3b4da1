"""What larger networks hear in the clean clips, kept for the small one to learn from.

    python -m models.interruption.label.teachers

Silero's P(speech) of the clip, and smart-turn's P(the turn is complete) for
what was said from a start in the clip up to some moments after it: from the onset, and in
recordings of whole sentences also from dips inside, since a scene may begin there; and, where
`align` was run, when each phoneme of a recording sounds. All are read while building only; the
exported file holds nothing of them but what was learnt.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.interruption.cache import cache_folder
from models.interruption.data.clips import Clip, pauses
from models.interruption.data.phonemes import with_pauses

# The model is judged up to 1.2 s after the onset; later answers teach little.
_MOMENTS_S = (0.3, 0.5, 0.7, 0.95, 1.25)
_TRAILING_S = 0.3
_INSIDE = 1  # starts inside a recorded sentence; another recording teaches more than a second one
_SPOKEN = ("voice_", "speech_", "meeting_", "interview_", "short_calls", "word_")
_RECORDED_SENTENCES = ("speech_libri", "speech_ocean", "speech_more")

# Commands are complete as sentences, and yet their callers want an answer. Of these kinds it is not
# asked; P(complete) is taught as what counts against a turn: that nothing more is wanted.
WANTS_NO_MORE = {
    "voice_floor": 0.1, "short_calls": 0.1, "word_call": 0.1, "word_backchannel": 0.9,
}  # fmt: skip

_SAME_START_S = 1e-3
_AT_ONCE = 64  # clips

SPEECH = "speech.npz"  # P(speech) by the name of the clip
PHONEMES = "phonemes.json"  # what `align` writes
FITS = -2.2  # mean log probability of a recording's phonemes, from which they count

Phonemes = tuple[NDArray[np.float64], NDArray[np.int16]]
"""Starts in seconds of the clip, rising, and the class of each."""

Answers = NDArray[np.float32]
"""[2, moments]: seconds in the clip, rising, and P(complete) for what was said until then. The
first column is the start, with P(complete) of nothing heard: 0."""


class Teachers:
    """Finished answers in the cache; a clip without one simply teaches less."""

    def __init__(self, folder: Path) -> None:
        self._endings: dict[str, NDArray[np.float32]] = {}  # [starts, 2, 1 + moments]
        for path in sorted(folder.glob("endings-*.npz")):
            self._endings |= _known(path)
        self._speech: dict[str, NDArray[np.float32]] = dict(_known(folder / SPEECH))
        self._aligned = _aligned(folder / PHONEMES)
        self._phonemes: dict[str, Phonemes | None] = {}
        self._silero = importlib.util.find_spec("silero_vad") is not None

    def __len__(self) -> int:
        return len(self._endings)

    def starts(self, name: str) -> list[float]:
        """Seconds in the clip from which answers are known."""
        return [float(one[0, 0]) for one in self._endings.get(name, ())]

    def endings(self, name: str, start_s: float) -> Answers | None:
        """Answers for what is said from `start_s` on, where that was asked."""
        for one in self._endings.get(name, ()):
            if abs(float(one[0, 0]) - start_s) < _SAME_START_S:
                return one
        return None

    def phonemes(self, clip: Clip) -> Phonemes | None:
        """When each phoneme starts in the clip, rising, and its number, where that is known."""
        if clip.name not in self._phonemes:
            found = clip.phonemes or self._aligned.get(clip.name)
            if found is not None:
                quiet = pauses(clip.samples, clip.onset_s, clip.end_s)
                found = with_pauses(*found, quiet)
            self._phonemes[clip.name] = found
        return self._phonemes[clip.name]

    def speech(self, clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Times in the clip and P(speech) until each, where someone speaks and Silero is here."""
        if not self._silero or not clip.kind.startswith(_SPOKEN):
            return None
        from models.interruption.pretrained.listeners import VAD_FRAME

        if clip.name not in self._speech:
            self._speech |= speech_of([clip])
        found = self._speech[clip.name]
        return (np.arange(len(found), dtype=np.float32) + 1) * VAD_FRAME / 16_000, found


def _known(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _aligned(path: Path) -> dict[str, Phonemes]:
    found = json.loads(path.read_text()) if path.exists() else {}
    return {
        name: (np.array(one["starts_s"]), np.array(one["classes"], np.int16))
        for name, one in found.items()
        if one["fits"] >= FITS
    }


def _save(path: Path, found: dict[str, NDArray[np.float32]]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]
    os.replace(partial, path)


def speech_of(clips: list[Clip]) -> dict[str, NDArray[np.float32]]:
    """Silero's P(speech) for each whole 32 ms frame of each clip, all at one loudness."""
    from models.interruption.pretrained.listeners import VAD_FRAME, speech_probabilities

    sounds = np.zeros((len(clips), max(len(clip.samples) for clip in clips)), np.float32)
    for sound, clip in zip(sounds, clips, strict=True):
        loudest = max(float(np.abs(clip.samples.astype(np.float32)).max()), 1.0)
        sound[: len(clip.samples)] = clip.samples.astype(np.float32) * (0.5 / loudest)
    found = speech_probabilities(sounds)
    return {
        clip.name: heard[: len(clip.samples) // VAD_FRAME]
        for clip, heard in zip(clips, found, strict=True)
    }


def _ask_silero(clips: list[Clip], path: Path) -> None:
    """Adds to the file what it lacks; clips of like length at once, which takes a tenth each."""
    found = _known(path)
    missing = sorted((c for c in clips if c.name not in found), key=lambda c: len(c.samples))
    for start in range(0, len(missing), _AT_ONCE):
        found |= speech_of(missing[start : start + _AT_ONCE])
    if missing:
        _save(path, found)


def starts(clip: Clip) -> list[float]:
    """The onset and, in recorded sentences, some dips inside."""
    from models.interruption.data.scenes import inside_start

    if clip.kind not in _RECORDED_SENTENCES:
        return [clip.onset_s]
    rng = np.random.default_rng(crc32(clip.name.encode()))
    return [clip.onset_s, *(inside_start(rng, clip) for _ in range(_INSIDE))]


def answers(clip: Clip) -> NDArray[np.float32]:
    """[starts, 2, 1 + moments]; moments after the end of the sound are asked of the silence."""
    from models.interruption.pretrained.listeners import turn_complete

    sound = clip.samples[: int(clip.end_s * 16_000)].astype(np.float32) / 32768
    sound = np.pad(sound, (0, int((max(_MOMENTS_S) + _TRAILING_S) * 16_000)))
    found = []
    for start in starts(clip):
        times = start + np.array(_MOMENTS_S)
        last = clip.end_s + _TRAILING_S  # what is asked later, is asked then
        said = [
            turn_complete(sound[int(start * 16_000) : int(min(t, last) * 16_000)]) for t in times
        ]
        found.append([[start, *times], [0.0, *said]])
    return np.array(found, np.float32)


def main() -> None:
    from models.interruption.data.clips import Clips
    from models.interruption.data.splits import Side

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, default=Path("../shared/audio"))
    parser.add_argument("--voices", default="voices-1")
    parser.add_argument("--worker", default="0/1", help="this process of how many, such as 0/2")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    number, of = map(int, arguments.worker.split("/"))
    root = cache_folder()
    folder = root / "teachers"
    folder.mkdir(exist_ok=True)
    mine = folder / f"endings-{number}-{of}.npz"

    every = Clips(arguments.audio, root / arguments.voices, Side.TRAIN, more=root / "more")
    spoken = every.every(lambda clip: clip.kind.startswith(_SPOKEN))
    if number == 0:
        _ask_silero(spoken, folder / SPEECH)
    clips = [clip for clip in spoken if clip.kind not in WANTS_NO_MORE]
    order = np.random.default_rng(arguments.seed).permutation(len(clips))
    # real people first, in conversation before all: what is learnt from them carries over
    turns = ("interview_", "meeting_", "speech_", "short_calls", "voice_")
    rank = [next(n for n, kind in enumerate(turns) if clip.kind.startswith(kind)) for clip in clips]
    order = np.array(sorted(order, key=lambda i: rank[i]))
    done = Teachers(folder)
    missing = [clips[i] for i in order[number::of] if not done.starts(clips[i].name)]
    found, started = _known(mine), time.monotonic()
    for count, clip in enumerate(missing, start=1):
        found[clip.name] = answers(clip)
        if count % 50 == 0 or count == len(missing):
            _save(mine, found)
            took = time.monotonic() - started
            print(f"clip {count}/{len(missing)}, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
