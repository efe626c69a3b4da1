from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.engines.interruption import adapt
from gateway.engines.interruption.adapt import (
    BY_FRAMES,
    DIRECTIONS,
    EARLY_FRAMES,
    NO_CHANGE,
    Basis,
    Compared,
    Estimate,
    Fitted,
    Opinion,
    Regression,
    Window,
)
from gateway.engines.types import ModelError

FRAMES = EARLY_FRAMES + BY_FRAMES


def window(
    number: int, *, floor: bool, logit: float, mark: float = 0.0, kind: str = "kept"
) -> Window:
    """One whose first mark tells what its logit does not."""
    rng = np.random.default_rng(number)
    marks = rng.normal(0, 0.3, (FRAMES, DIRECTIONS)).astype(np.float32)
    marks[:, 0] += mark
    logits = np.full(FRAMES, logit, np.float32)
    return Window(f"call {number}", kind, float(floor), EARLY_FRAMES, marks, logits)


def customers(count: int) -> list[Window]:
    """Half take the floor and are found; of the others the model takes half for callers, and their
    first mark is what tells."""
    return [
        window(
            number,
            floor=number % 2 == 0,
            logit=2.0 if number % 4 != 3 else -2.0,
            mark=1.0 if number % 2 == 0 else -1.0,
        )
        for number in range(count)
    ]


def general() -> list[Window]:
    return [
        window(1000 + number, floor=number % 2 == 0, logit=3.0 if number % 2 == 0 else -3.0)
        for number in range(60)
    ]


def test_what_the_model_gets_wrong_is_learnt_and_what_it_knew_is_kept() -> None:
    fitted = adapt.chosen(customers(120), general())

    own = adapt.compared(customers(400)[200:], fitted, 0.5)
    known = adapt.compared(general(), fitted, 0.5)

    assert fitted is not NO_CHANGE
    assert [row.old.value for row in own] == [1.0, 0.5]
    assert own[0].new.value > 0.95
    assert own[1].new.value < 0.1
    assert [row.new.value for row in known] == [row.old.value for row in known] == [1.0, 0.0]
    assert adapt.refusals(own, known) == []


def test_labels_that_say_nothing_new_change_nothing() -> None:
    rng = np.random.default_rng(0)
    shuffled = [
        replace(one, floor=float(rng.integers(2)), logits=one.logits * 0) for one in general()
    ]

    assert adapt.chosen(shuffled, general()) is NO_CHANGE


def test_a_change_cuts_no_more_of_what_is_rehearsed() -> None:
    eager = Fitted(NO_CHANGE.weights, 4.0, 1.0)

    moved = adapt.as_eager(eager, [*general(), window(1, floor=False, logit=-1.0)])

    assert moved.bias < 1.0


def test_a_file_with_the_change_says_what_was_fitted() -> None:
    rng = np.random.default_rng(1)
    basis = Basis(
        rng.normal(0, 1, 50).astype(np.float32),
        rng.normal(0, 1, (50, DIRECTIONS)).astype(np.float32),
    )
    fitted = Fitted(rng.normal(0, 1, DIRECTIONS).astype(np.float32), 0.7, 1.0)
    features = rng.normal(0, 1, (9, 50)).astype(np.float32)

    weights, bias = basis.change(fitted)

    assert features @ weights + bias == pytest.approx(
        basis.marks(features) @ fitted.weights + fitted.bias, abs=1e-3
    )


def test_calls_are_split_and_never_their_windows() -> None:
    calls = [f"room {number % 30}" for number in range(200)]

    fitted_on, held_out = adapt.split(calls)

    assert not fitted_on & held_out
    assert len(held_out) == 10
    assert adapt.split(calls[::-1]) == (fitted_on, held_out)


def test_a_contradiction_of_a_model_that_is_nearly_always_right_is_hardly_believed() -> None:
    agreed = [Opinion(False, 0.9, False) for _ in range(90)]
    against = [Opinion(False, 0.9, True) for _ in range(10)]

    believed = adapt.beliefs([*agreed, *against])

    assert max(believed[:90]) < 0.01
    assert min(believed[90:]) > 0.5  # a tenth of such labels is wrong: that is what they are


def test_a_contradiction_of_a_model_that_often_errs_is_believed() -> None:
    agreed = [Opinion(False, 0.9, False) for _ in range(30)]
    against = [Opinion(False, 0.9, True) for _ in range(60)]

    assert max(adapt.beliefs([*agreed, *against])[30:]) < 0.1


def test_a_person_is_believed_more_than_what_followed() -> None:
    agreed = [Opinion(True, 0.9, True) for _ in range(40)]
    found = adapt.beliefs([*agreed, Opinion(True, 0.98, False), Opinion(True, 0.7, False)])

    assert found[-2] > 3 * found[-1]


def row(kind: str, *, floor: bool, old: float, new: float, certain: bool = False) -> Compared:
    more = Estimate(
        new - old, new - old - (0.0 if certain else 0.3), new - old + (0.0 if certain else 0.3)
    )
    around = Estimate(old, old - 0.05, old + 0.05)
    return Compared(kind, floor, 100, 50, around, Estimate(new, new - 0.05, new + 0.05), more)


BETTER = [row("kept", floor=True, old=0.9, new=0.9), row("kept", floor=False, old=0.5, new=0.2)]


@pytest.mark.parametrize(
    ("own", "general", "said"),
    [
        (BETTER, [row("coughs", floor=False, old=0.1, new=0.12)], []),
        (BETTER, [row("coughs", floor=False, old=0.1, new=0.16)], ["cut by more of coughs"]),
        (BETTER, [row("turns", floor=True, old=0.9, new=0.8)], ["finds fewer of turns"]),
        (
            BETTER,
            [row("turns", floor=True, old=0.9, new=0.87, certain=True)],
            ["finds fewer of turns"],
        ),
        (BETTER, [row("turns", floor=True, old=0.9, new=0.99)], []),
        ([row("kept", floor=True, old=0.9, new=0.9)], [], ["no better"]),
    ],
)
def test_what_is_worse_is_refused_with_its_figures(
    own: list[Compared], general: list[Compared], said: list[str]
) -> None:
    reasons = adapt.refusals(own, general)

    assert len(reasons) == len(said)
    assert all(part in reason for part, reason in zip(said, reasons, strict=True))
    assert all("before" in reason for reason in reasons)


def test_too_few_calls_are_told() -> None:
    assert "expected at least 6" in (adapt.too_few(customers(4)) or "")
    assert "expected at least 3" in (adapt.too_few([w for w in customers(60) if w.floor]) or "")
    assert adapt.too_few(customers(60)) is None


def test_the_interval_of_all_of_a_few_is_not_nothing() -> None:
    (found,) = adapt.compared([window(n, floor=True, logit=3.0) for n in range(10)], NO_CHANGE, 0.5)

    assert found.old.value == 1.0
    assert found.old.low < 0.8


def test_a_regression_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    basis = Basis(np.zeros(50, np.float32), np.ones((50, DIRECTIONS), np.float32))
    written = Regression("abc", basis, tuple(customers(4)), tuple(general()))
    path = tmp_path / "set.npz"
    path.write_bytes(written.packed())

    read = adapt.regression_of(path)

    assert (read.sha256, len(read.windows), len(read.rehearsed)) == ("abc", 4, 60)
    assert read.windows[1].marks == pytest.approx(written.windows[1].marks, abs=0.03)
    assert read.rehearsed[0].weight == pytest.approx(1 / 60)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a regression set"):
        adapt.regression_of(path)


def test_somebody_begins_where_it_is_speech_for_three_frames() -> None:
    speech = np.zeros(40, np.float32)
    speech[[5, 20, 21, 22]] = 0.9

    assert adapt.onset_of(speech) == 20
    assert adapt.onset_of(np.zeros(40, np.float32)) == 0


def test_the_tables_name_every_kind() -> None:
    text = adapt.described("own", adapt.compared(general(), NO_CHANGE, 0.5))

    assert "+ kept" in text
    assert "- kept" in text
    assert "wrong" in text
