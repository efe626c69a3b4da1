"""Builds the training set: scenes of one side of the split, as features in shards.

    python -m models.interruption.build --shards 16

Each shard is a pure function of seed, side, fold and its number, so building resumes where it
stopped. Shards hold features, not sound: 20 kB a scene.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
from numpy.random import default_rng

from models.interruption import features
from models.interruption.cache import cache_folder
from models.interruption.clips import Clips
from models.interruption.scenes import FRAMES, Stage
from models.interruption.splits import Side
from models.interruption.teachers import Teachers

SCENES = 2048  # of one shard


def build_shard(
    stage: Stage, seed: tuple[int, ...], scenes: int, target: Path, only: list[str] | None = None
) -> None:
    """Writes the shard; where it exists, its sounds are kept and what is known of them renewed."""
    x = np.empty((scenes, FRAMES, features.SIZE), np.float16)
    heard = target.exists()
    if heard:
        with np.load(target) as shard:
            x[:] = shard["x"]
    label = np.empty((scenes, FRAMES), np.uint8)
    weight = np.empty((scenes, FRAMES), np.float16)
    voiced = np.empty((scenes, FRAMES), np.uint8)
    phonemes = np.empty((scenes, FRAMES), np.int16)
    ending = np.empty((scenes, FRAMES), np.float16)
    kinds, onsets = [], np.empty(scenes, np.float32)
    for i in range(scenes):
        rng, kind = default_rng((*seed, i)), only[i % len(only)] if only else None
        if heard:
            scene = stage.written(rng, kind)
        else:
            scene, sound = stage.scene(rng, kind)
            x[i] = features.of(sound)
        label[i], weight[i], voiced[i] = scene.label, scene.weight, scene.voiced
        phonemes[i], ending[i] = scene.phonemes, scene.ending
        kinds.append(scene.kind)
        onsets[i] = scene.onset_s
    partial = target.with_suffix(".part.npz")
    np.savez(partial, x=x, label=label, weight=weight, voiced=voiced, phonemes=phonemes,
             ending=ending, kinds=np.array(kinds), onsets=onsets)  # fmt: skip
    os.replace(partial, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, default=Path("../shared/audio"))
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
    parser.add_argument("--worker", default="0/1", help="this process of how many, such as 0/2")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    number, of = map(int, arguments.worker.split("/"))

    root = cache_folder()
    out = root / arguments.name
    out.mkdir(exist_ok=True)
    started = time.monotonic()
    clips = Clips(arguments.audio, root / arguments.voices, arguments.side, arguments.fold,
                  meetings=not arguments.no_meetings)  # fmt: skip
    counts = {kind: len(found) for kind, found in sorted(clips.by_kind.items())}
    print("clips:", json.dumps(counts), flush=True)
    stage = Stage(clips, Teachers(root / "teachers"))
    for shard in range(number, arguments.shards, of):
        target = out / f"{arguments.side}-{shard:03d}.npz"
        if arguments.renew or not target.exists():
            build_shard(stage, (arguments.seed, shard), arguments.scenes, target,
                        arguments.only)  # fmt: skip
        print(
            f"shard {shard + 1}/{arguments.shards}, {time.monotonic() - started:.0f} s", flush=True
        )
    settings = {k: str(v) for k, v in vars(arguments).items() if k not in ("audio", "worker")}
    (out / f"{arguments.side}.json").write_text(json.dumps({"settings": settings, "clips": counts}))


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
