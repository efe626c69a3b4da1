import numpy as np
import pytest

from tests.fakes.recordings import BLOCK, RATE, Library, RecordingEar

QUIET = 4 * RATE // 10


def recording(seed: int) -> bytes:
    """Two stretches of noise for speech, with noise of another level around them."""
    noise = np.random.default_rng(seed)
    speech = [noise.normal(0, 4000, RATE), noise.normal(0, 4000, RATE // 2)]
    hush = [noise.normal(0, 20, QUIET) for _ in range(3)]
    parts = [hush[0], speech[0], hush[1], speech[1], hush[2]]
    return np.concatenate(parts).clip(-32000, 32000).astype(np.int16).tobytes()


LIBRARY = Library([recording(1), recording(2)])
FIRST, SECOND = ([name for name, _ in LIBRARY.words(n)] for n in (0, 1))
ONE, TWO = LIBRARY.recordings


def heard(*parts: bytes, size: int = 1600) -> list[str]:
    ear = RecordingEar(LIBRARY)
    pcm = b"".join(parts)
    words = [word for at in range(0, len(pcm), size) for word in ear.feed(pcm[at : at + size])]
    return [word.text for word in [*words, *ear.settle()]]


@pytest.mark.parametrize("size", [320, 1600, 1234, 100_000])
def test_each_slice_of_a_recording_is_a_word(size: int) -> None:
    assert len(FIRST) == 5
    assert heard(ONE, TWO, size=size) == FIRST + SECOND


@pytest.mark.parametrize("begin", [2, 100, 2 * BLOCK, 7000])
def test_a_recording_is_known_wherever_it_begins(begin: int) -> None:
    assert heard(ONE[begin:]) == FIRST


def test_what_comes_twice_is_heard_twice_and_what_does_not_come_is_not_heard() -> None:
    word = 2 * RATE * 3 // 10
    begin = 2 * QUIET
    assert heard(ONE[: begin + word], ONE[begin:]) == [FIRST[0], *FIRST]
    assert heard(ONE[:begin], ONE[begin + word + 2000 :]) == FIRST[1:]


def test_silence_put_in_and_other_sound_are_no_words() -> None:
    other = recording(3)
    assert heard(bytes(32_000), ONE, bytes(3200), other, TWO) == FIRST + SECOND


def test_half_a_word_is_none() -> None:
    assert heard(ONE[: 2 * QUIET + 4000]) == []


def test_words_stand_where_their_samples_were() -> None:
    ear = RecordingEar(LIBRARY)
    ear.feed(bytes(2 * RATE))
    for word, (name, end) in zip(ear.feed(ONE), LIBRARY.words(0), strict=True):
        assert word.text == name
        assert word.end == pytest.approx(1.0 + end, abs=0.02)
