"""The network: the ear as one convolution, causal dilated convolutions, one GRU, one probability.

Everything it remembers between calls is one flat vector, so the whole-window form is the streaming
form with zeros for a past.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from models.interruption import features
from models.interruption.phonemes import PHONEME_CLASSES


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; saved beside the weights."""

    width: int = 128
    dilations: tuple[int, ...] = (1, 3, 9)
    memory: int = 128
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

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        longer = torch.cat([past, x], dim=2)
        return self.conv(longer), longer[:, :, -self.context :]


class Network(nn.Module):
    """Features [batch, frames, SIZE] -> logits; `hear` starts from samples instead."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.stem = CausalConv(features.SIZE, shape.width, 3, 1)
        self.blocks = nn.ModuleList(
            CausalConv(shape.width, shape.width, shape.kernel, d) for d in shape.dilations
        )
        # Batch statistics are folded into the convolutions at export by the runtime.
        self.norms = nn.ModuleList(nn.BatchNorm1d(shape.width) for _ in range(len(self.blocks) + 1))
        self.gru = nn.GRU(shape.width, shape.memory, batch_first=True)
        self.head = nn.Linear(shape.memory + shape.width, 1)
        # Learnt beside it, so that it knows more than the labels say.
        self.ending = nn.Linear(shape.memory + shape.width, 1)
        self.voiced = nn.Linear(shape.width, 1)
        self.phonemes = nn.Linear(shape.width, PHONEME_CLASSES)  # not exported
        self.words = nn.Linear(shape.width, EAR_SIZE)  # not exported

    def sizes(self) -> list[int]:
        """Length of each part of the state: sound, one tail per convolution, speech, GRU."""
        tails = [conv.inputs * conv.context for conv in (self.stem, *self.blocks)]  # type: ignore[union-attr]
        return [features.CONTEXT, *tails, SPEECH_FRAMES - 1, self.shape.memory]

    def said(self, spoken: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """What the seconds of speech add to the logit [batch, frames], and P(speech) to be kept.

        `spoken` is the logit of speech now.
        """
        longer = torch.cat([past, torch.sigmoid(spoken)], dim=1)
        mean = nn.functional.avg_pool1d(longer[:, None], SPEECH_FRAMES, stride=1)[:, 0]
        per_speech_full = self.shape.pair[0] * SPEECH_FRAMES * 0.025
        return per_speech_full * mean, longer[:, -(SPEECH_FRAMES - 1) :]

    def whole_head(self) -> nn.Linear:
        """The head with the pair's "complete" and constant in it: all are linear in the same."""
        _, per_ending, constant = self.shape.pair
        head = nn.Linear(self.head.in_features, 1)
        with torch.no_grad():
            head.weight.copy_(self.head.weight - per_ending * self.ending.weight)
            head.bias.copy_(self.head.bias - per_ending * self.ending.bias + constant)
        return head

    def trunk(
        self, x: Tensor, tails: list[Tensor], hidden: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """[batch, frames, SIZE] -> (convolved, remembered) [batch, frames, ...], tails, hidden."""
        y, tail = self.stem(x.transpose(1, 2), tails[0])
        y = torch.relu(self.norms[0](y))
        new = [tail]
        for conv, norm, past in zip(self.blocks, self.norms[1:], tails[1:], strict=True):
            z, tail = conv(y, past)
            y = y + torch.relu(norm(z))
            new.append(tail)
        y = y.transpose(1, 2)
        remembered, hidden = self.gru(y, hidden)
        return y, remembered, new, hidden

    def blank(self, batch: int) -> tuple[list[Tensor], Tensor]:
        tails = [
            torch.zeros(batch, conv.inputs, conv.context)  # type: ignore[union-attr, arg-type]
            for conv in (self.stem, *self.blocks)
        ]
        return tails, torch.zeros(1, batch, self.shape.memory)

    def forward(self, x: Tensor, bend: float = 1.0) -> dict[str, Tensor]:
        """Logits of everything that is learnt, from the start of a window.

        `bend` is the share of the floor's gradient that reaches what all tasks have in common: the
        labels name few people, and a network bent by them alone knows these by heart.
        """
        tails, hidden = self.blank(len(x))
        y, remembered, _, _ = self.trunk(x, tails, hidden)
        both = torch.cat([remembered, y], dim=2)
        ending, spoken = self.ending(both)[..., 0], self.voiced(y)[..., 0]
        # Detached: the labels must not bend what is to stay the pair's own opinion.
        silence = torch.zeros(len(x), SPEECH_FRAMES - 1)
        said, _ = self.said(spoken.detach(), silence)
        _, per_ending, constant = self.shape.pair
        common = bend * both + (1 - bend) * both.detach()
        return {
            "floor": self.head(nn.functional.dropout(common, 0.2, self.training))[..., 0]
            - per_ending * ending.detach()
            + constant
            + said,
            "ending": ending,
            "voiced": spoken,
            "phonemes": self.phonemes(y),
            "words": self.words(y),
        }


class Served(nn.Module):
    """What is exported: int16 samples and a flat state in, probabilities and the next state out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("kernels", torch.from_numpy(features.kernels().T.copy()))
        bands = torch.from_numpy(features.bands().T.copy())
        self.register_buffer("bands", torch.cat([bands, bands]))  # of cosines and of sines
        self.head = network.whole_head()
        self.state_size = sum(network.sizes())

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        network, batch = self.network, state.shape[0]
        parts = torch.split(state, network.sizes(), dim=1)
        sound = torch.cat([parts[0], audio.to(torch.float32)], dim=1)
        # A look is two hops: one product over hops costs half of a convolution over samples.
        hops = sound.reshape(batch, -1, features.HOP)
        spectrum = torch.matmul(torch.cat([hops[:, :-1], hops[:, 1:]], dim=2), self.kernels)
        energies = torch.matmul(spectrum * spectrum, self.bands)
        heard = (torch.log(energies + features.FLOOR) - features.CENTRE) / features.SPREAD
        x = heard.reshape(batch, -1, features.SIZE)
        convs = (network.stem, *network.blocks)
        tails = [
            part.reshape(batch, conv.inputs, conv.context)  # type: ignore[arg-type, union-attr]
            for part, conv in zip(parts[1:-2], convs, strict=True)
        ]
        y, remembered, tails, hidden = network.trunk(x, tails, parts[-1][None])
        said, speech = network.said(network.voiced(y)[..., 0], parts[-2])
        logits = self.head(torch.cat([remembered, y], dim=2))[..., 0] + said
        newest = sound[:, -features.CONTEXT :]
        following = [newest, *(t.flatten(1) for t in tails), speech, hidden[0]]
        return torch.sigmoid(logits), torch.cat(following, dim=1)
