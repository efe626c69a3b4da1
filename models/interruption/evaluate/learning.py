"""What learning from one's own calls brings, by simulation over the recordings at hand.

    nice -n 19 python -m models.interruption.evaluate.learning --audio FOLDER

Each customer is a source of recordings behind a line of its own. A call is one who takes the floor
and one sound that does not; half of a customer's calls are kept back, and no recording is in both
halves. Of the first half, 1, 10 or 100 calls pass as the gateway would have them: what is disputed
is kept, and a share of the rest, with labels of which WRONG_SHARE are wrong. The head is fitted to
what was kept (`gateway bargein learn` refuses below six calls; here it is done all the same), the
second half and the regression set that ships tell what came of it. A table in Markdown.

The people of the customers were heard when the published model was trained (those who were not are
the regression set): it errs less on them than it would on strangers, and there is less to gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from gateway.engines.interruption import adapt
from gateway.engines.interruption.adapt import Basis, Fitted, Opinion, Regression, Window
from gateway.engines.interruption.disputed import is_disputed
from gateway.engines.interruption.head import HeadOfModel
from gateway.settings.bargein import LearnConfig
from models.interruption.cache import PUBLISHED, add_audio
from models.interruption.data import moments
from models.interruption.data.moments import COUGHS, FAR, NOISES, Line, Sound
from models.interruption.data.regression import ONSET, TARGET

CALLS: Final = (1, 10, 100)
DRAWS: Final = 5  # of which calls pass
WRONG_SHARE: Final = 0.1
CONFIDENCE: Final = 0.85  # that the labels claim
THRESHOLD: Final = 0.5


@dataclass(frozen=True)
class Customer:
    """`others`: what is heard beside the callers of `folder`."""

    name: str
    folder: str
    others: tuple[str, ...]
    line: Line


TELEPHONE: Final = Line(low_hz=300, high_hz=3400, level_dbfs=-28, noise_db=-30)
CUSTOMERS: Final = (
    Customer("sentences, coughs", "speech_libri", (COUGHS,), Line()),
    Customer("sentences in a noisy room", "speech_libri", (FAR, NOISES), Line(room_s=0.4)),
    Customer("accents by telephone", "speech_ocean", (COUGHS, NOISES), TELEPHONE),
    Customer("accents, people near by", "speech_ocean", (FAR,), TELEPHONE),
    Customer("single words, loud line", "short_calls", (COUGHS, NOISES), Line(noise_db=-18)),
    Customer(moments.MEETINGS, moments.MEETINGS, (), Line()),
)


def calls_of(
    customer: Customer, every: Sequence[Sound], model: HeadOfModel, basis: Basis
) -> tuple[list[list[Window]], list[list[Window]]]:
    """Two halves of the customer's calls, which share no recording's people."""
    rng = np.random.default_rng(sum(map(ord, customer.name)))
    here = [one for one in every if one.folder == customer.folder and one.floor]
    rest = [one for one in every if one.kind in customer.others]
    if FAR in customer.others:
        rest += [moments.far(one) for one in every if one.folder == "speech_libri"]
    if customer.folder == moments.MEETINGS:
        rest = [one for one in every if one.folder == customer.folder and not one.floor]
    halves: tuple[list[list[Window]], list[list[Window]]] = ([], [])
    sides = []
    for sounds in (here, rest):
        sources = sorted({one.source for one in sounds})
        rng.shuffle(sources)
        first = set(sources[: len(sources) // 2])
        shuffled = [sounds[i] for i in rng.permutation(len(sounds))]
        sides.append([[s for s in shuffled if (s.source in first) == b] for b in (True, False)])
    for half in (0, 1):
        floors, others = sides[0][half], sides[1][half]
        for number, floor in enumerate(floors):
            if not others:
                break
            call = f"{customer.name} {half} {number}"
            pair = (floor, others[number % len(others)])
            halves[half].append(
                [_window(one, customer.line, call, model, basis, rng) for one in pair]
            )
    return halves


def _window(
    sound: Sound,
    line: Line,
    call: str,
    model: HeadOfModel,
    basis: Basis,
    rng: np.random.Generator,
) -> Window:
    heard = model.hear(moments.window(sound, line, rng))
    return Window(
        call, sound.kind, float(sound.floor), ONSET, basis.marks(heard.features), heard.logits
    )


def kept(calls: Sequence[Sequence[Window]], rng: np.random.Generator) -> list[Window]:
    """What the gateway would keep of calls, with the labels that it would give."""
    settings = LearnConfig()
    found: list[Window] = []
    opinions: list[Opinion] = []
    for window in (one for call in calls for one in call):
        floor = bool(window.floor) != bool(rng.random() < WRONG_SHARE)
        start = window.onset - adapt.EARLY_FRAMES
        pairs = np.minimum(window.logits[start:-1], window.logits[start + 1 :])
        claim = 1 / (1 + float(np.exp(-pairs.max())))
        detected = claim >= THRESHOLD
        disputed = is_disputed(claim, THRESHOLD, detected, floor, settings.margin)
        if disputed or rng.random() < settings.control_share:
            weight = 1.0 if disputed else 1 / settings.control_share
            opinions.append(Opinion(floor, CONFIDENCE, detected, weight))
            found.append(replace(window, weight=weight))
    return [
        replace(window, floor=belief, kind="kept")
        for window, belief in zip(found, adapt.beliefs(opinions), strict=True)
    ]


def errors(windows: Sequence[Window], fitted: Fitted) -> tuple[float, float]:
    """Share of those who take the floor that is found by 1 s, and share of the rest that is cut."""
    hits = [
        [
            adapt.detected_at(one, fitted, THRESHOLD, 0.0) is not None
            for one in windows
            if bool(one.floor) is floor
        ]
        for floor in (True, False)
    ]
    return float(np.mean(hits[0])), float(np.mean(hits[1]))


def row(
    customer: Customer,
    halves: tuple[list[list[Window]], list[list[Window]]],
    regression: Regression,
    count: int,
) -> list[str]:
    """Means over draws of which calls pass."""
    first, second = halves
    test = [one for call in second for one in call]
    was = errors(test, adapt.NO_CHANGE)
    now, losses, beyond, published, windows = [], [], 0, 0, []
    count = min(count, len(first))
    draws = 1 if count == len(first) else DRAWS
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        passed = rng.permutation(len(first))[:count]
        learnt = kept([first[number] for number in passed], rng)
        windows.append(len(learnt))
        fitted = adapt.chosen(learnt, regression.rehearsed) if learnt else adapt.NO_CHANGE
        now.append(errors(test, fitted))
        general = adapt.compared(regression.windows, fitted, THRESHOLD)
        old, new = adapt.balanced(general)
        losses.append(new - old)
        own: list[adapt.Compared] = []
        if adapt.too_few(learnt) is None:
            into, out = adapt.split([one.call for one in learnt])
            trained = adapt.chosen(
                [one for one in learnt if one.call in into], regression.rehearsed
            )
            own = adapt.compared([one for one in learnt if one.call in out], trained, THRESHOLD)
            general = adapt.compared(regression.windows, trained, THRESHOLD)
            published += not adapt.refusals(own, general)
        beyond += any("regression" in one for one in adapt.refusals([], general))
    found, cut = np.mean([one[0] for one in now]), np.mean([one[1] for one in now])
    return [
        customer.name, str(count), f"{np.mean(windows):.0f}",
        f"{was[0]:.2f} → {found:.2f}", f"{was[1]:.2f} → {cut:.2f}",
        f"{((1 - was[0] + was[1]) - (1 - found + cut)) / 2:+.3f}",
        f"{-np.mean(losses):+.3f}", f"{beyond} of {draws}", f"{published} of {draws}",
    ]  # fmt: skip


def table(model: HeadOfModel, regression: Regression, audio: Path) -> Iterator[str]:
    """Line after line, as they are known."""
    every = [one for one in moments.sounds(audio) if not one.held_out]
    yield (
        "| customer | calls | windows kept | found by 1 s | cut by 1 s | gain | on the regression "
        "set | beyond its intervals | published |"
    )
    yield "|---" * 9 + "|"
    for customer in CUSTOMERS:
        halves = calls_of(customer, every, model, regression.basis)
        seen = set()
        for count in CALLS:
            if min(count, len(halves[0])) not in seen:
                seen.add(min(count, len(halves[0])))
                yield "| " + " | ".join(row(customer, halves, regression, count)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_audio(parser)
    parser.add_argument("--model", type=Path, default=PUBLISHED)
    arguments = parser.parse_args()
    for line in table(HeadOfModel(arguments.model), adapt.regression_of(TARGET), arguments.audio):
        print(line, flush=True)


if __name__ == "__main__":
    main()
