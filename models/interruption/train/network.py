"""The network as it is trained: causal dilated convolutions, one GRU, one probability.

`graph` writes the form that is served.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from models.interruption.data import features
from models.interruption.data.phonemes import PHONEME_CLASSES


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; saved beside the weights."""

    width: int = 160
    dilations: tuple[int, ...] = (1, 3, 9)
    memory: int = 160
    kernel: int = 3
    # What the untrained pair knows is added to the floor's logit as it is, and the head learns the
    # rest: logits for a second of speech, for the logit of "complete", and for nothing at all.
    pair: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


EAR_SIZE = 96  # numbers of `ear.Ear`
SPEECH_FRAMES = 60  # speech seconds are counted over the last 1.5 s, so a long call has no more


class CausalConv(nn.Module):
    """[batch, channels, frames] -> the same, each frame from itself and `context` earlier ones."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.context = (kernel - 1) * dilation
        self.inputs = inputs
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(nn.functional.pad(x, (self.context, 0)))
        return found


class Network(nn.Module):
    """Features [batch, frames, SIZE] -> logits, from the start of a window."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.stem = CausalConv(features.SIZE, shape.width, 3, 1)
        self.blocks = nn.ModuleList(
            CausalConv(shape.width, shape.width, shape.kernel, d) for d in shape.dilations
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(shape.width) for _ in range(len(self.blocks) + 1))
        self.gru = nn.GRU(shape.width, shape.memory, batch_first=True)
        self.head = nn.Linear(shape.memory + shape.width, 1)
        # Learnt beside it, so that it knows more than the labels say.
        self.ending = nn.Linear(shape.memory + shape.width, 1)
        self.voiced = nn.Linear(shape.width, 1)
        self.phonemes = nn.Linear(shape.width, PHONEME_CLASSES)  # not exported
        self.words = nn.Linear(shape.width, EAR_SIZE)  # not exported

    def convolutions(self) -> tuple[CausalConv, ...]:
        return (self.stem, *self.blocks)

    def said(self, spoken: Tensor) -> Tensor:
        """What the seconds of speech add to the logit [batch, frames]; `spoken`: is it speech?"""
        longer = nn.functional.pad(torch.sigmoid(spoken), (SPEECH_FRAMES - 1, 0))
        mean = nn.functional.avg_pool1d(longer[:, None], SPEECH_FRAMES, stride=1)[:, 0]
        return self.shape.pair[0] * SPEECH_FRAMES * 0.025 * mean

    def whole_head(self) -> nn.Linear:
        """The head with the pair's "complete" and constant in it: all are linear in the same."""
        _, per_ending, constant = self.shape.pair
        head = nn.Linear(self.head.in_features, 1)
        with torch.no_grad():
            head.weight.copy_(self.head.weight - per_ending * self.ending.weight)
            head.bias.copy_(self.head.bias - per_ending * self.ending.bias + constant)
        return head

    def forward(self, x: Tensor, bend: float = 1.0, dropout: float = 0.1) -> dict[str, Tensor]:
        """Logits of everything that is learnt, from the start of a window.

        `bend` is the share of the floor's gradient that reaches what all tasks have in common: the
        labels name few people, and a network bent by them alone knows these by heart. In training
        the share `dropout` of what goes into memory is hidden, and twice that of what the floor's
        head sees.
        """
        y = torch.relu(self.norms[0](self.stem(x.transpose(1, 2))))
        for conv, norm in zip(self.blocks, self.norms[1:], strict=True):
            y = y + torch.relu(norm(conv(y)))
        y = y.transpose(1, 2)
        remembered, _ = self.gru(nn.functional.dropout(y, dropout, self.training))
        both = torch.cat([remembered, y], dim=2)
        ending, spoken = self.ending(both)[..., 0], self.voiced(y)[..., 0]
        # Detached: the labels must not bend what is to stay the pair's own opinion.
        said = self.said(spoken.detach())
        _, per_ending, constant = self.shape.pair
        common = bend * both + (1 - bend) * both.detach()
        return {
            "floor": self.head(nn.functional.dropout(common, 2 * dropout, self.training))[..., 0]
            - per_ending * ending.detach()
            + constant
            + said,
            "ending": ending,
            "voiced": spoken,
            "phonemes": self.phonemes(y),
            "words": self.words(y),
        }
