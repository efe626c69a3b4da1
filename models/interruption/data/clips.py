"""What a scene is made of: recordings and made voices, one side of the split.

A clip knows where its sound begins and ends and, where the caller takes the floor in it, from when
on one could know (`decisive_s`): the start of speech, or of what follows a backchannel.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray

from models.interruption.data import interviews, splits, voices
from models.interruption.data.channel import Backgrounds
from models.interruption.data.collect import LAUGHS, LISTENING_WORDS, WORDS
from models.interruption.data.nonverbal import RATE
from models.interruption.data.phonemes import numbered
from models.interruption.data.splits import Side
from models.interruption.sound import as_float

_OVERLAP_S_MAX = 0.25  # more of another voice in a meeting crop and its label is in doubt
_OVERLAP_SHARE_MAX = 0.3
_COUGH_SPEECH_S_MAX = 0.5  # by Silero VAD; someone may be speaking in these
_SOUNDS_DB = 32.0  # below the loudest moment; what is quieter is the room
_WORDS_OF_LISTENING = frozenset("yeah uh huh mm hmm okay ha right yes um oh no".split())


@dataclass(frozen=True)
class Clip:
    name: str  # unique, such as speech_libri/103-1240-0000 or voice/000017
    kind: str
    group: str  # who or what it was recorded from, as `splits.group` says
    samples: NDArray[np.int16]
    onset_s: float
    end_s: float
    decisive_s: float | None  # None: never an interruption
    # When each phoneme starts, rising, and its number; known for made voices only.
    phonemes: tuple[NDArray[np.float64], NDArray[np.int16]] | None = None
    # How far below what is usual in that recording it is, where that is known.
    quieter_db: float | None = None
    text: str = ""  # what is said, where somebody wrote it down or a recogniser did


def levels_db(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Power of each 10 ms in dB (of a sample's unit squared), what is over at the end left out."""
    steps = samples[: len(samples) // 160 * 160].reshape(-1, 160).astype(np.float32)
    return np.asarray(10 * np.log10((steps**2).mean(axis=1) + 1e-3))


def sounding(samples: NDArray[np.int16], below_peak_db: float = _SOUNDS_DB) -> tuple[float, float]:
    """First and last second at which a 10 ms step is within so many decibels of the loudest."""
    energy = levels_db(samples)
    on = np.flatnonzero(energy > energy.max() - below_peak_db)
    return float(on[0]) * 0.01, float(on[-1] + 1) * 0.01


def pauses(samples: NDArray[np.int16], start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Seconds from and to which nothing sounds for a tenth of a second or more."""
    energy = levels_db(samples)
    at = np.arange(len(energy)) * 0.01
    quiet = (energy <= energy.max() - _SOUNDS_DB) & (at >= start_s) & (at < end_s)
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    return [(float(a) * 0.01, float(b) * 0.01) for a, b in edges if b - a >= 10]


def loudness_db(samples: NDArray[np.int16], start_s: float, end_s: float) -> float:
    """Of the louder fifth of the first 0.6 s: of what is said and not of its pauses."""
    part = samples[int(start_s * RATE) : int(min(end_s, start_s + 0.6) * RATE)].astype(np.float32)
    steps = part[: max(len(part) // 400, 1) * 400].reshape(-1, min(400, len(part)))
    return float(np.percentile(10 * np.log10((steps**2).mean(axis=1) + 1e-3), 80))


def quiet_end(clip: Clip, about_s: float) -> float:
    """The quietest moment within 100 ms of so many seconds after the clip's onset."""
    level = levels_db(clip.samples)
    middle = int((clip.onset_s + about_s) * 100)
    low, high = max(middle - 10, 1), min(middle + 10, len(level))
    if high <= low:
        return about_s
    return float(low + int(np.argmin(level[low:high]))) / 100 - clip.onset_s


def inside_start(rng: Generator, clip: Clip) -> float:
    """A dip of the loudness somewhere in the clip, at least 0.8 s before its end."""
    last = clip.end_s - 0.8
    if last <= clip.onset_s:
        return clip.onset_s
    about = float(rng.uniform(0, last - clip.onset_s))
    return float(np.clip(clip.onset_s + quiet_end(clip, about), clip.onset_s, last))


def _read(path: Path) -> NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE, path
    return np.asarray(samples)


def _rows(manifest: Path, side: Side, fold: int | None) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if splits.side(row, fold) is side]


class Clips:
    """All clips of one side, by kind, plus the backgrounds of that side."""

    def __init__(
        self,
        audio: Path,
        made: Path,
        side: Side,
        fold: int | None = None,
        meetings: bool = True,
        more: Path | None = None,
    ) -> None:
        self.by_kind: dict[str, list[Clip]] = defaultdict(list)
        self._rirs: list[NDArray[np.int16]] = []
        rows = _rows(audio / "train" / "manifest.csv", side, fold)
        self._add_recordings(audio, rows)
        if more is not None and more.exists():  # what `collect` made
            self._add_recordings(more, _rows(more / "train" / "manifest.csv", side, fold))
            self._add_interviews(more, side)
            if (more / "train" / LAUGHS).exists():
                self._add_recordings(more, _rows(more / "train" / LAUGHS, side, fold))
        if meetings:
            self._add_meetings(audio, {row["path"] for row in rows})
        for path, note in voices.notes(made):
            if note["side"] == side:
                self._add_voice(path, note)

    def _add(self, clip: Clip) -> None:
        self.by_kind[clip.kind].append(clip)

    def _add_recordings(self, folder: Path, rows: list[dict[str, str]]) -> None:
        for row in rows:
            samples = _read(folder / row["path"])
            if Path(row["path"]).parent.name == "rir":
                self._rirs.append(samples)
            elif Path(row["path"]).parent.name != "conversation_ami":
                self._add_recording(row, samples)

    def _add_recording(self, row: dict[str, str], samples: NDArray[np.int16]) -> None:
        path = Path(row["path"])
        folder = path.parent.name
        first, last = sounding(samples)
        speech = folder.startswith("speech_") or folder == "short_calls"
        onset = float(row["onset_s"] or first)
        if folder == "cough" and float(row["note"].split()[-2]) > _COUGH_SPEECH_S_MAX:
            return
        kind = {"noise": "baby_cry" if row["label"] == "baby_cry" else "noise"}.get(folder, folder)
        if folder == WORDS:
            kind = "word_backchannel" if row["text"] in LISTENING_WORDS else "word_call"
        self._add(
            Clip(f"{folder}/{path.stem}", kind, splits.group(row), samples, onset,
                 max(last, onset + 0.05),
                 onset if speech and kind != "word_backchannel" else None,
                 # of single words it is the name of a folder
                 text="" if folder == "short_calls" else row["text"])
        )  # fmt: skip

    def _add_meetings(self, audio: Path, wanted: set[str]) -> None:
        """Crops of meetings: a quarter of a second around a segment that is mostly one voice."""
        with (audio / "train" / "conversation_ami" / "segments.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                start, end = float(row["start_s"]), float(row["end_s"])
                overlap = float(row["overlap_with_others_s"])
                crowded = overlap > max(_OVERLAP_S_MAX, _OVERLAP_SHARE_MAX * (end - start))
                short = row["label"].startswith("backchannel")
                if row["path"] not in wanted or (crowded and not short) or start < 0.05:
                    continue
                if row["label"] == "backchannel_likely":
                    continue
                words = set(re.findall("[a-z]+", row["auto_text"].lower()))
                listening = bool(words) and words <= _WORDS_OF_LISTENING
                if not short and (end - start < 0.8 or listening):
                    continue  # labels are automatic: what may be a row of backchannels is left out
                before, after = min(0.25, start), 0.12 if short else 0.0
                samples = _read(audio / row["path"])
                crop = samples[
                    int((start - before) * RATE) : int(min(end + after, start + 3.5) * RATE)
                ]
                kind = "meeting_backchannel" if short else "meeting_turn"
                stem = Path(row["path"]).stem
                self._add(
                    Clip(f"conversation_ami/{stem}@{start}", kind,
                         f"conversation_ami/{row['speaker']}", crop, before,
                         before + min(end - start, 3.5), None if short else before,
                         text=row["auto_text"])
                )  # fmt: skip

    def _add_interviews(self, more: Path, side: Side) -> None:
        for path, rows in interviews.labelled(more, side).items():
            stem = Path(path).stem
            samples = _read(more / path)
            spans = [(float(row["start_s"]), float(row["end_s"])) for row in rows]
            loud = [loudness_db(samples, *span) for span in spans]
            usual = float(np.median([
                db for db, row in zip(loud, rows, strict=True) if row["label"] == "turn"
            ]))  # fmt: skip
            for row, (start, end), db in zip(rows, spans, loud, strict=True):
                short = row["label"] == "backchannel"
                before, after = min(0.25, start), 0.12 if short else 0.0
                crop = samples[int((start - before) * RATE) : int((end + after) * RATE)]
                decisive = None if short else before + float(row["decisive_s"]) - start
                kind = "interview_backchannel" if short else "interview_turn"
                self._add(
                    Clip(f"interviews/{stem}@{start}-{row['label']}", kind, f"interviews/{stem}",
                         crop, before, before + end - start, decisive,
                         quieter_db=float(np.clip(usual - db, -6, 20)), text=row["text"])
                )  # fmt: skip

    def _add_voice(self, path: Path, note: dict[str, Any]) -> None:
        samples = _read(path)
        first, last = sounding(samples)
        kinds = note["kinds"]
        if kinds == ["backchannel"]:
            kind, decisive = "voice_backchannel", None
        elif kinds[0] == "backchannel":
            kind, decisive = "voice_turned", note["part_starts_s"][1]
        else:
            kind, decisive = f"voice_{kinds[0]}", first
        self._add(
            Clip(f"voice/{path.stem}", kind, f"voice/{note['voices'][0]}", samples, first,
                 max(last, first + 0.05), decisive,
                 (np.array(note["phoneme_starts_s"]), numbered(note["phonemes"] + " ")))
        )  # fmt: skip

    def every(self, wanted: Callable[[Clip], bool] = lambda _: True) -> list[Clip]:
        return [clip for clips in self.by_kind.values() for clip in clips if wanted(clip)]

    def backgrounds(self) -> Backgrounds:
        def floats(kinds: tuple[str, ...]) -> list[NDArray[np.float32]]:
            return [as_float(clip.samples) for kind in kinds for clip in self.by_kind[kind]]

        return Backgrounds(
            rirs=[as_float(rir) for rir in self._rirs],
            noises=floats(("noise",)) or floats(("music",)),  # one place recorded all the noise
            music=floats(("music",)),
            speech=floats(("ivr_speech", "speech_libri", "speech_more", "voice_sentence")),
        )
