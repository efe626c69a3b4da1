"""Keeps what the agents of all calls say, in marks: written by /tts, read for /bargein.

Marks are made on a thread of their own, so that no chunk of voice waits for them. What other
processes say of the same calls comes in by `hear`, and what is said here goes out by `on_marks`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from gateway.engines.interruption.own_voice import FRAME_S, MARKS, OwnVoices, Speaker, Voice

_logger = logging.getLogger(__name__)

WAITING_BYTES_MAX: Final = 8 << 20
"""Voice that waits for its marks; of more, the marks are not made."""

OnMarks = Callable[[str, float, bytes], None]
"""Call, the earliest moment at which the first frame is played, MARKS bytes for each frame."""


class Mouth:
    """What one connection of /tts says, utterance by utterance."""

    __slots__ = ("_keeper", "call", "rate", "speaker")

    def __init__(self, keeper: VoiceKeeper, call: str) -> None:
        self._keeper = keeper
        self.call = call
        self.rate = 0
        self.speaker: Speaker | None = None

    def say(self, pcm: bytes, rate: int, plays_at: float, *, begins: bool) -> None:
        """s16le `pcm`, which is played at `plays_at` (of `time.monotonic`) at the earliest.
        `begins`: an utterance."""
        self._keeper._take(self, pcm, rate, plays_at, begins)


class VoiceKeeper:
    """One for each process."""

    def __init__(self) -> None:
        self._voices = OwnVoices()
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self.on_marks: OnMarks | None = None
        """Called on the thread."""
        self._thread = threading.Thread(target=self._serve, name="own-voice", daemon=True)
        self._thread.start()

    def mouth(self, call: str) -> Mouth:
        return Mouth(self, call)

    def of(self, call: str) -> Voice | None:
        """What the agent of `call` has said of late."""
        return self._voices.of(call)

    def hear(self, call: str, begins_at: float, marks: bytes) -> None:
        """What another process said. Without whole frames it is nothing."""
        if marks and len(marks) % MARKS == 0:
            self._waiting.put(lambda: self._add(call, begins_at, marks))

    def close(self) -> None:
        self._waiting.put(None)

    def join(self) -> None:
        """Wait until all that was said before has been marked, for tests."""
        done = threading.Event()
        self._waiting.put(done.set)
        done.wait()

    def _take(self, mouth: Mouth, pcm: bytes, rate: int, plays_at: float, begins: bool) -> None:
        with self._lock:
            if self._waiting_bytes + len(pcm) > WAITING_BYTES_MAX:
                return
            self._waiting_bytes += len(pcm)
        self._waiting.put(lambda: self._mark(mouth, pcm, rate, plays_at, begins))

    def _serve(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                work()
            except Exception:  # one chunk without marks
                _logger.exception("a voice could not be marked")

    def _mark(self, mouth: Mouth, pcm: bytes, rate: int, plays_at: float, begins: bool) -> None:
        with self._lock:
            self._waiting_bytes -= len(pcm)
        if begins or mouth.speaker is None or mouth.rate != rate:
            mouth.speaker, mouth.rate = Speaker(rate), rate
        begins_at, made = mouth.speaker.say(pcm, plays_at)
        if not len(made):
            return
        marks = made.tobytes()
        self._add(mouth.call, begins_at, marks)
        if self.on_marks is not None:
            self.on_marks(mouth.call, begins_at, marks)

    def _add(self, call: str, begins_at: float, marks: bytes) -> None:
        made = np.frombuffer(marks, np.int8).reshape(-1, MARKS)
        earliest = begins_at + FRAME_S * np.arange(len(made), dtype=np.float64)
        self._voices.add(call, made, earliest, time.monotonic())
