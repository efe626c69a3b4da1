"""The end-of-turn model as a service for many sessions: loads it, batches, reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from gateway.engines.batcher import Batcher
from gateway.engines.turn_detection.model import Question, TurnModel
from gateway.engines.types import ModelError, Prediction, Thresholds
from gateway.settings.eot import EotConfig
from gateway.telemetry.metrics import BatchMetrics, Metrics
from gateway.upstreams.errors import Failure, Kind
from gateway.weights import fetch

_logger = logging.getLogger(__name__)

STALE_S: Final = 0.5
"""A request that has waited so long is answered without a prediction: the clients leave this server
for good after 1 s, and a batch and the way back take their time too."""

DEFAULT_MODEL: Final = "smart-turn"
"""Name of the fetched model (see gateway.fetch)."""

NOT_FETCHED: Final = (
    "no end-of-turn model was chosen, and none is needed: clients use the detector that they "
    f"carry. To serve one, run `gateway models fetch {DEFAULT_MODEL}` and start again (a container "
    f"image: build it with `--build-arg MODELS={DEFAULT_MODEL}`), or name an ONNX file as eot.model"
)
"""Nothing is fetched unasked: the clients' own detector may be the better one."""


class Listener(Protocol):
    """Asks the interruption model about audio that stands alone."""

    def ask(self, number: int, audio: bytes) -> None: ...

    def leave(self) -> None: ...


Listen = Callable[[Callable[[int, float | None], None]], Listener]
"""Makes a listener; the given function is told of every answer (see bargein.engine.Listener)."""


def model_path(config: EotConfig) -> Path | None:
    """The file of the configured model, or of the default one; None if that was not fetched.

    Raises ModelError if the fetched file is not the pinned one.
    """
    if config.model is not None:
        return config.model
    try:
        folder = fetch.find(DEFAULT_MODEL)
    except fetch.FetchError as error:
        raise ModelError(str(error)) from None
    return folder / fetch.WEIGHTS[DEFAULT_MODEL].files[0].name if folder is not None else None


def load_model(config: EotConfig) -> TurnModel | Failure:
    """The model, or why /eot is not served. Raises ModelError."""
    if not config.enabled:
        return Failure(Kind.NOT_SERVED, "end-of-turn detection is switched off (eot.enabled)")
    path = model_path(config)
    if path is None:
        return Failure(Kind.NOT_SERVED, NOT_FETCHED)
    return TurnModel(path, threads=config.threads)


class EotEngine:
    """One for each process. `failure` says why nothing is predicted, if nothing is."""

    def __init__(self, config: EotConfig, metrics: Metrics, listen: Listen | None = None) -> None:
        self.listen = listen if config.backchannel else None
        self.failure: Failure | None = None
        self.model: TurnModel | None = None
        self._batcher: Batcher[Question, Prediction] | None = None
        loaded = load_model(config)
        if isinstance(loaded, Failure):
            self.failure = loaded
            _logger.info("/eot is not served: %s", loaded.message)  # a choice, no fault
            return
        self.model = loaded
        self.model.warm()
        self.thresholds = thresholds(config, self.model)
        self._batcher = Batcher(
            self.model.run,
            batch_max=config.batch,
            observer=BatchMetrics(metrics, "turn"),
            stale_s=STALE_S,
            name="turn",
        )

    @property
    def batcher(self) -> Batcher[Question, Prediction]:
        assert self._batcher is not None
        return self._batcher

    def close(self) -> None:
        if self._batcher is not None:
            self._batcher.close()


def thresholds(config: EotConfig, model: TurnModel) -> Thresholds:
    """What clients are told: the model's own thresholds under those of the configuration.

    A default that is configured is meant for every language that is not."""
    languages = dict(model.card.thresholds) if config.threshold is None else {}
    return Thresholds(
        default=config.threshold or model.card.default_threshold,
        languages=languages | config.thresholds,
        backchannel_default=config.backchannel_threshold or 0.0,
    )
