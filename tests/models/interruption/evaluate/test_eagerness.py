"""What eagerness costs, counted on trials whose probabilities are known."""

import numpy as np

from models.interruption.evaluate.eagerness import NOT_FOUND_S, row
from models.interruption.evaluate.trials import BACKCHANNEL, TURN, Trial


def trial(kind: str) -> Trial:
    return Trial("ami", kind, kind, kind, np.zeros(64_000, np.int16), kind)


def courses() -> list[tuple[Trial, np.ndarray]]:
    """A turn that is found half a second after its onset, one that is nearly, a backchannel."""
    found, nearly, listening = (np.full(160, 0.01) for _ in range(3))
    found[56:] = 0.9
    nearly[56:] = 0.4
    listening[60:64] = 0.3
    return [
        (trial(TURN), found),
        (trial(TURN), nearly),
        (trial(BACKCHANNEL), listening),
    ]


def test_as_it_is_one_turn_is_found_and_nobody_cut() -> None:
    by_1_s, median, cut, other, cheap, dear = row(courses(), 0.0)
    assert (by_1_s, round(median), cut) == (0.5, 500, 0.0)
    assert np.isnan(other)
    assert cheap == dear == (0.5 + NOT_FOUND_S) / 2


def test_eager_enough_finds_both_and_cuts_the_listener() -> None:
    by_1_s, _, cut, _, cheap, dear = row(courses(), 1.0)
    assert (by_1_s, cut) == (1.0, 1.0)
    assert np.isclose(cheap, 0.5 + 1.0)
    assert np.isclose(dear, 0.5 + 3.0)
