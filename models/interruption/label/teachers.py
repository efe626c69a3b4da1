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
import time
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data.answers import (
    SPEECH,
    SPOKEN,
    WANTS_NO_MORE,
    Teachers,
    load_arrays,
    save_arrays,
    speech_of,
)
from models.interruption.data.clips import Clip, Clips, inside_start
from models.interruption.data.splits import Side
from models.interruption.pretrained.smart_turn import turn_complete
from models.interruption.sound import as_float

# The model is judged up to 1.2 s after the onset; later answers teach little.
_MOMENTS_S = (0.3, 0.5, 0.7, 0.95, 1.25)
_TRAILING_S = 0.3
_INSIDE = 1  # starts inside a recorded sentence; another recording teaches more than a second one
_RECORDED_SENTENCES = ("speech_libri", "speech_ocean", "speech_more")
_AT_ONCE = 64  # clips


def ask_silero(clips: list[Clip], path: Path) -> None:
    """Adds to the file what it lacks; clips of like length at once, which takes a tenth each."""
    found = load_arrays(path)
    missing = sorted((c for c in clips if c.name not in found), key=lambda c: len(c.samples))
    for start in range(0, len(missing), _AT_ONCE):
        found |= speech_of(missing[start : start + _AT_ONCE])
    if missing:
        save_arrays(path, found)


def starts(clip: Clip) -> list[float]:
    """The onset and, in recorded sentences, some dips inside."""
    if clip.kind not in _RECORDED_SENTENCES:
        return [clip.onset_s]
    rng = np.random.default_rng(crc32(clip.name.encode()))
    return [clip.onset_s, *(inside_start(rng, clip) for _ in range(_INSIDE))]


def answers(clip: Clip) -> NDArray[np.float32]:
    """[starts, 2, 1 + moments]; moments after the end of the sound are asked of the silence."""
    sound = as_float(clip.samples[: int(clip.end_s * 16_000)])
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_audio(parser)
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
    spoken = every.every(lambda clip: clip.kind.startswith(SPOKEN))
    if number == 0:
        ask_silero(spoken, folder / SPEECH)
    clips = [clip for clip in spoken if clip.kind not in WANTS_NO_MORE]
    order = np.random.default_rng(arguments.seed).permutation(len(clips))
    # real people first, in conversation before all: what is learnt from them carries over
    turns = ("interview_", "meeting_", "speech_", "short_calls", "voice_")
    rank = [next(n for n, kind in enumerate(turns) if clip.kind.startswith(kind)) for clip in clips]
    order = np.array(sorted(order, key=lambda i: rank[i]))
    done = Teachers(folder)
    missing = [clips[i] for i in order[number::of] if not done.starts(clips[i].name)]
    found, started = load_arrays(mine), time.monotonic()
    for count, clip in enumerate(missing, start=1):
        found[clip.name] = answers(clip)
        if count % 50 == 0 or count == len(missing):
            save_arrays(mine, found)
            took = time.monotonic() - started
            print(f"clip {count}/{len(missing)}, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
