"""What teachers said of the clips, as it is kept in the cache.

`label.teachers` and `label.align` ask them and write it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.interruption.data.clips import Clip, pauses
from models.interruption.data.phonemes import with_pauses
from models.interruption.pretrained import silero
from models.interruption.pretrained.silero import SAMPLE_RATE, VAD_FRAME

SPOKEN = ("voice_", "speech_", "meeting_", "interview_", "short_calls", "word_")
"""How the kinds begin in which somebody speaks."""

# Commands are complete as sentences, and yet their callers want an answer. Of these kinds it is not
# asked; P(complete) is taught as what counts against a turn: that nothing more is wanted.
WANTS_NO_MORE = {
    "voice_floor": 0.1, "short_calls": 0.1, "word_call": 0.1, "word_backchannel": 0.9,
}  # fmt: skip

SPEECH = "speech.npz"  # P(speech) by the name of the clip
PHONEMES = "phonemes.json"  # what `align` writes
FITS = -2.2  # mean log probability of a recording's phonemes, from which they count
_SAME_START_S = 1e-3

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
            self._endings |= load_arrays(path)
        self._speech: dict[str, NDArray[np.float32]] = dict(load_arrays(folder / SPEECH))
        self._aligned = _aligned(folder / PHONEMES)
        self._phonemes: dict[str, Phonemes | None] = {}
        self._silero = silero.installed()

    def __len__(self) -> int:
        return len(self._endings)

    def starts(self, name: str) -> list[float]:
        """Seconds in the clip from which answers are known."""
        return [float(one[0, 0]) for one in self._endings.get(name, ())]

    def endings(self, name: str, start_s: float) -> Answers | None:
        """Answers for what is said from `start_s` on, where that was asked."""
        asked = self._endings.get(name)
        if asked is None:
            return None
        same = np.flatnonzero(np.abs(asked[:, 0, 0] - start_s) < _SAME_START_S)
        return np.asarray(asked[same[0]]) if len(same) else None

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
        if not self._silero or not clip.kind.startswith(SPOKEN):
            return None
        if clip.name not in self._speech:
            self._speech |= speech_of([clip])
        found = self._speech[clip.name]
        times = (np.arange(len(found)) + 1) * VAD_FRAME / SAMPLE_RATE
        return times.astype(np.float32), found


def load_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """All arrays of a file by their names; none where there is no file."""
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


def save_arrays(path: Path, found: dict[str, NDArray[np.float32]]) -> None:
    """Writes what `load_arrays` reads; no reader meets a half of it."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]
    os.replace(partial, path)


def speech_of(clips: list[Clip]) -> dict[str, NDArray[np.float32]]:
    """Silero's P(speech) for each whole 32 ms frame of each clip, all at one loudness."""
    sounds = np.zeros((len(clips), max(len(clip.samples) for clip in clips)), np.float32)
    for sound, clip in zip(sounds, clips, strict=True):
        loudest = max(float(np.abs(clip.samples.astype(np.float32)).max()), 1.0)
        sound[: len(clip.samples)] = clip.samples.astype(np.float32) * (0.5 / loudest)
    found = silero.speech_probabilities(sounds)
    return {
        clip.name: heard[: len(clip.samples) // VAD_FRAME]
        for clip, heard in zip(clips, found, strict=True)
    }
