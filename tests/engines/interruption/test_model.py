"""Each sample is run once, whatever windows a client sends."""

from pathlib import Path

import numpy as np
import pytest

from gateway.engines.interruption.model import BargeinModel, Question
from gateway.engines.onnx import FrameModel
from gateway.engines.types import Floats
from tests.fakes import frame_model

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> FrameModel:
    path = frame_model.write(tmp_path_factory.mktemp("model") / "m.onnx")
    return FrameModel(path, interface="bargein/1")


class Counting(FrameModel):
    """A model that counts the samples it is given."""

    def __init__(self, model: FrameModel) -> None:
        self._model = model
        self.card, self._carries_state = model.card, model.carries_state
        self.samples = 0
        self.runs: list[tuple[int, int]] = []

    def blank_state(self) -> Floats:
        return self._model.blank_state()

    def run(self, audio: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.samples += audio.size
        self.runs.append(audio.shape)
        return self._model.run(audio, state)


def speech(seconds: float) -> np.ndarray:
    return RNG.integers(-30000, 30000, int(seconds * 16000)).astype(np.int16)


def windows(audio: np.ndarray, first: int, step: int = 1600) -> list[np.ndarray]:
    """The windows a client sends of `audio`: growing from `first` samples, then sliding."""
    ends = range(first, audio.size + 1, step)
    return [audio[max(0, end - 48000) : end] for end in ends]


@pytest.mark.parametrize("first", [1600, 17600, 18624, 19792, 399])
@pytest.mark.parametrize("step", [1600, 1920, 2101, 800])
def test_growing_and_sliding_windows_are_run_once_and_agree_with_the_whole(
    loaded: FrameModel, first: int, step: int
) -> None:
    counting = Counting(loaded)
    model = BargeinModel(counting)
    audio = speech(5)
    track = model.track()
    offset = first % 400
    whole = frame_model.expected(audio[offset : offset + (audio.size - offset) // 400 * 400])
    for window in windows(audio, first, step):
        (answer,) = model.run([Question(track, window.tobytes())])
        assert answer.size == window.size // 400
    known = (track.frames_run, counting.samples // 400)
    assert known[0] == known[1]
    assert counting.samples <= audio.size
    last = track.probabilities
    assert np.allclose(last, whole[: track.frames_run][-last.size :], atol=1e-5)


def test_a_window_that_does_not_continue_starts_anew(loaded: FrameModel) -> None:
    model = BargeinModel(loaded)
    track = model.track()
    model.run([Question(track, speech(1).tobytes())])
    other = speech(1)
    (answer,) = model.run([Question(track, other.tobytes())])
    assert np.allclose(answer, frame_model.expected(other), atol=1e-5)


def test_a_pause_between_two_overlaps_is_bridged_where_the_windows_meet(loaded: FrameModel) -> None:
    counting = Counting(loaded)
    model = BargeinModel(counting)
    track, audio = model.track(), speech(6)
    model.run([Question(track, audio[:48000].tobytes())])
    model.run([Question(track, audio[30000:78000].tobytes())])
    assert counting.samples == 78000
    model.run([Question(track, audio[-1600:].tobytes())])
    assert counting.samples == 79600


def test_the_same_window_again_costs_nothing(loaded: FrameModel) -> None:
    counting = Counting(loaded)
    model = BargeinModel(counting)
    track, window = model.track(), speech(1).tobytes()
    first, again = (model.run([Question(track, window)])[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert counting.samples == 16000


def test_silence_is_no_trap(loaded: FrameModel) -> None:
    model = BargeinModel(loaded)
    track = model.track()
    audio = np.concatenate([np.zeros(40000, np.int16), speech(1)])
    for window in windows(audio, 17600):
        (answer,) = model.run([Question(track, window.tobytes())])
        assert answer.size == window.size // 400
    assert answer[-1] > 0.1


def test_a_tone_is_no_trap(loaded: FrameModel) -> None:
    tone = (10000 * np.sin(2 * np.pi * 1000 * np.arange(80000) / 16000)).astype(np.int16)
    model = BargeinModel(loaded)
    track = model.track()
    for window in windows(tone, 18624):
        (answer,) = model.run([Question(track, window.tobytes())])
        assert answer.size == window.size // 400


def test_sessions_in_one_batch_do_not_mix(loaded: FrameModel) -> None:
    counting = Counting(loaded)
    model = BargeinModel(counting)
    sessions = [(model.track(), speech(4)) for _ in range(6)]
    for end in range(16000, 64001, 1600):
        answers = model.run(
            [Question(t, a[max(0, end - 48000) : end].tobytes()) for t, a in sessions]
        )
        for answer, (_, audio) in zip(answers, sessions, strict=True):
            expected = frame_model.expected(audio[:end])[-answer.size :]
            assert np.allclose(answer, expected, atol=1e-5)
    assert counting.runs[-1] == (6, 1600)


def test_windows_of_different_lengths_run_beside_each_other(loaded: FrameModel) -> None:
    model = BargeinModel(loaded)
    long, short = speech(2), speech(0.5)
    answers = model.run(
        [Question(model.track(), long.tobytes()), Question(model.track(), short.tobytes())]
    )
    assert [answer.size for answer in answers] == [80, 20]


def test_a_model_without_state_runs_every_window_whole(tmp_path: Path) -> None:
    path = frame_model.write(tmp_path / "m.onnx", stateful=False)
    model = BargeinModel(FrameModel(path, interface="bargein/1"))
    track, audio = model.track(), speech(4)
    for window in windows(audio, 16000):
        (answer,) = model.run([Question(track, window.tobytes())])
        expected = frame_model.expected(window[window.size % 400 :])
        assert np.allclose(answer, expected, atol=1e-5)


def test_a_window_shorter_than_a_frame_has_no_probabilities(loaded: FrameModel) -> None:
    model = BargeinModel(loaded)
    (answer,) = model.run([Question(model.track(), speech(0.02).tobytes())])
    assert answer.size == 0
