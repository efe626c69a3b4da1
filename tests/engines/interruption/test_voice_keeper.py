from __future__ import annotations

import numpy as np
import pytest

from gateway.engines.interruption import voice_keeper
from gateway.engines.interruption.own_voice import FRAME_S, MARKS, TAIL
from gateway.engines.interruption.voice_keeper import VoiceKeeper

SECOND = np.random.default_rng(1).normal(0, 3000, 24_000).astype("<i2").tobytes()


@pytest.fixture
def keeper() -> VoiceKeeper:
    return VoiceKeeper()


def test_what_a_call_is_told_is_kept_for_it_alone(keeper: VoiceKeeper) -> None:
    keeper.mouth("one").say(SECOND, 24_000, 1e12, begins=True)
    keeper.join()

    voice = keeper.of("one")
    assert voice is not None
    assert voice.marks.shape == (TAIL + 40 + TAIL, MARKS)
    assert keeper.of("another") is None


def test_an_utterance_after_another_may_be_played_at_once(keeper: VoiceKeeper) -> None:
    mouth, begun = keeper.mouth("one"), []
    keeper.on_marks = lambda call, begins_at, marks: begun.append((call, begins_at, len(marks)))

    mouth.say(SECOND, 24_000, 5.0, begins=True)
    mouth.say(SECOND, 24_000, 5.0, begins=False)
    mouth.say(SECOND, 24_000, 5.1, begins=True)
    keeper.join()

    tail_s = FRAME_S * TAIL
    assert [at for _, at, _ in begun] == pytest.approx([5.0 - tail_s, 6.0, 5.1 - tail_s])
    assert [size // MARKS for _, _, size in begun] == [TAIL + 40, 40, TAIL + 40]
    assert {call for call, _, _ in begun} == {"one"}


def test_what_another_process_says_is_kept_too(keeper: VoiceKeeper) -> None:
    keeper.hear("one", 1e12, bytes(3 * MARKS))
    keeper.hear("one", 1e12, b"no frame")
    keeper.join()

    voice = keeper.of("one")
    assert voice is not None
    assert len(voice.marks) == 3 + TAIL


def test_a_voice_that_cannot_be_kept_up_with_is_left_out(
    keeper: VoiceKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_keeper, "WAITING_BYTES_MAX", len(SECOND) - 1)
    keeper.mouth("one").say(SECOND, 24_000, 1e12, begins=True)
    monkeypatch.undo()
    keeper.mouth("two").say(SECOND, 24_000, 1e12, begins=True)
    keeper.join()

    assert keeper.of("one") is None
    assert keeper.of("two") is not None


def test_one_chunk_that_is_broken_ends_nothing(keeper: VoiceKeeper) -> None:
    keeper.mouth("one").say(b"odd", 24_000, 1e12, begins=True)
    keeper.mouth("one").say(SECOND, 24_000, 1e12, begins=True)
    keeper.join()

    assert keeper.of("one") is not None
