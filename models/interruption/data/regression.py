"""What ships with the model so that `gateway bargein learn` can tell what a change of it loses.

    python -m models.interruption.data.regression --audio FOLDER

writes `gateway/engines/interruption/regression.npz` for the published file: the directions in which
its head may change and windows to fit again, of people who trained it, and windows of people who
did not, to compare on; as numbers of the model's own, of which no sound can be made. Nothing in it
comes from share-alike recordings.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np

from gateway.engines.interruption.adapt import (
    BY_FRAMES,
    DIRECTIONS,
    EARLY_FRAMES,
    Basis,
    Regression,
    Window,
)
from gateway.engines.interruption.head import HeadOfModel, Heard
from models.interruption.cache import PUBLISHED, add_audio
from models.interruption.data.moments import BEFORE_S, FOLDERS, Line, Sound, far, sounds, window

TARGET: Final = Path(__file__).parents[3] / "gateway/engines/interruption/regression.npz"
EACH: Final = 60  # of a kind
FRAME_S: Final = 0.025
ONSET: Final = round(BEFORE_S / FRAME_S)


@dataclass(frozen=True)
class Taken:
    """A sound, and what the model makes of it through some line."""

    sound: Sound
    heard: Heard


def lines(rng: np.random.Generator) -> Line:
    """A headset, a telephone, a room: anything that people call with."""
    telephone = bool(rng.random() < 0.4)
    return Line(
        low_hz=300.0 if telephone else 60.0,
        high_hz=3400.0 if telephone else 7600.0,
        level_dbfs=float(rng.uniform(-34, -20)),
        noise_db=float(rng.uniform(-45, -18)),
        room_s=float(rng.choice([0.0, 0.2, 0.4])),
    )


def chosen(every: Iterable[Sound], each: int) -> list[Sound]:
    """At most so many of a kind, by a hash; voices serve once more as ones from the next room."""
    found: Counter[str] = Counter()
    taken = []
    order = sorted(every, key=lambda one: crc32(f"{one.source}{one.samples.size}".encode()))
    for sound in order:
        if found[sound.kind] < each:
            found[sound.kind] += 1
            taken.append(sound)
    voices = [one for one in order if one.folder in FOLDERS[:2]]
    return taken + [far(one) for one in voices[-each:]]


def heard(model: HeadOfModel, every: Iterable[Sound]) -> Iterator[Taken]:
    for number, sound in enumerate(every):
        rng = np.random.default_rng(number)
        yield Taken(sound, model.hear(window(sound, lines(rng), rng)))


def basis_of(features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Basis:
    """From features [frames, n] of general recordings."""
    mean = features.mean(axis=0)
    spread, directions = np.linalg.eigh(np.cov(features - mean, rowvar=False))
    top = np.argsort(spread)[::-1][:DIRECTIONS]
    scaled = directions[:, top] / np.sqrt(spread[top])
    return Basis(mean.astype(np.float32), scaled.astype(np.float32))


def window_of(taken: Taken, basis: Basis) -> Window:
    part = slice(ONSET - EARLY_FRAMES, ONSET + BY_FRAMES)
    return Window(
        taken.sound.source,
        taken.sound.kind,
        float(taken.sound.floor),
        EARLY_FRAMES,
        basis.marks(taken.heard.features[part]),
        taken.heard.logits[part],
    )


def made(audio: Path, model: HeadOfModel, each: int = EACH) -> Regression:
    every = list(sounds(audio))
    training, held_out = (
        list(heard(model, chosen([one for one in every if one.held_out is side], each)))
        for side in (False, True)
    )
    basis = basis_of(np.concatenate([one.heard.features for one in training]))
    windows, rehearsed = (
        tuple(window_of(one, basis) for one in side) for side in (held_out, training)
    )
    return Regression(model.sha256, basis, windows, rehearsed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_audio(parser)
    parser.add_argument("--model", type=Path, default=PUBLISHED)
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    found = made(arguments.audio, HeadOfModel(arguments.model))
    arguments.out.write_bytes(found.packed())
    for kind, count in Counter(one.kind for one in found.windows).items():
        print(f"{count:4d} {kind}")
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
