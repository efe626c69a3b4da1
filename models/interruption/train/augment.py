"""What training hears in place of a scene: other company, noise, tempo, throat and microphone.

All work on features [scenes, frames, SIZE] and draw from the generator that is given.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.interruption.data import features
from models.interruption.data.nonverbal import floor_noise
from models.interruption.data.scenes import FRAMES

Batch = dict[str, Tensor]
"""Features `x` and what is known of each frame, by name: all [scenes, frames, ...]."""

_COMPANY = 5  # scenes that make a babble


def augmented(batch: Batch, hisses: Tensor, draw: torch.Generator) -> tuple[Tensor, Batch]:
    """Features as they are heard once, and what is to be learnt from them."""
    moved = hurried(later(batch, draw), draw)
    mixed = hissed(in_company(overheard(moved["x"], draw), draw), hisses, draw)
    return varied(others(mixed, draw), draw), moved


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
