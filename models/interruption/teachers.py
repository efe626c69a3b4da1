"""What a larger network hears in the clean clips, kept for the small one to learn from.

    python -m models.interruption.teachers

smart-turn's P(the turn is complete) for each clip up to a moment, every 300 ms. It is read while
building only; the exported file holds nothing of it but what was learnt.
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

_STEP_S = 0.3
_ANSWERS_MAX = 5  # the model is judged up to 1.2 s after the onset; later answers teach little
_TRAILING_S = 0.3


class Teachers:
    """Finished answers in the cache; a clip without one simply teaches less."""

    def __init__(self, folder: Path) -> None:
        self._endings: dict[str, NDArray[np.float32]] = {}
        for path in sorted(folder.glob("endings-*.npz")):
            self._endings |= _known(path)

    def __len__(self) -> int:
        return len(self._endings)

    def endings(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Times in the clip in seconds, rising, and P(complete) at each."""
        known = self._endings.get(name)
        return None if known is None else (known[0], known[1])


def _known(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _save(path: Path, found: dict[str, NDArray[np.float32]]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]
    os.replace(partial, path)


def answers(clip: Clip) -> NDArray[np.float32]:
    """[2, moments]: seconds in the clip, P(complete) for what was said until then."""
    from models.interruption.baselines import turn_complete

    times = clip.onset_s + np.arange(1, _ANSWERS_MAX + 1) * _STEP_S
    times = times[times < clip.end_s + _TRAILING_S]
    samples = clip.samples[: int(clip.end_s * 16_000)].astype(np.float32) / 32768
    samples = np.pad(samples, (0, int(_TRAILING_S * 16_000)))
    return np.array([times, [turn_complete(samples[: int(t * 16_000)]) for t in times]], np.float32)


def main() -> None:
    from models.interruption.clips import Clips
    from models.interruption.splits import Side

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

    clips = Clips(arguments.audio, root / arguments.voices, Side.TRAIN).every(
        lambda clip: clip.kind.startswith(("voice_", "speech_", "meeting_", "short_calls"))
    )
    order = np.random.default_rng(arguments.seed).permutation(len(clips))
    done = Teachers(folder)
    missing = [clips[i] for i in order[number::of] if done.endings(clips[i].name) is None]
    found, started = _known(mine), time.monotonic()
    for count, clip in enumerate(missing, start=1):
        found[clip.name] = answers(clip)
        if count % 50 == 0 or count == len(missing):
            _save(mine, found)
            took = time.monotonic() - started
            print(f"clip {count}/{len(missing)}, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
