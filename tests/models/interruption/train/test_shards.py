from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.interruption.data.splits import Side
from models.interruption.train.network import Network, Shape
from models.interruption.train.shards import Shards, fold_of

GROUPS = ["speech_libri/libri_3", "speech_libri/libri_4", ""]
SCENES = len(GROUPS)


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    made = Network(Shape(width=16, dilations=(1,), memory=8))
    made.eval()
    return made


def test_the_opinion_is_the_mean_of_logits_less_what_is_complete(shards: Shards) -> None:
    shards.fields["ending"][0, 7] = 0.5  # as smart-turn says: 0 as a logit
    teachers = [network(1), network(2)]
    shards.ask([(one, None) for one in teachers], ending=0.5)
    x = torch.from_numpy(shards.fields["x"].astype(np.float32))
    with torch.no_grad():
        said = [one(x) for one in teachers]
    for one in said:
        one["ending"][0, 7] = 0.0
    mean = sum(one["floor"] - 0.5 * one["ending"] for one in said) / 2
    batch = shards.batch(np.arange(SCENES))
    assert torch.allclose(batch["opinion"], torch.sigmoid(mean), atol=1e-3)


def test_a_teacher_without_some_people_is_asked_about_these_and_about_what_is_nobodys(
    shards: Shards, tmp_path: Path
) -> None:
    folds = [fold_of(group, 2) for group in GROUPS]
    assert folds == [0, 1, -1]
    teachers = {fold: network(fold + 1) for fold in (0, 1)}
    shards.ask([(one, (fold, 2)) for fold, one in teachers.items()], ending=0.0)
    with torch.no_grad():
        x = torch.from_numpy(shards.fields["x"].astype(np.float32))
        said = {fold: one(x)["floor"] for fold, one in teachers.items()}
    opinion = torch.logit(shards.batch(np.arange(SCENES))["opinion"])
    for i in (0, 1):
        assert torch.allclose(opinion[i], said[folds[i]][i], atol=1e-2)
    assert torch.allclose(opinion[2], (said[0][2] + said[1][2]) / 2, atol=1e-2)

    rest = Shards([tmp_path], Side.TRAIN, left_out=(folds[0], 2))
    assert list(rest.fields["groups"]) == GROUPS[1:]
    with pytest.raises(ValueError, match="a fold is missing"):
        shards.ask([(teachers[0], (0, 2))], ending=0.0)


def test_a_set_that_does_not_say_whose_voices_it_holds_cannot_leave_anyone_out(
    shards: Shards, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    kept: dict[str, Any] = {
        name: values for name, values in shards.fields.items() if name != "groups"
    }
    np.savez(tmp_path / "old" / "train-000.npz", **kept)
    assert set(Shards([tmp_path / "old"], Side.TRAIN).fields["groups"]) == {""}
    with pytest.raises(ValueError, match="whose voices"):
        Shards([tmp_path / "old"], Side.TRAIN, left_out=(0, 2))


def test_a_teacher_hears_the_scene_before_its_channel_where_that_was_kept(
    shards: Shards, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    clean = np.random.default_rng(1).standard_normal(shards.fields["x"].shape).astype(np.float16)
    kept: dict[str, Any] = {**shards.fields, "clean": clean}
    np.savez(tmp_path / "kept" / "train-000.npz", **kept)
    both = Shards([tmp_path, tmp_path / "kept"], Side.TRAIN)
    both.ask([(network(1), None)], ending=0.0)
    batch = both.batch(np.arange(2 * SCENES))
    assert "clean" not in batch
    with torch.no_grad():
        for heard, told in (
            (shards.fields["x"], batch["opinion"][:SCENES]),
            (clean, batch["opinion"][SCENES:]),
        ):
            said = network(1)(torch.from_numpy(heard.astype(np.float32)))["floor"]
            assert torch.allclose(told, torch.sigmoid(said), atol=1e-3)
