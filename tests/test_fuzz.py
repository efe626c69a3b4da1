"""Whatever a client or a provider sends, nothing but events and failures come of it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import run
from tests.fuzz.targets import targets

TARGETS = targets()
SECONDS = 5.0


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(chance=st.randoms(use_true_random=False))
def test_whatever_comes_the_outcome_is_events_or_a_failure(name: str, chance: Random) -> None:
    TARGETS[name](chance)


@pytest.mark.parametrize("finding", run.corpus(), ids=lambda one: f"{one.target}-{one.seed}")
def test_what_was_found_once_holds_now(finding: run.Finding) -> None:
    TARGETS[finding.target](Random(finding.seed))


def test_a_short_run_of_the_fuzzer_finds_nothing() -> None:
    result = run.fuzz(SECONDS)
    assert result.findings == [], f"seed {result.seed}"
    assert result.targets == len(TARGETS)
    assert result.count >= len(TARGETS)


def test_a_finding_is_told_once_with_what_makes_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def falls(chance: Random) -> None:
        if chance.random() < 0.5:
            raise KeyError("x")

    monkeypatch.setattr(run, "targets", lambda: {"a/b": falls})
    result = run.fuzz(0.05, seed=7)
    [finding] = result.findings
    with pytest.raises(KeyError):
        falls(Random(finding.seed))
