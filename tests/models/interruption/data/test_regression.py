"""What ships so that a change of the model can be judged."""

import numpy as np

from gateway.engines.interruption.adapt import DIRECTIONS
from models.interruption.data.moments import FAR, Sound
from models.interruption.data.regression import basis_of, chosen


def test_directions_are_those_that_vary_most_each_by_one() -> None:
    rng = np.random.default_rng(0)
    spread = np.linspace(10, 0.1, 50)
    features = (rng.normal(0, 1, (5000, 50)) * spread + 3).astype(np.float32)

    marks = basis_of(features).marks(features)

    assert marks.shape == (5000, DIRECTIONS)
    assert np.allclose(marks.mean(axis=0), 0, atol=1e-2)
    assert np.allclose(marks.std(axis=0), 1, atol=1e-2)


def test_of_each_kind_so_many_are_chosen_and_voices_serve_once_more_from_afar() -> None:
    every = [
        Sound(folder, kind, floor, f"{kind} {number}", True, np.zeros(10 + number))
        for folder, kind, floor in (
            ("speech_libri", "read sentences", True),
            ("cough", "coughs", False),
        )
        for number in range(10)
    ]

    found = chosen(every, 4)

    kinds = [one.kind for one in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "read sentences": 4,
        "coughs": 4,
        FAR: 4,
    }
    assert [one.source for one in chosen(every[::-1], 4)] == [one.source for one in found]
