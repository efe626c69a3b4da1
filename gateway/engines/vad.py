"""How probably a stream of audio is speech: by Silero's model, or else by loudness."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from gateway.audio.pcm import Loudness, floats, level
from gateway.engines.onnx import open_session
from gateway.engines.types import Floats

RATE: Final = 16_000
CHUNK: Final = 512
"""Samples of one step."""

_CONTEXT: Final = 64
"""Samples before the step that Silero's model hears with it."""


@dataclass(slots=True)
class VadState:
    """What a detector remembers of one stream."""

    state: Floats = field(default_factory=lambda: np.zeros((2, 1, 128), np.float32))
    context: Floats = field(default_factory=lambda: np.zeros(_CONTEXT, np.float32))
    loudness: Loudness = field(default_factory=Loudness)


@dataclass(frozen=True, slots=True)
class VadRequest:
    """Whole chunks of s16le at 16 kHz of one stream, and what is remembered of it."""

    state: VadState
    pcm: bytes


class Vad(Protocol):
    """Answers a batch of questions: a probability for each chunk of each. Changes the states."""

    def run(self, questions: list[VadRequest]) -> list[list[float]]: ...


class SileroVad:
    """Silero VAD, https://github.com/snakers4/silero-vad. Raises ModelError."""

    def __init__(self, path: Path) -> None:
        self._session = open_session(path, 1)
        self._rate = np.array(RATE, np.int64)

    def run(self, questions: list[VadRequest]) -> list[list[float]]:
        audio = [floats(one.pcm).reshape(-1, CHUNK) for one in questions]
        answers: list[list[float]] = [[] for _ in questions]
        for step in range(max((len(chunks) for chunks in audio), default=0)):
            # the streams that have a chunk left go together
            alive = [i for i, chunks in enumerate(audio) if step < len(chunks)]
            states = [questions[i].state for i in alive]
            heard = np.stack(
                [
                    np.concatenate((state.context, audio[i][step]))
                    for i, state in zip(alive, states, strict=True)
                ]
            )
            before = np.concatenate([state.state for state in states], axis=1)
            probabilities, after = self._session.run(
                None, {"input": heard, "state": before, "sr": self._rate}
            )
            for place, i in enumerate(alive):
                answers[i].append(float(probabilities[place, 0]))
                states[place].state = after[:, place : place + 1]
                states[place].context = heard[place, -_CONTEXT:]
        return answers


class LoudnessVad:
    """Takes what is loud for speech. It hears speech in every cough: for want of a better one."""

    def run(self, questions: list[VadRequest]) -> list[list[float]]:
        answers = []
        for one in questions:
            chunks = [one.pcm[i : i + 2 * CHUNK] for i in range(0, len(one.pcm), 2 * CHUNK)]
            answers.append([float(one.state.loudness.loud(level(chunk))) for chunk in chunks])
        return answers
