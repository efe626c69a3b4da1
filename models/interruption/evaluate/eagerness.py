"""What `bargein.eagerness` costs: recall, delay and cuts, on held-out people.

    python -m models.interruption.evaluate.eagerness --audio FOLDER

A table in Markdown. An agent that yields late is waited for, one that yields for nothing is cut:
the cost of a setting is the mean wait of those who take the floor, in seconds (a turn that is not
found is waited for as long as a window lasts), plus what a cut costs, in seconds too, times the
share of backchannels that are cut, as if one came for each turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gateway.cli.analyse import EAGERNESS
from gateway.engines.interruption.decision import eager
from models.interruption.cache import PUBLISHED, add_audio, cache_folder
from models.interruption.evaluate import scoring, trials
from models.interruption.evaluate.scoring import Model
from models.interruption.evaluate.trials import BACKCHANNEL, Trial

CUT_S = (1.0, 3.0)  # what a cut costs; the second is a sentence that has to be said again
NOT_FOUND_S = 3.0


def row(heard: Sequence[tuple[Trial, scoring.Floats]], eagerness: float) -> list[float]:
    """Share of turns by 1 s, median delay in ms, shares of backchannels and of other sounds that
    are cut by 1 s, and the cost for each of CUT_S."""
    waits: list[float] = []
    cuts: dict[bool, list[bool]] = {True: [], False: []}
    for trial, probabilities in heard:
        moved = eager(probabilities.astype(np.float32), eagerness).astype(np.float64)
        at = scoring.decided_after_s(moved, 0.5, scoring.MIN_FRAMES)
        if trial.positive:
            waits.append(NOT_FOUND_S if at is None else min(at, NOT_FOUND_S))
        else:
            cuts[trial.kind == BACKCHANNEL].append(at is not None and at <= 1.0)
    found = np.array(waits)
    cut, other = (float(np.mean(cuts[one])) if cuts[one] else np.nan for one in (True, False))
    costs = [float(found.mean()) + cost * (cut if cuts[True] else other) for cost in CUT_S]
    known = found[found < NOT_FOUND_S]
    median = 1000 * float(np.median(known)) if known.size else np.nan
    return [float((found <= 1.0).mean()), median, cut, other, *costs]


def table(groups: dict[str, list[Trial]], model: Model) -> str:
    lines = [
        "| clips | eagerness | turns by 1 s | median ms | backchannels cut | other sounds cut | "
        + " | ".join(f"cost, a cut {cost:g} s" for cost in CUT_S) + " |",
        "|---" * (6 + len(CUT_S)) + "|",
    ]  # fmt: skip
    for name, items in groups.items():
        heard = [(trial, model.streamed(trial.samples)) for trial in items]
        for eagerness in EAGERNESS:
            by_1_s, median, *rest = row(heard, eagerness)
            told = [f"{by_1_s:.2f}", f"{median:.0f}", *(f"{value:.2f}" for value in rest)]
            lines.append(f"| {name} | {eagerness:g} | " + " | ".join(told) + " |")
    return "\n".join(lines).replace("nan", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_audio(parser)
    parser.add_argument("--model", type=Path, default=PUBLISHED)
    parser.add_argument("--per-source", type=int, default=60)
    arguments = parser.parse_args()
    groups = {
        "ami": [t for t in trials.ami(arguments.audio) if t.table == "ami" and t.held_out],
        "interview": list(trials.held_out_interviews(cache_folder() / "more")),
        "recorded": list(trials.recorded(arguments.audio, arguments.per_source)),
    }
    print(table({name: items for name, items in groups.items() if items}, Model(arguments.model)))


if __name__ == "__main__":
    main()
