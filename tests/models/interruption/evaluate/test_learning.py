"""The simulation of learning from calls, on windows whose marks are known."""

import numpy as np

from gateway.engines.interruption import adapt
from gateway.engines.interruption.adapt import DIRECTIONS, Window
from models.interruption.evaluate.learning import errors, kept


def window(number: int, *, floor: bool, logit: float) -> Window:
    marks = np.zeros((60, DIRECTIONS), np.float32)
    return Window(f"call {number}", "a kind", float(floor), 10, marks, np.full(60, logit))


def test_what_is_clear_is_kept_as_a_sample_that_weighs_more() -> None:
    calls = [[window(n, floor=True, logit=4.0)] for n in range(400)]

    found = kept(calls, np.random.default_rng(0))

    sample = [one for one in found if one.weight > 1]
    assert 50 < len(sample) < 110
    assert len(found) - len(sample) < 70  # those with a wrong label
    assert min(one.floor for one in sample) > 0.9


def test_errors_are_counted_on_either_side() -> None:
    windows = [
        window(0, floor=True, logit=1.0),
        window(1, floor=True, logit=-1.0),
        window(2, floor=False, logit=1.0),
    ]

    assert errors(windows, adapt.NO_CHANGE) == (0.5, 1.0)
