import numpy as np
import pytest
import torch

from models.interruption.data import features
from models.interruption.data.scenes import FRAMES, UNKNOWN
from models.interruption.data.splits import Side
from models.interruption.train import train
from models.interruption.train.network import EAR_SIZE, Network, Shape
from models.interruption.train.train import (
    Shards,
    fold_of,
    hissed,
    hurried,
    in_company,
    later,
    loss_of,
    others,
    overheard,
    steady_noises,
)

GROUPS = ["speech_libri/libri_3", "speech_libri/libri_4", ""]
SCENES = len(GROUPS)


@pytest.fixture
def shards(tmp_path) -> Shards:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "train-000.npz",
        x=rng.standard_normal((SCENES, FRAMES, features.SIZE)).astype(np.float16),
        label=np.ones((SCENES, FRAMES), np.uint8),
        weight=np.ones((SCENES, FRAMES), np.float16),
        speech=np.ones((SCENES, FRAMES), np.float16),
        words=np.full((SCENES, FRAMES, EAR_SIZE), np.nan, np.float16),
        phonemes=np.full((SCENES, FRAMES), UNKNOWN, np.int16),
        ending=np.full((SCENES, FRAMES), np.nan, np.float16),
        kinds=np.array(["speech_libri"] * SCENES),
        groups=np.array(GROUPS),
        onsets=np.zeros(SCENES, np.float32),
    )
    return Shards([tmp_path], Side.TRAIN)


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    return Network(Shape(width=16, dilations=(1,), memory=8)).eval()


def test_the_opinion_is_the_mean_of_logits_less_what_is_complete(shards):
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
    shards, tmp_path
):
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


def test_a_set_that_does_not_say_whose_voices_it_holds_cannot_leave_anyone_out(shards, tmp_path):
    (tmp_path / "old").mkdir()
    kept = {name: values for name, values in shards.fields.items() if name != "groups"}
    np.savez(tmp_path / "old" / "train-000.npz", **kept)
    assert set(Shards([tmp_path / "old"], Side.TRAIN).fields["groups"]) == {""}
    with pytest.raises(ValueError, match="whose voices"):
        Shards([tmp_path / "old"], Side.TRAIN, left_out=(0, 2))


def test_a_teacher_hears_the_scene_before_its_channel_where_that_was_kept(shards, tmp_path):
    (tmp_path / "kept").mkdir()
    clean = np.random.default_rng(1).standard_normal(shards.fields["x"].shape).astype(np.float16)
    np.savez(tmp_path / "kept" / "train-000.npz", clean=clean, **shards.fields)
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


def test_who_agrees_with_the_teachers_pays_less_whatever_the_labels_say(shards):
    shards.ask([(network(1), None)], ending=0.0)
    batch = shards.batch(np.arange(SCENES))
    opinion = torch.logit(batch["opinion"])
    out = network(1)(batch["x"])
    agreeing = loss_of(out | {"floor": opinion}, batch, taught=1.0)
    differing = loss_of(out | {"floor": opinion + 2.0}, batch, taught=1.0)
    assert agreeing["opinion"] < differing["opinion"]
    assert agreeing["floor"] == differing["floor"] == 0
    assert "opinion" not in loss_of(out, batch)


@pytest.mark.parametrize("label_alone", ["voice_backchannel", "word_call", "cough", "echo"])
def test_of_words_alone_and_of_what_is_no_caller_the_label_is_asked_and_no_teacher(
    shards, label_alone
):
    shards.fields["kinds"] = np.array(["voice_floor", "speech_libri", label_alone])
    shards.ask([(network(1), None)], ending=0.0)
    batch = shards.batch(np.arange(SCENES))
    assert torch.isnan(batch["opinion"]).all(dim=1).tolist() == [True, False, True]
    out = network(2)(batch["x"])
    for taught in (0.3, 1.0):
        losses = loss_of(out, batch, taught)
        plain = torch.nn.functional.binary_cross_entropy_with_logits(
            out["floor"], batch["label"], reduction="none"
        ).mean(dim=1)
        share = torch.tensor([1.0, 1 - taught, 1.0])
        assert losses["floor"].item() == pytest.approx(
            float((share * plain).mean().detach()), rel=1e-5
        )
        assert torch.isfinite(losses["opinion"])


def test_what_is_overheard_never_makes_a_scene_quieter_and_stays_below_it():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(60, FRAMES, features.SIZE, generator=draw)
    y = overheard(x, draw)
    assert (y >= x - 1e-5).all()
    with_company = (y - x).flatten(1).max(dim=1).values > 0.01
    assert 10 <= int(with_company.sum()) <= 30, "about a third"
    loudest = x.mean(dim=2).quantile(0.95, dim=1)
    assert (y.mean(dim=2).quantile(0.95, dim=1) - loudest).max() < 1.0


def test_company_fills_the_pauses_of_a_sixth_of_all_with_the_others_of_the_batch():
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


def test_steady_noise_fills_the_pauses_of_a_third_of_all_and_never_drowns_the_loudest():
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


def test_who_listens_later_hears_the_rest(shards):
    batch = shards.batch(np.arange(SCENES))
    heard = later(batch, torch.Generator().manual_seed(0))
    frames = heard["x"].shape[1]
    assert FRAMES - 20 < frames < FRAMES
    assert all(torch.equal(v, batch[k][:, -frames:]) or torch.isnan(v).any()
               for k, v in heard.items())  # fmt: skip


def test_a_hurried_scene_keeps_sounds_and_labels_together(shards):
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


def test_another_throat_moves_a_tone_and_leaves_the_two_looks_alike():
    x = torch.zeros(50, 3, features.SIZE)
    x[:, :, 20] = x[:, :, 20 + features.BANDS] = 1.0
    y = others(x, torch.Generator().manual_seed(0))
    assert torch.equal(y[:, :, : features.BANDS], y[:, :, features.BANDS :])
    peaks = y[:, 0, : features.BANDS].argmax(dim=1)
    assert 17 <= int(peaks.min()) < 20 < int(peaks.max()) <= 23
    assert y.shape == x.shape


def test_a_training_hears_noise_company_and_the_asked_share_of_dropout(
    shards, tmp_path, monkeypatch
):
    times = 22  # one batch of 64 and two more
    grown = {name: np.concatenate([one] * times) for name, one in shards.fields.items()}
    (tmp_path / "set").mkdir()
    for side in (Side.TRAIN, Side.EVAL):
        np.savez(tmp_path / "set" / f"{side}-000.npz", **grown)
    heard: list[object] = []
    for name in ("hissed", "in_company"):
        real = getattr(train, name)
        monkeypatch.setattr(train, name, lambda *a, n=name, r=real: heard.append(n) or r(*a))
    forward = Network.forward

    def noted(self, x, bend=1.0, dropout=0.1):
        heard.append((bend, dropout) if self.training else "asked")
        return forward(self, x, bend, dropout)

    monkeypatch.setattr(Network, "forward", noted)
    monkeypatch.setattr(train, "figures", lambda *_: {})
    monkeypatch.setattr(train, "cache_folder", lambda: tmp_path)
    command = "train --data set --held-out set --run one --epochs 1 --width 16 --memory 8"
    options = "--dilations 1 --dropout 0.02 --bend 0.8 --threads 1"
    monkeypatch.setattr("sys.argv", [*command.split(), *options.split()])
    train.main()
    assert heard == ["in_company", "hissed", (0.8, 0.02), "asked"]
    assert (tmp_path / "runs" / "one" / "best.pt").exists()
