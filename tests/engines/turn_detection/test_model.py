"""Windows of samples become probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from gateway.engines.turn_detection.model import SMART_TURN_THRESHOLDS, Question, TurnModel
from gateway.engines.types import ModelError, Prediction
from tests.fakes import frame_model, turn_model


def samples(*values: int) -> bytes:
    return np.array(values, np.int16).tobytes()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> TurnModel:
    return TurnModel(turn_model.write(tmp_path_factory.mktemp("model") / "m.onnx"))


def test_a_batch_is_answered_in_order(loaded: TurnModel) -> None:
    asked = [Question(samples(0, 16384)), Question(samples(8192)), Question(samples(-24576))]

    found = [prediction.probability for prediction in loaded.run(asked)]

    assert found == pytest.approx([0.5, 0.25, 0.75])


def test_short_audio_stands_at_the_end_of_its_window(loaded: TurnModel) -> None:
    window = loaded.prepared(samples(16384, -16384))

    assert window.shape == (16000,)
    assert window[-2:].tolist() == [0.5, -0.5]
    assert not window[:-2].any()


def test_of_long_audio_the_end_is_heard(loaded: TurnModel) -> None:
    window = loaded.prepared(samples(*range(16001)))

    assert window[0] == np.float32(1 / 32768)


def test_what_a_batch_took_is_told(loaded: TurnModel) -> None:
    (prediction,) = loaded.run([Question(b"\0\0")])

    assert prediction.preprocess_s > 0
    assert prediction.inference_s > 0


def test_a_model_says_itself_what_it_is(loaded: TurnModel) -> None:
    assert loaded.card.name == "last-sample"
    assert loaded.card.version == "test"
    assert loaded.card.window_samples == 16000
    assert loaded.card.default_threshold == 0.4
    assert loaded.card.thresholds == {"en": 0.4, "de": 0.3}


def test_smart_turn_is_known_by_its_input(tmp_path: Path) -> None:
    model = TurnModel(turn_model.write_features(tmp_path / "smart-turn-v9.9-cpu.onnx"))

    assert (model.card.name, model.card.version) == ("smart-turn", "v9.9-cpu")
    assert model.card.window_samples == 128000
    assert model.card.thresholds == SMART_TURN_THRESHOLDS
    (quiet,) = model.run([Question(b"")])
    assert quiet.probability == pytest.approx(1 / (1 + np.exp(1.5)), abs=1e-4)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"interface": "other/1"}, "metadata 'interface' is 'other/1': expected 'eot/1'"),
        ({"default_threshold": "high"}, "metadata is missing or malformed"),
        ({"default_threshold": "1.5"}, "a threshold of 1.5: expected 0 to 1"),
        ({"thresholds": "en"}, "metadata is missing or malformed"),
        ({"thresholds": "en=2"}, "a threshold of 2.0: expected 0 to 1"),
    ],
)
def test_metadata_that_says_nonsense_is_refused(
    tmp_path: Path, metadata: dict[str, str], expected: str
) -> None:
    path = turn_model.write(tmp_path / "m.onnx", metadata=metadata)

    with pytest.raises(ModelError, match=expected):
        TurnModel(path)


def test_a_window_longer_than_is_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="longer than 30 s"):
        TurnModel(turn_model.write(tmp_path / "m.onnx", samples=16000 * 31))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected one input"):
        TurnModel(frame_model.write(tmp_path / "m.onnx"))


def test_features_of_another_window_need_metadata(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="metadata 'interface' is None"):
        TurnModel(turn_model.write_features(tmp_path / "m.onnx", frames=400))
    model = TurnModel(
        turn_model.write_features(tmp_path / "n.onnx", frames=400, metadata=turn_model.METADATA)
    )
    assert model.card.window_samples == 64000


def test_an_output_that_is_no_probability_is_refused(tmp_path: Path) -> None:
    path = turn_model.write_features(tmp_path / "m.onnx", squashed=False)

    with pytest.raises(ModelError, match="expected a probability"):
        TurnModel(path).warm()


def test_a_good_model_is_run_once_beforehand(tmp_path: Path) -> None:
    class Counting(TurnModel):
        batches: ClassVar[list[int]] = []

        def run(self, questions: list[Question]) -> list[Prediction]:
            self.batches.append(len(questions))
            return super().run(questions)

    Counting(turn_model.write(tmp_path / "m.onnx")).warm()
    assert Counting.batches == [1]
