"""How an end-of-turn model is scored: figures, thresholds and tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.turn.pauses import Kind, Pause, Samples

PAUSES_S = (0.2, 0.3, 0.5, 0.8, 1.2)
"""How long the speaker has been silent when the question is asked; clients ask at 0.2 s."""
CUT_OFF_S = 10.0
"""A user who is cut off is taken for as bad as one who waits so long at the end of a turn."""
NEAR_BEST = 1.05
"""Thresholds that cost up to this times the least are as good as the best: chance decides there."""
MIN_DELAY_S, MAX_DELAY_S = 0.5, 3.0
"""The clients' own: so long an agent waits when a turn seems over, and when it does not."""
TIMERS_S = (0.3, 0.5, 0.8, 1.2, 2.0)


def held_out(speaker: str) -> bool:
    """Whether figures are made of this speaker; the others choose the thresholds."""
    return hashlib.sha256(f"parley-turn-1:{speaker}".encode()).digest()[0] % 2 == 0


@dataclass(frozen=True)
class Scored:
    """A pause and the model's probability at each of PAUSES_S that it lasted."""

    source: str
    language: str
    speaker: str
    kind: Kind
    length_s: float
    probabilities: tuple[float, ...]

    def at(self, pause_s: float) -> float | None:
        """The probability when the silence had lasted so long, None if it did not."""
        i = PAUSES_S.index(pause_s)
        return self.probabilities[i] if i < len(self.probabilities) else None


Judge = Callable[[list[Samples]], list[float]]


def scored(found: Iterable[Pause], judge: Judge, lead_s: float = 0.0) -> list[Scored]:
    """What `judge` says of each pause."""
    out = []
    for pause in found:
        lasted = [silence for silence in PAUSES_S if silence <= pause.length_s]
        said = judge([pause.heard(silence, lead_s) for silence in lasted])
        recording = pause.recording
        out.append(
            Scored(
                recording.source,
                recording.language,
                recording.speaker,
                pause.kind,
                pause.length_s,
                tuple(said),
            )
        )
    return out


class Kept:
    """A judge that remembers: the same sound is asked about once for each model file."""

    def __init__(self, judge: Judge, model: Path, path: Path) -> None:
        self._judge = judge
        self._model = hashlib.sha256(model.read_bytes()).hexdigest()
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        self.asked = 0

    def __call__(self, heard: list[Samples]) -> list[float]:
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


def recall(items: Sequence[Scored], pause_s: float, threshold: float) -> float:
    """Part of the ends that are taken for one when the silence has lasted `pause_s`; of those
    before which nobody else began to speak."""
    ends = [p for item in items if item.kind == "end" and (p := item.at(pause_s)) is not None]
    return float(np.mean([p >= threshold for p in ends])) if ends else np.nan


def false_cut_offs(items: Sequence[Scored], pause_s: float, threshold: float) -> float:
    """Part of all pauses in which the speaker went on that last `pause_s` and are then taken for
    an end. With a threshold of 0 it is the silence timer's."""
    holds = [item.at(pause_s) for item in items if item.kind == "hold"]
    return float(np.mean([p is not None and p >= threshold for p in holds])) if holds else np.nan


def area(items: Sequence[Scored], pause_s: float) -> float:
    """Area under the ROC curve: P(an end scores higher than a pause that is none)."""
    ends = [p for i in items if i.kind == "end" and (p := i.at(pause_s)) is not None]
    holds = [p for i in items if i.kind == "hold" and (p := i.at(pause_s)) is not None]
    if not ends or not holds:
        return np.nan
    higher = np.greater.outer(ends, holds).mean() + 0.5 * np.equal.outer(ends, holds).mean()
    return float(higher)


def in_service(items: Sequence[Scored], threshold: float) -> tuple[float, float]:
    """As clients use it: asked at 0.2 s, they answer after MIN_DELAY_S of silence if the turn seems
    over, else after MAX_DELAY_S. Part of the holds that are cut off; mean wait at an end (s)."""
    delays = [MIN_DELAY_S if item.probabilities[0] >= threshold else MAX_DELAY_S for item in items]
    holds = [d <= i.length_s for d, i in zip(delays, items, strict=True) if i.kind == "hold"]
    ends = [d for d, i in zip(delays, items, strict=True) if i.kind == "end"]
    return float(np.mean(holds)) if holds else np.nan, float(np.mean(ends)) if ends else np.nan


def cost_s(items: Sequence[Scored], threshold: float) -> float:
    """What users suffer in service: the mean wait at an end, CUT_OFF_S for each hold cut off."""
    cut, wait_s = in_service(items, threshold)
    return wait_s + CUT_OFF_S * cut


def choose(items: Sequence[Scored]) -> float:
    """The threshold that costs users least, in hundredths: the median of those that are as good as
    the best."""
    costs = {h / 100: cost_s(items, h / 100) for h in range(5, 96)}
    good = [one for one, cost in costs.items() if cost <= NEAR_BEST * min(costs.values())]
    return good[len(good) // 2]


def timer(items: Sequence[Scored], wait_s: float) -> float:
    """Part of the holds that a silence timer of `wait_s` cuts off."""
    holds = [wait_s <= item.length_s for item in items if item.kind == "hold"]
    return float(np.mean(holds)) if holds else np.nan


def table(title: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(title) + " |", "|" + "---|" * len(title)]
    for row in rows:
        cells = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cell.replace("nan", "-") for cell in cells) + " |")
    return "\n".join(lines)


def report(items: Sequence[Scored], thresholds: dict[str, float], default: float) -> str:
    """All tables, of the speakers held out."""
    tested = [item for item in items if held_out(item.speaker)]
    parts = []
    sources = sorted({(item.source, item.language) for item in tested})
    groups = [
        (f"{s} ({lang})", [i for i in tested if i.source == s and i.language == lang])
        for s, lang in sources
    ]
    rows: list[Sequence[object]] = []
    for name, group in groups:
        threshold = thresholds.get(group[0].language, default)
        ends = sum(item.kind == "end" for item in group)
        people = len({item.speaker for item in group})
        for pause_s in PAUSES_S:
            rows.append(
                (
                    name,
                    f"{people} / {ends} / {len(group) - ends}",
                    pause_s,
                    area(group, pause_s),
                    recall(group, pause_s, threshold),
                    false_cut_offs(group, pause_s, threshold),
                    timer(group, pause_s),
                )
            )
    parts.append(
        table(
            (
                "source",
                "speakers / ends / holds",
                "silence (s)",
                "AUC",
                "recall",
                "false cut-offs",
                "a timer's",
            ),
            rows,
        )
    )
    rows = []
    for name, group in groups:
        threshold = thresholds.get(group[0].language, default)
        cut, wait = in_service(group, threshold)
        rows.append((name, f"model, threshold {threshold:.2f}", cut, wait))
        rows += [(name, f"timer {wait_s:g} s", timer(group, wait_s), wait_s) for wait_s in TIMERS_S]
    parts.append(table(("source", "rule", "holds cut off", "mean wait at an end (s)"), rows))
    return "\n\n".join(parts)
