from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.engines.interruption import adapt
from gateway.engines.interruption.engine import load_model, shipped_model
from gateway.engines.interruption.head import HeadOfModel, file_hash, logit
from gateway.engines.types import ModelError
from gateway.settings.bargein import BargeinConfig
from tests.fakes import frame_model

SOUND = np.random.default_rng(0).normal(0, 2000, 48_100).astype(np.int16)


@pytest.fixture(scope="module")
def head() -> HeadOfModel:
    return HeadOfModel(shipped_model())


def test_what_the_head_goes_by_is_that_of_the_served_model(head: HeadOfModel) -> None:
    served = load_model(BargeinConfig())
    probabilities, _ = served.run(SOUND[None, :48_000], served.blank_state()[None])

    heard = head.hear(SOUND)

    assert heard.features.shape == (120, 384)
    assert heard.logits == pytest.approx(logit(probabilities[0]), abs=1e-3)
    assert ((heard.speech >= 0) & (heard.speech <= 1)).all()
    assert head.hear(SOUND[:100]).logits.size == 0


def test_a_file_with_another_head_says_what_was_added_and_who_it_is(
    head: HeadOfModel, tmp_path: Path
) -> None:
    change = np.random.default_rng(1).normal(0, 0.05, 384).astype(np.float32)
    path = tmp_path / "other.onnx"

    path.write_bytes(head.with_change(change, 0.3, {"version": "other", "learnt_from": "calls"}))
    other = HeadOfModel(path)
    before, now = head.hear(SOUND), other.hear(SOUND)

    assert now.logits == pytest.approx(before.logits + before.features @ change + 0.3, abs=1e-2)
    assert other.metadata == head.metadata | {"version": "other", "learnt_from": "calls"}
    assert load_model(BargeinConfig(model=path)).card.version == "other"
    assert head.sha256 == file_hash(shipped_model().read_bytes()) != other.sha256


def test_no_change_is_the_same_model(head: HeadOfModel, tmp_path: Path) -> None:
    path = tmp_path / "same.onnx"
    path.write_bytes(head.with_change(np.zeros(384, np.float32), 0.0, {}))

    assert (HeadOfModel(path).hear(SOUND).logits == head.hear(SOUND).logits).all()


def test_weights_of_another_size_are_refused(head: HeadOfModel) -> None:
    with pytest.raises(ValueError, match="expected 384 weights"):
        head.with_change(np.zeros(3, np.float32), 0.0, {})


def test_a_model_without_such_a_head_is_told(tmp_path: Path) -> None:
    path = frame_model.write(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="only a model with the head of the shipped one"):
        HeadOfModel(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError):
        HeadOfModel(path)
    with pytest.raises(ModelError, match="no such file"):
        HeadOfModel(tmp_path / "none.onnx")


def test_the_regression_set_that_ships_is_of_the_model_that_ships(head: HeadOfModel) -> None:
    ships = adapt.regression_of(Path(adapt.__file__).with_name("regression.npz"))

    assert ships.sha256 == head.sha256
    assert ships.basis.mean.shape == (384,)
    rows = adapt.compared(ships.windows, adapt.NO_CHANGE, 0.5)
    assert {row.floor for row in rows} == {True, False}
    assert all(row.new == row.old for row in rows)
