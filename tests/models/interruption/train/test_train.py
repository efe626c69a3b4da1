from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.interruption.data.splits import Side
from models.interruption.train import augment, train
from models.interruption.train.network import Network, Shape
from models.interruption.train.shards import Shards
from models.interruption.train.train import Options, options

TINY = "--data set --held-out set --run one --width 16 --memory 8 --dilations 1 --threads 1"


@pytest.fixture
def tiny_set(shards: Shards, tmp_path: Path) -> None:
    """66 scenes for training, one batch of 64 and two more, and as many held-out ones."""
    grown: dict[str, Any] = {
        name: np.concatenate([one] * 22) for name, one in shards.fields.items()
    }
    (tmp_path / "set").mkdir()
    for side in (Side.TRAIN, Side.EVAL):
        np.savez(tmp_path / "set" / f"{side}-000.npz", **grown)


def telling(name: str, real: Callable[..., Any], heard: list[object]) -> Callable[..., Any]:
    """`real`, which says in `heard` that it was called."""

    def told(*arguments: Any) -> Any:
        heard.append(name)
        return real(*arguments)

    return told


def test_a_training_hears_noise_company_and_the_asked_share_of_dropout(
    tiny_set: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []
    for name in ("hissed", "in_company"):
        monkeypatch.setattr(augment, name, telling(name, getattr(augment, name), heard))
    forward = Network.forward

    def noted(self: Network, x: Any, bend: float = 1.0, dropout: float = 0.1) -> Any:
        heard.append((bend, dropout) if self.training else "asked")
        return forward(self, x, bend, dropout)

    monkeypatch.setattr(Network, "forward", noted)
    monkeypatch.setattr(train, "figures", lambda *_: {})
    monkeypatch.setattr(train, "cache_folder", lambda: tmp_path)
    command = ["train", *TINY.split(), *"--epochs 1 --dropout 0.02 --bend 0.8".split()]
    monkeypatch.setattr("sys.argv", command)
    train.main()
    assert heard == ["in_company", "hissed", (0.8, 0.02), "asked"]
    assert (tmp_path / "runs" / "one" / "best.pt").exists()


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    tiny_set: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "figures", lambda *_: {})
    for run, stops in (("whole", (None,)), ("parted", (1, None))):
        for stop_after in stops:
            asked = Options(
                data=("set",), held_out=("set",), run=run, epochs=2, stop_after=stop_after,
                batch=32, width=16, memory=8, dilations=(1,), threads=1,
            )  # fmt: skip
            train.train(asked, tmp_path)
    whole, parted = (
        torch.load(tmp_path / "runs" / run / "best.pt", weights_only=True)
        for run in ("whole", "parted")
    )
    assert whole["epochs"] == parted["epochs"] == 2
    for name, weight in whole["weights"].items():
        assert torch.equal(weight, parted["weights"][name]), name


def test_a_training_goes_on_in_the_shape_it_came_from() -> None:
    saved = {"shape": Shape(16, (1, 3), 8, pair=(4.0, 0.0, 0.0)).as_dict()}
    assert Options().shape(saved) == Shape(16, (1, 3), 8, pair=(4.0, 0.0, 0.0))
    assert Options().shape(None) == Shape(pair=(2.0, 0.6, -1.0))
    asked = Options(width=24, dilations=(1, 2), pair=(8.0, 0.0, 0.0))
    assert asked.shape(saved) == Shape(24, (1, 2), 8, pair=(8.0, 0.0, 0.0))


def test_every_option_is_a_flag_and_what_is_not_given_is_as_usual() -> None:
    assert options([]) == Options()
    asked = options("--data a b --pair 4 1.2 -1 --left-out 1 4 --taught-by x y --small".split())
    assert asked == Options(
        data=("a", "b"), pair=(4.0, 1.2, -1.0), left_out=(1, 4), taught_by=("x", "y"), small=True
    )
    assert {one.name for one in fields(Options)} >= {"from_run", "stop_after", "seed"}


def test_a_fold_that_does_not_exist_cannot_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--left-out", "4", "4"])
    assert "no fold 4 of 4" in capsys.readouterr().err
