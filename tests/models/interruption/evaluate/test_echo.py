"""Counting who is taken for whom."""

from typing import cast

import numpy as np
import pytest

from gateway.engines.interruption.model import BargeinModel
from models.interruption.data.echoes import Scene
from models.interruption.evaluate import echo
from models.interruption.evaluate.echo import Counts, is_held_out, made


def test_a_row_tells_shares_and_how_many() -> None:
    counts = Counts([True, False], [True], [], [0.4, 0.6])

    assert counts.row("webrtc") == "| webrtc | 0.50 | 2 | 1.00 | 1 | 500 | - | 0 |"


def test_a_quarter_of_the_devices_is_held_out() -> None:
    share = np.mean([is_held_out(f"device-{i}") for i in range(1000)])

    assert 0.2 < share < 0.3


def test_an_echo_is_no_finding_and_a_caller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = np.zeros(9 * 16_000, np.int16)
    played = np.array([[1.0, 0.0, 0.0, 5.0]])
    alone = Scene(silence, (), "echo", "none", played, np.nan, np.nan, "a", "")
    both = Scene(silence, (), "double", "none", played, 4.0, 6.0, "a", "b")
    monkeypatch.setattr(echo, "stretches", lambda samples: [(1.2, 3.0), (3.5, 6.0)])
    fires = {1.2: [1.6], 3.5: [3.8, 4.7]}
    monkeypatch.setattr(echo, "detections", lambda m, s, stretch, v: iter(fires[stretch[0]]))

    (counts,) = made(cast(BargeinModel, None), [alone, both], known=False).values()

    assert counts.cut == [True, True, True]  # twice in one call, once before the caller
    assert counts.found == [True]
    assert counts.waits == [4.7 - 4.0]
