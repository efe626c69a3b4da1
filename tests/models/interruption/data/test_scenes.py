import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from models.interruption.data.answers import PHONEMES, Teachers
from models.interruption.data.build import words_of
from models.interruption.data.channel import Backgrounds, close_up
from models.interruption.data.clips import Clip, Clips
from models.interruption.data.phonemes import numbered
from models.interruption.data.scenes import FRAMES, NOT_SPEECH, SAMPLES, UNKNOWN, Stage

if TYPE_CHECKING:
    from models.interruption.pretrained.ear import Ear

RATE = 16_000
KINDS = ("voice_backchannel", "voice_floor", "voice_sentence", "voice_turned", "speech_libri",
         "speech_ocean", "short_calls", "meeting_turn", "meeting_backchannel", "cough",
         "baby_cry", "word_call", "word_backchannel")  # fmt: skip


def clip(kind: str) -> Clip:
    """1.2 s of noise after 0.3 s of silence; what follows a backchannel starts at 0.8 s."""
    samples = np.zeros(2 * RATE, np.int16)
    samples[4800:24_000] = np.random.default_rng(0).integers(-9000, 9000, 19_200)
    decisive = {"voice_backchannel": None, "meeting_backchannel": None, "cough": None,
                "baby_cry": None, "word_backchannel": None,
                "voice_turned": 0.8}.get(kind, 0.3)  # fmt: skip
    phonemes = (np.array([0.3, 0.5, 1.5]), np.array([7, 9, 0], np.int16))
    return Clip(f"{kind}/0", kind, kind, samples, 0.3, 1.5, decisive, phonemes)


class FakeClips(Clips):
    def __init__(self) -> None:
        self.by_kind = defaultdict(list, {kind: [clip(kind)] for kind in KINDS})

    def backgrounds(self) -> Backgrounds:
        noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
        return Backgrounds(rirs=[], noises=[noise], music=[noise], speech=[noise])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(FakeClips(), Teachers(tmp_path))


NEVER = ("voice_backchannel", "word_backchannel", "made_hum", "cut_word", "meeting_backchannel",
         "cough", "laugh", "breath", "throat", "taps", "tones", "baby_cry", "background", "echo",
         "other_voice")  # fmt: skip
ALWAYS = ("voice_turned", "voice_floor", "voice_sentence", "speech_libri", "speech_ocean",
          "short_calls", "word_call", "meeting_turn", "later_turn",
          "noise_then_speech")  # fmt: skip


@pytest.mark.parametrize("kind", NEVER)
def test_what_does_not_take_the_floor_is_never_labelled(stage: Stage, kind: str) -> None:
    scene, sound = stage.scene(np.random.default_rng(1), kind)
    assert len(sound) == SAMPLES
    assert sound.dtype == np.int16
    assert not scene.label.any()


@pytest.mark.parametrize("kind", ALWAYS)
def test_whoever_takes_the_floor_keeps_it(stage: Stage, kind: str) -> None:
    scene, _ = stage.scene(np.random.default_rng(1), kind)
    first = int(scene.label.argmax())
    assert scene.label[first:].all()
    assert not scene.label[:first].any()


def test_whether_more_is_wanted_of_a_word_is_known_whatever_smart_turn_says_of_it(
    tmp_path: Path,
) -> None:
    moments = [0.3, 0.6, 0.8, 1.0, 1.25, 1.55]
    answers = np.array([[moments, [0.0, 0.6, 0.6, 0.6, 0.6, 0.6]]], np.float32)
    named: dict[str, Any] = {f"{kind}/0": answers for kind in KINDS}
    np.savez(tmp_path / "endings-0-1.npz", **named)
    stage = Stage(FakeClips(), Teachers(tmp_path))
    for kind, complete in (
        ("voice_floor", 0.1), ("short_calls", 0.1), ("word_call", 0.1), ("word_backchannel", 0.9),
        ("voice_sentence", 0.6),
    ):  # fmt: skip
        scene = next(
            scene
            for scene in (stage.written(np.random.default_rng(i), kind) for i in range(20))
            if not np.isnan(scene.ending).all()
        )
        assert np.nanmax(scene.ending) == pytest.approx(complete, abs=1e-3)


def test_without_recorded_words_made_ones_listen_and_speak(tmp_path: Path) -> None:
    clips = FakeClips()
    del clips.by_kind["word_call"], clips.by_kind["word_backchannel"]
    stage = Stage(clips, Teachers(tmp_path))
    said = stage.written(np.random.default_rng(1), "word_call")
    heard = stage.written(np.random.default_rng(1), "word_backchannel")
    assert said.names == ["voice_sentence/0"]
    assert said.label.any()
    assert set(heard.names) == {"voice_backchannel/0"}
    assert not heard.label.any()


def test_a_voice_across_the_room_is_no_speech_and_teaches_no_phonemes(stage: Stage) -> None:
    scene, _ = stage.scene(np.random.default_rng(5), "other_voice")
    assert scene.kind in NOT_SPEECH
    assert scene.quieter_db >= 10
    assert (scene.phonemes == UNKNOWN).all()
    assert np.isnan(scene.ending).all()


def test_the_floor_is_taken_after_the_backchannel_and_not_with_it(stage: Stage) -> None:
    scene, _ = stage.scene(np.random.default_rng(3), "voice_turned")
    plain, _ = stage.scene(np.random.default_rng(3), "voice_floor")
    assert scene.onset_s == plain.onset_s
    assert 12 <= int(scene.label.argmax()) - int(plain.label.argmax()) <= 25  # 0.5 s, stretched


def test_the_weight_of_an_interruption_rises_with_the_evidence(stage: Stage) -> None:
    scene, _ = stage.scene(np.random.default_rng(4), "voice_floor")
    onset = int(scene.onset_s / 0.025) + 1
    weights = scene.weight[onset : onset + 24]
    assert weights[0] == 0
    assert (np.diff(weights[7:]) >= 0).all()
    assert weights[-1] > 0.9


def test_phonemes_are_known_where_the_voice_sounds_and_nowhere_else(stage: Stage) -> None:
    scene, _ = stage.scene(np.random.default_rng(5), "voice_floor")
    known = scene.phonemes != UNKNOWN
    assert set(scene.phonemes[known]) == {7, 9}
    assert not known[: int(scene.onset_s / 0.025)].any()


def test_a_recording_teaches_the_phonemes_that_were_found_in_it(tmp_path: Path) -> None:
    (tmp_path / PHONEMES).write_text(json.dumps(
        {"speech_ocean/0": {"fits": -1.0, "starts_s": [0.3, 0.6], "classes": [11, 12]}}
    ))  # fmt: skip
    clips = FakeClips()
    clips.by_kind["speech_ocean"] = [replace(clip("speech_ocean"), phonemes=None)]
    scene = Stage(clips, Teachers(tmp_path)).written(np.random.default_rng(5), "speech_ocean")
    known = scene.phonemes[scene.phonemes != UNKNOWN]
    assert set(known) <= {11, 12}
    assert len(known)


def test_a_start_inside_has_the_endings_that_were_asked_from_there(tmp_path: Path) -> None:
    asked = np.array([[[0.3, 0.6, 0.8], [0, 0.9, 0.9]], [[0.5, 0.8, 1.0], [0, 0.2, 0.2]]])
    named: dict[str, Any] = {"speech_libri/0": asked.astype(np.float32)}
    np.savez(tmp_path / "endings-0-1.npz", **named)
    teachers = Teachers(tmp_path)
    assert teachers.starts("speech_libri/0") == pytest.approx([0.3, 0.5])
    assert teachers.endings("speech_libri/0", 0.4) is None
    stage, said = Stage(FakeClips(), teachers), set()
    for seed in range(40):
        scene = stage.written(np.random.default_rng(seed), "speech_libri")
        known = scene.ending[~np.isnan(scene.ending)]
        said |= set(np.round(known, 3).tolist())
        assert not len(known) or np.isnan(scene.ending[int(scene.onset_s / 0.025) + 6])
    assert said == {np.float32(0.9).round(3).item(), np.float32(0.2).round(3).item()}


def test_what_a_cough_sounds_like_is_no_speech_but_a_hum_is(stage: Stage) -> None:
    rng = np.random.default_rng(2)
    assert stage.written(rng, "made_hum").speech.any()
    assert "cough" in NOT_SPEECH


def test_words_are_those_of_the_newest_answer_at_the_end_of_each_frame() -> None:
    class Counting:
        STEP = 320

        def heard(self, samples: np.ndarray) -> np.ndarray:
            counted = np.arange(samples.shape[1] // 320, dtype=np.float32)
            return np.broadcast_to(counted[None, :, None], (len(samples), len(counted), 96))

    words = words_of([np.ones(SAMPLES, np.float32)], cast("Ear", Counting()))
    assert words.shape == (1, FRAMES, 96)
    # frames end at 25, 50, 75, 100 ms; answers at 20, 40, 60, 80, 100 ms
    assert words[0, :4, 0].tolist() == [0, 1, 2, 4]


def test_a_scene_is_the_same_for_the_same_seed(stage: Stage) -> None:
    first, again = (stage.scene(np.random.default_rng(9)) for _ in range(2))
    assert first[0].kind == again[0].kind
    assert np.array_equal(first[1], again[1])


def test_stress_and_length_marks_sound_like_their_neighbours() -> None:
    classes = numbered("ˈiː a")
    assert classes[0] == classes[1] == classes[2] != classes[4]
    assert classes[3] == 0


def test_what_a_teacher_hears_is_the_event_alone_and_as_much_quieter_as_it_is_said() -> None:
    event = np.zeros(SAMPLES, np.float32)
    event[16_000:32_000] = np.sin(np.arange(16_000) / 5)
    loud = event != 0

    def level_db(sound: np.ndarray) -> float:
        power = float((sound.astype(np.float64) ** 2).mean())
        return 10 * math.log10(power) - 20 * math.log10(32768)

    for quieter_db in (0.0, 10.0):
        heard = close_up(np.random.default_rng(0), event, loud, quieter_db)
        assert level_db(heard[loud]) == pytest.approx(-26 - quieter_db, abs=0.2)
        assert level_db(heard[~loud]) == pytest.approx(-26 - 50, abs=1.5)


def test_half_of_the_laughs_are_recorded_where_there_are_any(tmp_path: Path) -> None:
    clips = FakeClips()
    clips.by_kind["laugh"] = [replace(clip("laugh"), decisive_s=None)]
    stage = Stage(clips, Teachers(tmp_path))
    laughs = [stage.written(np.random.default_rng(seed), "laugh") for seed in range(60)]
    recorded = [scene for scene in laughs if scene.names == ["laugh/0"]]
    assert 20 <= len(recorded) <= 40
    assert all(scene.group == "laugh" and not scene.label.any() for scene in recorded)
    assert any(scene.quieter_db > 0 for scene in recorded)
    assert any(scene.quieter_db == 0 for scene in recorded)
