"""How probably a stream of audio is speech."""

from __future__ import annotations

import numpy as np

from gateway.engines.vad import CHUNK, LoudnessVad, VadRequest, VadState


def noise(amplitude: int, chunks: int) -> bytes:
    rng = np.random.default_rng(1)
    return rng.integers(-amplitude, amplitude + 1, CHUNK * chunks).astype(np.int16).tobytes()


def test_each_chunk_of_each_stream_has_an_answer() -> None:
    questions = [VadRequest(VadState(), noise(10, 3)), VadRequest(VadState(), b"")]
    assert [len(answer) for answer in LoudnessVad().run(questions)] == [3, 0]


def test_without_the_model_what_is_loud_is_taken_for_speech() -> None:
    state, detector = VadState(), LoudnessVad()
    (quiet,) = detector.run([VadRequest(state, noise(10, 50))])
    (loud,) = detector.run([VadRequest(state, noise(8000, 10))])
    assert set(quiet) == {0.0}
    assert set(loud) == {1.0}


def test_streams_are_remembered_apart() -> None:
    one, other = VadState(), VadState()
    detector = LoudnessVad()
    detector.run([VadRequest(one, noise(8000, 50)), VadRequest(other, noise(10, 50))])
    answers = detector.run([VadRequest(one, noise(10, 5)), VadRequest(other, noise(8000, 5))])
    assert answers == [[0.0] * 5, [1.0] * 5]
