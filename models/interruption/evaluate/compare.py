"""Whether one model decides as another does, and what each costs: for one file in two forms.

    python -m models.interruption.evaluate.compare evaluation-1 evaluation-2 --cost 1.onnx 2.onnx
    python -m models.interruption.evaluate.compare published made-again --within

The folders are those that `evaluate` wrote (`--out`). Printed are all decisions at the threshold
that differ, as counts of the first less those of the second, and where an AUC differs most. With
`--within`: every figure of the second that lies outside the interval of 95 % that the first's has,
and whether that is worse; exit status 1 if any is. The
costs are CPU milliseconds, measured in turn, since what else the machine does changes from minute
to minute: least and median of the rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.interruption.evaluate import scoring
from models.interruption.evaluate.scoring import Model

_ROUNDS = 12

Tables = dict[str, Any]
"""`tables` of an evaluation's figures.json."""


def differing(one: Tables, other: Tables) -> Iterator[tuple[str, str, str, int, int]]:
    """Table, seconds after the onset, kind, trials of it, and how many more the first fires on.

    Raises ValueError where the two were not evaluated on as many trials of the same kinds.
    """
    if one.keys() != other.keys():
        raise ValueError(f"tables of one alone: {sorted(one.keys() ^ other.keys())}")
    for table, figures in one.items():
        for after, decided in figures["decisions"].items():
            theirs = other[table]["decisions"][after]
            counts = [{kind: row["n"] for kind, row in rows.items()} for rows in (decided, theirs)]
            if counts[0] != counts[1]:
                raise ValueError(f"{table}: trials {counts[0]} against {counts[1]}")
            for kind, row in decided.items():
                if row["n"]:
                    more = round((row["rate"][0] - theirs[kind]["rate"][0]) * row["n"])
                    if more:
                        yield table, after, kind, row["n"], more


def auc_apart(one: Tables, other: Tables) -> tuple[float, str]:
    """The largest difference of an AUC, and the table and time where it is."""
    return max(
        (abs(row["auc"][0] - other[table]["ranking"][after]["auc"][0]), f"{table}, {after} s")
        for table, figures in one.items()
        for after, row in figures["ranking"].items()
    )


def outside(one: Tables, other: Tables) -> Iterator[tuple[str, float, list[float], bool]]:
    """What the figure is, that of the second, the first's with its interval, and is it worse?"""
    for table, figures in one.items():
        for after, row in figures["ranking"].items():
            value, known = other[table]["ranking"][after]["auc"][0], row["auc"]
            if not known[1] <= value <= known[2]:
                yield f"{table}, AUC at {after} s", value, known, value < known[1]
        for after, decided in figures["decisions"].items():
            for kind, row in decided.items():
                if not row["n"] or np.isnan(row["rate"][1]):  # of one source there is no interval
                    continue
                value, known = other[table]["decisions"][after][kind]["rate"][0], row["rate"]
                if not known[1] <= value <= known[2]:
                    good = kind == "interruption"
                    worse = value < known[1] if good else value > known[2]
                    yield f"{table}, {kind} by {after} s", value, known, worse


def costs(paths: Sequence[Path], rounds: int = _ROUNDS) -> list[str]:
    """A line for each file."""
    models = [Model(path) for path in paths]
    found: list[list[dict[str, float]]] = [[] for _ in models]
    for _ in range(rounds):
        for one, model in zip(found, models, strict=True):
            one.append(scoring.milliseconds(model))
    lines = []
    for path, one in zip(paths, found, strict=True):
        told = []
        for name in one[0]:
            values = [cost[name] for cost in one]
            told.append(f"{name} {min(values):.2f}, {np.median(values):.2f} ms")
        lines.append(f"{path}: {'; '.join(told)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluations", nargs=2, type=Path, help="folders that `evaluate` wrote")
    parser.add_argument("--cost", nargs=2, type=Path, metavar="FILE", help="the models themselves")
    parser.add_argument("--within", action="store_true", help="the first's intervals")
    arguments = parser.parse_args()
    one, other = (
        json.loads((folder / "figures.json").read_text(encoding="utf-8"))["tables"]
        for folder in arguments.evaluations
    )
    if arguments.within:
        found = list(outside(one, other))
        for name, value, (known, low, high), worse in found:
            print(f"{name}: {value:.2f}, {'worse' if worse else 'better'} than "
                  f"{known:.2f} ({low:.2f}-{high:.2f})")  # fmt: skip
        worst = sum(worse for *_, worse in found)
        print(f"{worst} figures are worse than the intervals allow, {len(found) - worst} better")
        raise SystemExit(int(worst > 0))
    for table, after, kind, trials, more in differing(one, other):
        print(f"{table}, by {after} s: {kind} {more:+d} of {trials}")
    print("AUC apart by at most {:.3f} ({})".format(*auc_apart(one, other)))
    for line in costs(arguments.cost or ()):
        print(line)


if __name__ == "__main__":
    main()
