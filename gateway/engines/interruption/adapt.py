"""Adapts the head of the interruption model to kept windows, and tells whether it is better. Pure.

What is fitted is a change of the head's weights in a few directions, those in which the model's
features of general recordings vary most, each scaled by how much they vary: so a change of length 1
moves the log odds of such recordings by 1 (root mean square), and the pull towards the shipped
weights (ridge) is a pull towards what the model says of them. Logistic regression, by Newton's
method: a few hundred windows take a second.

Calls, not windows, are held out: a third of them (`split`) is never fitted on, and the strength of
the pull is chosen on the rest, in parts that share no call. Half of what is fitted are windows of
general recordings (`Regression.rehearsed`), so that what the model knew is said again.

Labels are wrong now and then, and what is kept for being against its label is where they are most:
of a model that is nearly always right, nearly every contradiction is a wrong label. `beliefs`
reckons with that.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.engines.interruption.decision import first_detection
from gateway.engines.types import Floats, ModelError

DIRECTIONS: Final = 32
"""That the head is changed in."""

CALLS_MIN: Final = 6
"""With labels; of fewer nothing can be held out that tells anything."""

OF_EACH_MIN: Final = 3
"""Windows that took the floor, and windows that did not, among those that are held out."""

HELD_OUT_SHARE: Final = 1 / 3
PRIOR_WINDOWS: Final = 5.0
"""With so many more, no contradiction would need a model that errs; see `beliefs`."""

ERRS_MIN: Final = 0.005
"""No model errs less."""

PULLS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Strengths of the ridge that are tried, for one window; the strongest changes next to nothing."""

PARTS: Final = 5
"""Of the calls that are fitted on, to choose the pull."""

RISES_FRAMES: Final = 16
"""From the onset of one who takes the floor until the model should say so: 0.4 s."""

EARLY_FRAMES: Final = 10
"""A detection so long before the onset counts as one of it."""

BY_FRAMES: Final = 40
"""A detection within 1 s counts."""

MIN_FRAMES: Final = 2
ROUNDS: Final = 2000
"""Of the bootstrap, over calls or sources."""

FRAMES_MAX: Final = 60_000
"""Of all windows; of more, one of two is looked at, or of three: a fit takes a second."""

AS_IS_STEP: Final = 4
"""One frame of so many is rehearsed: those side by side say the same."""

MISSED_MAX: Final = 0.05
"""Share of a kind of rehearsed callers that a change may miss, or one of them."""

EAGERNESS_SPAN: Final = 4.0
EAGERNESS_STEP: Final = 0.1
"""Log odds, of constants that are tried."""

CERTAIN_CALLS: Final = 10
"""Of fewer calls or sources, an interval of a difference tells little."""

WORSE_MIN: Final = 0.02
"""A loss on the regression set that is certain, but smaller than this, is let pass."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Basis:
    """The directions in which the head of one model file may change.

    `mean` [features] and `directions` [features, DIRECTIONS] make of features what varies by 1.
    """

    mean: Floats
    directions: Floats

    def marks(self, features: Floats) -> Floats:
        """float32 [frames, DIRECTIONS] of features [frames, features]."""
        return np.asarray((features - self.mean) @ self.directions, np.float32)

    def change(self, fitted: Fitted) -> tuple[Floats, float]:
        """What to add to the head's weights [features], and to its constant."""
        weights = np.asarray(self.directions @ fitted.weights, np.float32)
        return weights, float(fitted.bias - self.mean @ weights)


@dataclass(frozen=True, slots=True)
class Window:
    """One window with its label, as the head sees it.

    `marks` [frames, DIRECTIONS] and `logits` [frames] of the model as it is, `onset` the frame at
    which somebody began; `floor`: the probability that they meant to take it. `call` is what the
    split and the intervals go by, `kind` what it is called in tables. `weight`: how many windows it
    stands for.
    """

    call: str
    kind: str
    floor: float
    onset: int
    marks: Floats
    logits: Floats
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """What followed, or a person, says of one window: whether it took the floor, with how much
    confidence (0.5 to 1); and whether it was `detected`."""

    floor: bool
    confidence: float
    detected: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """A change in a `Basis`: weights [DIRECTIONS] and a constant."""

    weights: Floats
    bias: float
    strength: float
    """Of the pull; see PULLS."""


NO_CHANGE: Final = Fitted(np.zeros(DIRECTIONS, np.float32), 0.0, np.inf)


class Estimate(NamedTuple):
    """A share, and its interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind of window, heard by the model as it is and by the new one: the share that is
    detected, and what the new one detects more of them."""

    kind: str
    floor: bool
    windows: float
    calls: int
    old: Estimate
    new: Estimate
    more: Estimate

    @property
    def loss(self) -> Estimate:
        """How much worse the new one is; below 0: better."""
        if self.floor:
            return Estimate(-self.more.value, -self.more.high, -self.more.low)
        return self.more


def onset_of(speech: Floats, loud: npt.NDArray[np.bool_] | None = None) -> int:
    """The frame at which somebody begins, by the model's opinion on speech [frames], else by what
    is `loud` [frames]; the first frame if nobody does."""
    for frames in (speech > 0.5, loud):
        if frames is None or len(frames) < 3:
            continue
        runs = np.lib.stride_tricks.sliding_window_view(frames, 3).all(axis=1)
        if runs.any():
            return int(np.argmax(runs))
    return 0


def split(calls: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Calls to fit on, and calls that are held out: the same ones whenever it is asked."""
    each = sorted(set(calls), key=lambda call: hashlib.sha256(call.encode()).digest())
    count = round(len(each) * HELD_OUT_SHARE)
    return frozenset(each[count:]), frozenset(each[:count])


def beliefs(opinions: Sequence[Opinion]) -> list[float]:
    """For each, the probability that the floor was meant to be taken.

    How often the model errs, on either side, follows from how often it is contradicted and how
    often opinions are wrong; from these, by Bayes' rule, who errs where they differ."""
    found = [0.0] * len(opinions)
    for floor in (True, False):
        side = [i for i, one in enumerate(opinions) if one.floor is floor]
        count = sum(opinions[i].weight for i in side)
        against = sum(opinions[i].weight for i in side if opinions[i].detected is not floor)
        wrong = sum(opinions[i].weight * _doubt(opinions[i]) for i in side) / max(count, 1e-9)
        differ = (against + PRIOR_WINDOWS * wrong) / (count + PRIOR_WINDOWS)
        errs = min(max((differ - wrong) / (1 - 2 * wrong), ERRS_MIN), 1 - ERRS_MIN)
        for i in side:
            doubt = _doubt(opinions[i])
            if opinions[i].detected is floor:
                right, not_right = (1 - errs) * (1 - doubt), errs * doubt
            else:
                right, not_right = errs * (1 - doubt), (1 - errs) * doubt
            sure = right / (right + not_right)
            found[i] = sure if floor else 1 - sure
    return found


def _doubt(opinion: Opinion) -> float:
    return min(max(1 - opinion.confidence, 0.01), 0.45)


def fit(windows: Sequence[Window], strength: float, rehearsed: Sequence[Window] = ()) -> Fitted:
    """The change that suits these windows best, pulled towards none, the more the fewer they are;
    `rehearsed` weigh as much, and are to stay as the model has them."""
    parts = [part for part in (_frames(windows), _as_is(rehearsed)) if part[3].size]
    if not parts:
        return NO_CHANGE
    marks, offset, target, weight = (np.concatenate(one) for one in zip(*parts, strict=True))
    weight /= len(parts)
    pull = strength / max(counted(windows), 1.0)
    wide = np.concatenate((marks, np.ones((len(marks), 1))), axis=1)
    found = np.zeros(wide.shape[1])
    for _ in range(30):
        said = 1 / (1 + np.exp(-np.clip(offset + wide @ found, -30, 30)))
        slope = wide.T @ (weight * (said - target)) + pull * found
        curved = (wide * (weight * said * (1 - said))[:, None]).T @ wide
        step = np.linalg.solve(curved + pull * np.eye(len(found)), slope)
        found -= step * min(1.0, 2.0 / max(float(np.linalg.norm(step)), 1e-9))
        if float(np.abs(step).max()) < 1e-5:
            break
    return Fitted(found[:-1].astype(np.float32), float(found[-1]), strength)


def _frames(windows: Sequence[Window]) -> tuple[npt.NDArray[np.float64], ...]:
    """Marks, logits, targets and weights of all frames that tell something. Both sides of the
    question weigh the same, and 1 together."""
    marks, logits, targets, weights = [], [], [], []
    step = 1 + sum(len(window.logits) for window in windows) // FRAMES_MAX
    for window in windows:
        for side, share in ((1.0, window.floor), (0.0, 1 - window.floor)):
            start = window.onset + RISES_FRAMES if side else 0
            part = window.marks[start::step]
            if share <= 0 or not len(part):
                continue
            marks.append(part)
            logits.append(window.logits[start::step])
            targets.append(np.full(len(part), side))
            weights.append(np.full(len(part), share * window.weight / len(part)))
    if not marks:
        nothing = np.zeros(0)
        return np.zeros((0, DIRECTIONS)), nothing, nothing, nothing
    target, weight = np.concatenate(targets), np.concatenate(weights)
    for side in (0.0, 1.0):
        weight[target == side] /= 2 * max(float(weight[target == side].sum()), 1e-9)
    return (
        np.concatenate(marks).astype(np.float64),
        np.concatenate(logits).astype(np.float64),
        target,
        weight,
    )


def _as_is(windows: Sequence[Window]) -> tuple[npt.NDArray[np.float64], ...]:
    """The same of windows that the model as it is shall be right about."""
    if not windows:
        return _frames(())
    parts = [one.logits[::AS_IS_STEP] for one in windows]
    logits = np.concatenate(parts).astype(np.float64)
    weight = np.concatenate(
        [
            np.full(len(part), one.weight / len(part))
            for one, part in zip(windows, parts, strict=True)
        ]
    )
    return (
        np.concatenate([one.marks[::AS_IS_STEP] for one in windows]).astype(np.float64),
        logits,
        1 / (1 + np.exp(-np.clip(logits, -30, 30))),
        weight / weight.sum(),
    )


def counted(windows: Sequence[Window]) -> float:
    """How many windows of the same weight would tell as much (Kish)."""
    weights = np.array([one.weight for one in windows])
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def loss(windows: Sequence[Window], fitted: Fitted) -> float:
    """Mean cross entropy of the frames, both sides weighing the same."""
    marks, offset, target, weight = _frames(windows)
    if not len(marks):
        return 0.0
    odds = np.clip(offset + marks @ fitted.weights + fitted.bias, -30, 30)
    each = np.logaddexp(0, odds) - target * odds
    return float((weight * each).sum() / weight.sum())


def chosen(windows: Sequence[Window], rehearsed: Sequence[Window] = ()) -> Fitted:
    """The change with the pull that does best on calls it was not fitted on, of those that miss no
    more of `rehearsed` callers; NO_CHANGE, if none does better than the error of that."""
    calls = sorted({window.call for window in windows})
    parts = min(PARTS, len(calls))
    if parts < 2:
        return as_eager(fit(windows, PULLS[-1], rehearsed), rehearsed)
    place = {call: number % parts for number, call in enumerate(calls)}
    left_out = [[w for w in windows if place[w.call] == part] for part in range(parts)]
    kept = [[w for w in windows if place[w.call] != part] for part in range(parts)]

    def out_of_part(made: Callable[[Sequence[Window]], Fitted]) -> npt.NDArray[np.float64]:
        return np.array([loss(out, made(rest)) for out, rest in zip(left_out, kept, strict=True)])

    losses = [out_of_part(lambda _: NO_CHANGE)]
    for strength in PULLS:
        losses.append(out_of_part(lambda rest, strength=strength: fit(rest, strength, rehearsed)))  # type: ignore[misc]
    gains = [losses[0] - one for one in losses[1:]]
    for number in np.argsort([-float(gain.mean()) for gain in gains]).tolist():
        error = float(gains[number].std(ddof=1)) / math.sqrt(parts)
        if float(gains[number].mean()) <= error:
            break
        fitted = as_eager(fit(windows, PULLS[number], rehearsed), rehearsed)
        if _finds_as_many(fitted, rehearsed):
            return fitted
    return NO_CHANGE


def _finds_as_many(fitted: Fitted, rehearsed: Sequence[Window]) -> bool:
    """Whether of no kind of `rehearsed` caller many more are missed."""
    callers = [one for one in rehearsed if one.floor >= 0.5]
    kinds = np.array([one.kind for one in callers])
    was, now = (
        np.array([_claim(one, change) >= 0 for one in callers], np.float64)
        for change in (NO_CHANGE, fitted)
    )
    lost = was - now
    return all(
        float(lost[kinds == kind].sum()) <= max(1.0, MISSED_MAX * int((kinds == kind).sum()))
        for kind in set(kinds.tolist())
    )


def as_eager(fitted: Fitted, rehearsed: Sequence[Window]) -> Fitted:
    """With the constant at which of each kind of `rehearsed` sound no more is cut than was: how
    eager the agent is, is the operator's choice (`bargein.eagerness`), not that of a fit."""
    others = [one for one in rehearsed if one.floor < 0.5]
    kinds = np.array([one.kind for one in others])
    was, now = (np.array([_claim(one, change) for one in others]) for change in (NO_CHANGE, fitted))
    for lower in np.arange(0.0, EAGERNESS_SPAN, EAGERNESS_STEP).tolist():
        if all(
            int((now[kinds == kind] >= lower).sum()) <= int((was[kinds == kind] >= 0).sum())
            for kind in set(kinds.tolist())
        ):
            return Fitted(fitted.weights, fitted.bias - lower, fitted.strength)
    return NO_CHANGE


def _claim(window: Window, fitted: Fitted) -> float:
    """The log odds that a detection rests on, or would, as `decision.claim`."""
    part = slice(max(0, window.onset - EARLY_FRAMES), window.onset + BY_FRAMES)
    odds = window.logits[part] + window.marks[part] @ fitted.weights + fitted.bias
    if odds.size < MIN_FRAMES:
        return -math.inf
    return float(np.minimum(odds[:-1], odds[1:]).max())


def detected_at(window: Window, fitted: Fitted, threshold: float, eagerness: float) -> int | None:
    """Frames from the onset to the detection, None if there is none within BY_FRAMES."""
    start = max(0, window.onset - EARLY_FRAMES)
    end = window.onset + BY_FRAMES
    odds = window.logits[start:end] + window.marks[start:end] @ fitted.weights + fitted.bias
    said = 1 / (1 + np.exp(-np.clip(odds + eagerness, -30, 30)))
    found = first_detection(said, threshold, MIN_FRAMES)
    return None if found is None else start + found - window.onset


def compared(
    windows: Sequence[Window], fitted: Fitted, threshold: float, eagerness: float = 0.0
) -> list[Compared]:
    """Each kind of these windows, by the model as it is and by the new one. A window of which
    nobody is sure counts on both sides, by what is believed of it."""
    rows = []
    hits = {
        id(one): [
            float(detected_at(one, change, threshold, eagerness) is not None)
            for change in (NO_CHANGE, fitted)
        ]
        for one in windows
    }
    for floor in (True, False):
        for kind in sorted({one.kind for one in windows}):
            of_kind = [
                (one, share)
                for one in windows
                if one.kind == kind and (share := one.floor if floor else 1 - one.floor) > 0
            ]
            if not of_kind:
                continue
            was, now = np.array([hits[id(one)] for one, _ in of_kind]).T
            calls = [one.call for one, _ in of_kind]
            weights = np.array([one.weight * share for one, share in of_kind])
            old, new, more = _intervals((was, now, now - was), calls, weights)
            rows.append(
                Compared(kind, floor, float(weights.sum()), len(set(calls)), old, new, more)
            )
    return rows


def _intervals(
    values: Sequence[npt.NDArray[np.float64]],
    calls: Sequence[str],
    weights: npt.NDArray[np.float64],
) -> list[Estimate]:
    """Weighted means of two shares and their difference, and what they would be with other calls
    (bootstrap)."""
    each, place = np.unique(np.array(calls), return_inverse=True)
    of_call = np.zeros((len(each), len(values) + 1))
    np.add.at(of_call, place, np.stack([*(one * weights for one in values), weights], axis=1))
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(each), np.full(len(each), 1 / len(each)), ROUNDS) @ of_call
    shares = drawn[:, :-1] / np.maximum(drawn[:, -1:], 1e-12)
    total = of_call.sum(axis=0)
    size = float(weights.sum() ** 2 / (weights**2).sum())
    found = []
    for i in range(len(values)):
        share = float(total[i] / total[-1])
        low, high = np.percentile(shares[:, i], [2.5, 97.5]).tolist()
        if i < 2:  # shares, and no difference
            least, most = _wilson(share, size)
            low, high = min(low, least), max(high, most)
        found.append(Estimate(share, low, high))
    return found


def _wilson(share: float, count: float) -> tuple[float, float]:
    """The interval of 95 % of a share of so many: where all or none of few are hits, a bootstrap
    has none."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    reach = spread * z / (1 + z * z / count)
    return middle - reach, middle + reach


def balanced(rows: Sequence[Compared]) -> tuple[float, float]:
    """Half the share of those who are not found and half the share of the rest that is cut: of the
    model as it is, and of the new one. Kinds count by their windows."""

    def share(floor: bool, new: bool) -> float:
        of_side = [row for row in rows if row.floor == floor]
        count = sum(row.windows for row in of_side)
        hits = sum(row.windows * (row.new if new else row.old).value for row in of_side)
        wrong = count - hits if floor else hits
        return wrong / count if count else 0.0

    return tuple((share(True, new) + share(False, new)) / 2 for new in (False, True))  # type: ignore[return-value]


def too_few(windows: Sequence[Window]) -> str | None:
    """Why nothing can be learnt from these, if so."""
    calls = {window.call for window in windows}
    if len(calls) < CALLS_MIN:
        return f"{len(calls)} calls have windows with labels: expected at least {CALLS_MIN}"
    _, held_out = split(sorted(calls))
    for floor, what in ((True, "interruptions"), (False, "backchannels or noises")):
        of_side = [one for one in windows if (one.floor >= 0.5) == floor]
        count = sum(one.call in held_out for one in of_side)
        if count < OF_EACH_MIN or count == len(of_side):
            return (
                f"of the calls that are held out, {count} windows are {what}: "
                f"expected at least {OF_EACH_MIN}"
            )
    return None


def refusals(own: Sequence[Compared], regression: Sequence[Compared]) -> list[str]:
    """Why the new version is not to be published; nothing if it is.

    On one's own held-out calls it has to be better; of no kind of the regression set may it be
    worse, neither beyond the interval of the model as it is nor for certain."""
    reasons = []
    old, new = balanced(own)
    if new >= old:
        reasons.append(
            f"on your own held-out calls it is no better: wrong {old:.3f} before, {new:.3f} now"
        )
    for row in regression:
        beyond = row.new.value < row.old.low if row.floor else row.new.value > row.old.high
        certain = row.calls >= CERTAIN_CALLS and row.loss.low > 0 and row.loss.value >= WORSE_MIN
        if beyond or certain:
            what = "finds fewer of" if row.floor else "is cut by more of"
            reasons.append(
                f"on the regression set it {what} {row.kind}: {row.old} before, {row.new} now"
            )
    return reasons


def described(title: str, rows: Sequence[Compared]) -> str:
    """A table for people."""
    lines = [
        f"{title:36} windows  calls  {'detected, as it is':24} {'new':24} difference",
    ]
    for row in rows:
        name = f"{'+' if row.floor else '-'} {row.kind}"
        more = f"{row.more.value:+.2f} ({row.more.low:+.2f} to {row.more.high:+.2f})"
        lines.append(
            f"{name:36} {row.windows:7.0f} {row.calls:6d}  {row.old!s:24} {row.new!s:24} {more}"
        )
    old, new = balanced(rows)
    lines.append(f"{'wrong (half of each side)':36} {old:.3f} as it is, {new:.3f} new")
    return "\n".join(lines)


# -- what ships: a basis, and windows of general recordings

_STEPS: Final = 24.0
"""Of a byte of marks for 1."""


@dataclass(frozen=True, slots=True)
class Regression:
    """Made by models/interruption/data/regression.py for one model file."""

    sha256: str
    basis: Basis
    windows: tuple[Window, ...]
    """Of people whom no training has heard: what a new version is compared on."""
    rehearsed: tuple[Window, ...]
    """Of others: what is fitted again with each change."""

    def packed(self) -> bytes:
        """As a file: numbers of one byte for marks, of two for logits."""
        file, every = BytesIO(), (*self.windows, *self.rehearsed)
        np.savez_compressed(
            file,
            sha256=np.array(self.sha256),
            mean=self.basis.mean.astype(np.float16),
            directions=self.basis.directions.astype(np.float16),
            call=np.array([one.call for one in every]),
            kind=np.array([one.kind for one in every]),
            held_out=np.array(len(self.windows)),
            floor=np.array([one.floor for one in every]),
            onset=np.array([one.onset for one in every], np.int16),
            frames=np.array([len(one.logits) for one in every], np.int16),
            marks=np.clip(
                np.rint(np.concatenate([one.marks for one in every]) * _STEPS), -127, 127
            ).astype(np.int8),
            logits=np.concatenate([one.logits for one in every]).astype(np.float16),
        )
        return file.getvalue()


def regression_of(path: Path) -> Regression:
    """Reads what `packed` wrote. Raises ModelError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            ends = np.cumsum(file["frames"].astype(np.int64))
            marks = file["marks"].astype(np.float32) / np.float32(_STEPS)
            logits = file["logits"].astype(np.float32)
            basis = Basis(file["mean"].astype(np.float32), file["directions"].astype(np.float32))
            count = int(file["held_out"])
            of_kind = Counter(file["kind"][count:].tolist())
            windows = tuple(
                Window(
                    str(call), str(kind), float(floor), int(onset), marks[b:e], logits[b:e],
                    1.0 if i < count else 1 / of_kind[str(kind)],  # kinds are rehearsed alike
                )
                for i, (call, kind, floor, onset, b, e) in enumerate(zip(
                    file["call"], file["kind"], file["floor"], file["onset"],
                    [0, *ends[:-1]], ends, strict=True,
                ))
            )  # fmt: skip
            return Regression(str(file["sha256"]), basis, windows[:count], windows[count:])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: not a regression set: {type(error).__name__}") from None
