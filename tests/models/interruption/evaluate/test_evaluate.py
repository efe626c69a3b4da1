"""Which trials the tables of the evaluation hold."""

import argparse
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from models.interruption.evaluate import evaluate, trials
from models.interruption.evaluate.scoring import Model, Scored
from models.interruption.evaluate.trials import TURN, Trial

RATE = 16_000
SECONDS = np.arange(3 * RATE) / RATE
BEDS_HZ = {"babble": 500, "hiss": 1500}


class Deaf:
    threshold = 0.5

    def streamed(self, samples: np.ndarray) -> np.ndarray:
        return np.zeros(120)


def strength(samples: np.ndarray, hz: float) -> float:
    """Amplitude of that tone, as a share of full scale."""
    return float(2 * np.abs(np.mean(samples / 32768 * np.exp(2j * np.pi * hz * SECONDS))))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Scored]]:
    voice = np.round(3000 * np.sin(2 * np.pi * 300 * SECONDS)).astype(np.int16)

    def kept(make: object, *depends_on: str) -> list[Trial]:
        table = {"ami": "ami", "recorded": "recorded", "interviews": "interview"}
        if depends_on[0] not in table:
            return []
        return [Trial(table[depends_on[0]], TURN, "somebody", "man", voice, f"name {n}")
                for n in range(4)]  # fmt: skip

    monkeypatch.setattr(evaluate, "kept", kept)
    beds = {kind: 0.1 * np.sin(2 * np.pi * hz * SECONDS) for kind, hz in BEDS_HZ.items()}
    monkeypatch.setattr(trials, "noise_beds", lambda audio: beds)
    arguments = argparse.Namespace(
        audio=Path(), voices=None, per_source=1, made=1, quick=False, no_baselines=True,
        baselines_everywhere=False, threshold=None,
    )  # fmt: skip
    deaf = cast(Model, Deaf())
    return evaluate.tables(arguments, deaf, {None: deaf})


@pytest.mark.parametrize("kind", BEDS_HZ)
def test_a_row_of_one_kind_of_noise_holds_every_call_in_that_noise_alone(
    found: dict[str, list[Scored]], kind: str
) -> None:
    rows = found[f"interview, {kind} 10 dB"]

    assert [row.trial.name for row in rows] == [f"name {n}" for n in range(4)]
    for row in rows:
        heard = {name: strength(row.trial.samples, hz) for name, hz in BEDS_HZ.items()}
        assert heard.pop(kind) > 0.01
        assert max(heard.values()) < 0.001


def test_the_mean_over_kinds_of_noise_draws_among_them(
    found: dict[str, list[Scored]],
) -> None:
    kinds = {
        max(BEDS_HZ, key=lambda kind: strength(row.trial.samples, BEDS_HZ[kind]))
        for db in evaluate.NOISE_DB
        for row in found[f"interview, noise {db:g} dB"]
    }

    assert kinds == set(BEDS_HZ)


def test_calls_without_noise_stand_beside_those_with_it(
    found: dict[str, list[Scored]],
) -> None:
    (clean, *_) = found["interview"]

    assert max(strength(clean.trial.samples, hz) for hz in BEDS_HZ.values()) < 0.001
    assert {"ami", "recorded", "interview, telephone", "interview, 10 dB quieter"} <= set(found)
