"""Finished trainings, as `train` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.interruption.train.network import Network, Shape

Saved = dict[str, Any]
"""`weights`, `shape`, `figures`, `training_data_sha256`, `epochs`, `sets` and `left_out`."""


def shape_from(saved: dict[str, Any]) -> Shape:
    """Of what `Shape.as_dict` gave, also where it went through JSON."""
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
    return Shape(**sizes)


def loaded(checkpoint: Path, pair: Sequence[float] | None = None) -> tuple[Network, Saved]:
    """The network of a finished training, and all that was saved with it.

    `pair` replaces the weights that it was trained with: see `network.Shape`.
    """
    saved: Saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    shape = dict(saved["shape"])
    if pair is not None:
        shape["pair"] = tuple(pair)
    network = Network(shape_from(shape))
    network.load_state_dict(saved["weights"])
    network.eval()
    return network, saved
