"""What the network is to learn, as losses by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.interruption.data.scenes import UNKNOWN


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
