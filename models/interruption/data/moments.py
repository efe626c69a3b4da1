"""Recorded sounds as a caller's line would carry them: for the regression set that ships, and for
the simulation of learning from calls. Needs NumPy and soundfile alone.

What is share-alike (cries, studio prompts) is left out. Callers in the room next door are voices of
other people of the same folder, reverberated and quieter.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.interruption.data import splits

RATE: Final = 16_000
BEFORE_S, AFTER_S = 1.0, 2.0  # a client's window
LEAD_S: Final = 0.03
FAR_DB: Final = -14.0  # of a voice from the next room
FOLDERS: Final = ("speech_libri", "speech_ocean", "short_calls")
COUGHS, NOISES, FAR, MEETINGS = "coughs", "noises and music", "far voices", "meetings"
KINDS: Final = {
    "speech_libri": "read sentences",
    "speech_ocean": "short sentences, accents",
    "short_calls": "single words and calls",
}
TURNS, BACKCHANNELS = "turns in meetings", "backchannels in meetings"
_SHARE_ALIKE: Final = ("babycry_", "ivr_speech/")

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Sound:
    """`samples` begin LEAD_S before the sound does. `source`: who may be heard again elsewhere."""

    folder: str
    kind: str
    floor: bool
    source: str
    held_out: bool
    samples: Samples


@dataclass(frozen=True)
class Line:
    """What one customer's calls go through."""

    low_hz: float = 60.0
    high_hz: float = 7600.0
    level_dbfs: float = -26.0
    noise_db: float = -40.0  # below the voice
    room_s: float = 0.0  # of an echo that is 60 dB down after this


def sounds(audio: Path) -> Iterator[Sound]:
    """All of the manifest that may be used, and the meetings' turns and backchannels."""
    with (audio / "train/manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        folder = Path(row["path"]).parent.name
        if any(part in row["path"] for part in _SHARE_ALIKE):
            continue
        if folder in KINDS:
            kind, floor = KINDS[folder], True
        elif folder == "cough":
            kind, floor = COUGHS, False
        elif folder in ("noise", "music"):
            kind, floor = NOISES, False
        else:
            continue
        samples = _read(audio / row["path"])
        onset = max(0, round((float(row["onset_s"] or 0) - LEAD_S) * RATE))
        held_out = splits.side(row) is splits.Side.EVAL
        yield Sound(folder, kind, floor, splits.group(row), held_out, samples[onset:])
    yield from _meetings(audio)


def _meetings(audio: Path) -> Iterator[Sound]:
    with (audio / "train/conversation_ami/segments.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole: dict[str, Samples] = {}
    for row in rows:
        floor = row["label"] == "turn"
        start, end = float(row["start_s"]), float(row["end_s"])
        if row["label"] not in ("turn", "backchannel") or (floor and end - start < 0.6):
            continue
        path = row["path"]
        if path not in whole:
            whole[path] = _read(audio / path)
        part = whole[path][max(0, round((start - LEAD_S) * RATE)) : round(end * RATE)]
        held_out = splits.side({"path": path, "speaker": "", "text": ""}) is splits.Side.EVAL
        kind = TURNS if floor else BACKCHANNELS
        yield Sound(MEETINGS, kind, floor, Path(path).stem, held_out, part)


def far(sound: Sound) -> Sound:
    """The same voice as of somebody in the next room, who does not speak to the agent."""
    return Sound(sound.folder, FAR, False, sound.source, sound.held_out, sound.samples)


def window(sound: Sound, line: Line, rng: np.random.Generator) -> NDArray[np.int16]:
    """BEFORE_S before the sound begins, and AFTER_S from then on, as the line carries it."""
    length = round((BEFORE_S + AFTER_S) * RATE)
    at = round((BEFORE_S - LEAD_S) * RATE)
    event = np.zeros(length)
    part = sound.samples[: length - at]
    event[at : at + part.size] = part
    if sound.kind == FAR:
        event = reverberated(reverberated(event, 0.5, rng), 0.5, rng)
    elif line.room_s:
        event = reverberated(event, line.room_s, rng)
    level = np.sqrt(np.mean(event[event != 0] ** 2)) if event.any() else 1.0
    quieter_db = FAR_DB if sound.kind == FAR else rng.uniform(-6, 3)
    event *= 10 ** ((line.level_dbfs + quieter_db) / 20) / max(float(level), 1e-9)
    noise = rng.normal(0, 10 ** ((line.level_dbfs + line.noise_db) / 20), length)
    heard = banded(event + noise, line.low_hz, line.high_hz)
    return np.clip(np.rint(heard * 32768), -32768, 32767).astype(np.int16)


def reverberated(x: Samples, seconds: float, rng: np.random.Generator) -> Samples:
    """Through a made room, direct sound first."""
    count = round(seconds * RATE)
    response = rng.normal(0, 1, count) * np.exp(-6.9 * np.arange(count) / count) * 0.08
    response[0] = 1.0
    size = x.size + count
    made = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(response, size), size)
    return np.asarray(made[: x.size])


def banded(x: Samples, low_hz: float, high_hz: float) -> Samples:
    """Without what lies outside the band."""
    spectrum = np.fft.rfft(x)
    hz = np.fft.rfftfreq(x.size, 1 / RATE)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    return np.asarray(np.fft.irfft(spectrum, x.size))


def _read(path: Path) -> Samples:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    if rate != RATE:
        raise ValueError(f"{path}: {rate} Hz, expected {RATE}")
    return np.asarray(samples[:, 0])
