"""Gives a larger network the weights of a smaller one, to start from what that one says."""

from __future__ import annotations

import torch
from torch import Tensor

from models.interruption.network import Network


def _at(
    old: int, new: int, name: str, widths: tuple[int, int], memories: tuple[int, int]
) -> Tensor:
    """Where each of `old` rows or columns of the parameter goes among `new`."""
    index = torch.arange(old)
    if old == new:
        return index
    if name.startswith("gru") and old == 3 * memories[0]:  # gates are stacked
        return index + torch.arange(3).repeat_interleave(memories[0]) * (memories[1] - memories[0])
    if old == memories[0] + widths[0]:  # a head: what is remembered, then what is heard now
        return torch.where(index < memories[0], index, index + memories[1] - memories[0])
    return index


def widened(weights: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
    """State of `network` that answers as `weights` (of the same layers, none of them wider) do.

    What is new listens to everything, as it was initialised; nothing listens to it yet.
    """
    widths = len(weights["stem.conv.bias"]), network.shape.width
    memories = weights["gru.weight_hh_l0"].shape[1], network.shape.memory
    out = {}
    for name, now in network.state_dict().items():
        old = weights.get(name)
        if old is None or old.dim() != now.dim():
            out[name] = now
            continue
        if old.shape == now.shape:
            out[name] = old
            continue
        new = now.clone()
        rows = _at(len(old), len(now), name, widths, memories)
        if old.dim() == 1:
            new[rows] = old
        else:
            columns = _at(old.shape[1], now.shape[1], name, widths, memories)
            new[rows] = 0
            new[rows[:, None], columns[None, :]] = old
        out[name] = new
    return out
