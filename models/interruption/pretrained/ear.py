"""A second teacher: what a network that heard thousands of hours makes of each moment.

Google's `speech_embedding` (J. Lin, K. Kilgour, D. Roblek, M. Sharifi, "Training keyword spotters
with limited and synthesized speech data", ICASSP 2020; Apache-2.0) turns the last 0.775 s into 96
numbers that tell words apart. The small network learns to say them too, from recordings whose words
nobody wrote down. The exported file holds nothing of it.

The published network steps by 80 ms. Its pools are undone here into dilations, so that one pass
gives its answer every 20 ms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIZE = 96
_HOP, _WINDOW, _BINS, _MELS = 160, 400, 122, 32
_BEFORE = 76 - 2  # looks of the past that the first answer needs, beside its own two
_QUIET_DB = -62.0  # white noise of this level stands before the sound
_SCALE = 20.0  # answers are within some +-60
# Convolutions over both (c), frequency (f) and time (t); pools over frequency (p) and both (P).
_PLAN = "cftPftftpftftPftftpftftPt"


def _initializers(path: Path) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    return graph, {one.name: numpy_helper.to_array(one) for one in graph.initializer}


class Ear(nn.Module):
    """Samples in, answers out; `folder` holds the two files that `downloads` fetched."""

    STEP = 320  # samples between answers

    def __init__(self, folder: Path) -> None:
        super().__init__()
        graph, known = _initializers(folder / "melspectrogram.onnx")
        cosine, sine = (known[n.input[1]] for n in graph.node if n.op_type == "Conv")
        edge = (cosine.shape[2] - _WINDOW) // 2  # the Hann window stands in the middle of 512
        self._kernels = np.concatenate([cosine, sine], axis=1)[:_BINS, :, edge : edge + _WINDOW]
        self._kernels = self._kernels.transpose(1, 0, 2).reshape(2 * _BINS, _WINDOW)
        self._mel = next(
            known[name] for n in graph.node if n.op_type == "MatMul" for name in n.input
            if name in known
        )[:_BINS]  # fmt: skip
        graph, known = _initializers(folder / "embedding_model.onnx")
        self.convs = nn.ModuleList()
        for node in graph.node:
            if node.op_type != "Conv":
                continue
            weight, *bias = (torch.from_numpy(known[name].copy()) for name in node.input[1:])
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]),
                             bias=bool(bias))  # fmt: skip
            conv.weight.data = weight
            if bias:
                conv.bias.data = bias[0]
            self.convs.append(conv)
        least = (n for n in graph.node if n.op_type == "Max")
        self._least = float(next(known[i] for n in least for i in n.input if i in known).item())
        self.eval()

    def looks(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """[looks, 32] of samples [looks * 160], silence before them."""
        padded = np.concatenate([np.zeros(_WINDOW - _HOP, np.float32), samples.astype(np.float32)])
        parts = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] @ self._kernels.T
        power = parts[:, :_BINS] ** 2 + parts[:, _BINS:] ** 2
        return np.asarray(np.log10(np.maximum(power @ self._mel, 1e-10)) + 2, np.float32)

    def forward(self, looks: Tensor) -> Tensor:
        """[batch, looks, 32] -> [batch, (looks - 74) / 2, 96]"""
        y, dilation, number, pooled = looks[:, None], 1, 0, False
        for step in _PLAN:
            if step == "p":
                y = nn.functional.max_pool2d(y, (1, 2))
            elif step == "P" and not pooled:
                y, pooled = nn.functional.max_pool2d(y, 2), True
            elif step == "P":
                y = torch.maximum(y[:, :, dilation:], y[:, :, :-dilation])
                y, dilation = nn.functional.max_pool2d(y, (1, 2)), 2 * dilation
            else:
                conv = self.convs[number]
                y = nn.functional.conv2d(
                    y, conv.weight, conv.bias,
                    padding=(0, 1) if conv.weight.shape[3] == 3 else 0, dilation=(dilation, 1),
                )  # fmt: skip
                number += 1
                if number < len(self.convs):
                    y = nn.functional.leaky_relu(y, 0.2).clamp(min=self._least)
        return y[:, :, :, 0].transpose(1, 2)

    def heard(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """[n, len / 320, 96] of `samples` [n, len], about -1 to 1."""
        quiet = np.random.default_rng(0).standard_normal(_BEFORE * _HOP) * 32767
        before = self.looks((quiet * 10 ** (_QUIET_DB / 20)).astype(np.int16))
        found = np.stack([np.concatenate([before, self.looks(one)]) for one in samples])
        with torch.no_grad():
            return np.asarray(self(torch.from_numpy(found)) / _SCALE)
