"""Tells where in a stream somebody speaks: a listener at the voice detector of all streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.engines import vad
from gateway.engines.batcher import Batcher, BatchSlot, Timing

CHUNK_BYTES: Final = 2 * vad.CHUNK
"""The detector hears whole chunks; what is shorter waits."""

CHUNK_S: Final = vad.CHUNK / vad.RATE

WAITING_S_MAX: Final = 30.0
"""Audio that waits for the detector; of more, the oldest is skipped: the machine is overloaded."""


class SpeechListener:
    """One stream. `heard(until_s, probability)` is called on the event loop for each chunk, in
    order: its end, in seconds of the stream, and the probability that it holds speech. The detector
    failing is no speech."""

    def __init__(
        self,
        detector: Batcher[vad.VadRequest, list[float]],
        heard: Callable[[float, float], None],
    ) -> None:
        self._heard = heard
        self._state = vad.VadState()
        self._place: BatchSlot[vad.VadRequest, list[float]] = detector.place(self._detected)
        self._waiting = bytearray()
        self._at_s = 0.0
        self._asked = False

    def feed(self, pcm: bytes) -> None:
        """The next audio of the stream: s16le at `vad.RATE`."""
        self._waiting += pcm
        too_much = len(self._waiting) - 2 * round(WAITING_S_MAX * vad.RATE)
        if too_much > 0:
            skipped = -(-too_much // CHUNK_BYTES) * CHUNK_BYTES
            del self._waiting[:skipped]
            self._at_s += skipped / 2 / vad.RATE
        self._ask()

    def leave(self) -> None:
        self._place.leave()

    def _ask(self) -> None:
        whole = len(self._waiting) // CHUNK_BYTES * CHUNK_BYTES
        if self._asked or not whole:
            return
        self._asked = True
        pcm = bytes(self._waiting[:whole])
        del self._waiting[:whole]
        self._place.ask(vad.VadRequest(self._state, pcm))

    def _detected(
        self, asked: vad.VadRequest, probabilities: list[float] | None, timing: Timing | None
    ) -> None:
        self._asked = False
        count = len(asked.pcm) // CHUNK_BYTES
        for probability in probabilities if probabilities is not None else [0.0] * count:
            self._at_s += CHUNK_S
            self._heard(self._at_s, probability)
        self._ask()
