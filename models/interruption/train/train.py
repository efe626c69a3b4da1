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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.interruption.cache import cache_folder
from models.interruption.data.build import set_hash
from models.interruption.data.splits import Side
from models.interruption.train.augment import augmented, steady_noises
from models.interruption.train.checkpoints import Saved, loaded, shape_from
from models.interruption.train.figures import HELD_OUT, figures
from models.interruption.train.losses import loss_of
from models.interruption.train.network import Network, Shape
from models.interruption.train.shards import Shards, probabilities
from models.interruption.train.widen import widened

_PAIR = (2.0, 0.6, -1.0)  # of a training from nothing
_HISSES = 256  # steady noises to draw from
_STEPS_SHOWN = 50  # from one line of the losses to the next


def _flag(default: Any, help_: str | None = None, **more: Any) -> Any:
    """A field of `Options` that is a flag of the command: `more` goes to argparse."""
    return field(default=default, metadata={"help": help_, **more})


@dataclass(frozen=True)
class Options:
    """One training. The fields are the flags of the command."""

    data: tuple[str, ...] = _flag(("scenes",), "sets below the cache", nargs="+")
    held_out: tuple[str, ...] = _flag(HELD_OUT, nargs="+")
    run: str = _flag("one", "name of this training")
    from_run: str | None = _flag(None, "start from the weights of a finished training")
    epochs: int = _flag(12, "after so many the rate is zero", type=int)
    stop_after: int | None = _flag(
        None, "epochs; a scene is learnt by heart from its second hearing on", type=int
    )
    batch: int = _flag(64, type=int)
    rate: float = _flag(2e-3, type=float)
    width: int | None = _flag(None, "by default as in --from-run", type=int)
    dilations: tuple[int, ...] | None = _flag(None, nargs="+", type=int)
    memory: int | None = _flag(None, type=int)
    pair: tuple[float, float, float] | None = _flag(
        None, f"see network.Shape; as in --from-run, else {_PAIR}", nargs=3, type=float
    )
    bend: float = _flag(0.3, "see network.Network.forward", type=float)
    dropout: float = _flag(0.1, "see network.Network.forward", type=float)
    taught_by: tuple[str, ...] = _flag((), "finished runs to learn from", nargs="+")
    taught: float = _flag(0.7, "share of their opinion", type=float)
    taught_ending: float = _flag(0.0, "see Shards.ask", type=float)
    left_out: tuple[int, int] | None = _flag(
        None,
        "train without this part of the people and sources (a scene of two voices goes by the "
        "last), to teach another about them",
        nargs=2,
        type=int,
        metavar=("FOLD", "FOLDS"),
    )
    threads: int = _flag(2, type=int)
    seed: int = _flag(1, type=int)
    small: bool = _flag(False, "one shard, two epochs", action="store_true")

    def __post_init__(self) -> None:
        if self.left_out and not 0 <= self.left_out[0] < self.left_out[1]:
            raise ValueError("--left-out: no fold {} of {}".format(*self.left_out))

    def last_epoch(self) -> int:
        """After which the rate is zero."""
        return 2 if self.small else self.epochs

    def shape(self, saved: Saved | None) -> Shape:
        """That of the training it goes on from, else the usual one, but for what is asked."""
        asked = {name: getattr(self, name) for name in ("width", "memory", "dilations", "pair")}
        told = {name: value for name, value in asked.items() if value is not None}
        return shape_from({"pair": _PAIR} | (saved["shape"] if saved else {}) | told)


def options(arguments: Sequence[str] | None = None) -> Options:
    """Those of a command line; one that makes no sense ends the process with a usage message."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for one in fields(Options):
        parser.add_argument(f"--{one.name.replace('_', '-')}", default=one.default, **one.metadata)
    found: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(parser.parse_args(arguments)).items()
    }
    try:
        return Options(**found)
    except ValueError as error:
        parser.error(str(error))


class Training:
    """A network that learns, its moving average, and how far they are."""

    def __init__(self, network: Network, rate: float, steps: int) -> None:
        self.network = network
        self.average = copy.deepcopy(network)
        self.epoch = 0  # the next one
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, rate, max(steps, 2), pct_start=0.15
        )

    def step(self, losses: dict[str, Tensor], taken: int) -> None:
        """One step down their sum; `taken` steps were taken before."""
        self._optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self._optimizer.step()
        self._schedule.step()
        keep = min(0.998, taken / (taken + 20))
        average, network = self.average.state_dict(), self.network.state_dict()
        with torch.no_grad():
            for mean, now in zip(average.values(), network.values(), strict=True):
                mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)

    def save(self, path: Path) -> None:
        """All that it takes to go on after the epoch that is over."""
        torch.save(
            {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "epoch": self.epoch,
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
            },
            path,
        )

    def resume(self, path: Path) -> None:
        """From what `save` wrote."""
        last = torch.load(path, weights_only=True)
        self.network.load_state_dict(last["network"])
        self.average.load_state_dict(last["average"])
        self._optimizer.load_state_dict(last["optimizer"])
        self._schedule.load_state_dict(last["schedule"])
        self.epoch = last["epoch"] + 1


def prepared(asked: Options, runs: Path, scenes: int) -> Training:
    """The training at the start of its next epoch: the first one, or where it was interrupted."""
    saved = None
    if asked.from_run:
        saved = torch.load(runs / asked.from_run / "best.pt", weights_only=True)
    network = Network(asked.shape(saved))
    if saved is not None:
        network.load_state_dict(widened(saved["weights"], network))
    training = Training(network, asked.rate, asked.last_epoch() * (scenes // asked.batch))
    if (runs / asked.run / "last.pt").exists():
        training.resume(runs / asked.run / "last.pt")
    return training


def ask_teachers(shards: Shards, asked: Options, runs: Path) -> float:
    """Has the finished runs say what they think of the scenes; the share of the floor's loss that
    is theirs."""
    if not asked.taught_by:
        return 0.0
    found = [loaded(runs / name / "best.pt") for name in asked.taught_by]
    teachers = [(network, saved.get("left_out")) for network, saved in found]
    shards.ask(teachers, asked.taught_ending)
    return asked.taught


def train_epoch(
    training: Training, shards: Shards, asked: Options, taught: float, hisses: Tensor
) -> None:
    """Hears each scene once. Raises FloatingPointError where a loss is no number."""
    epoch, steps = training.epoch, shards.count // asked.batch
    draw = torch.Generator().manual_seed(asked.seed * 1000 + epoch)
    torch.manual_seed(asked.seed * 1000 + 500 + epoch)  # dropout's, the same after an interruption
    order = np.random.default_rng((asked.seed, epoch)).permutation(shards.count)
    sums: dict[str, float] = {}
    started = time.monotonic()
    training.network.train()
    for step in range(steps):
        index = np.sort(order[step * asked.batch : (step + 1) * asked.batch])
        heard, batch = augmented(shards.batch(index), hisses, draw)
        losses = loss_of(training.network(heard, asked.bend, asked.dropout), batch, taught)
        training.step(losses, epoch * steps + step)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if (step + 1) % _STEPS_SHOWN == 0:
            shown = " ".join(f"{k} {v / (step + 1):.4f}" for k, v in sums.items())
            took = time.monotonic() - started
            last = asked.last_epoch()
            print(f"epoch {epoch + 1}/{last} step {step + 1} {shown} {took:.0f} s", flush=True)
    if math.isnan(sum(sums.values())):
        raise FloatingPointError("the loss is not a number")


def train(asked: Options, root: Path) -> None:
    """Sets and finished runs lie below `root`; `best.pt` and `last.pt` of this one are written."""
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    folders, runs = [root / name for name in asked.data], root / "runs"
    shards = Shards(folders, Side.TRAIN, 1 if asked.small else None, asked.left_out)
    held_out = Shards([root / name for name in asked.held_out], Side.EVAL)
    (runs / asked.run).mkdir(parents=True, exist_ok=True)
    training = prepared(asked, runs, shards.count)
    taught = ask_teachers(shards, asked, runs)
    hisses = steady_noises(_HISSES, asked.seed)
    data_hash = hashlib.sha256("".join(map(set_hash, folders)).encode()).hexdigest()
    parameters = sum(p.numel() for p in training.network.parameters())
    print(f"{shards.count} scenes, {parameters} parameters", flush=True)
    last = min(asked.last_epoch(), asked.stop_after or asked.last_epoch())
    for _ in range(training.epoch, last):
        train_epoch(training, shards, asked, taught, hisses)
        training.save(runs / asked.run / "last.pt")
        found = figures(
            probabilities(training.average, held_out),
            held_out.fields["kinds"],
            held_out.fields["onsets"],
        )
        print(json.dumps(found), flush=True)
        training.epoch += 1
        saved: Saved = {
            "weights": training.average.state_dict(),
            "shape": training.network.shape.as_dict(),
            "figures": found,
            "training_data_sha256": data_hash,
            "epochs": training.epoch,
            "sets": list(asked.data),
            "left_out": asked.left_out,
        }
        torch.save(saved, runs / asked.run / "best.pt")


def main() -> None:
    train(options(), cache_folder())


if __name__ == "__main__":
    main()
