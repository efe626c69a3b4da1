"""Where the pauses of a recording are, and what is heard of each."""

from __future__ import annotations

import numpy as np
import pytest

from models.interruption.pretrained.silero import SAMPLE_RATE, VAD_FRAME
from models.turn import pauses
from models.turn.pauses import Pause, Recording, Samples, Segment


def recording(samples: Samples, *, whole: bool = True) -> Recording:
    return Recording("test", "en", "somebody", samples, whole)


def test_speech_is_found_with_short_gaps_as_part_of_it() -> None:
    speech, silence = [0.9], [0.1]
    probabilities = silence * 5 + speech * 10 + silence * 4 + speech * 3 + silence * 8 + speech * 9

    assert pauses.spans(probabilities) == [(5, 22), (30, 39)]


def test_a_pause_is_a_hold_and_the_end_an_end_only_where_the_sentence_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probabilities = np.array([0.1] * 10 + [0.9] * 20 + [0.1] * 10 + [0.9] * 20 + [0.1] * 10)
    monkeypatch.setattr(pauses, "speech_probabilities", lambda samples: probabilities)
    samples = np.ones(70 * VAD_FRAME, np.int16)

    whole = list(pauses.pauses(recording(samples)))
    cut = list(pauses.pauses(recording(samples, whole=False)))

    assert [(p.kind, p.end // VAD_FRAME, p.length_s) for p in whole] == [
        ("hold", 30, 0.32),
        ("end", 60, np.inf),
    ]
    assert [p.kind for p in cut] == ["hold"]


def test_the_model_hears_the_pause_so_far_and_room_tone_where_the_recording_stops() -> None:
    samples = np.arange(SAMPLE_RATE, dtype=np.int16)
    tone = np.full(VAD_FRAME, 7, np.int16)
    pause = Pause(recording(samples), "end", SAMPLE_RATE - 1600, np.inf, tone)

    heard = pause.heard(0.3, lead_s=0.5)

    assert len(heard) == round(0.5 * SAMPLE_RATE) + SAMPLE_RATE - 1600 + round(0.3 * SAMPLE_RATE)
    assert set(heard[:8000]) == {7}
    assert np.array_equal(heard[8000:24000], samples)
    assert set(heard[24000:]) == {7}


def test_room_tone_is_the_quietest_place_without_speech() -> None:
    samples = np.concatenate(
        [np.full(n * VAD_FRAME, level, np.int16) for n, level in ((6, 50), (6, 3), (6, 1))]
    )
    probabilities = np.array([0.1] * 12 + [0.9] * 6, np.float32)

    assert set(pauses.room_tone(samples, probabilities)) == {3}


def test_meetings_have_holds_and_ends_where_one_person_is_heard() -> None:
    segments = [
        Segment("ann", 0.0, 2.0),
        Segment("ann", 2.5, 4.0),  # a hold of 0.5 s before
        Segment("bob", 4.4, 6.0),  # an end of ann's, 0.4 s before
        Segment("ann", 5.9, 8.0),  # they talk at once: nothing of bob's
    ]

    found = list(pauses.meeting_pauses(np.zeros(10 * SAMPLE_RATE, np.int16), segments))

    assert [(p.kind, p.recording.speaker, round(p.length_s, 2)) for p in found] == [
        ("hold", "ann", 0.5)
    ]
