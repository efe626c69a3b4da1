import numpy as np
import torch

from models.interruption.data import features
from models.interruption.data.scenes import FRAMES
from models.interruption.train.augment import (
    hissed,
    hurried,
    in_company,
    later,
    others,
    overheard,
    steady_noises,
)
from models.interruption.train.shards import Shards

SCENES = 3


def test_what_is_overheard_never_makes_a_scene_quieter_and_stays_below_it() -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(60, FRAMES, features.SIZE, generator=draw)
    y = overheard(x, draw)
    assert (y >= x - 1e-5).all()
    with_company = (y - x).flatten(1).max(dim=1).values > 0.01
    assert 10 <= int(with_company.sum()) <= 30, "about a third"
    loudest = x.mean(dim=2).quantile(0.95, dim=1)
    assert (y.mean(dim=2).quantile(0.95, dim=1) - loudest).max() < 1.0


def test_company_fills_the_pauses_of_a_sixth_of_all_with_the_others_of_the_batch() -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.full((120, FRAMES, features.SIZE), -2.0)
    for i in range(120):
        x[i, i : i + 20, i % 40] = 1.0  # each a tone of its own
    y = in_company(x, draw)
    assert (y >= x - 1e-5).all()
    added = y - x
    with_company = added.flatten(1).max(dim=1).values > 0.01
    assert 8 <= int(with_company.sum()) <= 35, "about a sixth"
    tones = (added[with_company] > 0.1).any(dim=1).sum(dim=1)
    assert tones.float().mean() > 3, "several others are heard at once"
    assert float(y.max()) < 1.5


def test_steady_noise_fills_the_pauses_of_a_third_of_all_and_never_drowns_the_loudest() -> None:
    hisses = steady_noises(8, seed=1)
    assert hisses.shape[1] >= 1.15 * FRAMES, "as long as the slowest scene"
    assert torch.isfinite(hisses).all()
    draw = torch.Generator().manual_seed(1)
    x = torch.full((60, FRAMES, features.SIZE), -2.0)
    x[:, 40:60] = 1.0
    y = hissed(x, hisses, draw)
    assert (y >= x - 1e-5).all()
    with_noise = (y - x)[:, :40].flatten(1).max(dim=1).values > 0.01
    assert 10 <= int(with_noise.sum()) <= 30, "about a third"
    total = [torch.logsumexp(features.SPREAD * one, dim=2) for one in (x, y)]
    below_db = (total[1][:, :40].mean(dim=1) - total[0][:, 40:60].mean(dim=1)) * 10 / np.log(10)
    assert -30 < float(below_db[with_noise].min()) < float(below_db[with_noise].max()) < -2


def test_who_listens_later_hears_the_rest(shards: Shards) -> None:
    batch = shards.batch(np.arange(SCENES))
    heard = later(batch, torch.Generator().manual_seed(0))
    frames = heard["x"].shape[1]
    assert FRAMES - 20 < frames < FRAMES
    assert all(torch.equal(v, batch[k][:, -frames:]) or torch.isnan(v).any()
               for k, v in heard.items())  # fmt: skip


def test_a_hurried_scene_keeps_sounds_and_labels_together(shards: Shards) -> None:
    batch = shards.batch(np.arange(SCENES))
    batch["label"][:, :60], batch["x"][:, :60] = 0, -1.0
    batch["x"][:, 60:] = 1.0
    for seed in range(8):
        heard = hurried(batch, torch.Generator().manual_seed(seed))
        frames = heard["x"].shape[1]
        assert 0.8 * FRAMES < frames < 1.2 * FRAMES
        assert {v.shape[1] for v in heard.values()} == {frames}
        loud = heard["x"].mean(dim=2) > 0
        assert (loud != (heard["label"] > 0)).sum(dim=1).max() <= 1


def test_another_throat_moves_a_tone_and_leaves_the_two_looks_alike() -> None:
    x = torch.zeros(50, 3, features.SIZE)
    x[:, :, 20] = x[:, :, 20 + features.BANDS] = 1.0
    y = others(x, torch.Generator().manual_seed(0))
    assert torch.equal(y[:, :, : features.BANDS], y[:, :, features.BANDS :])
    peaks = y[:, 0, : features.BANDS].argmax(dim=1)
    assert 17 <= int(peaks.min()) < 20 < int(peaks.max()) <= 23
    assert y.shape == x.shape
