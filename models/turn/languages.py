"""Chooses a threshold per language on made speech, and says whether it is worth announcing.

The voices that choose are never those that are tested. A threshold is announced only where the
tested voices show it to be better than the default: else the default stands confirmed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from models.interruption.splits import Side
from models.turn.evaluate import (
    CUT_OFF_S,
    MAX_DELAY_S,
    MIN_DELAY_S,
    NEAR_BEST,
    Judge,
    Kind,
    Scored,
    area,
    false_cut_offs,
    recall,
    table,
)
from models.turn.made import Cut, spoken

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
"""A language's own threshold must beat the default in so many of RESAMPLES draws of the trials."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Language:
    """What made speech says of one language."""

    name: str
    chosen_on: Sequence[Scored]
    tested_on: Sequence[Scored]
    threshold: float | None
    better: float

    def useful(self, default: float) -> bool:
        """Whether its own threshold is worth announcing."""
        if self.threshold is None:
            return False
        own, others = (cost_s(self.tested_on, t) for t in (self.threshold, default))
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


def better(items: Sequence[Scored], own: float, default: float) -> float:
    """In how many draws of the trials, with replacement, `own` costs less than `default`."""
    random = np.random.default_rng(1)
    parts = []
    for kind, worst_s in (("end", MAX_DELAY_S - MIN_DELAY_S), ("hold", CUT_OFF_S * HOLD_LASTS)):
        said = np.array([i.probabilities[0] for i in items if i.kind == kind])
        # what this trial costs more with `own` than with `default`
        more = ((said >= own) * 1.0 - (said >= default)) * (-worst_s if kind == "end" else worst_s)
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
    """What each language's trials say of its threshold, against the `default`."""
    found = []
    for name in sorted({item.language for _, item in items}):
        mine = [(side, item) for side, item in items if item.language == name]
        chosen_on = [item for side, item in mine if side is Side.TRAIN]
        tested_on = [item for side, item in mine if side is Side.EVAL]
        threshold = choose(chosen_on) if enough(chosen_on) and enough(tested_on) else None
        share = better(tested_on, threshold, default) if threshold is not None else 0.0
        found.append(Language(name, chosen_on, tested_on, threshold, share))
    return found


def report(found: Sequence[Language], default: float) -> str:
    """The table, of the voices that chose nothing."""

    def counts(items: Sequence[Scored]) -> str:
        ends = sum(item.kind == "end" for item in items)
        return f"{len({item.speaker for item in items})} / {ends} / {len(items) - ends}"

    rows: list[Sequence[object]] = []
    for one in found:
        for threshold in (default, one.threshold):
            if threshold is None:
                continue
            tested = one.tested_on
            own = threshold is one.threshold
            rows.append(
                (
                    one.name,
                    counts(one.chosen_on),
                    counts(tested),
                    area(tested, ASKED_S),
                    f"{threshold:.2f}{' (own)' if own else ''}",
                    recall(tested, ASKED_S, threshold),
                    false_cut_offs(tested, ASKED_S, threshold),
                    cost_s(tested, threshold),
                    f"{one.better:.0%}" if own else "",
                    ("yes" if one.useful(default) else "no") if own else "",
                )
            )
    head = "language / chosen on: voices, ends, holds / tested on / AUC / threshold / recall / "
    head += "holds taken for ends / cost (s) / better in / announced"
    return table(head.split(" / "), rows)


class Kept:
    """A judge that remembers: the same sound is asked about once for each model file."""

    def __init__(self, judge: Judge, model: Path, path: Path) -> None:
        self._judge = judge
        self._model = hashlib.sha256(model.read_bytes()).hexdigest()
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        self.asked = 0

    def __call__(self, heard: list[np.ndarray]) -> list[float]:
        said = []
        for samples in heard:
            key = hashlib.sha256(self._model.encode() + samples.tobytes()).hexdigest()[:24]
            if key not in self._known:
                (self._known[key],) = self._judge([samples])
                self.asked += 1
            said.append(self._known[key])
        return said

    def keep(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._known))


def evaluate(folders: Iterable[Path], judge: Callable[..., list[float]], default: float) -> str:
    """The table for the sentences in `folders`."""
    cuts = sample(cut for folder in folders for cut in spoken(folder))
    return report(languages(scored(cuts, judge), default), default)
