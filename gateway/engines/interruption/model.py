"""Windows of samples -> probabilities, each sample run once.

Consecutive windows of a session share almost all their audio: the client sends its newest window,
which first grows and then slides. The model is causal and carries its state, so of each window
only the samples not seen before are run. The grid of frames is anchored where a track begins, at
the end of its first window: the client's steps are whole frames, its windows' starts are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.engines.interruption.own_voice import Comparison, Voice
from gateway.engines.onnx import FrameModel
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX, Floats, Samples

INTERFACE: Final = "bargein/1"
"""Metadata `interface` of a model that can be served here."""


_ANCHOR_BYTES: Final = 3200
"""100 ms at 16 kHz: what is looked for to find where a window continues the one before."""


_CANDIDATES_MAX: Final = 8
"""Places looked at before a window is taken for new audio."""


class Track:
    """What is known of one session's audio: the last window, and the model's view of it.

    Used by one thread at a time.
    """

    __slots__ = (
        "_comparison",
        "_frame_bytes",
        "_frames_max",
        "_rest",
        "_shift",
        "_window",
        "frames_run",
        "probabilities",
        "state",
        "voice",
    )

    def __init__(self, model: FrameModel, voice: Callable[[], Voice | None] | None = None) -> None:
        """`voice` tells what the agent has said of late in the same call."""
        card = model.card
        self.voice = voice
        self._comparison: Comparison | None = None
        self._frame_bytes = 2 * card.frame_samples
        self._frames_max = int(INTERRUPTION_WINDOW_S_MAX * card.sample_rate) // card.frame_samples
        self._window = b""
        self._rest = b""
        self._shift = _ANCHOR_BYTES
        self.frames_run = 0
        self.state = model.blank_state()
        self.probabilities: Floats = np.empty(0, np.float32)

    def fresh(self, window: bytes, blank_state: Floats) -> bytes:
        """The samples of `window` (s16le) to run next, whole frames; none if all are known.

        A window that does not continue the one before starts the track anew."""
        overlap = self._overlap(window)
        if not overlap:
            return self.restart(window, blank_state)
        samples = self._rest + window[overlap:]
        self._window = window
        whole = len(samples) - len(samples) % self._frame_bytes
        self._rest = samples[whole:]
        return samples[:whole]

    def restart(self, window: bytes, blank_state: Floats) -> bytes:
        """Forget what was; the samples of `window` to run, whole frames that end where it ends."""
        self._window = window
        self._rest = b""
        self.state = blank_state
        self._comparison = None
        self.probabilities = np.empty(0, np.float32)
        return window[len(window) % self._frame_bytes :]

    def _overlap(self, window: bytes) -> int:
        """How many of the first bytes of `window` are the end of the window before; 0 if none."""
        before = self._window
        if not before:
            return 0
        if window.startswith(before):  # it grew
            return len(before)
        if window.startswith(before[self._shift :]) and len(before) > self._shift:
            return len(before) - self._shift  # it slid as it did last time
        anchor = before[-_ANCHOR_BYTES:]
        end = len(window)
        for _ in range(_CANDIDATES_MAX):
            at = window.rfind(anchor, 0, end)
            if at < 0:
                return 0
            overlap = at + len(anchor)
            if at % 2 == 0 and overlap <= len(before) and window.startswith(before[-overlap:]):
                self._shift = len(before) - overlap
                return overlap
            end = overlap - 1  # it only looked alike there
        return 0

    def extend(
        self, probabilities: Floats, state: Floats, samples: Samples, heard_at: float
    ) -> None:
        """Append what the model said of the fresh samples, which end at `heard_at`, less what of
        them is the agent's own voice."""
        self.state = state
        voice = self.voice() if self.voice is not None else None
        if voice is not None:
            if self._comparison is None:
                self._comparison = Comparison()
            probabilities = self._comparison.judged(probabilities, samples, voice, heard_at)
        self.frames_run += probabilities.size
        self.probabilities = np.concatenate((self.probabilities, probabilities))[
            -self._frames_max :
        ]

    def answer(self) -> Floats:
        """One probability for each whole frame of the last window, oldest first."""
        frames = len(self._window) // self._frame_bytes
        known = self.probabilities[-frames:] if frames else self.probabilities[:0]
        if known.size < frames:
            known = np.concatenate((np.zeros(frames - known.size, np.float32), known))
        return known


@dataclass(frozen=True, slots=True)
class Question:
    """A session's newest window (s16le), its track, the client's key for it, and when it came (on
    the clock of `time.monotonic`)."""

    track: Track
    window: bytes
    created_at: int = 0
    heard_at: float = 0.0


class BargeinModel:
    """Runs questions of many sessions: `run` is what the batcher calls."""

    def __init__(self, model: FrameModel) -> None:
        self._model = model
        self._blank = model.blank_state()
        self.card = model.card

    def track(self, voice: Callable[[], Voice | None] | None = None) -> Track:
        """A new session's track; `voice` tells what the agent has said of late in its call."""
        return Track(self._model, voice)

    def run(self, questions: list[Question]) -> list[Floats]:
        """The probabilities of each question's window, float32 [frames]."""
        by_length: dict[int, list[tuple[Question, bytes]]] = defaultdict(list)
        for question in questions:
            track = question.track
            prepare = track.fresh if self._model.carries_state else track.restart
            samples = prepare(question.window, self._blank)
            if samples:
                by_length[len(samples)].append((question, samples))
        for same_length in by_length.values():
            audio = np.frombuffer(b"".join(samples for _, samples in same_length), np.int16)
            audio = audio.reshape(len(same_length), -1)
            states = np.stack([question.track.state for question, _ in same_length])
            probabilities, next_states = self._model.run(audio, states)
            for i, (question, _) in enumerate(same_length):
                question.track.extend(probabilities[i], next_states[i], audio[i], question.heard_at)
        return [question.track.answer() for question in questions]
