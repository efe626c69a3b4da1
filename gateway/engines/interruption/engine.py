"""The interruption model as a service for many sessions: loads it, batches, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.engines.batcher import Batcher, Timing
from gateway.engines.interruption.decision import claim
from gateway.engines.interruption.disputed import version_of
from gateway.engines.interruption.learning import model_path
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


def load_model(config: BargeinConfig, path: Path | None = None) -> FrameModel:
    """The configured model, or the one in the file `path`. Raises ModelError."""
    path = path or config.model or shipped_model()
    model = FrameModel(path, interface=INTERFACE, threads=config.threads)
    if model.card.sample_rate != 16_000:
        raise ModelError(f"{path}: sample_rate is {model.card.sample_rate}: the clients send 16000")
    return model


def check_versions(config: BargeinConfig) -> None:
    """Whether each of `bargein.models` can be loaded, and hears as the main one does. Raises
    ModelError."""
    if not config.models:
        return
    main = load_model(config).card
    for name in config.models:
        card = load_model(config, model_path(config, name)).card
        if card.frame_samples != main.frame_samples:
            raise ModelError(
                f"{name}: its frames have {card.frame_samples} samples, those of the main "
                f"model {main.frame_samples}"
            )


class Version:
    """A model that some calls are served by. It goes once nobody serves with it any more."""

    def __init__(self, model: FrameModel, batch: int, metrics: Metrics, name: str) -> None:
        model.warm()
        self.model = BargeinModel(model)
        self.card: FrameModelCard = model.card
        self.batcher: Batcher[Question, Floats] = Batcher(
            self.model.run, batch_max=batch, observer=BatchMetrics(metrics, name), name=name
        )
        self.open = 0
        """Sessions that go by it."""
        self.retired = False
        for outcome in ("interruption", "held"):
            metrics.bargein_version_overlaps.labels(self.name, outcome)
        metrics.bargein_version_decision.labels(self.name)
        for outcome in ("agreed", "cut", "missed", "unknown"):
            metrics.bargein_followed.labels(self.name, outcome)

    @property
    def name(self) -> str:
        """For metrics."""
        return self.card.version

    def leave(self) -> None:
        """A session is over."""
        self.open -= 1
        self.end_if_unused()

    def end_if_unused(self) -> None:
        if self.retired and not self.open:
            self.batcher.close()


class BargeinEngine:
    """One for each process."""

    def __init__(self, config: BargeinConfig, metrics: Metrics) -> None:
        self._metrics = metrics
        self.main = Version(load_model(config), config.batch, metrics, "interruption")
        self.model = self.main.model
        self.card: FrameModelCard = self.main.card
        self.batcher = self.main.batcher
        self._loaded: dict[tuple[Path, int], Version] = {}
        """Other versions, by file and the time of its last change."""
        self._others: tuple[Version, ...] = ()
        self._shares: tuple[float, ...] = ()
        self.decide_by(config, self.prepare(config))

    def prepare(self, config: BargeinConfig) -> tuple[Version, ...]:
        """The versions of `config.models`, in order: what is loaded is taken, the rest is loaded,
        which takes a while. Raises ModelError."""
        check_versions(config)
        found = []
        for name in config.models:
            path = model_path(config, name)
            known = self._loaded.get((path, path.stat().st_mtime_ns))
            if known is None:
                model = load_model(config, path)
                known = Version(model, config.batch, self._metrics, "interruption_other")
                self._loaded[path, path.stat().st_mtime_ns] = known
            found.append(known)
        return tuple(found)

    def decide_by(self, config: BargeinConfig, others: tuple[Version, ...] = ()) -> None:
        """Of `config`, what needs no restart, with the versions that `prepare` made: for sessions
        that begin from now on."""
        self.eagerness_of = config.eagerness_of
        self.default_threshold = config.threshold or self.card.default_threshold
        self._others, self._shares = others, tuple(config.models.values())
        for key, version in list(self._loaded.items()):
            if version not in others:
                del self._loaded[key]
                version.retired = True
                version.end_if_unused()

    def version_of(self, call: str) -> Version:
        """Which version serves `call`; the same one everywhere. Without a call, the main one."""
        if not self._others or not call:
            return self.main
        number = version_of(call, self._shares)
        return self.main if number < 0 else self._others[number]

    def listener(self, answered: Callable[[int, float | None], None]) -> Listener:
        """One who asks about audio that stands alone; see `Listener`."""
        return Listener(self, answered)

    def close(self) -> None:
        for version in (self.main, *self._loaded.values()):
            version.batcher.close()


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
