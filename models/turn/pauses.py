"""The pauses of recordings, and what a model hears of each in service.

Every pause of at least 0.2 s is a trial: `hold` where the speaker goes on, `end` where the sentence
is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.interruption.pretrained.silero import SAMPLE_RATE, VAD_FRAME, speech_probabilities
from models.interruption.sound import as_float

Samples = npt.NDArray[np.int16]
Kind = Literal["hold", "end"]

PAUSE_S_MIN = 0.2
SPEECH, SILENCE = 0.5, 0.35
"""Of Silero's probability: above one speech begins, below the other it ends."""
END_S = 2.0
"""Who lets another speak in a meeting and is silent for so long had finished."""
EDGE_S = 0.1
"""Audio nearer than this to a recording's end was cut there: it says nothing of a turn."""


@dataclass(frozen=True)
class Recording:
    """One person who speaks, and whether the recording's end is the end of a sentence."""

    source: str
    language: str
    speaker: str
    samples: Samples
    whole: bool


@dataclass(frozen=True)
class Pause:
    """A silence after speech that ends at `end` (samples), `length_s` long (inf for an end)."""

    recording: Recording
    kind: Kind
    end: int
    length_s: float
    tone: Samples

    def heard(self, silence_s: float, lead_s: float = 0.0) -> Samples:
        """What was heard when the silence had lasted `silence_s`, after `lead_s` of room tone."""
        until = self.end + round(silence_s * SAMPLE_RATE)
        heard = self.recording.samples[:until]
        lead = tiled(self.tone, round(lead_s * SAMPLE_RATE))
        return np.concatenate([lead, heard, tiled(self.tone, until - len(heard))])


def tiled(tone: Samples, length: int) -> Samples:
    """`length` samples of a room's tone, there and back again, so that no click is heard."""
    if length <= 0:
        return np.empty(0, np.int16)
    both = np.concatenate([tone, tone[::-1]])
    return np.tile(both, -(-length // len(both)))[:length]


def spans(probabilities: Sequence[float] | npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Where there is speech: first frame, and the one after the last. Gaps shorter than
    PAUSE_S_MIN are part of it."""
    found: list[tuple[int, int]] = []
    begin = None
    for i, probability in enumerate(probabilities):
        if begin is None and probability >= SPEECH:
            begin = i
        elif begin is not None and probability < SILENCE:
            found.append((begin, i))
            begin = None
    if begin is not None:
        found.append((begin, len(probabilities)))
    joined: list[tuple[int, int]] = []
    gap = PAUSE_S_MIN * SAMPLE_RATE / VAD_FRAME
    for begin, end in found:
        if joined and begin - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def room_tone(samples: Samples, probabilities: npt.NDArray[np.float32]) -> Samples:
    """The quietest 0.2 s without speech, at least 64 ms; silence if the recording has none."""
    frames = samples[: len(probabilities) * VAD_FRAME].reshape(-1, VAD_FRAME).astype(np.float64)
    energy = np.square(frames).mean(axis=1)
    best, length = None, 6
    while best is None and length >= 2:
        for i in range(len(frames) - length + 1):
            if probabilities[i : i + length].max() < SILENCE:
                loud = energy[i : i + length].mean()
                if best is None or loud < best[0]:
                    best = (loud, i)
        length -= 1 if best is None else 0
    if best is None:
        return np.zeros(VAD_FRAME, np.int16)
    return samples[best[1] * VAD_FRAME : (best[1] + length) * VAD_FRAME]


def pauses(recording: Recording) -> Iterator[Pause]:
    """The pauses of a recording."""
    probabilities = speech_probabilities(as_float(recording.samples))
    speech = spans(probabilities)
    tone = room_tone(recording.samples, probabilities)
    for i, (begin, end) in enumerate(speech):
        at = end * VAD_FRAME
        if (end - begin) * VAD_FRAME < 0.2 * SAMPLE_RATE:
            continue  # a click
        if i + 1 < len(speech):
            length = (speech[i + 1][0] - end) * VAD_FRAME / SAMPLE_RATE
            yield Pause(recording, "hold", at, length, tone)
        elif recording.whole and len(recording.samples) - at >= EDGE_S * SAMPLE_RATE:
            yield Pause(recording, "end", at, float("inf"), tone)


@dataclass(frozen=True)
class Segment:
    """Something one person said in a meeting, in seconds."""

    speaker: str
    start_s: float
    end_s: float


def meeting_pauses(samples: Samples, segments: Sequence[Segment]) -> Iterator[Pause]:
    """Silences of a whole meeting: `hold` where the same person goes on, `end` where another
    begins and the first is silent for END_S. Those around which several talk are left out."""
    whole_s = len(samples) / SAMPLE_RATE
    for segment in segments:
        end_s = segment.end_s
        others = [one for one in segments if one.speaker != segment.speaker]
        if any(one.start_s < end_s + PAUSE_S_MIN and one.end_s > end_s - 0.2 for one in others):
            continue
        again_s = min(
            (s.start_s for s in segments if s.speaker == segment.speaker and s.start_s >= end_s),
            default=np.inf,
        )
        other_s = min((s.start_s for s in others if s.start_s >= end_s), default=np.inf)
        gap_s = min(again_s, other_s) - end_s
        if not PAUSE_S_MIN <= gap_s <= whole_s - end_s:
            continue
        # as in service, where the others are not on this microphone: from where they stopped
        begin = round(max((s.end_s for s in others if s.end_s < end_s), default=0) * SAMPLE_RATE)
        heard = samples[begin:]
        recording = Recording("conversation_ami", "en", segment.speaker, heard, True)
        end = round(end_s * SAMPLE_RATE) - begin
        if again_s < other_s:
            yield Pause(recording, "hold", end, gap_s, heard[:VAD_FRAME])
        elif again_s - end_s >= END_S:
            yield Pause(recording, "end", end, gap_s, heard[:VAD_FRAME])
