"""What it takes to do a block's product in whole numbers: the range of what goes in, and weights
rounded so that what goes in usually makes up for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.interruption.train.network import CausalConv, Network

LARGEST = 63  # of a weight: two products of 8 by 8 bits overflow on processors without VNNI
_DAMPED = 0.01  # of the mean second moment is added, as for taps that are hardly ever heard
_AT_ONCE = 256  # scenes


@dataclass(frozen=True)
class Inputs:
    """Of a block: the largest number that went in, and the mean products of its taps in pairs,
    [taps * inputs, taps * inputs], in the order of `taps_of`."""

    peak: float
    moments: Tensor


def taps_of(conv: CausalConv, x: Tensor) -> Tensor:
    """[batch, inputs, frames] -> [batch, frames, taps * inputs], the oldest first."""
    frames, step = x.shape[2], conv.conv.dilation[0]
    longer = nn.functional.pad(x, (conv.context, 0))
    starts = range(0, conv.context + 1, step)
    return torch.cat([longer[:, :, at : at + frames] for at in starts], dim=1).transpose(1, 2)


def inputs_of(network: Network, x: Tensor) -> list[Inputs]:
    """Of each block but the stem, over scenes [n, frames, SIZE]; the network is in `eval`."""
    blocks = network.convolutions()[1:]
    sizes = [block.inputs * block.conv.kernel_size[0] for block in blocks]
    peaks = [0.0] * len(blocks)
    sums = [torch.zeros(size, size, dtype=torch.float64) for size in sizes]

    def note(i: int, x: Tensor) -> None:
        peaks[i] = max(peaks[i], float(x.max()))
        taps = taps_of(blocks[i], x).flatten(0, 1)
        sums[i] += (taps.T @ taps).double()

    hooks = [
        block.register_forward_pre_hook(lambda _, inputs, i=i: note(i, inputs[0]))
        for i, block in enumerate(blocks)
    ]
    with torch.no_grad():
        for part in x.split(_AT_ONCE):
            network(part)
    for hook in hooks:
        hook.remove()
    return [
        Inputs(peak, total / (len(x) * x.shape[1])) for peak, total in zip(peaks, sums, strict=True)
    ]


def rounded(weight: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """[inputs, outputs] -> whole numbers of at most `LARGEST`, and what to multiply each output by.

    Row after row; what rounding one changed of the product is taken off the rows to come, as far as
    these go along with it (GPTQ, E. Frantar et al., 2022).
    """
    scales = (weight.abs().amax(dim=0).clamp(min=1e-9) / LARGEST).double()
    size = len(weight)
    damped = moments + torch.eye(size).double() * moments.diagonal().mean() * _DAMPED
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    along = torch.linalg.cholesky(inverse, upper=True)
    left, found = weight.detach().double().clone(), torch.zeros(weight.shape, dtype=torch.float64)
    for row in range(size):
        found[row] = torch.round(left[row] / scales).clamp(-LARGEST, LARGEST)
        changed = (left[row] - found[row] * scales) / along[row, row]
        left[row + 1 :] -= torch.outer(along[row, row + 1 :], changed)
    return found.to(torch.int8), scales.float()
