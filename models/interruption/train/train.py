"""Trains the network on built shards, on the CPU.

    python -m models.interruption.train --run one
    python -m models.interruption.train --run tiny --small      # minutes, to see that it works

After each epoch `last.pt` is written, and the same command goes on from there. The weights that
count are the moving average (`best.pt`, written at the end and after each epoch).
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from models.interruption.cache import cache_folder
from models.interruption.data import features
from models.interruption.data.build import set_hash
from models.interruption.data.nonverbal import floor_noise
from models.interruption.data.scenes import FRAMES, NOT_SPEECH, UNKNOWN
from models.interruption.data.splits import Side
from models.interruption.export.export import loaded
from models.interruption.train.held_out import HELD_OUT, figures
from models.interruption.train.network import Network, Shape
from models.interruption.train.widen import widened

_PAIR = (2.0, 0.6, -1.0)  # of a training from nothing
_FIELDS = ("x", "label", "weight", "speech", "words", "phonemes", "ending", "kinds", "groups",
           "onsets")  # fmt: skip
# Networks that met ten speakers of a word cannot teach it, and what is no caller needs no opinion:
# of these the label is asked alone.
_LABEL_ALONE = ("voice_backchannel", "voice_floor", "short_calls", "word_call", "word_backchannel",
                *NOT_SPEECH)  # fmt: skip
_HISSES = 256  # steady noises to draw from
_COMPANY = 5  # scenes that make a babble
_SURE = 3.0  # logit beyond which a teacher is not believed


def fold_of(group: str, folds: int) -> int:
    """Which of so many parts a person or source is in; what was made belongs to none: -1."""
    return crc32(group.encode()) % folds if group else -1


Teacher = tuple[Network, tuple[int, int] | None]
"""A finished network and the fold of how many that it was trained without, if any."""


def _fields(
    path: Path, names: Sequence[str], left_out: tuple[int, int] | None
) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        found = {name: file[name] for name in names if name in file}
        if "clean" in names and "clean" not in found:  # of a set built before it was kept
            found["clean"] = file["x"]
        scenes = len(file["onsets"])
        groups = file.get("groups")
    if groups is None:
        if left_out is not None:
            raise ValueError(f"{path} does not say whose voices it holds: build it anew")
        groups = np.full(scenes, "")
    found |= {"groups": groups} if "groups" in names else {}
    if left_out is None:
        return found
    of = np.array([fold_of(str(group), left_out[1]) for group in groups])
    return {name: values[of != left_out[0]] for name, values in found.items()}


class Shards:
    """All scenes of one side in memory, 45 kB each, but for those of the fold that is left out."""

    def __init__(
        self,
        folders: list[Path],
        side: Side,
        limit: int | None = None,
        left_out: tuple[int, int] | None = None,
    ) -> None:
        paths = [path for folder in folders for path in sorted(folder.glob(f"{side}-*.npz"))]
        if not paths:
            raise FileNotFoundError(f"no shards of side {side} in {folders}: build them first")
        self._paths, self._left_out = paths[:limit], left_out
        self.fields = self._read(_FIELDS)
        # The recorder of scenes marks whatever sounds; only people who speak or hum are speech.
        self.fields["speech"][np.isin(self.fields["kinds"], NOT_SPEECH)] = 0
        self.count = len(self.fields["x"])
        self._taught_by = [n for n in _FIELDS if n not in ("kinds", "groups", "onsets")]

    def _read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        read = [_fields(path, names, self._left_out) for path in self._paths]
        return {name: np.concatenate([one[name] for one in read]) for name in names}

    def ask(self, teachers: Sequence[Teacher], ending: float) -> None:
        """Adds `opinion`: P(floor) by the mean of the networks' logits. Where it was kept, they
        hear the scene before any channel: the learner hears noise, its teachers need not.

        Of a network that was trained without some people, only the opinion on these counts (and on
        what belongs to nobody): what it says of the others it may know by heart. `ending` times
        the logit of "complete" is taken off first, smart-turn's where it was asked, else the
        network's own: in round 6 that, and the mean, told real turns from cut ones better than any
        single network. Of words alone, and of what is no caller, nobody is asked: NaN.
        """
        shape = self.fields["label"].shape
        opinion, counted = np.zeros(shape, np.float32), np.zeros((shape[0], 1), np.float32)
        known = np.clip(self.fields["ending"].astype(np.float32), 1e-3, 1 - 1e-3)
        complete = np.clip(np.log(known / (1 - known)), -_SURE, _SURE)
        asked = ~np.isin(self.fields["kinds"], _LABEL_ALONE)
        heard = self._read(["clean"])["clean"]
        for network, left_out in teachers:
            mine = np.flatnonzero(asked)
            if left_out is not None:
                fold, folds = left_out
                of = np.array([fold_of(str(group), folds) for group in self.fields["groups"]])
                mine = np.flatnonzero(asked & ((of == fold) | (of == -1)))
            network.eval()
            for start in range(0, len(mine), 256):
                at = mine[start : start + 256]
                with torch.no_grad():
                    said = network(torch.from_numpy(heard[at].astype(np.float32)))
                own = said["ending"].numpy()
                known = np.where(np.isnan(complete[at]), own, complete[at])
                opinion[at] += said["floor"].numpy() - ending * known
                counted[at] += 1
        missing = int((counted[asked] == 0).sum())
        if missing:
            raise ValueError(f"{missing} scenes have no teacher: a fold is missing")
        counted[~asked] = np.nan
        self.fields["opinion"] = (1 / (1 + np.exp(-opinion / counted))).astype(np.float16)
        self._taught_by.append("opinion")

    def batch(self, index: np.ndarray) -> dict[str, Tensor]:
        out = {}
        for name in self._taught_by:
            values = self.fields[name][index]
            out[name] = torch.from_numpy(
                values.astype(np.int64 if name == "phonemes" else np.float32)
            )
        return out


def overheard(x: Tensor, draw: torch.Generator) -> Tensor:
    """Another scene of the batch, 6 to 30 dB below the loudest of this one, behind a third of all.

    Energies add; so no scene is heard twice with the same company.
    """
    other = x[torch.randperm(len(x), generator=draw)]
    loudest, theirs = (one.mean(dim=2).quantile(0.95, dim=1) for one in (x, other))
    return _with(x, other, loudest - theirs, 6, 1 / 3, draw)


def in_company(x: Tensor, draw: torch.Generator) -> Tensor:
    """Five other scenes of the batch at once, as babble, 3 to 27 dB below, behind a sixth."""
    turns = [torch.randint(1, max(len(x), 2), (), generator=draw) for _ in range(_COMPANY)]
    level = features.SPREAD * (x - x.mean(dim=(1, 2), keepdim=True))
    crowd = torch.logsumexp(torch.stack([level.roll(int(n), dims=0) for n in turns]), dim=0)
    crowd = crowd / features.SPREAD
    return _with(x, crowd, _loudest(x) - _loudest(crowd), 3, 1 / 6, draw)


def hissed(x: Tensor, hisses: Tensor, draw: torch.Generator) -> Tensor:
    """One of `hisses` [n, at least as many frames, SIZE], 3 to 27 dB below the loudest, behind a
    third of all."""
    noise = hisses[torch.randint(len(hisses), (len(x),), generator=draw), : x.shape[1]]
    return _with(x, noise, _loudest(x) - _loudest(noise), 3, 1 / 3, draw)


def _loudest(x: Tensor) -> Tensor:
    """Of each scene, as a logarithm on the scale of the features."""
    energy = torch.logsumexp(features.SPREAD * x, dim=2)
    return energy.quantile(0.95, dim=1) / features.SPREAD


def _with(
    x: Tensor, other: Tensor, level: Tensor, least_db: float, share: float, draw: torch.Generator
) -> Tensor:
    """Behind so many of the scenes lies the other, raised by `level`, less `least_db` and up to
    24 dB more."""
    below_db = least_db + 24 * torch.rand(len(x), generator=draw)
    below_db[torch.rand(len(x), generator=draw) > share] = 200.0
    level = level - below_db * (np.log(10) / 10 / features.SPREAD)
    spread = features.SPREAD
    return torch.logaddexp(spread * x, spread * (other + level[:, None, None])) / spread


def steady_noises(count: int, seed: int) -> Tensor:
    """Room tones of all colours, [count, frames, SIZE], longer than the slowest `hurried` scene."""
    rng = np.random.default_rng(seed)
    sounds = [floor_noise(rng, 5 * FRAMES // 4 * features.FRAME) * 3000 for _ in range(count)]
    return torch.from_numpy(np.stack([features.of(one.astype(np.int16)) for one in sounds]))


def later(batch: dict[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The same scenes for someone who begins to listen up to half a second later."""
    first = int(torch.randint(0, 20, (), generator=draw))
    return {name: values[:, first:] for name, values in batch.items()}


def hurried(batch: dict[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """The same scenes up to an eighth faster or slower, one tempo for the batch."""
    frames = batch["x"].shape[1]
    tempo = float(torch.empty(()).uniform_(0.875, 1.125, generator=draw))
    at = torch.arange(0, frames - 1, tempo)
    before, share = at.long(), at - at.floor()
    # Two looks a frame: as one row of looks they are interpolated in time like all else.
    looks = batch["x"].reshape(len(batch["x"]), frames * 2, -1)
    look = torch.arange(0, len(at) * 2) * tempo
    floor = look.long().clamp(max=frames * 2 - 2)
    part = (look - floor)[None, :, None]
    x = looks[:, floor] * (1 - part) + looks[:, floor + 1] * part
    nearest = before + (share > 0.5)
    rest = {name: values[:, nearest] for name, values in batch.items() if name != "x"}
    return {"x": x.reshape(len(x), len(at), -1), **rest}


def others(x: Tensor, draw: torch.Generator) -> Tensor:
    """The same words out of a longer or a shorter throat: bands up to 12 % higher or lower."""
    batch, bands = len(x), x.shape[2] // 2
    factor = torch.empty(batch, 1).uniform_(0.88, 1.12, generator=draw)
    at = (torch.arange(bands)[None] * factor).clamp(max=bands - 1.001)
    low, part = at.long(), at - at.floor()

    def gathered(index: Tensor) -> Tensor:
        both = torch.cat([index, index + bands], dim=1)[:, None, :]
        return x.gather(2, both.expand(batch, x.shape[1], 2 * bands))

    part = part.repeat(1, 2)[:, None, :]
    return gathered(low) * (1 - part) + gathered((low + 1).clamp(max=bands - 1)) * part


def varied(x: Tensor, draw: torch.Generator) -> Tensor:
    """Another microphone: smooth random offsets over the bands; some bands hidden.

    Loudness stays within 4 dB of what it was, since it tells backchannels from turns.
    """
    batch, bands = len(x), x.shape[2] // 2
    level = (torch.rand(batch, 1, generator=draw) - 0.5) * 0.5
    knots = torch.randn(batch, 1, 6, generator=draw) * 0.2
    colour = nn.functional.interpolate(knots, bands, mode="linear", align_corners=True)[:, 0]
    offset = (level + colour)[:, None, :].repeat(1, 1, 2)
    floor = -3.0 + 1.5 * torch.rand(batch, 1, 1, generator=draw)  # another noise floor
    y = torch.maximum(x + offset, floor + 0.1 * torch.randn(x.shape, generator=draw))
    start = torch.randint(0, bands, (batch,), generator=draw)
    width = torch.randint(0, 7, (batch,), generator=draw)
    band = torch.arange(bands)[None, :]
    hidden = (band >= start[:, None]) & (band < (start + width)[:, None])
    return torch.where(hidden.repeat(1, 2)[:, None, :], floor, y)


def loss_of(
    out: dict[str, Tensor], batch: dict[str, Tensor], taught: float = 0.0
) -> dict[str, Tensor]:
    """`taught` is the share of the floor's loss against the teachers' opinion, where one is."""
    cross = nn.functional.binary_cross_entropy_with_logits
    floor = cross(out["floor"], batch["label"], reduction="none") * batch["weight"]
    if taught:
        opinion = batch["opinion"]
        share = taught * (~torch.isnan(opinion)).float()
        floor = (1 - share) * floor
    known = ~torch.isnan(batch["ending"])
    losses = {
        "floor": floor.sum() / batch["weight"].sum(),
        "voiced": 0.3 * cross(out["voiced"], batch["speech"]),
    }
    if taught:  # an opinion is as good in one frame as in another, unlike a label
        losses["opinion"] = cross(out["floor"], opinion.nan_to_num(), weight=share)
    if known.any():
        losses["ending"] = 1.0 * cross(out["ending"][known], batch["ending"][known])
    heard = ~torch.isnan(batch["words"][..., 0])
    if heard.any():
        losses["words"] = 0.4 * nn.functional.mse_loss(out["words"][heard], batch["words"][heard])
    if (batch["phonemes"] != UNKNOWN).any():
        losses["phonemes"] = 0.25 * nn.functional.cross_entropy(
            out["phonemes"].flatten(0, 1), batch["phonemes"].flatten(), ignore_index=UNKNOWN
        )
    return losses


def probabilities(network: Network, shards: Shards) -> np.ndarray:
    """[scenes, frames]"""
    network.eval()
    found = []
    with torch.no_grad():
        for start in range(0, shards.count, 256):
            x = torch.from_numpy(shards.fields["x"][start : start + 256].astype(np.float32))
            found.append(torch.sigmoid(network(x)["floor"]).numpy())
    return np.concatenate(found)


def shape_of(saved: dict[str, Any] | None, arguments: argparse.Namespace) -> Shape:
    """That of the training it goes on from, else the usual one, but for what is asked."""
    shape = {"pair": _PAIR} | (saved["shape"] if saved else {})
    asked = {k: getattr(arguments, k) for k in ("width", "memory", "dilations", "pair")}
    shape |= {k: v for k, v in asked.items() if v is not None}
    return Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["scenes"], help="sets below the cache")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT)
    parser.add_argument("--run", default="one", help="name of this training")
    parser.add_argument("--from-run", help="start from the weights of a finished training")
    parser.add_argument("--epochs", type=int, default=12, help="after so many the rate is zero")
    parser.add_argument(
        "--stop-after",
        type=int,
        help="epochs; a scene is learnt by heart from its second hearing on",
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--width", type=int, help="by default as in --from-run")
    parser.add_argument("--dilations", nargs="+", type=int)
    parser.add_argument("--memory", type=int)
    parser.add_argument(
        "--pair", nargs=3, type=float, help=f"see network.Shape; as in --from-run, else {_PAIR}"
    )
    parser.add_argument("--bend", type=float, default=0.3, help="see network.Network.forward")
    parser.add_argument("--dropout", type=float, default=0.1, help="see network.Network.forward")
    parser.add_argument("--taught-by", nargs="+", default=[], help="finished runs to learn from")
    parser.add_argument("--taught", type=float, default=0.7, help="share of their opinion")
    parser.add_argument("--taught-ending", type=float, default=0.0, help="see Shards.ask")
    parser.add_argument(
        "--left-out", type=int, nargs=2, metavar=("FOLD", "FOLDS"),
        help="train without this part of the people and sources (a scene of two voices goes by the "
        "last), to teach another about them",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="one shard, two epochs")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    root = cache_folder()
    folders = [root / name for name in arguments.data]
    left_out = tuple(arguments.left_out) if arguments.left_out else None
    if left_out and not 0 <= left_out[0] < left_out[1]:
        parser.error(f"--left-out: no fold {left_out[0]} of {left_out[1]}")
    shards = Shards(folders, Side.TRAIN, 1 if arguments.small else None, left_out)
    held_out = Shards([root / name for name in arguments.held_out], Side.EVAL)
    epochs = 2 if arguments.small else arguments.epochs
    run = root / "runs" / arguments.run
    run.mkdir(parents=True, exist_ok=True)
    saved = None
    if arguments.from_run:
        saved = torch.load(root / "runs" / arguments.from_run / "best.pt", weights_only=True)
    network = Network(shape_of(saved, arguments))
    if saved is not None:
        network.load_state_dict(widened(saved["weights"], network))
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.rate, weight_decay=0.02)
    steps = epochs * (shards.count // arguments.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.rate, max(steps, 2), pct_start=0.15
    )
    first = 0
    if (run / "last.pt").exists():
        last = torch.load(run / "last.pt", weights_only=True)
        network.load_state_dict(last["network"])
        average.load_state_dict(last["average"])
        optimizer.load_state_dict(last["optimizer"])
        schedule.load_state_dict(last["schedule"])
        first = last["epoch"] + 1
    if arguments.taught_by:
        found = [loaded(root / "runs" / name / "best.pt") for name in arguments.taught_by]
        teachers = [(one, saved.get("left_out")) for one, saved in found]
        shards.ask(teachers, arguments.taught_ending)
    taught = arguments.taught if arguments.taught_by else 0.0
    hisses = steady_noises(_HISSES, arguments.seed)
    data_hash = hashlib.sha256("".join(map(set_hash, folders)).encode()).hexdigest()
    print(
        f"{shards.count} scenes, {sum(p.numel() for p in network.parameters())} parameters",
        flush=True,
    )

    for epoch in range(first, min(epochs, arguments.stop_after or epochs)):
        network.train()
        draw = torch.Generator().manual_seed(arguments.seed * 1000 + epoch)
        order = np.random.default_rng((arguments.seed, epoch)).permutation(shards.count)
        sums: dict[str, float] = {}
        started = time.monotonic()
        for step in range(shards.count // arguments.batch):
            index = np.sort(order[step * arguments.batch : (step + 1) * arguments.batch])
            batch = hurried(later(shards.batch(index), draw), draw)
            mixed = hissed(in_company(overheard(batch["x"], draw), draw), hisses, draw)
            heard = varied(others(mixed, draw), draw)
            losses = loss_of(network(heard, arguments.bend, arguments.dropout), batch, taught)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                taken = epoch * (shards.count // arguments.batch) + step
                keep = min(0.998, taken / (taken + 20))
                for mean, now in zip(
                    average.state_dict().values(), network.state_dict().values(), strict=True
                ):
                    mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
            if step % 50 == 49:
                shown = " ".join(f"{k} {v / (step + 1):.4f}" for k, v in sums.items())
                print(f"epoch {epoch + 1}/{epochs} step {step + 1} {shown} "
                      f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
        torch.save(
            {"network": network.state_dict(), "average": average.state_dict(), "epoch": epoch,
             "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()},
            run / "last.pt",
        )  # fmt: skip
        found = figures(
            probabilities(average, held_out), held_out.fields["kinds"], held_out.fields["onsets"]
        )
        print(json.dumps(found), flush=True)
        torch.save(
            {"weights": average.state_dict(), "shape": network.shape.as_dict(), "figures": found,
             "training_data_sha256": data_hash, "epochs": epoch + 1, "sets": list(arguments.data),
             "left_out": left_out},
            run / "best.pt",
        )  # fmt: skip
        if math.isnan(sum(sums.values())):
            raise FloatingPointError("the loss is not a number")


if __name__ == "__main__":
    main()
