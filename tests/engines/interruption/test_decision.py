"""The one rule of when probabilities mean an interruption."""

import numpy as np
import pytest

from gateway.engines.interruption.decision import CLAIM_FRAMES, claim, eager, first_detection


@pytest.mark.parametrize(
    ("probabilities", "min_frames", "found"),
    [
        ([], 2, None),
        ([0.9], 2, None),
        ([0.9], 1, 0),
        ([0.9, 0.9], 2, 1),
        ([0.9, 0.1, 0.9], 2, None),
        ([0.1, 0.5, 0.5, 0.9], 2, 2),
        ([0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9], 3, 6),
        ([0.49, 0.49, 0.49], 1, None),
        ([0.5, 0.1, 0.1], 1, 0),
        ([1.0] * 5, 6, None),
    ],
)
def test_the_run_of_frames_is_found_where_it_is_complete(
    probabilities: list[float], min_frames: int, found: int | None
) -> None:
    assert first_detection(probabilities, 0.5, min_frames) == found


def test_it_agrees_with_a_plain_count_on_random_frames() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        values = rng.random(rng.integers(0, 130)).astype(np.float32)
        min_frames = int(rng.integers(1, 6))
        run, expected = 0, None
        for i, value in enumerate(values):
            run = run + 1 if value >= 0.5 else 0
            if run == min_frames:
                expected = i
                break
        assert first_detection(values, 0.5, min_frames) == expected


def test_a_claim_is_the_highest_threshold_at_which_there_is_a_detection() -> None:
    assert claim([0.1, 0.9, 0.7, 0.2, 0.95]) == 0.7
    assert claim([0.9]) == 0.0

    rng = np.random.default_rng(8)
    for _ in range(50):
        values = rng.random(rng.integers(2, 60)).astype(np.float32)
        highest = claim(values)
        assert first_detection(values, highest, CLAIM_FRAMES) is not None
        assert (
            first_detection(values, np.nextafter(np.float32(highest), np.float32(1)), CLAIM_FRAMES)
            is None
        )


def test_eagerness_is_added_to_the_logit() -> None:
    before = np.array([0.0, 0.1, 0.5, 0.9, 1.0], np.float32)

    after = eager(before, 1.0)

    inner = before[1:-1]
    expected = 1 / (1 + np.exp(-(np.log(inner / (1 - inner)) + 1.0)))
    assert after[1:-1] == pytest.approx(expected, abs=1e-6)
    assert after[0] == 0.0
    assert after[-1] == pytest.approx(1.0)
    assert after.dtype == np.float32


def test_without_eagerness_nothing_changes() -> None:
    before = np.array([0.1, 0.7], np.float32)

    assert eager(before, 0.0) is before
