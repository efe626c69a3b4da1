"""Which model is served, or why none is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.engines.turn_detection.engine import NOT_FETCHED, EotEngine, load_model, thresholds
from gateway.engines.turn_detection.model import TurnModel
from gateway.engines.types import ModelError
from gateway.settings.eot import EotConfig
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.errors import Failure, Kind
from gateway.weights import fetch
from tests.fakes import turn_model

ALERTS = Path(__file__).parents[3] / "deploy/alerts.yml"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    return tmp_path


def test_without_a_fetched_model_the_engine_says_how_to_get_one(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "gateway.engines.turn_detection.engine"):
        engine = EotEngine(EotConfig(), Metrics())

    assert engine.failure is not None
    assert engine.failure.message == NOT_FETCHED
    assert engine.failure.status == 503
    assert [NOT_FETCHED in record.getMessage() for record in caplog.records] == [True]
    engine.close()


@pytest.mark.parametrize(
    "told",
    [
        "none is needed: clients use the detector that they carry",
        "gateway models fetch smart-turn",
        "--build-arg MODELS=smart-turn",
        "eot.model",
    ],
)
def test_the_refusal_says_that_nothing_is_lost_and_how_to_serve_one(told: str) -> None:
    assert told in NOT_FETCHED


def test_a_model_that_was_not_chosen_is_no_failure_that_somebody_is_rung_for(cache: Path) -> None:
    failure = load_model(EotConfig())

    assert isinstance(failure, Failure)
    assert failure.kind is Kind.NOT_SERVED
    assert not re.search(rf"\b{failure.kind}\b", ALERTS.read_text())


def test_detection_can_be_switched_off(cache: Path) -> None:
    failure = load_model(EotConfig(enabled=False))

    assert isinstance(failure, Failure)
    assert "eot.enabled" in failure.message


def test_a_fetched_file_that_was_changed_is_an_error(cache: Path) -> None:
    weights = fetch.WEIGHTS["smart-turn"]
    place = cache / "models" / "smart-turn"
    place.mkdir(parents=True)
    (place / weights.files[0].name).write_bytes(b"changed")

    with pytest.raises(ModelError, match="not the pinned file"):
        load_model(EotConfig())


def test_a_configured_model_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        EotEngine(EotConfig(model=tmp_path / "m.onnx"), Metrics())


def test_the_interruption_model_is_left_out_where_it_is_not_wanted(tmp_path: Path) -> None:
    path = turn_model.write(tmp_path / "m.onnx")

    def listen(answered: object) -> None:
        raise AssertionError

    engine = EotEngine(EotConfig(model=path, backchannel=False), Metrics(), listen)  # type: ignore[arg-type]

    assert engine.listen is None
    engine.close()


@pytest.mark.parametrize(
    ("config", "default", "languages"),
    [
        ({}, 0.4, {"en": 0.4, "de": 0.3}),
        ({"thresholds": {"de": 0.6, "fr": 0.2}}, 0.4, {"en": 0.4, "de": 0.6, "fr": 0.2}),
        ({"threshold": 0.7}, 0.7, {}),
        ({"threshold": 0.7, "thresholds": {"de": 0.6}}, 0.7, {"de": 0.6}),
    ],
)
def test_configured_thresholds_come_before_the_models_own(
    tmp_path: Path, config: dict[str, object], default: float, languages: dict[str, float]
) -> None:
    model = TurnModel(turn_model.write(tmp_path / "m.onnx"))

    told = thresholds(EotConfig.model_validate(config), model)

    assert (told.default, told.languages) == (default, languages)
    assert told.backchannel_default == 0
