from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.conversations.bargein import route
from gateway.conversations.bargein.route import BargeinWindowRoute
from gateway.engines.interruption.engine import BargeinEngine
from gateway.engines.interruption.model import Question
from gateway.engines.types import Floats
from gateway.server.admission import Admission, RequestContext, SessionLimiter
from gateway.server.auth import Authenticator, Principal
from gateway.settings.bargein import BargeinConfig
from gateway.settings.server import LimitsConfig
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.outcome import BargeinCounts

STEP = 3200  # bytes of 100 ms


class Model:
    """The engine's own, held up while `free` is not set."""

    def __init__(self, engine: BargeinEngine) -> None:
        self.free = threading.Event()
        self.free.set()
        self._run = engine.model.run

    def run(self, questions: list[Question]) -> list[Floats]:
        self.free.wait()
        return self._run(questions)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[BargeinEngine]:
    monkeypatch.setattr(route, "ANSWER_S_MAX", 0.05)
    engine = BargeinEngine(BargeinConfig(), Metrics())
    yield engine
    engine.close()


@pytest.fixture
def model(engine: BargeinEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    model = Model(engine)
    monkeypatch.setattr(engine.batcher, "_run", model.run)
    yield model
    model.free.set()


def request(job: str = "job-1") -> RequestContext:
    scope: dict[str, Any] = {
        "type": "http",
        "query_string": b"threshold=0.5&min_frames=2&created_at=7",
        "headers": [(b"x-livekit-job-id", job.encode())],
    }
    door = Admission(Authenticator({}), SessionLimiter(LimitsConfig()), Metrics())
    return RequestContext(door, "bargein", Principal("key", "agent"), scope, 0.0, "req_1")


def sound() -> bytes:
    rng = np.random.default_rng(3)
    return rng.normal(0, 2000, 64_000).astype("<i2").tobytes()


async def asked(
    windows: BargeinWindowRoute, window: bytes, about: RequestContext | None = None
) -> dict[str, Any]:
    body = await windows.answer(about or request(), window)
    assert isinstance(body, bytes)
    answer: dict[str, Any] = orjson.loads(body)
    return answer


async def test_of_a_window_that_continues_one_only_what_is_new_is_heard(
    engine: BargeinEngine, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, heard = BargeinWindowRoute(engine, Metrics(), 1 << 20), sound()
    monkeypatch.setattr(route, "ANSWER_S_MAX", 60.0)
    first, second = request(), request()

    before = await asked(windows, heard[:36_000], first)
    after = await asked(windows, heard[: 36_000 + STEP], second)

    assert first.outcome.speech is not None
    assert first.outcome.speech.audio_s == pytest.approx(45 * 0.025)
    assert second.outcome.speech is not None
    assert second.outcome.speech.audio_s == pytest.approx(0.1)
    assert after["probabilities"][:45] == before["probabilities"]
    assert len(after["probabilities"]) == 49


async def test_a_window_for_which_there_is_no_time_is_answered_with_what_is_known(
    engine: BargeinEngine, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, heard, late = BargeinWindowRoute(engine, Metrics(), 1 << 20), sound(), request()
    with monkeypatch.context() as patient:
        patient.setattr(route, "ANSWER_S_MAX", 60.0)
        before = await asked(windows, heard[:36_000])
    model.free.clear()

    answer = await asked(windows, heard[: 36_000 + STEP], late)

    assert answer["created_at"] == 7
    assert answer["probabilities"] == before["probabilities"]
    assert late.outcome.counts == BargeinCounts(1, 0, 1)


async def test_of_a_stranger_for_whom_there_is_no_time_nothing_is_said(
    engine: BargeinEngine, model: Model
) -> None:
    model.free.clear()

    answer = await asked(BargeinWindowRoute(engine, Metrics(), 1 << 20), sound()[:36_000])

    assert answer["is_bargein"] is False
    assert answer["probabilities"] == [0.0] * 45


async def test_after_a_late_answer_a_caller_is_heard_anew(
    engine: BargeinEngine, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, heard = BargeinWindowRoute(engine, Metrics(), 1 << 20), sound()
    model.free.clear()
    await asked(windows, heard[:36_000])
    model.free.set()
    monkeypatch.setattr(route, "ANSWER_S_MAX", 60.0)

    answer = await asked(windows, heard[: 36_000 + STEP])

    assert len(answer["probabilities"]) == 49
    assert any(answer["probabilities"])


async def test_a_key_has_its_own_eagerness(
    engine: BargeinEngine, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "ANSWER_S_MAX", 60.0)
    answers = []
    for config in (BargeinConfig(), BargeinConfig(eagerness=-4, eagerness_by_key={"key": 2})):
        engine.decide_by(config)
        windows = BargeinWindowRoute(engine, Metrics(), 1 << 20)
        answers.append(await asked(windows, sound()[:36_000]))
    usual, eager = (np.array(answer["probabilities"]) for answer in answers)

    odds = usual / (1 - usual) * np.exp(2)
    assert eager == pytest.approx(odds / (1 + odds), abs=1e-3)
