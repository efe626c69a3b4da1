from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("soundfile")

from models.interruption.channel import Backgrounds
from models.interruption.clips import Clip
from models.interruption.held_out import auc, reached
from models.interruption.phonemes import numbered
from models.interruption.scenes import FRAMES, SAMPLES, UNKNOWN, Stage
from models.interruption.teachers import Teachers

RATE = 16_000
KINDS = ("voice_backchannel", "voice_floor", "voice_sentence", "voice_turned", "speech_libri",
         "speech_ocean", "short_calls", "meeting_turn", "meeting_backchannel", "cough",
         "baby_cry")  # fmt: skip


def clip(kind: str) -> Clip:
    """1.2 s of noise after 0.3 s of silence; what follows a backchannel starts at 0.8 s."""
    samples = np.zeros(2 * RATE, np.int16)
    samples[4800:24_000] = np.random.default_rng(0).integers(-9000, 9000, 19_200)
    decisive = {"voice_backchannel": None, "meeting_backchannel": None, "cough": None,
                "baby_cry": None, "voice_turned": 0.8}.get(kind, 0.3)  # fmt: skip
    phonemes = (np.array([0.3, 0.5, 1.5]), np.array([7, 9, 0], np.int16))
    return Clip(f"{kind}/0", kind, kind, samples, 0.3, 1.5, decisive, phonemes)


class FakeClips:
    def __init__(self) -> None:
        self.by_kind = defaultdict(list, {kind: [clip(kind)] for kind in KINDS})

    def backgrounds(self) -> Backgrounds:
        noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
        return Backgrounds(rirs=[], noises=[noise], music=[noise], speech=[noise])


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(FakeClips(), Teachers(tmp_path))


NEVER = ("voice_backchannel", "made_hum", "cut_word", "meeting_backchannel", "cough", "laugh",
         "breath", "throat", "taps", "tones", "baby_cry", "background", "echo")  # fmt: skip
ALWAYS = ("voice_turned", "voice_floor", "voice_sentence", "speech_libri", "speech_ocean",
          "short_calls", "meeting_turn", "later_turn", "noise_then_speech")  # fmt: skip


@pytest.mark.parametrize("kind", NEVER)
def test_what_does_not_take_the_floor_is_never_labelled(stage, kind):
    scene, sound = stage.scene(np.random.default_rng(1), kind)
    assert len(sound) == SAMPLES
    assert sound.dtype == np.int16
    assert not scene.label.any()


@pytest.mark.parametrize("kind", ALWAYS)
def test_whoever_takes_the_floor_keeps_it(stage, kind):
    scene, _ = stage.scene(np.random.default_rng(1), kind)
    first = int(scene.label.argmax())
    assert scene.label[first:].all()
    assert not scene.label[:first].any()


def test_the_floor_is_taken_after_the_backchannel_and_not_with_it(stage):
    scene, _ = stage.scene(np.random.default_rng(3), "voice_turned")
    plain, _ = stage.scene(np.random.default_rng(3), "voice_floor")
    assert scene.onset_s == plain.onset_s
    assert 12 <= int(scene.label.argmax()) - int(plain.label.argmax()) <= 25  # 0.5 s, stretched


def test_the_weight_of_an_interruption_rises_with_the_evidence(stage):
    scene, _ = stage.scene(np.random.default_rng(4), "voice_floor")
    onset = int(scene.onset_s / 0.025) + 1
    weights = scene.weight[onset : onset + 24]
    assert weights[0] == 0
    assert (np.diff(weights[7:]) >= 0).all()
    assert weights[-1] > 0.9


def test_phonemes_are_known_where_the_voice_sounds_and_nowhere_else(stage):
    scene, _ = stage.scene(np.random.default_rng(5), "voice_floor")
    known = scene.phonemes != UNKNOWN
    assert set(scene.phonemes[known]) == {7, 9}
    assert not known[: int(scene.onset_s / 0.025)].any()


def test_a_scene_is_the_same_for_the_same_seed(stage):
    first, again = (stage.scene(np.random.default_rng(9)) for _ in range(2))
    assert first[0].kind == again[0].kind
    assert np.array_equal(first[1], again[1])


def test_stress_and_length_marks_sound_like_their_neighbours():
    classes = numbered("ˈiː a")
    assert classes[0] == classes[1] == classes[2] != classes[4]
    assert classes[3] == 0


def test_a_level_counts_when_two_frames_in_a_row_hold_it_in_time():
    probabilities = np.zeros((1, FRAMES), np.float32)
    probabilities[0, [40, 44, 45]] = 0.9, 0.5, 0.6
    onsets = np.array([1.0], np.float32)
    assert reached(probabilities, onsets, 0.125)[0] == 0
    assert reached(probabilities, onsets, 0.15)[0] == np.float32(0.5)


def test_auc_counts_ties_as_half():
    assert auc(np.array([0.5, 1.0]), np.array([0.5])) == 0.75
