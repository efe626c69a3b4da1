"""Audio in the form that a provider takes: sample rate, size of messages, pace. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.audio.pcm import BYTES_PER_SAMPLE
from gateway.audio.resample import Resampler
from gateway.upstreams.stt import Capabilities


class AudioFormat:
    """Resamples, merges pieces that are too short and splits those that are too long.

    s16le mono in at `rate`, out at `rate_out`, in pieces from `frame_s_min` to `frame_s_max`.
    """

    __slots__ = (
        "_bytes_max",
        "_bytes_min",
        "_rate",
        "_rate_out",
        "_resampler",
        "as_it_is",
        "held",
    )

    def __init__(self, capabilities: Capabilities, rate: int, rate_out: int) -> None:
        self._rate = rate
        self._rate_out = rate_out
        self._resampler = Resampler(rate, rate_out) if rate_out != rate else None
        self._bytes_min = int(capabilities.frame_s_min * rate_out) * BYTES_PER_SAMPLE
        self._bytes_max = int(capabilities.frame_s_max * rate_out) * BYTES_PER_SAMPLE
        self.held = b""  # shorter than the shortest piece
        self.as_it_is = range(self._bytes_min, self._bytes_max + 1 if rate == rate_out else 0)
        """Lengths of what needs no `pieces` while nothing is held: it is one. In bytes."""

    def pieces(self, pcm: bytes) -> Sequence[bytes]:
        """What can be sent with `pcm`; a rest that is too short waits for the next call."""
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm)
        if self.held:
            pcm, self.held = self.held + pcm, b""
        if not pcm:
            return ()
        if len(pcm) < self._bytes_min:
            self.held = pcm
            return ()
        size = self._bytes_max
        if len(pcm) <= size:
            return (pcm,)
        pieces = [pcm[at : at + size] for at in range(0, len(pcm), size)]
        if len(pieces[-1]) < self._bytes_min:
            self.held = pieces.pop()
        return pieces

    def rest(self) -> tuple[bytes, int] | None:
        """What waits, padded with silence to the shortest piece; the padding in samples at the
        rate of the input. None: nothing waits."""
        if not self.held:
            return None
        padding = (self._bytes_min - len(self.held)) // BYTES_PER_SAMPLE
        piece, self.held = self.held.ljust(self._bytes_min, b"\0"), b""
        return piece, padding * self._rate // self._rate_out
