"""The scores to beat: speech seconds, and speech seconds + (1 - smart-turn).

Both networks come as ONNX files inside PyPI wheels (`silero-vad`, `pipecat-ai`). The wheels are
installed with `--no-deps` and never imported: only the files inside them are opened.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
VAD_FRAME = 512
VAD_CONTEXT = 64  # samples of the frame before, which Silero 5 and later want in front
SMART_TURN_SAMPLES = 8 * SAMPLE_RATE

FFT_SIZE, HOP, MELS = 400, 160, 80


def _file_in_package(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"no package {package!r}: pip install --no-deps -r models/requirements-baselines.txt"
        )
    return Path(spec.submodule_search_locations[0]) / inside


@cache
def _session(package: str, inside: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(_file_in_package(package, inside)), options, providers=["CPUExecutionProvider"]
    )


def speech_probabilities(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silero's P(speech) for each whole 32 ms frame: [samples] -> [frames], or so for each sound of
    a batch [sounds, samples]."""
    session = _session("silero_vad", "data/silero_vad.onnx")
    sounds = np.atleast_2d(samples).astype(np.float32)
    state = np.zeros((2, len(sounds), 128), np.float32)
    context = np.zeros((len(sounds), VAD_CONTEXT), np.float32)
    found = []
    for start in range(0, sounds.shape[1] - VAD_FRAME + 1, VAD_FRAME):
        frame = sounds[:, start : start + VAD_FRAME]
        probability, state = session.run(
            None,
            {
                "input": np.concatenate([context, frame], axis=1),
                "state": state,
                "sr": np.array(SAMPLE_RATE, np.int64),
            },
        )
        context = frame[:, -VAD_CONTEXT:]
        found.append(probability[:, 0])
    heard = np.stack(found, axis=1) if found else np.zeros((len(sounds), 0), np.float32)
    return heard if samples.ndim == 2 else heard[0]


def speech_seconds(samples: NDArray[np.float32]) -> float:
    return float(np.sum(speech_probabilities(samples) >= 0.5)) * VAD_FRAME / SAMPLE_RATE


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
    return np.maximum(triangles, 0) * 2 / (high - low)


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
    return ((np.maximum(log_mel, log_mel.max() - 8) + 4) / 4).astype(np.float32)


def turn_complete(samples: NDArray[np.float32]) -> float:
    """smart-turn's P(the turn is over) for the audio up to now."""
    session = _session("pipecat", "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx")
    features = whisper_log_mel(samples)[None]
    return float(np.ravel(session.run(None, {"input_features": features})[0])[0])


class PairCache:
    """(speech seconds, 1 - smart-turn) of a trial at asked times, kept on disk by its samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def features(
        self, window: NDArray[np.int16], ends: tuple[int, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """At each of `ends` (samples): seconds of speech so far, and 1 - P(complete)."""
        key = hashlib.sha256(window.tobytes() + repr(ends).encode()).hexdigest()[:24]
        path = self._folder / f"{key}.npy"
        if path.exists():
            known = np.load(path)
            return known[0], known[1]
        samples = window.astype(np.float32) / 32768
        frames = speech_probabilities(samples) >= 0.5
        counts = [float(frames[: end // VAD_FRAME].sum()) for end in ends]
        seconds = [count * VAD_FRAME / SAMPLE_RATE for count in counts]
        unfinished = [1 - turn_complete(samples[:end]) for end in ends]
        np.save(path, np.array([seconds, unfinished]))
        return np.array(seconds), np.array(unfinished)
