"""Makes the recordings that the clients play: a person or a noise over a quiet room.

Every event is put at the same level on the same room noise, so that neither tells the answer. All
of them come from people that the interruption model does not meet in training
(models/interruption/data/splits.py). They are made when tests need them, in the cache folder,
from tests/recordings; recordings.csv says what is in each.
"""

from __future__ import annotations

import hashlib
import os
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from tests.collection import RECORDINGS

RATE = 16000
LEAD_S = 1.3  # AgentSession hears to the agent for a second before interruptions count
TAIL_S = 0.45  # the silence that ends an overlap, and some
EVENT_DBFS = -24.0
ROOM_DBFS = -58.0
FADE_S = 0.01
ROOM = "noise/bg_noise8.flac"

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    name: str
    label: str  # interruption, backchannel, cough
    path: str
    start_s: float
    length_s: float
    source: str
    licence: str


LIBRI = ("LibriSpeech (V. Panayotov et al., 2015)", "CC BY 4.0")
OCEAN = ("SpeechOcean762 (J. Zhang et al., 2021)", "CC BY 4.0")
AMI = ("AMI Meeting Corpus (J. Carletta et al., 2006)", "CC BY 4.0")
COUGH = ("covid19-cough/dataset", "CC0 1.0")
CUTS = (
    Cut("interruption-libri-1034", "interruption",
        "speech_libri/1034-121119-0000.flac", 0.22, 3.0, *LIBRI),
    Cut("interruption-libri-1355", "interruption",
        "speech_libri/1355-39947-0000.flac", 0.22, 3.0, *LIBRI),
    Cut("interruption-libri-1723", "interruption",
        "speech_libri/1723-141149-0000.flac", 0.29, 3.0, *LIBRI),
    Cut("interruption-ocean-0070", "interruption",
        "speech_ocean/000700008.flac", 0.80, 2.4, *OCEAN),
    Cut("interruption-ami-dev01", "interruption",
        "conversation_ami/dev01-7.024.flac", 0.0, 3.0, *AMI),
    Cut("backchannel-ami-okay-dev01", "backchannel",
        "conversation_ami/dev01-29.072.flac", 0.0, 0.464, *AMI),
    Cut("backchannel-ami-uhhuh-tst01", "backchannel",
        "conversation_ami/tst01-4.39.flac", 0.0, 0.35, *AMI),
    Cut("backchannel-ami-okay-tst01", "backchannel",
        "conversation_ami/tst01-16.495.flac", 0.0, 0.54, *AMI),
    Cut("cough-32beb616", "cough",
        "cough/msg_32beb616-f7e2-4ab9-95a3-20b014dd66eb.flac", 0.125, 0.8, *COUGH),
    Cut("cough-063900f6", "cough",
        "cough/msg_063900f6-c03b-4ffb-b51b-877b6b5a74d5.flac", 0.138, 0.9, *COUGH),
    Cut("cough-934bacd3", "cough",
        "cough/msg_934bacd3-e5cb-4164-b999-52cfaa22ce18.flac", 0.375, 0.9, *COUGH),
)  # fmt: skip


def at_level(samples: Samples, dbfs: float) -> Samples:
    """Scaled so that the loudest quarter second has this level."""
    square = np.convolve(samples**2, np.ones(RATE // 4) / (RATE // 4), mode="same")
    scaled: Samples = samples * 10 ** (dbfs / 20) / max(np.sqrt(square.max()), 1e-9)
    return scaled


def faded(samples: Samples) -> Samples:
    ramp = np.linspace(0, 1, int(FADE_S * RATE))
    samples = samples.copy()
    samples[: len(ramp)] *= ramp
    samples[-len(ramp) :] *= ramp[::-1]
    return samples


def made_folder() -> Path:
    """Where what is made is kept: a folder for each version of what makes it."""
    kept = Path(os.environ.get("PARLEY_CACHE") or "~/.cache/parley").expanduser()
    return kept / f"recordings-{_version()}"


@cache
def _version() -> str:
    """Changes with the programs and with the recordings."""
    made_by = (Path(__file__), Path(__file__).with_name("make_turns.py"))
    digest = hashlib.sha256()
    for path in (*made_by, *sorted(RECORDINGS.rglob("*.flac"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read(path: str) -> Samples:
    """A recording of the repository."""
    samples: Samples
    samples, rate = soundfile.read(RECORDINGS / path)
    assert rate == RATE
    return samples


def write_scene(path: Path, event: Samples, lead_s: float, tail_s: float, turn: int) -> None:
    """Write `event` over the quiet room; `turn` picks which part of the room is heard."""
    total = round((lead_s + tail_s) * RATE) + len(event)
    scene = at_level(np.resize(np.roll(read(ROOM), -turn * RATE), total), ROOM_DBFS)
    at = round(lead_s * RATE)
    scene[at : at + len(event)] += event
    samples = np.clip(np.round(scene * 32767), -32768, 32767).astype("<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    with wave.open(str(unfinished), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    unfinished.rename(path)


def make() -> None:
    """Make what is not there yet."""
    for number, cut in enumerate(CUTS):
        path = made_folder() / f"{cut.name}.wav"
        if not path.is_file():
            start = int(cut.start_s * RATE)
            event = read(cut.path)[start : start + int(cut.length_s * RATE)]
            write_scene(path, faded(at_level(event, EVENT_DBFS)), LEAD_S, TAIL_S, number)
