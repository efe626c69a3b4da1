"""A teacher for laughs: is there laughter in the second around each moment?

Two small residual networks of J. Gillick, W. Deng, K. Ryokai and D. Bamman, "Robust Laughter
Detection in Noisy Environments" (Interspeech 2021), github.com/jrgillick/laughter-detection (MIT),
one from telephone calls, one from AudioSet. What they saw while they learnt is what they see here:
44 looks of 128 mel bands at 8 kHz, in decibels below the loudest of that second.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CHECKPOINTS = tuple(
    f"checkpoints/comparisons/resnet_without_augmentation{data}/best.pth.tar"
    for data in ("", "_trained_on_audioset")
)

RATE = 8000
HOP = 186  # samples between looks
FRAME_S = HOP / RATE
LOOKS = 44  # what the networks see at once: a second
_FFT, _MELS = 2048, 128
_RANGE_DB = 80.0
_BATCH = 64
_POSSIBLE = 0.4


@cache
def _mel_filters() -> NDArray[np.float32]:
    """[bands, bins]: triangles of unit area, even on Slaney's scale (linear to 1 kHz, then
    logarithmic), from 0 Hz to half the rate."""
    per_hz, break_hz, log_step = 3 / 200, 1000.0, np.log(6.4) / 27
    break_mel = break_hz * per_hz
    mel = np.linspace(0, break_mel + np.log(RATE / 2 / break_hz) / log_step, _MELS + 2)
    edges = np.where(mel < break_mel, mel / per_hz, break_hz * np.exp(log_step * (mel - break_mel)))
    hz = np.fft.rfftfreq(_FFT, 1 / RATE)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hz - low) / (centre - low), (high - hz) / (high - centre)
    filters = np.maximum(np.minimum(rising, falling), 0) * 2 / (high - low)
    return np.asarray(filters, np.float32)


def looks(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """[1 + samples / 186, 128]: mel power in twice the usual decibels, as the networks learnt it;
    look i is around sample 186 i."""
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)
    padded = np.pad(samples, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::HOP]
    found = []
    for start in range(0, len(frames), 2048):  # minutes at once would not fit
        spectrum = np.fft.rfft(frames[start : start + 2048] * hann, axis=1)
        power = (np.abs(spectrum) ** 2).astype(np.float32)
        found.append(20 * np.log10(np.maximum(power @ _mel_filters().T, 1e-5)))
    return np.concatenate(found)


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class _Network(nn.Module):
    """[batch, 44, 128] -> [batch], P(laughter). The names are those in the checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        sizes = (64, 64, 32, 16, 16)
        for number in range(1, 5):
            inputs, outputs = sizes[number - 1 : number + 1]
            blocks = _Block(inputs, outputs, 1 if number == 1 else 2), _Block(outputs, outputs, 1)
            self.add_module(f"block{number}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm1d(64)
        self.linear1 = nn.Linear(64, 32)
        self.bn3 = nn.BatchNorm1d(32)
        self.linear2 = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x[:, None])))
        for number in range(1, 5):
            y = self.get_submodule(f"block{number}")(y)
        y = self.bn2(nn.functional.avg_pool2d(y, 4).flatten(1))
        y = torch.relu(self.bn3(self.linear1(y)))
        return torch.sigmoid(self.linear2(y))[:, 0]


def network(checkpoint: bytes) -> nn.Module:
    """What is in one of CHECKPOINTS. Nothing but tensors and numbers is unpickled."""
    from numpy._core.multiarray import scalar

    # NumPy 1 named it otherwise
    numbers = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    with torch.serialization.safe_globals(numbers):
        state = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
    loaded = _Network()
    loaded.load_state_dict(state["state_dict"])
    return loaded.eval()


class Laughter:
    """Several networks' mean, which takes fewer breaths and clicks for laughs than each alone."""

    def __init__(self, checkpoints: Iterable[bytes]) -> None:
        self._networks = [network(one) for one in checkpoints]

    def at(self, samples: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        """P(laughter) at the looks that are wanted, numbers below 1 + samples / 186, of mono sound
        at 8 kHz. Each takes a network some 30 ms of a core; where the first finds none, the others
        are not asked and count as 0."""
        seen = np.pad(looks(samples), ((LOOKS // 2,) * 2, (0, 0)), constant_values=-100.0)
        windows = np.lib.stride_tricks.sliding_window_view(seen, LOOKS, axis=0)
        total = np.zeros(len(wanted), np.float32)
        asked = np.arange(len(wanted))
        for one in self._networks:
            for some in np.split(asked, range(_BATCH, len(asked), _BATCH)):
                second = windows[wanted[some]].transpose(0, 2, 1)
                second = second - second.max(axis=(1, 2), keepdims=True, initial=-1000.0)
                with torch.inference_mode():
                    total[some] += one(torch.from_numpy(np.maximum(second, -_RANGE_DB))).numpy()
            asked = np.flatnonzero(total >= _POSSIBLE)
        return np.asarray(total / len(self._networks), np.float32)
