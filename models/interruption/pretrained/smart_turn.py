"""smart-turn v3.2 (Pipecat, BSD-2-Clause): is what was said so far a complete turn?"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.interruption.pretrained import wheels

SAMPLE_RATE = 16_000
SMART_TURN_SAMPLES = 8 * SAMPLE_RATE

FFT_SIZE, HOP, MELS = 400, 160, 80


@cache
def _mel_filters() -> NDArray[np.float64]:
    """Triangles of unit area, even on Slaney's scale: linear to 1 kHz, then logarithmic."""
    linear_step, break_hz, log_step = 200 / 3, 1000.0, np.log(6.4) / 27
    break_mel = break_hz / linear_step
    top_mel = break_mel + np.log(SAMPLE_RATE / 2 / break_hz) / log_step
    mel = np.linspace(0, top_mel, MELS + 2)
    edges = np.where(
        mel < break_mel, mel * linear_step, break_hz * np.exp(log_step * (mel - break_mel))
    )
    hz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre))
    return np.asarray(np.maximum(triangles, 0) * 2 / (high - low))


def whisper_log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's features of exactly 8 s, (80, 800); what came earlier than 8 s ago is dropped."""
    padded = np.zeros(SMART_TURN_SAMPLES, np.float32)
    newest = samples[-SMART_TURN_SAMPLES:]
    padded[SMART_TURN_SAMPLES - len(newest) :] = newest
    padded = (padded - padded.mean()) / np.sqrt(padded.var() + 1e-7)
    reflected = np.pad(padded.astype(np.float64), FFT_SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(reflected, FFT_SIZE)[::HOP][:-1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    log_mel = np.log10(np.maximum(_mel_filters() @ power.T, 1e-10))
    return np.asarray((np.maximum(log_mel, log_mel.max() - 8) + 4) / 4, np.float32)


def turn_complete(samples: NDArray[np.float32]) -> float:
    """smart-turn's P(the turn is over) for the audio up to now."""
    session = wheels.session("pipecat", "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx")
    features = whisper_log_mel(samples)[None]
    return float(np.ravel(session.run(None, {"input_features": features})[0])[0])
