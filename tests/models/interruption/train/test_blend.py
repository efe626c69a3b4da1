import sys
from pathlib import Path

import pytest
import torch

from models.interruption.cache import cache_folder
from models.interruption.train import blend
from models.interruption.train.network import Network, Shape

SHAPE = Shape(width=8, memory=8, dilations=(1,), pair=(1.0, 0.5, 0.0))


@pytest.mark.parametrize(("epochs", "ending"), [(2, 0.75), (0, 1.0)])
def test_a_mean_of_all_weights_but_for_heads_that_a_resumed_network_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, ending: float
) -> None:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    runs = cache_folder() / "runs"
    for name, value, taken in (("first", 0.0, epochs), ("second", 1.0, 1)):
        network = Network(SHAPE)
        with torch.no_grad():
            for weight in network.parameters():
                weight.fill_(value)
        (runs / name).mkdir(parents=True)
        torch.save({"weights": network.state_dict(), "epochs": taken}, runs / name / "best.pt")
    monkeypatch.setattr(
        sys, "argv", ["blend", "--of", "first", "second", "--share", "0.75", "--run", "mean"]
    )
    blend.main()
    weights = torch.load(runs / "mean" / "best.pt", weights_only=True)["weights"]
    assert weights["head.weight"].unique().tolist() == [0.75]
    assert weights["ending.weight"].unique().tolist() == [ending]
