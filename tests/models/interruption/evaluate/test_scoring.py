"""From probabilities to figures."""

import numpy as np
import pytest
from sklearn import metrics

from models.interruption.evaluate import scoring
from models.interruption.evaluate.scoring import (
    Scored,
    at_false_alarms,
    auc,
    average_precision,
    calibration,
    decided_after_s,
    decision_score,
    interval,
    mean,
    precision_at,
    rate,
)
from models.interruption.evaluate.trials import Trial

EACH = np.ones((1, 200))


def course(*raised: tuple[float, float, float]) -> np.ndarray:
    """Frame probabilities of a trial, raised to a value between two times after the onset."""
    frames = np.full(120, 0.1)
    for begin, end, value in raised:
        frames[scoring.frames_at(begin) : scoring.frames_at(end)] = value
    return frames


def trial(kind: str, source: str = "someone") -> Trial:
    return Trial("table", kind, source, "group", np.zeros(48_000, np.int16), "name")


def test_a_decision_comes_with_the_answer_that_holds_its_second_frame() -> None:
    assert decided_after_s(course((0.225, 2, 0.9)), 0.5, 2) == pytest.approx(0.3)
    assert decided_after_s(course((0.25, 2, 0.9)), 0.5, 2) == pytest.approx(0.3)
    assert decided_after_s(course((0.275, 2, 0.9)), 0.5, 2) == pytest.approx(0.4)


def test_one_frame_is_no_decision() -> None:
    assert decided_after_s(course((0.5, 0.525, 0.9)), 0.5, 2) is None


def test_a_decision_from_before_the_onset_is_told_by_the_first_answer() -> None:
    assert decided_after_s(course((-0.5, -0.4, 0.9)), 0.5, 2) == pytest.approx(0.1)


def test_the_decision_score_is_the_highest_threshold_that_would_have_fired() -> None:
    frames = course((0.1, 0.2, 0.6), (0.4, 0.425, 0.9), (0.7, 0.8, 0.8))

    assert decision_score(frames, 0.6) == pytest.approx(0.6)
    assert decision_score(frames, 1.0) == pytest.approx(0.8)


def test_auc_counts_ties_half() -> None:
    positive = np.array([True, True, False, False])

    assert auc(np.array([0.9, 0.5, 0.5, 0.1]), positive, EACH[:, :4]) == pytest.approx(0.875)
    assert auc(np.ones(4), positive, EACH[:, :4]) == pytest.approx(0.5)


def test_average_precision_of_a_perfect_and_of_a_blind_score() -> None:
    positive = np.array([True, False, False, False])

    scores = np.array([0.9, 0.3, 0.2, 0.1])

    assert average_precision(scores, positive, EACH[:, :4]) == pytest.approx(1)
    assert average_precision(np.ones(4), positive, EACH[:, :4]) == pytest.approx(0.25)


def test_a_weight_of_two_is_the_trial_twice() -> None:
    rng = np.random.default_rng(8)
    positive, scores = rng.random(30) < 0.5, np.round(rng.random(30), 1)
    weights = rng.integers(0, 3, (1, 30)).astype(float)
    drawn = np.repeat(np.arange(30), weights[0].astype(int))
    once = np.ones((1, len(drawn)))

    for figure in (auc, average_precision):
        assert figure(scores, positive, weights) == pytest.approx(
            figure(scores[drawn], positive[drawn], once)
        )


def test_figures_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    positive = rng.random(200) < 0.4
    scores = np.round(rng.random(200) + 0.4 * positive, 1).astype(np.float64)

    assert auc(scores, positive, EACH) == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert average_precision(scores, positive, EACH) == pytest.approx(
        metrics.average_precision_score(positive, scores)
    )


def test_the_interval_is_wider_when_the_same_source_gives_many_clips() -> None:
    hits = np.array([0, 1] * 20, float)
    _, low, high = interval([str(i) for i in range(40)], lambda weights: mean(hits, weights))
    grouped = np.repeat([0.0, 1.0], 20)
    _, low_grouped, high_grouped = interval(
        ["a"] * 20 + ["b"] * 20, lambda weights: mean(grouped, weights)
    )

    assert high_grouped - low_grouped > high - low > 0


def test_all_of_a_few_is_not_certainty() -> None:
    value, low, high = rate([True] * 5, list("abcde"))

    assert (value, high) == (1, 1)
    assert low < 0.6


def test_precision_falls_with_the_base_rate() -> None:
    assert precision_at(0.5, 1.0, 0.1) == pytest.approx(1 / 1.1)
    assert precision_at(0.1, 1.0, 0.1) == pytest.approx(0.1 / 0.19)


def test_brier_and_bins_of_a_calibrated_score() -> None:
    probabilities = np.array([0.25, 0.25, 0.25, 0.25, 0.95])
    positive = np.array([True, False, False, False, True])

    brier, bins = calibration(probabilities, positive)

    assert brier == pytest.approx((0.75**2 + 3 * 0.25**2 + 0.05**2) / 5)
    assert bins == [(0.25, 0.25, 4), (0.95, 1.0, 1)]


def test_the_operating_point_keeps_to_the_allowed_false_alarms() -> None:
    times = (0.1, 0.2)
    scores = np.array([[0.1, 0.9], [0.7, 0.6], [0.3, 0.2], [0.5, 0.1]])
    positive = np.array([True, True, False, False])

    point = at_false_alarms(scores, times, positive, allowed=0.1)

    assert (point.recall, point.false_alarms, point.threshold) == (1.0, 0.0, 0.5)
    assert point.median_delay_s == pytest.approx(0.15)


def test_a_summary_tells_each_kind_apart() -> None:
    items = [
        Scored(trial("interruption", "a"), course((0.2, 2, 0.9)), 0.3),
        Scored(trial("interruption", "b"), course((0.7, 2, 0.8)), 0.8),
        Scored(trial("backchannel", "a"), course((0.1, 0.3, 0.6)), 0.2),
        Scored(trial("cough", "c"), course(), None),
    ]

    found = scoring.summary(items, 0.5)

    assert found["decisions"][0.5]["interruption"]["rate"][0] == pytest.approx(0.5)
    assert found["decisions"][1.0]["interruption"]["rate"][0] == pytest.approx(1)
    assert found["decisions"][0.3]["backchannel"]["rate"][0] == pytest.approx(1)
    assert found["decisions"][1.0]["cough"]["rate"][0] == pytest.approx(0)
    assert found["delay_s"]["median"] == pytest.approx(0.55)
    assert found["precision"]["at_base_rate"] == pytest.approx(2 / 3)
    assert found["ranking"][1.2]["auc"][0] == pytest.approx(1)
