"""A short run of the load: calls of every kind, failing providers, vanishing clients."""

from __future__ import annotations

import random
import sys

import pytest

from tests.load.run import load
from tests.load.tally import slope

SECONDS, WARM_S = 14.0, 6.0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: it looks into /proc")
def test_no_call_fails_that_could_be_served_and_all_is_given_back() -> None:
    seed = random.SystemRandom().getrandbits(32)
    result = load(SECONDS, WARM_S, seed)

    assert result.findings() == [], f"seed {seed}"
    assert all(kind.served for kind in result.kinds.values()), result.kinds
    assert result.fallbacks > 0


def test_growth_is_told_with_its_error() -> None:
    times_s = [0.0, 1800.0, 3600.0]

    assert slope(times_s, [100.0, 105.0, 110.0]) == pytest.approx((10.0, 0.0), abs=1e-9)
    grown, error = slope(times_s, [100.0, 106.0, 110.0])
    assert grown == pytest.approx(10.0)
    assert error > 0
