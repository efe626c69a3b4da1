"""The tables and their place in the model card."""

from pathlib import Path

import numpy as np
import pytest

from models.interruption.evaluate import report, scoring
from models.interruption.evaluate.scoring import Scored
from models.interruption.evaluate.trials import Trial


def scored(kind: str, source: str, level: float, decided_s: float | None) -> Scored:
    trial = Trial("ami", kind, source, "man", np.zeros(48_000, np.int16), "name")
    pair = np.tile([[level], [level]], (1, len(scoring.PAIR_TIMES_S)))
    return Scored(trial, np.full(120, level), decided_s, pair)


def test_a_table_tells_counts_and_baselines() -> None:
    items = [
        scored("interruption", "a", 0.9, 0.1),
        scored("interruption", "b", 0.8, 0.3),
        scored("backchannel", "a", 0.2, None),
        scored("backchannel", "c", 0.1, None),
    ]

    text = report.one_table("ami", scoring.summary(items, 0.5))

    assert "2 interruptions, 2 others, 3 speakers or sources" in text
    assert "bar: AUC of the pair" in text
    assert "| recall of interruptions | 2 |" in text
    assert "| false alarms: backchannel | 2 | 0.00 (0.00-0.66)" in text
    assert "median 200 ms" in text


def test_the_short_table_weighs_noises_by_their_number() -> None:
    items = [
        scored("interruption", "a", 0.9, 0.1),
        scored("backchannel", "a", 0.2, None),
        *(scored("cough", "c", 0.2, None) for _ in range(3)),
        scored("music", "d", 0.8, 0.5),
    ]

    text = report.in_short({"ami": scoring.summary(items, 0.5)})

    (row,) = (line for line in text.splitlines() if line.startswith("| ami |"))
    assert row.endswith("| 0.00 (0.00-0.79) | 0.25 | 100 |")


def test_the_card_keeps_what_stands_around_the_results(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")

    report.write_into_card(card, "new")
    report.write_into_card(card, "newer")

    assert card.read_text() == f"before\n{report.BEGIN}\n\nnewer\n{report.END}\nafter\n"


def test_a_card_without_a_place_for_results_is_refused(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("nothing")

    with pytest.raises(ValueError, match="lacks"):
        report.write_into_card(card, "new")
