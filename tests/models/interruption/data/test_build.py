from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from models.interruption.data.build import EAR_SIZE, build_shard
from models.interruption.data.scenes import SAMPLES, Scene, Stage

if TYPE_CHECKING:
    from models.interruption.pretrained.ear import Ear


class OneKind(Stage):
    """Stands for a stage: scenes of one kind and one person."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group

    def scene(self, rng: np.random.Generator, kind: str | None = None) -> tuple[Scene, np.ndarray]:
        noise = (rng.standard_normal(SAMPLES) * 100).astype(np.int16)
        return self.written(rng, kind), noise

    def written(self, rng: np.random.Generator, kind: str | None = None) -> Scene:
        return Scene(self.kind, group=self.group, onset_s=0.5)


def test_a_shard_says_whose_voices_it_holds_and_is_renewed_from_the_same_scenes_only(
    tmp_path: Path,
) -> None:
    shard = tmp_path / "train-000.npz"
    build_shard(OneKind("short_calls", ""), (1, 0), 2, shard)
    with np.load(shard) as file:
        heard = file["x"]
        assert list(file["groups"]) == ["", ""]

    build_shard(OneKind("short_calls", "short_calls/amelia"), (1, 0), 2, shard)
    with np.load(shard) as file:
        assert list(file["groups"]) == ["short_calls/amelia"] * 2
        assert np.array_equal(file["x"], heard)

    before = shard.read_bytes()
    with pytest.raises(ValueError, match="other clips"):
        build_shard(OneKind("cough", ""), (1, 0), 2, shard)
    assert shard.read_bytes() == before


def test_a_shard_keeps_the_scene_before_its_channel_and_so_does_a_renewed_one(
    tmp_path: Path,
) -> None:
    shard = tmp_path / "train-000.npz"
    build_shard(OneKind("short_calls", ""), (1, 0), 2, shard)
    with np.load(shard) as file:
        clean, x = file["clean"], file["x"]
    assert clean.shape == x.shape
    assert clean.mean() < x.mean() - 0.5, "the channel of these scenes is all their noise"
    build_shard(OneKind("short_calls", ""), (1, 0), 2, shard)
    with np.load(shard) as file:
        assert np.array_equal(file["clean"], clean)


class OneNumber:
    """Stands for the ear: it hears the same in all."""

    STEP = 320

    def heard(self, sounds: np.ndarray) -> np.ndarray:
        return np.ones((len(sounds), SAMPLES // self.STEP, EAR_SIZE), np.float32)


@pytest.mark.parametrize(("every", "asked"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (4, [0, 4])])
def test_the_ear_hears_each_nth_scene_and_the_last_ones_too(
    tmp_path: Path, every: int, asked: list[int]
) -> None:
    shard = tmp_path / "train-000.npz"
    build_shard(
        OneKind("short_calls", ""), (1, 0), 6, shard, ear=cast("Ear", OneNumber()), ear_every=every
    )
    with np.load(shard) as file:
        known = ~np.isnan(file["words"][..., 0])
    assert np.flatnonzero(known.all(axis=1)).tolist() == asked
    assert known.any(axis=1).sum() == len(asked)
