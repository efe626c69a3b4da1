import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.interruption.data.answers import FITS, PHONEMES, Teachers
from models.interruption.data.clips import Clip, pauses
from models.interruption.data.features import SIZE
from models.interruption.data.phonemes import PHONEME_CLASSES, numbered, with_pauses
from models.interruption.label.align import (
    Aligner,
    Sound,
    aligned,
    best_path,
    heard,
    states,
    texts,
    trained,
)

A, B = (int(number) for number in numbered("ab"))


def clip(kind: str = "speech_libri", text: str = "") -> Clip:
    samples = np.full(16_000, 1000, np.int16)
    return Clip(f"{kind}/0", kind, kind, samples, 0.25, 0.8, 0.25, text=text)


def likely(*classes: int) -> np.ndarray:
    """Log probabilities of a network that is nearly sure of one class in each frame."""
    found = np.full((len(classes), PHONEME_CLASSES), -6.0, np.float32)
    found[np.arange(len(classes)), classes] = -0.1
    return found


def test_signs_of_stress_and_length_are_no_sounds_and_words_may_run_together() -> None:
    classes, optional = states("ˈaːb a")
    assert classes.tolist() == [0, A, B, 0, A, 0]
    assert optional.tolist() == [True, False, False, True, False, True]


def test_the_path_goes_through_all_sounds_in_order_with_or_without_a_pause() -> None:
    classes, optional = states("a b")
    for said in ([0, A, A, B, B], [A, 0, 0, B, 0]):
        path = best_path(likely(*said), classes, optional)
        assert path is not None
        assert classes[path].tolist() == said


def test_a_sound_that_nobody_heard_still_has_its_frame() -> None:
    classes, optional = states("aba")
    path = best_path(likely(A, A, A, A), classes, optional)
    assert path is not None
    assert set(classes[path]) == {A, B}


def test_fewer_frames_than_sounds_are_no_match() -> None:
    classes, optional = states("abab")
    assert best_path(likely(A, B), classes, optional) is None


def test_a_recording_that_was_cut_may_end_before_its_text() -> None:
    classes, optional = states("aabab")
    path = best_path(likely(A, A, B), classes, optional, may_end_early=True)
    assert path is not None
    assert classes[path].tolist() == [A, A, B]


def test_starts_are_told_in_seconds_of_the_clip_and_a_wrong_text_fits_worse() -> None:
    prior = np.zeros(PHONEME_CLASSES, np.float32)
    heard = likely(0, 0, A, A, B, 0)
    right = aligned(clip(), "ab", heard, prior, first_s=0.2)
    wrong = aligned(clip(), "ba", heard, prior, first_s=0.2)
    assert right["classes"] == [0, A, B, 0]
    assert right["starts_s"] == pytest.approx([0.2, 0.25, 0.3, 0.325])
    assert wrong["fits"] < right["fits"]


@pytest.mark.parametrize("text", ["", "abab"])
def test_a_text_without_a_sound_or_with_too_many_is_no_match(text: str) -> None:
    prior = np.zeros(PHONEME_CLASSES, np.float32)
    assert aligned(clip(), text, likely(0, A), prior, 0.0)["fits"] < FITS


def test_a_recording_that_was_cut_after_six_seconds_may_end_early_too() -> None:
    prior = np.zeros(PHONEME_CLASSES, np.float32)
    long = replace(clip("speech_ocean"), end_s=6.25)
    assert aligned(long, "abab", likely(A, B), prior, 0.0)["classes"] == [A, B]


def test_what_is_aligned_is_what_a_frame_is_then_asked_for() -> None:
    sound = Sound(clip(), np.zeros((6, SIZE), np.float32), 0.2)
    phonemes = np.array([0.2, 0.25, 0.3, 0.325]), np.array([0, A, B, 0], np.int16)
    assert sound.said(phonemes).tolist() == [0, 0, A, A, B, 0]


def test_while_nothing_sounds_no_phoneme_is_taught() -> None:
    samples = np.zeros(16_000, np.int16)
    samples[4000:7200] = samples[10_400:12_800] = 3000  # 0.25 to 0.45 s and 0.65 to 0.8 s
    assert pauses(samples, 0.25, 0.8) == [pytest.approx((0.45, 0.65))]
    starts, classes = with_pauses(
        np.array([0.25, 0.3, 0.7]), np.array([A, B, A], np.int16), [(0.45, 0.65)]
    )
    assert starts.tolist() == [0.25, 0.3, 0.45, 0.65, 0.7]
    assert classes.tolist() == [A, B, 0, B, A]
    assert with_pauses(np.array([0.5]), np.array([A], np.int16), [(0.1, 0.3)])[1].tolist() == [
        0,
        0,
        A,
    ]


def test_texts_that_came_with_the_recording_need_no_recogniser(tmp_path: Path) -> None:
    known = clip(text="we call it bear")
    kept = tmp_path / "texts.json"
    kept.write_text(json.dumps({"speech_more/7": "heard before"}))
    found = texts([known, clip("speech_more")], kept, None)
    assert found == {"speech_libri/0": "we call it bear", "speech_more/7": "heard before"}


def test_only_recordings_that_fit_their_text_teach(tmp_path: Path) -> None:
    (tmp_path / PHONEMES).write_text(json.dumps({
        "speech_libri/0": {"fits": FITS + 0.1, "starts_s": [0.25, 0.5], "classes": [A, 0]},
        "speech_more/0": {"fits": FITS - 0.1, "starts_s": [0.25, 0.5], "classes": [A, 0]},
    }))  # fmt: skip
    teachers = Teachers(tmp_path)
    said = teachers.phonemes(clip())
    assert said is not None
    starts, classes = said
    assert starts.tolist() == [0.25, 0.5]
    assert classes.tolist() == [A, 0]
    assert teachers.phonemes(clip("speech_more")) is None


def tones(*classes: int) -> Sound:
    """Each class has a third of the bands of both looks to itself, for four frames."""
    x = np.full((4 * len(classes), SIZE), -1.4, np.float32)
    for at, number in enumerate(classes):
        band = {A: 2, B: 22}.get(number)
        if band is not None:
            x[4 * at : 4 * at + 4, band : band + 13] = 1.0
            x[4 * at : 4 * at + 4, SIZE // 2 + band : SIZE // 2 + band + 13] = 1.0
    return Sound(clip(), x, 0.0)


def test_what_the_aligner_was_taught_it_hears_in_what_it_never_met() -> None:
    torch.manual_seed(0)
    orders = [(0, A, B, 0), (A, 0, B, A), (B, B, 0, A), (0, B, A, A), (A, B, A, 0)] * 12
    aligner = Aligner(width=24)
    trained(aligner, [(tones(*o), np.repeat(np.array(o), 4)) for o in orders], epochs=40, seed=1)
    found = heard(aligner, tones(B, A, 0, B, A))
    assert np.allclose(np.exp(found).sum(axis=1), 1, atol=1e-4)
    inside = found.argmax(axis=1).reshape(5, 4)[:, 1:3]  # a frame from the next one's sound
    assert inside.tolist() == [[one] * 2 for one in (B, A, 0, B, A)]


def test_a_recogniser_writes_what_nobody_wrote_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class FakeWhisper:
        def __init__(self, name: str, **_: object) -> None:
            assert name == "base"

        def transcribe(self, sound: np.ndarray, **_: object) -> tuple[list[SimpleNamespace], None]:
            asked.append(len(sound))
            return [SimpleNamespace(text=" hello"), SimpleNamespace(text=" you ")], None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=FakeWhisper))
    clips = [replace(clip(), name="a"), replace(clip(text="written"), name="b")]
    for _ in range(2):
        assert texts(clips, tmp_path / "texts.json", "base") == {"a": "hello you", "b": "written"}
    assert asked == [16_000]
