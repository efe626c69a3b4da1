"""The agent's own voice, as far as it is needed to know it again in the caller's channel.

Of what /tts sends, 16 numbers of one byte are kept for each 25 ms; no sound can be made of them. An
echo has been filtered, distorted and cut into by a canceller, so samples say nothing: two small
networks (`Ear`), trained with one another on such echoes, make of the voice as it was sent and of
the caller's channel what can be compared. `Comparison` adds up how well they agree at every moment
at which a frame may have been played, since playback starts later than sending, and pauses.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.engines.types import Floats, Samples

Marks = npt.NDArray[np.int8]
"""[frames, MARKS] of a voice."""

RATE: Final = 16_000
"""Of the caller's channel."""

FRAME_S: Final = 0.025
"""As long as the interruption model's frames."""

MARKS: Final = 16
_SCALE: Final = 16.0
"""Steps of a byte for 1."""

PLAYED_S_MAX: Final = 30.0
"""How long after its earliest moment a frame may still be played."""

FRAMES_MAX: Final = 3600
"""Of one call, 90 s: what was played lately, and what was sent ahead. 72 kB."""

CALLS_MAX: Final = 1000
"""Calls whose voice is kept; then the one that was silent for longest is forgotten."""

SILENT_S_MAX: Final = 120.0
"""A call whose agent has said nothing for so long is forgotten."""

_ROUNDING_S: Final = 1e-6  # of times that are sums
AHEAD_S: Final = 0.1
"""Clocks of two processes may differ by this much."""

_BANDS: Final = 24
LOOK: Final = 2 * _BANDS
"""Numbers that are seen of one frame."""

_LOW_HZ: Final = 150.0
_HIGH_HZ: Final = 3800.0
"""What telephones let pass."""

_LOOK_S: Final = 0.05
"""Length of the Hann window of a frame; the bins of its spectrum are 20 Hz apart at any rate."""

_BINS: Final = 200
_FLOOR: Final = 10**-7.8
"""Power in one band, of full scale. What is quieter is silence."""

_RANGE: Final = 10.0
"""Natural logarithm of power: what is so far below the loudest of late is not looked at."""

_FORGET: Final = FRAME_S / 4.0
_LASTING: Final = math.exp(-FRAME_S / 0.25)
"""What has lasted for longer than about this is taken off: it is the channel, not the voice."""

CONTEXT: Final = 3
"""Frames before the one that is looked at."""

TAIL: Final = 32
"""Frames of silence after each utterance, 0.8 s: rooms ring on, and the model's opinion is late."""

_FAST_S, _SLOW_S = 0.3, 1.2
"""How long agreement counts: soon enough, and for sure."""

WEIGHTS = Path(__file__).with_name("own_voice.npz")


@cache
def weights() -> dict[str, Floats]:
    """What models/interruption/train/own_voice.py wrote."""
    with np.load(WEIGHTS) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


@cache
def _window(samples: int) -> Floats:
    window = np.hanning(samples + 1)[:-1]
    return np.asarray(window / (window.sum() / 2 * 32768), np.float32)


@cache
def _triangles() -> Floats:
    """[_BINS, _BANDS], equally wide in mel, each summing to 1."""
    mel = 2595 * np.log10(1 + np.array([_LOW_HZ, _HIGH_HZ]) / 700)
    hz = 700 * (10 ** (np.linspace(mel[0], mel[1], _BANDS + 2) / 2595) - 1)
    low, middle, high = hz[:-2], hz[1:-1], hz[2:]
    bins = np.arange(_BINS)[:, None] / _LOOK_S
    out = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, 1)
    return np.asarray(out / out.sum(axis=0), np.float32)


class Ear:
    """Samples of one voice -> numbers of its frames, for one side of the comparison."""

    __slots__ = ("_before", "_context", "_hop", "_loudest", "_mean", "_side", "_size")

    def __init__(self, rate: int, side: str) -> None:
        """`rate`: samples a second; `side`: "sent" or "heard"."""
        self._hop = round(rate * FRAME_S)
        self._size = round(rate * _LOOK_S)
        self._side = side
        self._before = np.zeros(self._size - self._hop, np.int16)
        self._mean: Floats | None = None
        self._loudest = -math.inf
        self._context = np.zeros((CONTEXT, LOOK), np.float32)

    def hear(self, samples: Samples) -> Floats:
        """float32 [frames, MARKS] of the frames that are whole now."""
        seen = np.concatenate((self._context, self.look(samples)))
        frames = len(seen) - CONTEXT
        self._context = seen[frames:]
        wide = np.concatenate([seen[i : i + frames] for i in range(CONTEXT + 1)], axis=1)
        known = weights()
        inner = wide @ known[f"{self._side}.first"] + known[f"{self._side}.first_bias"]
        out = np.maximum(inner, 0) @ known[f"{self._side}.second"]
        return np.asarray(out + known[f"{self._side}.second_bias"], np.float32)

    def look(self, samples: Samples) -> Floats:
        """What the network sees of these frames, float32 [frames, LOOK]."""
        heard = np.concatenate((self._before, samples))
        frames = (heard.size - self._size) // self._hop + 1
        if frames <= 0:
            self._before = heard
            return np.empty((0, LOOK), np.float32)
        looks = np.lib.stride_tricks.sliding_window_view(heard, self._size)[:: self._hop][:frames]
        self._before = heard[frames * self._hop :]
        spectrum = np.fft.rfft(looks * _window(self._size), axis=1)[:, :_BINS]
        power = spectrum.real**2 + spectrum.imag**2
        triangles = _triangles()[: power.shape[1]]  # a voice of 6 kHz has fewer bins
        levels = np.log(power @ triangles + _FLOOR).astype(np.float32)
        return self._features(levels)

    def _features(self, levels: Floats) -> Floats:
        """[frames, LOOK]: how each band moves, and how far below the loudest it is."""
        mean, loudest = self._mean, self._loudest
        out = np.empty((len(levels), LOOK), np.float32)
        peaks = levels.max(axis=1).tolist()
        for i, level in enumerate(levels):
            loudest = max(loudest - _FORGET, peaks[i])
            now = np.maximum(level, np.float32(loudest - _RANGE))
            if mean is None:
                mean = now
            out[i, :_BANDS] = now - mean
            out[i, _BANDS:] = (now - loudest) / 5 + 1
            mean = np.float32(_LASTING) * mean + np.float32(1 - _LASTING) * now
        self._mean, self._loudest = mean, loudest
        np.clip(out[:, :_BANDS], -3, 3, out=out[:, :_BANDS])
        return out


@dataclass(frozen=True, slots=True)
class Voice:
    """What one call's agent has said of late, and TAIL frames of silence. `first` is the number of
    the first frame; `marks` int8 [frames, MARKS], zeros for silence; `earliest` float64 [frames],
    the time before which each was not played; `silent` bool [frames], those after an utterance.
    Never changed: a newer one takes its place."""

    first: int
    marks: Marks
    earliest: npt.NDArray[np.float64]
    silent: npt.NDArray[np.bool_]

    @property
    def said(self) -> int:
        """How many frames there were so far, but for the silence after the last utterance."""
        return self.first + max(len(self.marks) - TAIL, 0)

    def earliest_of(self, number: int) -> npt.NDArray[np.float64]:
        """The earliest moments of what was said from that frame on, as `said` counts them."""
        new = slice(max(0, number - self.first), self.said - self.first)
        return self.earliest[new][~self.silent[new]]

    def with_more(self, marks: Marks, earliest: npt.NDArray[np.float64], now: float) -> Voice:
        """What can have been played no later than PLAYED_S_MAX ago, and what is new (one frame or
        more)."""
        said = self.said - self.first
        both = np.concatenate((self.marks[:said], marks, _TAIL_MARKS))
        after = earliest[-1] + FRAME_S * np.arange(1, TAIL + 1)
        times = np.concatenate((self.earliest[:said], earliest, after))
        alive = np.flatnonzero(times >= now - PLAYED_S_MAX)
        start = max(int(alive[0]) if alive.size else times.size, times.size - FRAMES_MAX)
        marks = both[start:]
        silent = np.asarray(~marks.any(axis=1), np.bool_)
        return Voice(self.first + start, marks, times[start:], silent)


_TAIL_MARKS: Final = np.zeros((TAIL, MARKS), np.int8)
SILENCE: Final = Voice(0, _TAIL_MARKS[:0], np.zeros(0, np.float64), np.zeros(0, np.bool_))


class Speaker:
    """One utterance of an agent on its way to the caller. Used by one thread at a time."""

    __slots__ = ("_ear", "_until")

    def __init__(self, rate: int) -> None:
        self._ear = Ear(rate, "sent")
        self._until = -math.inf

    def say(self, pcm: bytes, plays_at: float) -> tuple[float, Marks]:
        """The marks of s16le `pcm`, which is played at `plays_at` at the earliest, and when the
        first of them is. Before the first are TAIL frames of silence, which end the utterance that
        came before this one."""
        heard = self._ear.hear(np.frombuffer(pcm, "<i2"))
        begins_at = max(plays_at, self._until)
        marks = np.clip(np.rint(heard * _SCALE), -127, 127).astype(np.int8)
        if not len(marks):
            return begins_at, marks
        if self._until == -math.inf:
            begins_at -= FRAME_S * TAIL
            marks = np.concatenate((_TAIL_MARKS, marks))
        self._until = begins_at + FRAME_S * len(marks)
        return begins_at, marks


class OwnVoices:
    """The voices of all calls of this process. Whoever reads gets what is whole."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[float, Voice]] = OrderedDict()

    def of(self, call: str) -> Voice | None:
        known = self._calls.get(call)
        return None if known is None else known[1]

    def add(self, call: str, marks: Marks, earliest: npt.NDArray[np.float64], now: float) -> None:
        if not len(marks):
            return
        voice = self.of(call) or SILENCE
        self._calls[call] = (now, voice.with_more(marks, earliest, now))
        self._calls.move_to_end(call)
        while len(self._calls) > CALLS_MAX or now - self._oldest() > SILENT_S_MAX:
            self._calls.popitem(last=False)

    def _oldest(self) -> float:
        return next(iter(self._calls.values()))[0]


class Comparison:
    """Of one caller's channel with the voice of the same call: how sure it is that what is heard
    is that voice, and what this means for the model's opinion. Used by one thread at a time."""

    __slots__ = ("_agreement", "_ear", "_first", "_latest")

    def __init__(self) -> None:
        self._ear = Ear(RATE, "heard")
        self._first = 0
        self._agreement = np.zeros((2, 0), np.float32)
        self._latest = np.ones(HELD_FRAMES - 1, np.float32)

    def judged(self, probabilities: Floats, samples: Samples, voice: Voice, now: float) -> Floats:
        """The model's `probabilities` [frames] of `samples`, the next of the caller's channel,
        less what of them is the agent's voice. While it may be that, only what HELD_FRAMES frames
        in a row say counts: for a moment any two voices differ."""
        evidence = self.evidence(samples, voice, now)
        found = corrected(probabilities, evidence)
        lately = np.concatenate((self._latest, found))
        self._latest = lately[-(HELD_FRAMES - 1) :]
        held = np.lib.stride_tricks.sliding_window_view(lately, HELD_FRAMES).min(axis=1)
        return np.where(evidence[:, 1] > SUSPECT, held, found)

    def evidence(self, samples: Samples, voice: Voice, now: float) -> Floats:
        """float32 [frames, EVIDENCE] of the next whole frames of the caller's channel, which end
        `now`: log odds that they are the agent's voice, of late and for longer, and how well the
        last frames agree with the likeliest moment."""
        heard = self._ear.hear(samples)
        known = weights()
        if voice.first != self._first or len(voice.marks) != self._agreement.shape[1]:
            self._follow(voice)
        marks = voice.marks.astype(np.float32) / _SCALE
        # [frames sent, frames heard]
        agree = np.asarray(marks @ heard.T / 4 + known["null"], np.float32)
        out = np.empty((len(heard), EVIDENCE), np.float32)
        for start in range(0, len(heard), STEP):
            part = agree[:, start : start + STEP]
            end = start + part.shape[1]
            ends_at = now - (len(heard) - end) * FRAME_S
            played = voice.earliest <= ends_at + AHEAD_S + _ROUNDING_S
            out[start:end] = self._step(part, played, voice.silent)
        return out

    def _follow(self, voice: Voice) -> None:
        """Frames that are gone are dropped, new ones have agreed with nothing yet."""
        moved = np.zeros((2, len(voice.marks)), np.float32)
        gone = voice.first - self._first
        kept = self._agreement[:, max(gone, 0) :]
        into = max(-gone, 0)
        room = max(min(kept.shape[1], moved.shape[1] - into), 0)
        moved[:, into : into + room] = kept[:, :room]
        self._first, self._agreement = voice.first, moved

    def _step(
        self, agree: Floats, played: npt.NDArray[np.bool_], silent: npt.NDArray[np.bool_]
    ) -> Floats | float:
        frames, count = agree.shape
        before = self._agreement
        now = np.zeros_like(before)
        fade = _fade(count)
        if count < frames:
            now[:, count:] = fade[:, :1] * before[:, :-count]
        for i in range(count):  # frame i was heard `count - 1 - i` frames before the newest
            lag = count - 1 - i
            if lag < frames:
                now[:, lag:] += fade[:, i + 1 : i + 2] * agree[: frames - lag, i]
        self._agreement = now
        known = weights()
        # silence agrees a little with everything: it only carries on what a voice has begun
        played = played & (~silent | (now[1] > -known["bias"][1]))
        if not played.any():
            return NOTHING
        heard = now if played.all() else np.where(played, now, NOTHING * 10)
        place = int(heard[1].argmax())
        top = heard.max(axis=1, keepdims=True)
        sure = top[:, 0] + np.log(np.exp(heard - top).sum(axis=1)) + known["bias"]
        latest = (
            sum(
                float(agree[place - (count - 1 - i), i])
                for i in range(count)
                if place >= count - 1 - i
            )
            / count
        )
        return np.array([sure[0], sure[1], latest], np.float32)


EVIDENCE: Final = 3
NOTHING: Final = -10.0
"""Log odds where no frame can have been played."""

HELD_FRAMES: Final = 6
SUSPECT: Final = -4.0
"""Log odds, over the longer time, from which on it may be the agent's voice."""

SURE: Final = 0.9933
"""A logit of 5: of more, the model's opinion would outweigh any evidence."""

STEP: Final = 4
"""Frames that are looked at together: clients send 100 ms at a time."""


@cache
def _fade(frames: int) -> Floats:
    """[2, 1 + frames]: what is left, after so many frames, of what was there before them, and of
    each of them."""
    ages = np.array([frames, *range(frames - 1, -1, -1)])
    return np.asarray(np.exp(-FRAME_S * ages / np.array([[_FAST_S], [_SLOW_S]])), np.float32)


def corrected(probabilities: Floats, evidence: Floats) -> Floats:
    """The model's probabilities [frames], where `evidence` [frames, EVIDENCE] says what of it is
    the agent's own voice."""
    known = weights()
    even = (evidence - known["mean"]) / known["spread"]
    inner = np.tanh(even @ known["inner"] + known["inner_bias"])
    turned = inner @ known["outer"] + known["outer_bias"]
    less, more = (known["reach"] / (1 + np.exp(-turned))).T
    odds = np.exp(more - less)
    held = np.clip(probabilities, 1 - SURE, SURE)
    moved = held * odds / (1 + held * (odds - 1))
    return np.asarray(np.where(evidence[:, 0] <= NOTHING, probabilities, moved), np.float32)
