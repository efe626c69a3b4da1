"""How an end-of-turn model is scored, without one."""

from __future__ import annotations

import numpy as np
import pytest

from models.turn import pauses, scoring
from models.turn.scoring import PAUSES_S, Scored


def scored(kind: pauses.Kind, length_s: float, *probabilities: float) -> Scored:
    return Scored("test", "en", "somebody", kind, length_s, probabilities)


ITEMS = [
    scored("end", np.inf, 0.9, 0.9, 0.9, 0.9, 0.9),
    scored("end", np.inf, 0.2, 0.6, 0.6, 0.6, 0.6),
    scored("hold", 0.25, 0.1),
    scored("hold", 0.4, 0.7, 0.7),
    scored("hold", 1.0, 0.3, 0.3, 0.3, 0.8),
    scored("hold", 3.5, 0.0, 0.0, 0.0, 0.0, 0.0),
]


def test_recall_counts_the_ends_that_are_seen() -> None:
    assert scoring.recall(ITEMS, 0.2, 0.5) == 0.5
    assert scoring.recall(ITEMS, 0.5, 0.5) == 1.0


def test_false_cut_offs_count_all_holds_also_those_that_were_over_before() -> None:
    assert scoring.false_cut_offs(ITEMS, 0.2, 0.5) == 0.25
    assert scoring.false_cut_offs(ITEMS, 0.5, 0.5) == 0.0
    assert scoring.false_cut_offs(ITEMS, 0.8, 0.5) == 0.25


def test_a_timer_cuts_off_every_longer_pause() -> None:
    assert [scoring.timer(ITEMS, s) for s in (0.2, 0.5, 1.0, 4.0)] == [1.0, 0.5, 0.5, 0.0]


def test_the_threshold_is_in_the_middle_of_those_that_cost_users_least() -> None:
    items = [
        scored("end", np.inf, 0.8),
        scored("end", np.inf, 0.7),
        scored("hold", 1.0, 0.3, 0.3, 0.3, 0.3),
        scored("hold", 0.25, 0.9),  # over before an agent would answer: it costs nothing
    ]

    assert scoring.choose(items) == pytest.approx(0.5, abs=0.011)  # all from 0.31 to 0.7 do


def test_in_service_a_hold_is_cut_off_by_either_delay() -> None:
    cut, wait_s = scoring.in_service(ITEMS, 0.5)

    assert cut == 0.25  # the one of 3.5 s by the longest delay; that of 0.4 s is over before
    assert wait_s == pytest.approx((0.5 + 3.0) / 2)


def test_the_area_is_the_chance_that_an_end_scores_higher() -> None:
    assert scoring.area(ITEMS, 0.2) == pytest.approx(6 / 8)
    assert np.isnan(scoring.area([], PAUSES_S[0]))


def test_both_halves_of_the_speakers_have_people() -> None:
    sides = [scoring.held_out(f"so_{i:04}") for i in range(200)]

    assert 70 < sum(sides) < 130
