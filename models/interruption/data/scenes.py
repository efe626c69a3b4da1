"""Puts clips on a time line the way a caller would, and writes down what was true in each frame.

A scene is 3 s: room tone, the caller's event after 0.2 to 1.0 s, and what follows. `label` is 1
from the moment at which the caller could be known to take the floor, `weight` is small while that
is still open: a loss over both teaches a target that rises with the evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.interruption.data import nonverbal
from models.interruption.data.answers import WANTS_NO_MORE, Teachers
from models.interruption.data.channel import (
    Backgrounds,
    background,
    reverberated,
    room,
    transmitted,
)
from models.interruption.data.clips import Clip, Clips, inside_start, quiet_end
from models.interruption.data.nonverbal import RATE, Audio
from models.interruption.sound import as_float

FRAMES = 120
FRAME_S = 0.025
SAMPLES = FRAMES * 400
UNKNOWN = -1
NOT_SPEECH = (
    "cough",
    "laugh",
    "breath",
    "throat",
    "taps",
    "tones",
    "baby_cry",
    "background",
    "echo",
    "other_voice",
)
UNIT_DELAY_S = 0.05  # which phoneme it is, is asked this long after the moment

_KNOWN_AFTER_S = 0.3  # a word that is said alone

_OPEN_S = 0.15  # no loss so soon after a decisive onset
_CERTAIN_S = 0.6  # full loss from here on


@dataclass
class Scene:
    kind: str
    sound: Audio = field(default_factory=lambda: np.zeros(SAMPLES, np.float32))
    label: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(FRAMES, np.uint8))
    weight: NDArray[np.float32] = field(default_factory=lambda: np.full(FRAMES, 0.5, np.float32))
    voiced: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(FRAMES, np.uint8))
    # P(speech): that of Silero where a person speaks or hums, else what is `voiced`.
    speech: NDArray[np.float32] = field(default_factory=lambda: np.zeros(FRAMES, np.float32))
    phonemes: NDArray[np.int16] = field(default_factory=lambda: np.full(FRAMES, UNKNOWN, np.int16))
    ending: NDArray[np.float32] = field(default_factory=lambda: np.full(FRAMES, np.nan, np.float32))
    onset_s: float = 0.0
    quieter_db: float = 0.0
    names: list[str] = field(default_factory=list)
    group: str = ""  # whose voice or sound comes last: see `splits.group`; "" where it was made

    @property
    def loud(self) -> NDArray[np.bool_]:
        """Of each sample: does the event sound?"""
        return np.repeat(self.voiced > 0, SAMPLES // FRAMES)


def _frame(seconds: float) -> int:
    return int(np.clip(round(seconds / FRAME_S), 0, FRAMES))


def _stretched(x: Audio, factor: float) -> Audio:
    """Faster and higher by `factor`: pitch, formants and tempo move together."""
    if abs(factor - 1) < 0.005:
        return x
    at = np.arange(0, len(x) - 1, factor)
    return np.asarray(np.interp(at, np.arange(len(x)), x), np.float32)


class Stage:
    """Makes scenes out of one side's clips."""

    def __init__(self, clips: Clips, teachers: Teachers) -> None:
        self._clips, self._teachers = clips, teachers
        self.backgrounds: Backgrounds = clips.backgrounds()
        self._repertoire: list[tuple[float, str, Callable[[Generator, Scene], None]]] = [
            (0.18, "voice_backchannel", self._backchannel("voice_backchannel")),
            (0.015, "word_backchannel", self._backchannel("word_backchannel")),
            (0.05, "made_hum", self._hum),
            (0.03, "cut_word", self._cut_word),
            (0.03, "meeting_backchannel", self._recorded_backchannel("meeting_backchannel")),
            (0.08, "interview_backchannel", self._recorded_backchannel("interview_backchannel")),
            (0.08, "cough", self._cough),
            (0.08, "laugh", self._laugh),
            (0.02, "breath", self._made(nonverbal.breath)),
            (0.02, "throat", self._made(nonverbal.throat)),
            (0.02, "taps", self._made(nonverbal.taps)),
            (0.01, "tones", self._made(nonverbal.tones)),
            (0.01, "baby_cry", self._baby),
            (0.10, "background", self._background),
            (0.04, "echo", self._echo),
            (0.03, "other_voice", self._other_voice),
            (0.10, "voice_turned", self._positive("voice_turned")),
            (0.13, "voice_floor", self._positive("voice_floor")),
            (0.05, "voice_sentence", self._positive("voice_sentence")),
            (0.05, "speech_libri", self._positive("speech_libri")),
            (0.06, "speech_ocean", self._positive("speech_ocean")),
            (0.05, "speech_more", self._positive("speech_more")),
            (0.09, "interview_turn", self._positive("interview_turn")),
            (0.03, "short_calls", self._positive("short_calls")),
            (0.015, "word_call", self._positive("word_call")),
            (0.04, "meeting_turn", self._positive("meeting_turn")),
            (0.02, "later_turn", self._later_turn),
            (0.02, "noise_then_speech", self._noise_then_speech),
        ]

    def scene(self, rng: Generator, kind: str | None = None) -> tuple[Scene, NDArray[np.int16]]:
        """A scene and what the gateway receives of it."""
        scene = self.written(rng, kind)
        sent = transmitted(rng, scene.sound, self.backgrounds, scene.loud, scene.quieter_db)
        return scene, sent

    def written(self, rng: Generator, kind: str | None = None) -> Scene:
        """The scene before any channel; the same generator gives the same as in `scene`."""
        shares = np.array([share for share, *_ in self._repertoire])
        names = [name for _, name, _ in self._repertoire]
        index = names.index(kind) if kind else int(rng.choice(len(shares), p=shares / shares.sum()))
        _, name, make = self._repertoire[index]
        scene = Scene(name, onset_s=float(rng.uniform(0.2, 1.0)))
        if rng.random() < 0.1:
            scene.onset_s = float(rng.uniform(0.0, 0.2))
        make(rng, scene)
        return scene

    # What a scene is made of

    def _pick(self, rng: Generator, kind: str) -> Clip:
        clips = self._clips.by_kind[kind]
        return clips[int(rng.integers(len(clips)))]

    def _put(
        self,
        rng: Generator,
        scene: Scene,
        clip: Clip,
        at_s: float,
        start_s: float | None = None,
        end_s: float | None = None,
        gain: float = 1.0,
        factor: float = 1.0,
    ) -> Callable[[float], float]:
        """Lets `start_s` of the clip (its onset) sound at `at_s`; returns clip -> scene time."""
        start = clip.onset_s if start_s is None else start_s
        end = clip.end_s if end_s is None else min(end_s, clip.end_s)
        lead = min(start, 0.03)
        piece = clip.samples[int((start - lead) * RATE) : int((end + 0.05) * RATE)]
        x = _stretched(as_float(piece), factor)
        fade = min(160, len(x) // 4)
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        x[:fade] *= ramp
        x[len(x) - fade :] *= ramp[::-1]
        self._mix(scene, x * np.float32(gain), at_s - lead / factor)
        scene.names.append(clip.name)
        scene.group = clip.group

        def scene_time(clip_s: float) -> float:
            return at_s + (clip_s - start) / factor

        known = scene.speech.copy()
        self._mark(scene, at_s, scene_time(end))
        frame_ends = (np.arange(FRAMES) + 1) * FRAME_S
        clip_times = (frame_ends - at_s) * factor + start
        inside = (clip_times >= start) & (clip_times <= end + 0.2)
        speech = self._teachers.speech(clip)
        if speech is not None:
            times, values = speech
            heard = np.where(clip_times <= end + 0.05, np.interp(clip_times, times, values), 0)
            scene.speech = np.maximum(known, np.where(inside, heard, 0)).astype(np.float32)
        phonemes = self._teachers.phonemes(clip)
        if phonemes is not None:
            starts, spoken = phonemes
            good = inside & (clip_times <= end + UNIT_DELAY_S)
            index = np.searchsorted(starts, clip_times - UNIT_DELAY_S, side="right") - 1
            scene.phonemes[good & (index >= 0)] = spoken[index[good & (index >= 0)]]
        endings = self._teachers.endings(clip.name, start)
        if clip.kind in WANTS_NO_MORE:
            scene.ending[inside & (clip_times >= start + _KNOWN_AFTER_S)] = WANTS_NO_MORE[clip.kind]
        elif endings is not None:
            times, values = endings
            good = inside & (clip_times >= times[1])  # sooner the teacher has hardly heard anything
            scene.ending[good] = np.interp(clip_times[good], times, values)
        return scene_time

    @staticmethod
    def _mix(scene: Scene, x: Audio, at_s: float) -> None:
        start = round(at_s * RATE)
        if start < 0:
            x, start = x[-start:], 0
        n = min(len(x), SAMPLES - start)
        if n > 0:
            scene.sound[start : start + n] += x[:n]

    @staticmethod
    def _mark(scene: Scene, from_s: float, to_s: float) -> None:
        """Something sounds here: what the model says from here on counts in full."""
        scene.voiced[_frame(from_s) : _frame(to_s)] = 1
        scene.speech[_frame(from_s) : _frame(to_s)] = 1
        scene.weight[_frame(from_s) : _frame(to_s + 0.8)] = 1.0

    @staticmethod
    def _floor_from(scene: Scene, decisive_s: float) -> None:
        """The caller has the floor from here on, known with certainty some time later."""
        frame_ends = (np.arange(FRAMES) + 1) * FRAME_S
        since = frame_ends - decisive_s
        scene.label[since > _OPEN_S] = 1
        rising = np.clip((since - _OPEN_S) / (_CERTAIN_S - _OPEN_S), 0.0, 1.0)
        after = since > 0
        scene.weight[after] = np.where(since > _OPEN_S, 0.3 + 0.7 * rising, 0.0)[after]

    @staticmethod
    def _factor(rng: Generator) -> float:
        return float(np.clip(np.exp(rng.normal(0, 0.1)), 0.8, 1.25))

    # Not the floor

    def _backchannel(self, kind: str) -> Callable[[Generator, Scene], None]:
        def make(rng: Generator, scene: Scene) -> None:
            said = kind if self._clips.by_kind[kind] else "voice_backchannel"
            at, factor = scene.onset_s, self._factor(rng)
            soon = rng.random() < 0.4  # "okay, okay", in one breath
            for _ in range(int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))):
                clip = self._pick(rng, said)
                time = self._put(rng, scene, clip, at, factor=factor)
                at = time(clip.end_s) + (rng.uniform(0.03, 0.3) if soon else rng.uniform(0.5, 1.3))
            scene.quieter_db = _listening_db(rng)

        return make

    def _hum(self, rng: Generator, scene: Scene) -> None:
        self._put_made(rng, scene, nonverbal.hum(rng))
        scene.quieter_db = _listening_db(rng)

    def _put_made(self, rng: Generator, scene: Scene, x: Audio, at_s: float | None = None) -> None:
        at = scene.onset_s if at_s is None else at_s
        self._mix(scene, x * np.float32(0.5), at)
        self._mark(scene, at, at + len(x) / RATE)

    def _made(self, sound: Callable[[Generator], Audio]) -> Callable[[Generator, Scene], None]:
        def make(rng: Generator, scene: Scene) -> None:
            self._put_made(rng, scene, sound(rng))
            if rng.random() < 0.2:
                self._put_made(rng, scene, sound(rng), scene.onset_s + rng.uniform(1.0, 2.0))

        return make

    def _cut_word(self, rng: Generator, scene: Scene) -> None:
        """Some syllables of a real speaker and nothing more: real is not yet the floor."""
        clip = self._pick(rng, str(rng.choice(["speech_libri", "speech_ocean"])))
        start = clip.onset_s if rng.random() < 0.3 else inside_start(rng, clip)
        end = start + float(rng.uniform(0.15, 0.4))
        self._put(rng, scene, clip, scene.onset_s, start, end, factor=self._factor(rng))
        scene.weight *= 0.6

    def _recorded_backchannel(self, kind: str) -> Callable[[Generator, Scene], None]:
        def make(rng: Generator, scene: Scene) -> None:
            if not self._clips.by_kind[kind]:
                return self._backchannel("voice_backchannel")(rng, scene)
            clip = self._pick(rng, kind)
            self._put(rng, scene, clip, scene.onset_s, factor=self._factor(rng))
            if rng.random() < 0.25:  # in one breath, the same once more: "okay, okay"
                gap = rng.uniform(0.03, 0.3) if rng.random() < 0.5 else rng.uniform(0.5, 1.3)
                again = scene.onset_s + clip.end_s - clip.onset_s + gap
                self._put(rng, scene, clip, again, factor=self._factor(rng))
            known = clip.quieter_db is not None and rng.random() < 0.7
            scene.quieter_db = float(clip.quieter_db or 0.0) if known else _listening_db(rng)
            return None

        return make

    def _cough(self, rng: Generator, scene: Scene) -> None:
        clip = self._pick(rng, "cough")
        self._put(rng, scene, clip, scene.onset_s, factor=float(rng.uniform(0.8, 1.25)))
        if rng.random() < 0.3:
            at = scene.onset_s + rng.uniform(0.5, 1.8)
            self._put(rng, scene, self._pick(rng, "cough"), at)

    def _laugh(self, rng: Generator, scene: Scene) -> None:
        """Recorded, or of a vowel of somebody who speaks elsewhere, or made of nothing."""
        if self._clips.by_kind["laugh"] and rng.random() < 0.5:
            clip = self._pick(rng, "laugh")
            self._put(rng, scene, clip, scene.onset_s, factor=self._factor(rng))
            scene.quieter_db = _listening_db(rng) if rng.random() < 0.5 else 0.0
            return None
        kind = str(rng.choice(["speech_libri", "speech_ocean", "interview_turn", "voice_sentence"]))
        if rng.random() < 0.3 or not self._clips.by_kind[kind]:
            return self._made(nonverbal.laugh)(rng, scene)
        clip = self._pick(rng, kind)
        said = as_float(clip.samples[int(clip.onset_s * RATE) : int(clip.end_s * RATE)])
        if len(said) < 0.2 * RATE:
            return self._made(nonverbal.laugh)(rng, scene)
        self._put_made(rng, scene, nonverbal.laugh_of(rng, said))
        scene.group = clip.group
        return None

    def _baby(self, rng: Generator, scene: Scene) -> None:
        clip = self._pick(rng, "baby_cry")
        self._put(rng, scene, clip, scene.onset_s, start_s=float(rng.uniform(0, 3)))

    def _background(self, rng: Generator, scene: Scene) -> None:
        """Only the room: a television, other people, music, coming up at some time."""
        kind = str(rng.choice(["noise", "music", "babble", "tv"], p=[0.3, 0.15, 0.2, 0.35]))
        x = background(rng, SAMPLES, self.backgrounds, kind)
        start = int(rng.uniform(0, 1.0) * RATE) if rng.random() < 0.5 else 0
        x[:start] *= 0.1
        scene.sound += x * np.float32(0.05)
        self._mark(scene, start / RATE, SAMPLES / RATE)
        scene.quieter_db = float(rng.uniform(5, 25))

    def _echo(self, rng: Generator, scene: Scene) -> None:
        """The agent's own voice, back through the caller's room: fluent, far and quiet."""
        kind = str(rng.choice(["voice_sentence", "voice_turned", "speech_libri"]))
        clip = self._pick(rng, kind)
        factor = self._factor(rng)
        start = float(rng.uniform(clip.onset_s, max(clip.end_s - 1.5, clip.onset_s + 0.01)))
        self._put(rng, scene, clip, 0.0, start, factor=factor)
        for _ in range(2):
            scene.sound = reverberated(scene.sound, room(rng, self.backgrounds.rirs))
        scene.phonemes[:] = UNKNOWN
        scene.ending[:] = np.nan
        scene.quieter_db = float(rng.uniform(15, 30))

    def _other_voice(self, rng: Generator, scene: Scene) -> None:
        """Somebody speaks to somebody else across the room, from when a caller would begin."""
        kind = str(rng.choice(["voice_sentence", "speech_more", "speech_libri", "speech_ocean"]))
        clip = self._pick(rng, kind if self._clips.by_kind[kind] else "voice_sentence")
        start = clip.onset_s if rng.random() < 0.5 else inside_start(rng, clip)
        self._put(rng, scene, clip, scene.onset_s, start, factor=self._factor(rng))
        for _ in range(int(rng.integers(1, 3))):
            scene.sound = reverberated(scene.sound, room(rng, self.backgrounds.rirs))
        scene.phonemes[:] = UNKNOWN
        scene.ending[:] = np.nan
        scene.quieter_db = float(rng.uniform(10, 25))

    # The floor

    def _positive(self, kind: str) -> Callable[[Generator, Scene], None]:
        def make(rng: Generator, scene: Scene) -> None:
            if not self._clips.by_kind[kind]:
                return self._positive("voice_sentence")(rng, scene)
            clip = self._pick(rng, kind)
            assert clip.decisive_s is not None, clip.name
            start = end = None
            # Sentences that start mid-way. The recordings are few, and one that always starts at
            # its first word is soon known by heart.
            if rng.random() < {
                "speech_libri": 0.8, "speech_ocean": 0.8, "speech_more": 0.8,
                "voice_sentence": 0.5, "interview_turn": 0.15,
            }.get(kind, 0.0):  # fmt: skip
                asked = self._teachers.starts(clip.name)[1:]
                if asked and rng.random() < 0.7:
                    start = float(rng.choice(asked))
                else:
                    start = inside_start(rng, clip)
            if kind.startswith("speech_") and rng.random() < 0.3:  # short, and yet the floor
                end = (clip.onset_s if start is None else start) + float(rng.uniform(0.8, 1.6))
            time = self._put(rng, scene, clip, scene.onset_s, start, end, factor=self._factor(rng))
            self._floor_from(scene, time(clip.decisive_s if start is None else start))
            scene.quieter_db = float(np.clip(clip.quieter_db or 0.0, -6, 6))
            return None

        return make

    def _later_turn(self, rng: Generator, scene: Scene) -> None:
        """A backchannel, a pause, and then the same kind of voice takes the floor."""
        real = self._clips.by_kind["interview_backchannel"] and rng.random() < 0.5
        word = self._pick(rng, "interview_backchannel" if real else "voice_backchannel")
        clip = self._pick(rng, "interview_turn" if real else "voice_floor")
        factor = self._factor(rng)
        time = self._put(rng, scene, word, scene.onset_s, factor=factor)
        at = time(word.end_s) + rng.uniform(0.3, 1.0)
        starts = self._put(rng, scene, clip, at, factor=factor)
        self._floor_from(scene, starts(clip.decisive_s if clip.decisive_s is not None else at))

    def _noise_then_speech(self, rng: Generator, scene: Scene) -> None:
        """A cough, a hum, a laugh or a breath, and then words."""
        if rng.random() < 0.5:
            cough = self._pick(rng, "cough")
            end = cough.onset_s + quiet_end(cough, float(rng.uniform(0.2, 0.7)))
            time = self._put(rng, scene, cough, scene.onset_s, cough.onset_s, end)
            at = time(end)
        else:
            made = (nonverbal.breath, nonverbal.hum, nonverbal.throat, nonverbal.laugh)
            x = made[int(rng.integers(len(made)))](rng)
            self._put_made(rng, scene, x * np.float32(rng.uniform(0.1, 0.8)))
            at = scene.onset_s + len(x) / RATE
        kind = str(rng.choice(["voice_floor", "voice_sentence", "speech_ocean", "speech_libri"]))
        at += rng.uniform(0.0, 0.4)
        self._put(rng, scene, self._pick(rng, kind), at, factor=self._factor(rng))
        self._floor_from(scene, at)


def _listening_db(rng: Generator) -> float:
    """How much quieter than the same person's turns a backchannel is.

    In AMI 6 dB (median of 8, people with both), in four interviews 1, 8, 9 and 16 dB.
    """
    return float(np.clip(rng.normal(6, 5), -2, 18))
