"""The interruption model as a service for many sessions: loads it, batches, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.engines.batcher import Batcher, Timing
from gateway.engines.interruption.decision import claim
from gateway.engines.interruption.model import INTERFACE, BargeinModel, Question
from gateway.engines.onnx import FrameModel
from gateway.engines.types import INTERRUPTION_WINDOW_S_MAX, Floats, FrameModelCard, ModelError
from gateway.settings.bargein import BargeinConfig
from gateway.telemetry.metrics import BatchMetrics, Metrics

_PACKAGE = Path(__file__).resolve().parents[2]


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


class BargeinEngine:
    """One for each process."""

    def __init__(self, config: BargeinConfig, metrics: Metrics) -> None:
        model = load_model(config)
        model.warm()
        self.model = BargeinModel(model)
        self.card: FrameModelCard = model.card
        self.decide_by(config)
        self.batcher: Batcher[Question, Floats] = Batcher(
            self.model.run,
            batch_max=config.batch,
            observer=BatchMetrics(metrics, "interruption"),
            name="interruption",
        )

    def decide_by(self, config: BargeinConfig) -> None:
        """Of `config`, what needs no other model: for sessions that begin from now on."""
        self.eagerness_of = config.eagerness_of
        self.default_threshold = config.threshold or self.card.default_threshold

    def listener(self, answered: Callable[[int, float | None], None]) -> Listener:
        """One who asks about audio that stands alone; see `Listener`."""
        return Listener(self, answered)

    def close(self) -> None:
        self.batcher.close()


class Listener:
    """Asks whether somebody claims the floor in some audio, for other conversations than this.

    `answered(number, claim)` is called on the event loop for every question: its number, and the
    probability that a detection rests on (see `decision.claim`), or None if it was overtaken or
    could not be run.
    """

    def __init__(
        self, engine: BargeinEngine, answered: Callable[[int, float | None], None]
    ) -> None:
        self._model = engine.model
        self._bytes_max = 2 * int(INTERRUPTION_WINDOW_S_MAX * engine.card.sample_rate)

        def tell(question: Question, floats: Floats | None, timing: Timing | None) -> None:
            answered(question.created_at, None if floats is None else claim(floats))

        self._place = engine.batcher.place(tell)

    def ask(self, number: int, audio: bytes) -> None:
        """Ask about s16le `audio` at 16 kHz; of more than a window, its end."""
        self._place.ask(Question(self._model.track(), audio[-self._bytes_max :], number))

    def leave(self) -> None:
        self._place.leave()
