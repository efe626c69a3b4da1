"""Windows of samples -> features -> the probability that the turn is over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gateway.engines.onnx import WindowModel
from gateway.engines.turn_detection.features import MELS, SAMPLE_RATE, LogMel
from gateway.engines.types import Floats, ModelError, Prediction, TurnModelCard

INTERFACE: Final = "eot/1"
"""Metadata `interface` of a model that can be served here."""

WINDOW_S_MAX: Final = 30.0
"""Longest window a model may ask for: so much audio is kept for every session."""


SMART_TURN_THRESHOLDS: Final[Mapping[str, float]] = {"en": 0.21}
"""Thresholds of Smart Turn v3.2 by language, chosen by models/turn/evaluate.py on recordings; the
tables are in models/turn/README.md. Made speech gave no other language cause for its own."""

SMART_TURN_THRESHOLD: Final = SMART_TURN_THRESHOLDS["en"]
"""Threshold of Smart Turn v3.2 for all other languages."""


@dataclass(frozen=True, slots=True)
class Question:
    """A session's newest audio (s16le, 16 kHz), and its number for the asker."""

    samples: bytes
    number: int = 0


class TurnModel:
    """Runs questions of many sessions: `run` is what the batcher calls.

    Two kinds of ONNX files, told apart by their input (see models/turn/README.md):
    `input_features` float32 [batch, 80, frames], Whisper's log-mel, as Smart Turn v3 has it, and
    `audio` float32 [batch, samples], from -1 to 1, silence before its beginning. Raises ModelError.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._path = path
        self._model = WindowModel(path, threads=threads)
        shape = self._model.input_shape
        self._features: LogMel | None = None
        match self._model.input_name, shape:
            case "input_features", (80, int(frames)):
                samples = frames * SAMPLE_RATE // 100
                self._features = LogMel(samples / SAMPLE_RATE)
            case "audio", (int(samples),):
                pass
            case _:
                raise ModelError(
                    f"{path}: expected the input 'input_features' float32 [batch, {MELS}, frames] "
                    "or 'audio' float32 [batch, samples]"
                )
        if not 0 < samples <= WINDOW_S_MAX * SAMPLE_RATE:
            raise ModelError(f"{path}: its window is longer than {WINDOW_S_MAX:g} s")
        self.card = _read_card(path, self._model.metadata, samples)

    def run(self, questions: list[Question]) -> list[Prediction]:
        """What the model says of each question's audio."""
        began = time.perf_counter()
        inputs = np.stack([self.prepared(question.samples) for question in questions])
        prepared = time.perf_counter()
        probabilities = self._model.run(inputs)
        ended = time.perf_counter()
        return [
            Prediction(float(probability), prepared - began, ended - prepared)
            for probability in probabilities
        ]

    def prepared(self, samples: bytes) -> Floats:
        """The model's input for s16le `samples`: their end if they are more than its window."""
        audio = np.frombuffer(samples, np.int16)
        if self._features is not None:
            return self._features(audio)
        window = np.zeros(self.card.window_samples, np.float32)
        newest = audio[-window.size :]
        window[window.size - newest.size :] = newest
        window *= np.float32(1 / 32768)
        return window

    def warm(self) -> None:
        """Run once, so that the first caller does not wait for buffers to be made. Raises
        ModelError if what comes out is no probability."""
        (prediction,) = self.run([Question(b"\1\0" * SAMPLE_RATE)])
        if not 0 <= prediction.probability <= 1:
            raise ModelError(
                f"{self._path}: its output is {prediction.probability}: expected a probability"
            )


def _read_card(path: Path, meta: Mapping[str, str], samples: int) -> TurnModelCard:
    if "interface" not in meta and samples == 8 * SAMPLE_RATE:
        # Smart Turn says nothing of itself
        return TurnModelCard(
            "smart-turn",
            path.stem.removeprefix("smart-turn-"),
            samples,
            SMART_TURN_THRESHOLD,
            SMART_TURN_THRESHOLDS,
        )
    if meta.get("interface") != INTERFACE:
        raise ModelError(
            f"{path}: metadata 'interface' is {meta.get('interface')!r}: expected {INTERFACE!r}"
        )
    try:
        card = TurnModelCard(
            name=meta.get("name", path.stem),
            version=meta.get("version", "unknown"),
            window_samples=samples,
            default_threshold=float(meta["default_threshold"]),
            thresholds=_read_thresholds(meta.get("thresholds", "")),
        )
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: metadata is missing or malformed: {error}") from None
    for threshold in (card.default_threshold, *card.thresholds.values()):
        if not 0 < threshold < 1:
            raise ModelError(f"{path}: metadata has a threshold of {threshold}: expected 0 to 1")
    return card


def _read_thresholds(text: str) -> dict[str, float]:
    """Thresholds as metadata has them: "en=0.4 de=0.5"."""
    pairs = (item.split("=", 1) for item in text.split())
    return {language: float(threshold) for language, threshold in pairs}
