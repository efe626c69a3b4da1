"""Chooses a threshold per language on made speech, and asks whether it differs from English's.

The voices that choose are never those that are tested. Made speech as such asks for other
thresholds than people do, and English, of which there are both, shows by how much. So a language's
own threshold is held against the one that made speech chooses for English, not against the default,
which people chose: only what differs there can say something of the language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from models.interruption.data.splits import Side
from models.turn.made import Cut, spoken
from models.turn.pauses import Kind
from models.turn.scoring import (
    CUT_OFF_S,
    MAX_DELAY_S,
    MIN_DELAY_S,
    NEAR_BEST,
    Judge,
    Scored,
    area,
    false_cut_offs,
    recall,
    table,
)

ASKED_S = 0.2
"""How long the silence has lasted when clients ask."""
EACH_MIN = 40
"""Ends and holds on both sides that a threshold may be chosen from and tested on."""
ENDS_MAX, HOLDS_MAX = 70, 110
"""Of a language and side: each costs a run of the model."""
HOLD_LASTS = 0.26
"""How many real pauses of at least 0.2 s last until an agent would answer (0.5 s): what a silence
timer cuts off of the holds of speech_ocean (README.md). A cut has no length of its own."""
SURE = 0.95
"""A language's own threshold must beat English's in so many of RESAMPLES draws of the trials."""
CONTROL = "en"
RESAMPLES = 1000


@dataclass(frozen=True)
class Language:
    """What made speech says of one language."""

    name: str
    chosen_on: Sequence[Scored]
    tested_on: Sequence[Scored]
    threshold: float | None
    control: float
    better: float

    def differs(self) -> bool:
        """Whether it usefully needs another threshold than English in made speech."""
        if self.threshold is None:
            return False
        own, others = (cost_s(self.tested_on, t) for t in (self.threshold, self.control))
        return self.better >= SURE and own * NEAR_BEST < others


def cost_s(items: Sequence[Scored], threshold: float) -> float:
    """As evaluate.cost_s, for holds of which nobody knows how long they last."""
    late = 1 - recall(items, ASKED_S, threshold)
    cut = HOLD_LASTS * false_cut_offs(items, ASKED_S, threshold)
    return MIN_DELAY_S + (MAX_DELAY_S - MIN_DELAY_S) * late + CUT_OFF_S * cut


def choose(items: Sequence[Scored]) -> float:
    """The threshold that costs users least, in hundredths: the median of those as good as the
    best."""
    costs = {h / 100: cost_s(items, h / 100) for h in range(5, 96)}
    good = [one for one, cost in costs.items() if cost <= NEAR_BEST * min(costs.values())]
    return good[len(good) // 2]


def enough(items: Sequence[Scored]) -> bool:
    """Whether there are EACH_MIN of both kinds."""
    return all(sum(i.kind == kind for i in items) >= EACH_MIN for kind in ("end", "hold"))


def better(items: Sequence[Scored], own: float, other: float) -> float:
    """In how many draws of the trials, with replacement, `own` costs less than `other`."""
    random = np.random.default_rng(1)
    parts = []
    for kind, worst_s in (("end", MAX_DELAY_S - MIN_DELAY_S), ("hold", CUT_OFF_S * HOLD_LASTS)):
        said = np.array([i.probabilities[0] for i in items if i.kind == kind])
        # what this trial costs more with `own` than with `other`
        more = ((said >= own) * 1.0 - (said >= other)) * (-worst_s if kind == "end" else worst_s)
        drawn = random.integers(0, len(said), (RESAMPLES, len(said)))
        parts.append(more[drawn].mean(axis=1))
    return float(np.mean(sum(parts) < 0))


def sample(cuts: Iterable[Cut]) -> list[Cut]:
    """At most ENDS_MAX and HOLDS_MAX of each language and side, by chance."""
    found = list(cuts)
    Random(1).shuffle(found)
    taken: dict[tuple[str, Side, Kind], int] = {}
    kept = []
    for cut in found:
        place = (cut.language, cut.side, cut.kind)
        taken[place] = taken.get(place, 0) + 1
        if taken[place] <= (ENDS_MAX if cut.kind == "end" else HOLDS_MAX):
            kept.append(cut)
    return kept


def scored(cuts: Iterable[Cut], judge: Judge) -> list[tuple[Side, Scored]]:
    """What `judge` says of each cut when the silence has lasted ASKED_S."""
    return [
        (
            cut.side,
            Scored(
                "made",
                cut.language,
                cut.voice,
                cut.kind,
                float("inf"),
                tuple(judge([cut.heard(ASKED_S)])),
            ),
        )
        for cut in cuts
    ]


def languages(items: Sequence[tuple[Side, Scored]], default: float) -> list[Language]:
    """What each language says of its threshold. Without English `default` is the control."""
    parted: dict[str, dict[Side, list[Scored]]] = {}
    for side, item in items:
        sides = parted.setdefault(item.language, {Side.TRAIN: [], Side.EVAL: []})
        sides[side].append(item)
    chosen = {
        name: choose(sides[Side.TRAIN]) if all(map(enough, sides.values())) else None
        for name, sides in parted.items()
    }
    control = chosen.get(CONTROL) or default
    found = []
    for name, sides in sorted(parted.items()):
        own, tested_on = chosen[name], sides[Side.EVAL]
        share = better(tested_on, own, control) if own is not None else 0.0
        found.append(Language(name, sides[Side.TRAIN], tested_on, own, control, share))
    return found


def report(found: Sequence[Language], default: float) -> str:
    """The table, of the voices that chose nothing."""

    def counts(items: Sequence[Scored]) -> str:
        ends = sum(item.kind == "end" for item in items)
        return f"{len({item.speaker for item in items})} / {ends} / {len(items) - ends}"

    rows: list[Sequence[object]] = []
    for one in found:
        own = one.name != CONTROL and one.threshold is not None
        thresholds = {"default": default, "English's": one.control}
        if own:
            assert one.threshold is not None
            thresholds["its own"] = one.threshold
        for whose, threshold in thresholds.items():
            tested, last = one.tested_on, own and whose == "its own"
            rows.append(
                (
                    one.name,
                    counts(one.chosen_on),
                    counts(tested),
                    area(tested, ASKED_S),
                    f"{threshold:.2f} ({whose})",
                    recall(tested, ASKED_S, threshold),
                    false_cut_offs(tested, ASKED_S, threshold),
                    cost_s(tested, threshold),
                    f"{one.better:.0%}" if last else "",
                    ("yes" if one.differs() else "no") if last else "",
                )
            )
    head = (
        "language",
        "chosen on: voices / ends / holds",
        "tested on",
        "AUC",
        "threshold",
        "recall",
        "holds taken for ends",
        "cost (s)",
        "beats English's in",
        "differs",
    )
    return table(head, rows)


def evaluate(folders: Iterable[Path], judge: Callable[..., list[float]], default: float) -> str:
    """The table for the sentences in `folders`."""
    cuts = sample(cut for folder in folders for cut in spoken(folder))
    return report(languages(scored(cuts, judge), default), default)
