"""Builds the training set: scenes of one side of the split, as features in shards.

    python -m models.interruption.data.build --shards 16

Each shard is a pure function of seed, side, fold and its number, so building resumes where it
stopped. Shards hold features, not sound: 60 kB a scene, a third of it the scene before any channel,
for teachers.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from models.interruption.cache import add_audio, cache_folder
from models.interruption.data import features
from models.interruption.data.answers import Teachers
from models.interruption.data.channel import close_up
from models.interruption.data.clips import Clips
from models.interruption.data.nonverbal import Audio
from models.interruption.data.scenes import FRAMES, NOT_SPEECH, Stage
from models.interruption.data.splits import Side

if TYPE_CHECKING:
    from models.interruption.pretrained.ear import Ear

SCENES = 2048  # of one shard
EAR_SIZE = 96  # as in network, which needs torch
_AT_ONCE = 32
_WORDS_LEVEL = 0.05  # RMS, -26 dBFS: a usual loudness of speech


def words_of(sounds: list[Audio], ear: Ear) -> NDArray[np.float32]:
    """What the ear makes of clean sounds, [sounds, FRAMES, EAR_SIZE]: its newest at each frame."""
    all_sounds = np.stack(sounds)
    loud = np.abs(all_sounds) > 1e-3
    power = (all_sounds**2).sum(axis=1, where=loud) / np.maximum(loud.sum(axis=1), 1)
    scaled = all_sounds * (_WORDS_LEVEL / np.sqrt(power + 1e-8))[:, None]
    heard = ear.heard(np.round(np.clip(scaled, -1, 1) * 32767).astype(np.int16))
    ends = (np.arange(FRAMES) + 1) * features.FRAME
    return heard[:, np.maximum(ends // ear.STEP - 1, 0)]


def build_shard(
    stage: Stage,
    seed: tuple[int, ...],
    scenes: int,
    target: Path,
    only: list[str] | None = None,
    ear: Ear | None = None,
    ear_every: int = 1,
) -> None:
    """Writes the shard; where it exists, its sounds are kept and what is known of them renewed."""
    x = np.empty((scenes, FRAMES, features.SIZE), np.float16)
    heard = target.exists()
    clean = np.empty_like(x)
    words = np.full((scenes, FRAMES, EAR_SIZE), np.nan, np.float16)
    if heard:
        with np.load(target) as shard:
            x[:], words[:] = shard["x"], shard["words"]
            clean[:] = shard["clean" if "clean" in shard else "x"]
    label = np.empty((scenes, FRAMES), np.uint8)
    weight = np.empty((scenes, FRAMES), np.float16)
    speech = np.empty((scenes, FRAMES), np.float16)
    phonemes = np.empty((scenes, FRAMES), np.int16)
    ending = np.empty((scenes, FRAMES), np.float16)
    kinds, groups, onsets = [], [], np.empty(scenes, np.float32)
    pending: list[tuple[int, Audio]] = []
    for i in range(scenes):
        rng, kind = default_rng((*seed, i)), only[i % len(only)] if only else None
        if heard:
            scene = stage.written(rng, kind)
        else:
            scene, sound = stage.scene(rng, kind)
            x[i] = features.of(sound)
            clean[i] = features.of(close_up(rng, scene.sound, scene.loud, scene.quieter_db))
            if ear is not None and i % ear_every == 0 and scene.kind not in NOT_SPEECH:
                pending.append((i, scene.sound))
            if ear and (len(pending) == _AT_ONCE or (pending and i >= scenes - ear_every)):
                words[[at for at, _ in pending]] = words_of([one for _, one in pending], ear)
                pending.clear()
        label[i], weight[i], speech[i] = scene.label, scene.weight, scene.speech
        phonemes[i], ending[i] = scene.phonemes, scene.ending
        kinds.append(scene.kind)
        groups.append(scene.group)
        onsets[i] = scene.onset_s
    if heard:
        with np.load(target) as shard:
            before = shard["groups"] if "groups" in shard else np.full(scenes, "")
            changed = any(old and old != new for old, new in zip(before, groups, strict=True))
            if changed or list(shard["kinds"]) != kinds:
                raise ValueError(f"{target} was built from other clips, voices or shares of kinds")
    partial = target.with_suffix(".part")  # no name that a reader of shards would take
    with partial.open("wb") as file:
        np.savez(
            file, x=x, clean=clean, label=label, weight=weight, speech=speech, words=words,
            phonemes=phonemes, ending=ending, kinds=np.array(kinds), groups=np.array(groups),
            onsets=onsets,
        )  # fmt: skip
    os.replace(partial, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_audio(parser)
    parser.add_argument("--name", default="scenes", help="folder of the set, below the cache")
    parser.add_argument("--voices", default="voices-1", help="folder of the made voices")
    parser.add_argument("--side", type=Side, default=Side.TRAIN)
    parser.add_argument("--fold", type=int, help="AMI group to hold out instead of the default")
    parser.add_argument("--no-meetings", action="store_true", help="leave AMI out altogether")
    parser.add_argument("--shards", type=int, default=16, help=f"of {SCENES} scenes")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--only", nargs="+", help="kinds of scenes, in turn, instead of all")
    parser.add_argument(
        "--renew", action="store_true", help="labels of finished shards, from the same clips"
    )
    parser.add_argument(
        "--ear-every", type=int, default=1, metavar="N",
        help="only each Nth scene is heard by the ear, which takes half of the time",
    )  # fmt: skip
    parser.add_argument("--worker", default="0/1", help="this process of how many, such as 0/2")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    number, of = map(int, arguments.worker.split("/"))

    root = cache_folder()
    out = root / arguments.name
    out.mkdir(exist_ok=True)
    started = time.monotonic()
    clips = Clips(arguments.audio, root / arguments.voices, arguments.side, arguments.fold,
                  meetings=not arguments.no_meetings, more=root / "more")  # fmt: skip
    counts = {kind: len(found) for kind, found in sorted(clips.by_kind.items())}
    print("clips:", json.dumps(counts), flush=True)
    stage = Stage(clips, Teachers(root / "teachers"))
    ear = _ear(root / "downloads" / "ear")
    for shard in range(number, arguments.shards, of):
        target = out / f"{arguments.side}-{shard:03d}.npz"
        if arguments.renew or not target.exists():
            build_shard(stage, (arguments.seed, shard), arguments.scenes, target,
                        arguments.only, ear, arguments.ear_every)  # fmt: skip
        print(
            f"shard {shard + 1}/{arguments.shards}, {time.monotonic() - started:.0f} s", flush=True
        )
    settings = {k: str(v) for k, v in vars(arguments).items() if k not in ("audio", "worker")}
    (out / f"{arguments.side}.json").write_text(json.dumps({"settings": settings, "clips": counts}))


def _ear(folder: Path) -> Ear | None:
    """The second teacher, where its files and torch are here; without it less is taught."""
    if not folder.exists() or importlib.util.find_spec("torch") is None:
        return None
    import torch

    from models.interruption.pretrained.ear import Ear

    torch.set_num_threads(1)
    return Ear(folder)


def set_hash(folder: Path, side: Side = Side.TRAIN) -> str:
    """sha256 over the shards of one side, in order."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(f"{side}-*.npz")):
        with np.load(path) as shard:
            for name in ("x", "label", "weight"):
                digest.update(np.ascontiguousarray(shard[name]).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
