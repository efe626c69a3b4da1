"""The interruption model as a service for many sessions: loads it, batches, reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.bargein.model import INTERFACE, BargeinModel, Question
from gateway.bargein.settings import BargeinConfig
from gateway.inference.batcher import Batcher
from gateway.inference.onnx import Floats, FrameModel, FrameModelCard, ModelError
from gateway.metrics import Metrics

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_model() -> Path:
    """The model that comes with Parley: inside an installed package, or in a checkout."""
    installed = _PACKAGE / "weights" / "interruption.onnx"
    if installed.is_file():
        return installed
    return _PACKAGE.parent / "models" / "interruption" / "interruption.onnx"


def load_model(config: BargeinConfig) -> FrameModel:
    """The configured model. Raises ModelError."""
    model = FrameModel(config.model or shipped_model(), interface=INTERFACE, threads=config.threads)
    if model.card.sample_rate != 16_000:
        raise ModelError(
            f"{config.model}: sample_rate is {model.card.sample_rate}: the clients send 16000"
        )
    return model


class BatchMetrics:
    """Tells the metrics of every batch."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._queue = metrics.engine_queue.labels(model)
        self._run = metrics.engine_run.labels(model)
        self._batch = metrics.engine_batch.labels(model)
        self._waiting = metrics.engine_waiting.labels(model)

    def ran(self, queued_s: Sequence[float], run_s: float) -> None:
        for wait_s in queued_s:
            self._queue.observe(wait_s)
        self._run.observe(run_s)
        self._batch.observe(len(queued_s))

    def waiting(self, count: int) -> None:
        self._waiting.set(count)


class BargeinEngine:
    """One for each process."""

    def __init__(self, config: BargeinConfig, metrics: Metrics) -> None:
        model = load_model(config)
        model.warm()
        self.model = BargeinModel(model)
        self.card: FrameModelCard = model.card
        self.default_threshold = config.threshold or model.card.default_threshold
        self.batcher: Batcher[Question, Floats] = Batcher(
            self.model.run,
            batch_max=config.batch,
            observer=BatchMetrics(metrics, "interruption"),
            name="interruption",
        )

    def close(self) -> None:
        self.batcher.close()
