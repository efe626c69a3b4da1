"""How an end-of-turn model is scored, without one."""

from __future__ import annotations

import numpy as np
import pytest

from models.turn import evaluate
from models.turn.evaluate import (
    PAUSES_S,
    SAMPLE_RATE,
    VAD_FRAME,
    Pause,
    Recording,
    Samples,
    Scored,
    Segment,
)


def recording(samples: Samples, *, whole: bool = True) -> Recording:
    return Recording("test", "en", "somebody", samples, whole)


def scored(kind: evaluate.Kind, length_s: float, *probabilities: float) -> Scored:
    return Scored("test", "en", "somebody", kind, length_s, probabilities)


ITEMS = [
    scored("end", np.inf, 0.9, 0.9, 0.9, 0.9, 0.9),
    scored("end", np.inf, 0.2, 0.6, 0.6, 0.6, 0.6),
    scored("hold", 0.25, 0.1),
    scored("hold", 0.4, 0.7, 0.7),
    scored("hold", 1.0, 0.3, 0.3, 0.3, 0.8),
    scored("hold", 3.5, 0.0, 0.0, 0.0, 0.0, 0.0),
]


def test_speech_is_found_with_short_gaps_as_part_of_it():
    speech, silence = [0.9], [0.1]
    probabilities = silence * 5 + speech * 10 + silence * 4 + speech * 3 + silence * 8 + speech * 9

    assert evaluate.spans(probabilities) == [(5, 22), (30, 39)]


def test_a_pause_is_a_hold_and_the_end_an_end_only_where_the_sentence_is_whole(
    monkeypatch: pytest.MonkeyPatch,
):
    probabilities = np.array([0.1] * 10 + [0.9] * 20 + [0.1] * 10 + [0.9] * 20 + [0.1] * 10)
    monkeypatch.setattr(evaluate, "speech_probabilities", lambda samples: probabilities)
    samples = np.ones(70 * VAD_FRAME, np.int16)

    whole = list(evaluate.pauses(recording(samples)))
    cut = list(evaluate.pauses(recording(samples, whole=False)))

    assert [(p.kind, p.end // VAD_FRAME, p.length_s) for p in whole] == [
        ("hold", 30, 0.32),
        ("end", 60, np.inf),
    ]
    assert [p.kind for p in cut] == ["hold"]


def test_the_model_hears_the_pause_so_far_and_room_tone_where_the_recording_stops():
    samples = np.arange(SAMPLE_RATE, dtype=np.int16)
    tone = np.full(VAD_FRAME, 7, np.int16)
    pause = Pause(recording(samples), "end", SAMPLE_RATE - 1600, np.inf, tone)

    heard = pause.heard(0.3, lead_s=0.5)

    assert len(heard) == round(0.5 * SAMPLE_RATE) + SAMPLE_RATE - 1600 + round(0.3 * SAMPLE_RATE)
    assert set(heard[:8000]) == {7}
    assert np.array_equal(heard[8000:24000], samples)
    assert set(heard[24000:]) == {7}


def test_room_tone_is_the_quietest_place_without_speech():
    samples = np.concatenate(
        [np.full(n * VAD_FRAME, level, np.int16) for n, level in ((6, 50), (6, 3), (6, 1))]
    )
    probabilities = np.array([0.1] * 12 + [0.9] * 6, np.float32)

    assert set(evaluate.room_tone(samples, probabilities)) == {3}


def test_recall_counts_the_ends_that_are_seen():
    assert evaluate.recall(ITEMS, 0.2, 0.5) == 0.5
    assert evaluate.recall(ITEMS, 0.5, 0.5) == 1.0


def test_false_cut_offs_count_all_holds_also_those_that_were_over_before():
    assert evaluate.false_cut_offs(ITEMS, 0.2, 0.5) == 0.25
    assert evaluate.false_cut_offs(ITEMS, 0.5, 0.5) == 0.0
    assert evaluate.false_cut_offs(ITEMS, 0.8, 0.5) == 0.25


def test_a_timer_cuts_off_every_longer_pause():
    assert [evaluate.timer(ITEMS, s) for s in (0.2, 0.5, 1.0, 4.0)] == [1.0, 0.5, 0.5, 0.0]


def test_the_threshold_is_in_the_middle_of_those_that_cost_users_least():
    items = [
        scored("end", np.inf, 0.8),
        scored("end", np.inf, 0.7),
        scored("hold", 1.0, 0.3, 0.3, 0.3, 0.3),
        scored("hold", 0.25, 0.9),  # over before an agent would answer: it costs nothing
    ]

    assert evaluate.choose(items) == pytest.approx(0.5, abs=0.011)  # all from 0.31 to 0.7 do


def test_in_service_a_hold_is_cut_off_by_either_delay():
    cut, wait_s = evaluate.in_service(ITEMS, 0.5)

    assert cut == 0.25  # the one of 3.5 s by the longest delay; that of 0.4 s is over before
    assert wait_s == pytest.approx((0.5 + 3.0) / 2)


def test_the_area_is_the_chance_that_an_end_scores_higher():
    assert evaluate.area(ITEMS, 0.2) == pytest.approx(6 / 8)
    assert np.isnan(evaluate.area([], PAUSES_S[0]))


def test_meetings_have_holds_and_ends_where_one_person_is_heard():
    segments = [
        Segment("ann", 0.0, 2.0),
        Segment("ann", 2.5, 4.0),  # a hold of 0.5 s before
        Segment("bob", 4.4, 6.0),  # an end of ann's, 0.4 s before
        Segment("ann", 5.9, 8.0),  # they talk at once: nothing of bob's
    ]

    found = list(evaluate.meeting_pauses(np.zeros(10 * SAMPLE_RATE, np.int16), segments))

    assert [(p.kind, p.recording.speaker, round(p.length_s, 2)) for p in found] == [
        ("hold", "ann", 0.5)
    ]


def test_both_halves_of_the_speakers_have_people():
    sides = [evaluate.held_out(f"so_{i:04}") for i in range(200)]

    assert 70 < sum(sides) < 130
