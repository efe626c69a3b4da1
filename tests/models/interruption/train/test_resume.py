from pathlib import Path

import numpy as np
import torch

from models.interruption.data import features
from models.interruption.export.export import export
from models.interruption.export.whole_numbers import Inputs
from models.interruption.train.network import Network, Shape
from models.interruption.train.resume import measure, restored


def said(network: Network, noise: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = network(torch.from_numpy(features.of(noise))[None])["floor"]
    probabilities: np.ndarray = torch.sigmoid(logits).numpy()
    return probabilities


def test_a_network_made_from_an_exported_file_says_the_same_and_can_be_trained_on(
    tmp_path: Path,
) -> None:
    torch.manual_seed(4)
    published = Network(Shape(width=16, dilations=(1, 3), memory=8, pair=(3.0, 0.6, -2.0))).eval()
    for norm in published.norms:  # as after some training
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    export(published, {"interface": "bargein/1"}, tmp_path / "published.onnx")
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(16_000) * rng.uniform(0, 3000, 16_000)).astype(np.int16)

    network = restored(tmp_path / "published.onnx")
    assert np.abs(said(network, noise) - said(published, noise)).max() < 1e-5

    measure(network, torch.from_numpy(features.of(noise))[None])
    assert np.abs(said(network, noise) - said(published, noise)).max() < 1e-4
    heard = network.norms[0].running_var
    assert not torch.allclose(heard, torch.ones_like(heard))


def test_a_file_in_whole_numbers_is_read_to_half_a_step(tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = Network(Shape(width=16, dilations=(1, 3), memory=8)).eval()
    inputs = [Inputs(4.0, torch.eye(3 * 16).double())] * 2
    export(published, {"interface": "bargein/1"}, tmp_path / "whole.onnx", inputs)
    found = restored(tmp_path / "whole.onnx")
    for mine, read in zip(published.blocks, found.blocks, strict=True):
        weight = mine.conv.weight.detach()
        half = weight.abs().amax(dim=(1, 2), keepdim=True) / 63 / 2
        apart = (read.conv.weight.detach() - weight).abs()
        assert (apart <= half + 1e-4 * weight.abs()).all()
        assert float(apart.max()) > 0
