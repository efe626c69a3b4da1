"""The interruption model, asked by another conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from gateway.engines.interruption.engine import BargeinEngine, check_versions
from gateway.engines.interruption.model import Question
from gateway.engines.types import ModelError
from gateway.settings.bargein import BargeinConfig
from gateway.telemetry.metrics import Metrics
from tests.fakes import frame_model


async def test_a_listener_is_told_the_claim_of_audio_that_stands_alone(tmp_path: Path) -> None:
    path = frame_model.write(tmp_path / "m.onnx")
    engine = BargeinEngine(BargeinConfig(model=path), Metrics())
    claims: asyncio.Queue[tuple[int, float | None]] = asyncio.Queue()
    listener = engine.listener(lambda number, claim: claims.put_nowait((number, claim)))
    audio = np.full(16000 * 5, 8192, np.int16).tobytes()  # more than a window

    listener.ask(7, audio)
    assert await asyncio.wait_for(claims.get(), 60) == (7, 0.25)
    listener.ask(8, b"\0\0" * 800)
    assert await asyncio.wait_for(claims.get(), 60) == (8, 0.0)

    listener.leave()
    engine.close()


def versions(folder: Path, *shares: float) -> BargeinConfig:
    """A main model, and published ones of these shares."""
    for number in range(len(shares)):
        frame_model.write(folder / "models" / f"{number}.onnx")
    return BargeinConfig.model_validate(
        {
            "model": frame_model.write(folder / "main.onnx"),
            "learn": {"folder": folder},
            "models": {f"{n}.onnx": share for n, share in enumerate(shares)},
        }
    )


async def test_a_share_of_calls_has_the_other_version_until_it_is_taken_back(
    tmp_path: Path,
) -> None:
    (tmp_path / "models").mkdir()
    config = versions(tmp_path, 0.5)
    engine = BargeinEngine(config, Metrics())
    calls = [f"call {number}" for number in range(200)]
    chosen = {call: engine.version_of(call) for call in calls}
    other = next(one for one in chosen.values() if one is not engine.main)

    assert 60 < sum(one is other for one in chosen.values()) < 140
    assert engine.version_of("") is engine.main
    assert engine.prepare(config) == (other,)  # what is loaded is not loaded again

    other.open += 1  # a session goes on
    without = config.model_copy(update={"models": {}})
    engine.decide_by(without, engine.prepare(without))
    assert {engine.version_of(call) for call in calls} == {engine.main}
    answers: asyncio.Queue[bool] = asyncio.Queue()
    place = other.batcher.place(lambda _, floats, __: answers.put_nowait(floats is not None))
    place.ask(Question(other.model.track(), bytes(3200)))
    assert await asyncio.wait_for(answers.get(), 60)
    other.leave()
    engine.close()


def test_a_version_that_is_not_there_or_hears_otherwise_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    config = versions(tmp_path, 0.5)
    check_versions(config)
    (tmp_path / "models" / "0.onnx").unlink()
    with pytest.raises(ModelError, match="there is no such file"):
        check_versions(config)
    with pytest.raises(ModelError, match="there is no such file"):
        BargeinEngine(config, Metrics())


def test_what_is_counted_of_a_version_is_there_from_the_start(tmp_path: Path) -> None:
    metrics = Metrics()
    engine = BargeinEngine(BargeinConfig(model=frame_model.write(tmp_path / "m.onnx")), metrics)
    engine.close()

    for counter in (metrics.bargein_version_overlaps, metrics.bargein_followed):
        (family,) = counter.collect()
        assert {sample.labels["version"] for sample in family.samples} == {"test"}
        assert all(sample.value == 0 for sample in family.samples)
