"""A short run of the fuzzer that feeds a real server: hostile clients and providers at once."""

from __future__ import annotations

import random
import sys

import pytest

from tests.fuzz import live

SECONDS = 8.0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: it looks into /proc")
def test_a_server_between_hostile_clients_and_providers_holds_and_gives_all_back() -> None:
    seed = random.SystemRandom().getrandbits(32)
    result = live.fuzz(SECONDS, seed)
    assert result.findings == [], f"seed {seed}"
    assert result.inputs > 0
