"""Gives a larger network the weights of a smaller one, to start from what that one says."""

from __future__ import annotations

import torch
from torch import Tensor

from models.interruption.train.network import Network


def _at(
    old: int, new: int, stacked: str, widths: tuple[int, int], memories: tuple[int, int]
) -> Tensor:
    """Where each of `old` rows or columns of a parameter goes among `new`."""
    if new < old:
        raise ValueError(
            f"a network of width {widths[0]} and memory {memories[0]} does not fit into one of "
            f"{widths[1]} and {memories[1]}"
        )
    index = torch.arange(old)
    if stacked == "gates":  # three, each as long as the memory
        return index + torch.arange(3).repeat_interleave(memories[0]) * (memories[1] - memories[0])
    if stacked == "head":  # what is remembered, then what is heard now
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
        gates = "gates" if name.startswith("gru") else ""
        rows = _at(len(old), len(now), gates, widths, memories)
        if old.dim() == 1:
            new[rows] = old
        else:
            head = "head" if name.startswith(("head.", "ending.")) else ""
            columns = _at(old.shape[1], now.shape[1], head, widths, memories)
            new[rows] = 0
            new[rows[:, None], columns[None, :]] = old
        out[name] = new
    return out
