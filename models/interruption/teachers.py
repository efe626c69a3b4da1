"""What larger networks hear in the clean clips, kept for the small one to learn from.

    python -m models.interruption.teachers units
    python -m models.interruption.teachers endings

`units`: every 20 ms one of 200 clusters of the Whisper encoder's output, a rough alphabet of
what is being said. `endings`: smart-turn's P(the turn is complete) for the clip up to a moment.
Both are read while building only; the exported file holds nothing of them but what was learnt.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.interruption.cache import cache_folder

if TYPE_CHECKING:
    from models.interruption.clips import Clip

UNITS = 200
UNIT_SAMPLES = 320  # Whisper's encoder gives one vector for 20 ms
_WINDOW = 30 * 16_000
_GAP = 6_400  # silence between two clips of a window
_ENDING_STEP_S = 0.2
_ENDINGS_MAX = 9  # the pair of `data.md` is judged up to 1.2 s; later answers teach little
_TRAILING_S = 0.3
_KMEANS_VECTORS, _KMEANS_ROUNDS = 60_000, 15


class Teachers:
    """Finished answers in the cache; a clip without one simply teaches less."""

    def __init__(self, folder: Path) -> None:
        self._units = _known(folder / "units.npz")
        self._endings = _known(folder / "endings.npz")

    def units(self, name: str) -> NDArray[np.int16] | None:
        return self._units.get(name)

    def endings(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Times in the clip in seconds, rising, and P(complete) at each."""
        known = self._endings.get(name)
        return None if known is None else (known[0], known[1])


def _known(path: Path) -> dict[str, NDArray]:  # type: ignore[type-arg]
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _save(path: Path, found: dict[str, NDArray]) -> None:  # type: ignore[type-arg]
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **found)
    os.replace(partial, path)


def _windows(clips: list[Clip]) -> list[list[tuple[Clip, int]]]:
    """Clips packed into 30 s, each with the sample at which it starts."""
    windows: list[list[tuple[Clip, int]]] = []
    room = 0
    for clip in clips:
        needed = len(clip.samples) + _GAP
        if not windows or room < needed:
            windows.append([])
            room = _WINDOW
        start = _WINDOW - room
        windows[-1].append((clip, -(-start // UNIT_SAMPLES) * UNIT_SAMPLES))
        room -= needed + UNIT_SAMPLES
    return windows


def _encoded(clips: list[Clip], model: Path, threads: int) -> dict[str, NDArray[np.float16]]:
    """Encoder vectors [steps, 512] of each clip."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads,
                           local_files_only=True)  # fmt: skip
    found: dict[str, NDArray[np.float16]] = {}
    windows = _windows(clips)
    started = time.monotonic()
    for number, window in enumerate(windows):
        sound = np.zeros(_WINDOW, np.float32)
        for clip, start in window:
            piece = clip.samples[: _WINDOW - start].astype(np.float32) / 32768
            sound[start : start + len(piece)] = piece / max(float(np.abs(piece).max()), 0.01) * 0.5
        heard = np.asarray(whisper.encode(whisper.feature_extractor(sound)[:, :3000]))[0]
        for clip, start in window:
            first = start // UNIT_SAMPLES
            found[clip.name] = heard[first : first + len(clip.samples) // UNIT_SAMPLES].astype(
                np.float16
            )
        if number % 10 == 9:
            took = time.monotonic() - started
            print(f"window {number + 1}/{len(windows)}, {took:.0f} s", flush=True)
    return found


def _centres(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """k-means [UNITS, 512], started from random vectors."""
    rng = np.random.default_rng(seed)
    sample = vectors[rng.permutation(len(vectors))[:_KMEANS_VECTORS]]
    centres = sample[:UNITS].copy()
    for _ in range(_KMEANS_ROUNDS):
        nearest = _nearest(sample, centres)
        for unit in range(UNITS):
            mine = sample[nearest == unit]
            centres[unit] = mine.mean(axis=0) if len(mine) else sample[rng.integers(len(sample))]
    return centres


def _nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int16]:
    distance = (centres**2).sum(axis=1)[None] - 2 * vectors @ centres.T
    return distance.argmin(axis=1).astype(np.int16)


def make_units(clips: list[Clip], model: Path, folder: Path, threads: int, seed: int) -> None:
    found = _known(folder / "units.npz")
    missing = [clip for clip in clips if clip.name not in found]
    print(f"{len(missing)} clips without units", flush=True)
    vectors = _encoded(missing, model, threads)
    if (folder / "centres.npy").exists():
        centres = np.load(folder / "centres.npy")
    else:
        centres = _centres(np.concatenate(list(vectors.values())).astype(np.float32), seed)
        np.save(folder / "centres.npy", centres)
    for name, one in vectors.items():
        found[name] = _nearest(one.astype(np.float32), centres)
    _save(folder / "units.npz", found)


def make_endings(clips: list[Clip], folder: Path) -> None:
    from models.interruption.baselines import turn_complete

    found = _known(folder / "endings.npz")
    missing = [clip for clip in clips if clip.name not in found]
    started = time.monotonic()
    for number, clip in enumerate(missing):
        times = np.arange(1, _ENDINGS_MAX + 1) * _ENDING_STEP_S + clip.onset_s
        times = times[times < clip.end_s + _TRAILING_S]
        samples = clip.samples[: int(clip.end_s * 16_000)].astype(np.float32) / 32768
        samples = np.pad(samples, (0, int(_TRAILING_S * 16_000)))
        values = [turn_complete(samples[: int(t * 16_000)]) for t in times]
        found[clip.name] = np.array([times, values], np.float32)
        if number % 50 == 49:
            _save(folder / "endings.npz", found)
            print(
                f"clip {number + 1}/{len(missing)}, {time.monotonic() - started:.0f} s", flush=True
            )
    _save(folder / "endings.npz", found)


def main() -> None:
    from models.interruption.clips import Clips
    from models.interruption.splits import Side

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["units", "endings"])
    parser.add_argument("--audio", type=Path, default=Path("../shared/audio"))
    parser.add_argument("--voices", default="voices-1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="so many clips of each kind at most")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    root = cache_folder()
    folder = root / "teachers"
    folder.mkdir(exist_ok=True)
    known = Clips(arguments.audio, root / arguments.voices, Side.TRAIN)
    spoken = [
        clip
        for kind, clips in sorted(known.by_kind.items())
        if kind.startswith(("voice_", "speech_", "meeting_", "short_calls"))
        for clip in clips[: arguments.limit]
    ]
    if arguments.what == "units":
        model = root / "downloads" / "whisper-base"
        make_units(spoken, model, folder, arguments.threads, arguments.seed)
    else:
        np.random.default_rng(arguments.seed).shuffle(spoken)  # type: ignore[arg-type]
        make_endings(spoken, folder)


if __name__ == "__main__":
    main()
