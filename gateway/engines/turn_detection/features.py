"""Whisper's log-mel features, as end-of-turn models take them.

Equal to `transformers.WhisperFeatureExtractor(chunk_length=window_s)(..., do_normalize=True)` on
audio padded with silence at its beginning. What is silence is computed once: a short utterance
costs a fraction of a full window.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from gateway.engines.types import Floats, Samples

SAMPLE_RATE: Final = 16_000
MELS: Final = 80
HOP: Final = 160
"""Samples from frame to frame: 10 ms."""

_FFT: Final = 400
_EDGE: Final = _FFT // 2
_STACK: Final = 16
"""Frames in one matrix product: larger ones would wake the threads of numpy's BLAS, which spin on
cores that belong to the event loop and to ONNX Runtime."""

_VARIANCE_FLOOR: Final = 1e-7
_POWER_FLOOR: Final = 1e-10


class LogMel:
    """The features of the newest `window_s` seconds; made once, used for every window."""

    def __init__(self, window_s: float) -> None:
        self.samples = round(window_s * SAMPLE_RATE)
        self.frames = self.samples // HOP
        self._hann = np.hanning(_FFT + 1)[:-1]
        self._filters = _mel_filters().astype(np.float32)

    def __call__(self, samples: Samples) -> Floats:
        """Features float32 [80, frames] of int16 `samples`; of more than a window, its end."""
        audio = samples[-self.samples :].astype(np.float32)
        audio *= 1 / 32768
        # over the whole window, silence included; in float64, since it is a sum of many
        mean = float(audio.sum(dtype=np.float64)) / self.samples
        variance = float(np.square(audio).sum(dtype=np.float64)) / self.samples - mean * mean
        scale = 1 / np.sqrt(max(variance, 0.0) + _VARIANCE_FLOOR)
        silent = self.samples - audio.size
        # frames that lie in the silence whole, all alike: one is computed for all
        blank = min(max(0, (silent - _EDGE) // HOP + 1), self.frames)
        begin = max(0, blank * HOP - _EDGE)
        heard = np.zeros(self.samples - begin, np.float32)
        if audio.size:
            heard[-audio.size :] = audio
        heard -= np.float32(mean)
        heard *= np.float32(scale)
        left = 0 if blank else _EDGE
        padded = np.pad(heard, (left, _EDGE), mode="reflect")
        log_mel = np.empty((self.frames, MELS), np.float32)
        if blank < self.frames:
            frames = sliding_window_view(padded, _FFT)[::HOP][: self.frames - blank]
            log_mel[blank:] = self._mel(frames)
        if blank:
            nothing = np.full((1, _FFT), -mean * scale, np.float32)
            log_mel[:blank] = self._mel(nothing)
        np.maximum(log_mel, _POWER_FLOOR, out=log_mel)
        np.log10(log_mel, out=log_mel)
        np.maximum(log_mel, log_mel.max() - 8.0, out=log_mel)
        log_mel += 4.0
        log_mel *= 0.25
        return log_mel.T

    def _mel(self, frames: Floats) -> Floats:
        """Power in mel bands [frames, 80] of samples [frames, 400]."""
        count = len(frames)
        stacked = -(-count // _STACK)
        # numpy's transform is several times faster in float64
        spectrum = np.fft.rfft(frames * self._hann, axis=-1)
        power = np.zeros((stacked * _STACK, _EDGE + 1), np.float32)
        power[:count] = np.square(spectrum.real) + np.square(spectrum.imag)
        bands = power.reshape(stacked, _STACK, -1) @ self._filters
        return bands.reshape(-1, MELS)[:count]


def _mel_filters() -> npt.NDArray[np.float64]:
    """Triangles of equal area, evenly spaced on Slaney's mel scale: [201 frequencies, 80]."""
    edges = _hertz(np.linspace(0.0, float(_mel_of_nyquist()), MELS + 2))
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, _EDGE + 1)
    widths = np.diff(edges)
    distances = edges[None, :] - frequencies[:, None]
    rising = -distances[:, :-2] / widths[:-1]
    falling = distances[:, 2:] / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float64] = triangles * (2.0 / (edges[2:] - edges[:-2]))
    return filters


_LINEAR_HZ: Final = 1000.0
"""Slaney's scale is linear to here (15 mel), then logarithmic: 27 steps to 6.4 times as much."""


def _mel_of_nyquist() -> float:
    return 15.0 + 27.0 * float(np.log(SAMPLE_RATE / 2 / _LINEAR_HZ) / np.log(6.4))


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithmic = _LINEAR_HZ * np.exp(np.log(6.4) / 27.0 * (mels - 15.0))
    hertz: npt.NDArray[np.float64] = np.where(mels < 15.0, mels * 200.0 / 3.0, logarithmic)
    return hertz
