"""From clips and a model to figures: streams as the server does, decides as the client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.engines.interruption.decision import first_detection
from gateway.engines.interruption.model import INTERFACE, BargeinModel, Question
from gateway.engines.onnx import FrameModel
from models.interruption.evaluate.trials import AFTER_S, BACKCHANNEL, BEFORE_S, TURN, Trial

SAMPLE_RATE = 16_000
FRAME_S = 0.025
STEP_S = 0.1  # one request per 100 ms of new audio
WINDOW_FRAMES = 120  # 3 s
TIMES_S = (0.3, 0.5, 0.6, 0.8, 1.0, 1.2)
DECIDED_AT_S = (0.3, 0.5, 1.0)
MIN_FRAMES = 2
RESAMPLINGS = 1000

Floats = NDArray[np.float64]
Estimate = tuple[float, float, float]  # value, and the ends of its 95 % interval


class Model:
    """The ONNX file under test, with its state carried from step to step."""

    def __init__(self, path: Path) -> None:
        self.frames = FrameModel(path, interface=INTERFACE)
        self.threshold = self.frames.card.default_threshold
        self.metadata = described(path)
        self.bytes = path.stat().st_size

    def start(self) -> NDArray[np.float32]:
        return self.frames.blank_state()

    def step(
        self, samples: NDArray[np.int16], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        probabilities, states = self.frames.run(samples[None], state[None])
        return probabilities[0], states[0]

    def whole(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        return self.step(samples, self.start())[0]

    def streamed(self, samples: NDArray[np.int16], before_s: float = BEFORE_S) -> Floats:
        """Frame probabilities when the first request holds what precedes the onset + 100 ms."""
        step = round(STEP_S * SAMPLE_RATE)
        first = round(before_s * SAMPLE_RATE) // 400 * 400 + step
        state, found = self.start(), []
        for start, end in zip(
            [0, *range(first, len(samples), step)],
            [*range(first, len(samples), step), len(samples)],
            strict=True,
        ):
            part, state = self.step(samples[start:end], state)
            found.append(part)
        return np.concatenate(found).astype(np.float64)


def described(path: Path) -> dict[str, str]:
    """All that the file says of itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def served(model: Model, samples: NDArray[np.int16]) -> list[Floats]:
    """What the server answers to each request of one caller: windows that grow, then slide."""
    server = BargeinModel(model.frames)
    track = server.track()
    answers = []
    for step in range(1, round(AFTER_S / STEP_S) + 1):
        end = round((BEFORE_S + step * STEP_S) * SAMPLE_RATE)
        window = samples[max(0, end - 3 * SAMPLE_RATE) : end].tobytes()
        answers.append(server.run([Question(track, window)])[0].astype(np.float64))
    return answers


def milliseconds(model: Model) -> dict[str, float]:
    """Median CPU time for a whole 3 s window and for 100 ms with state, whatever else runs."""
    rng = np.random.default_rng(0)
    window = (rng.standard_normal(3 * SAMPLE_RATE) * 1000).astype(np.int16)
    _, state = model.step(window, model.start())
    costs: dict[str, list[float]] = {"3 s window": [], "100 ms step": []}
    for _ in range(60):
        begin = time.process_time()
        model.whole(window)
        middle = time.process_time()
        model.step(window[:1600], state)
        costs["3 s window"].append(middle - begin)
        costs["100 ms step"].append(time.process_time() - middle)
    return {name: float(np.median(seconds)) * 1000 for name, seconds in costs.items()}


def frames_at(seconds: float) -> int:
    """How many frames are known `seconds` after the onset."""
    return round((BEFORE_S + seconds) / FRAME_S)


def decided_after_s(probabilities: Floats, threshold: float, min_frames: int) -> float | None:
    """Seconds from the onset to the answer that says `bargein_detected`, in steps of requests."""
    for step in range(1, round(AFTER_S / STEP_S) + 1):
        known = frames_at(step * STEP_S)
        window = probabilities[max(0, known - WINDOW_FRAMES) : known]
        if first_detection(window, threshold, min_frames) is not None:
            return step * STEP_S
    return None


def decision_score(probabilities: Floats, seconds: float, min_frames: int = MIN_FRAMES) -> float:
    """The highest threshold at which this clip would have been an interruption by then."""
    known = probabilities[: frames_at(seconds)]
    runs = np.lib.stride_tricks.sliding_window_view(known, min_frames)
    return float(runs.min(axis=1).max())


def newest_score(probabilities: Floats, seconds: float) -> float:
    """What the model thinks now: the mean of the newest 100 ms."""
    return float(probabilities[frames_at(seconds) - 4 : frames_at(seconds)].mean())


Weights = NDArray[np.float64]  # (resampling, trial): how often the trial was drawn


def _per_resampling(over: Floats, under: Floats) -> Floats:
    """Elementwise, nan where nothing of a class was drawn."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(under > 0, over / under, np.nan)


def auc(scores: Floats, positive: NDArray[np.bool_], weights: Weights) -> Floats:
    """The chance that an interruption scores above a non-interruption; ties count half."""
    up, down = scores[positive][:, None], scores[~positive][None]
    above = (up > down) + 0.5 * (up == down)
    of_up, of_down = weights[:, positive], weights[:, ~positive]
    won = ((of_up @ above) * of_down).sum(axis=1)
    return _per_resampling(won, of_up.sum(axis=1) * of_down.sum(axis=1))


def average_precision(scores: Floats, positive: NDArray[np.bool_], weights: Weights) -> Floats:
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    drawn = weights[:, order]
    found = np.cumsum(drawn * positive[order], axis=1)
    asked = np.cumsum(drawn, axis=1)[:, last_of_tie]
    more = np.diff(found[:, last_of_tie], axis=1, prepend=0)
    precision = np.nan_to_num(_per_resampling(found[:, last_of_tie], asked))
    return _per_resampling((more * precision).sum(axis=1), found[:, -1])


def mean(flags: Floats, weights: Weights) -> Floats:
    return _per_resampling(weights @ flags, weights.sum(axis=1))


def interval(
    sources: Sequence[str], figure: Callable[[Weights], Floats], seed: int = 5
) -> Estimate:
    """`figure` of all, and its 95 % interval when whole sources are drawn with replacement."""
    rng = np.random.default_rng(seed)
    names, number = np.unique(np.asarray(sources), return_inverse=True)
    value = float(figure(np.ones((1, len(number))))[0])
    if len(names) < 2:
        return value, float("nan"), float("nan")
    even = np.full(len(names), 1 / len(names))
    drawn = rng.multinomial(len(names), even, size=RESAMPLINGS).astype(np.float64)
    found = figure(drawn[:, number])
    found = found[~np.isnan(found)]
    if not len(found):
        return value, float("nan"), float("nan")
    low, high = np.percentile(found, [2.5, 97.5])
    return value, float(low), float(high)


def rate(hits: Sequence[bool], sources: Sequence[str]) -> Estimate:
    flags = np.asarray(hits, float)
    if not len(flags):
        return float("nan"), float("nan"), float("nan")
    value, low, high = interval(sources, lambda weights: mean(flags, weights))
    if flags.all() or not flags.any():  # resampling has no spread here: Wilson's bound instead
        n, z = len(flags), 1.96
        reach = z * z / (n + z * z)
        return (value, 1 - reach, 1.0) if flags.all() else (value, 0.0, reach)
    return value, low, high


def precision_at(base_rate: float, recall: float, false_alarms: float) -> float:
    found = base_rate * recall
    return found / (found + (1 - base_rate) * false_alarms) if found else 0.0


@dataclass(frozen=True)
class Scored:
    trial: Trial
    probabilities: Floats
    decided_s: float | None
    pair: NDArray[np.float64] | None = None  # (speech seconds, 1 - smart-turn) at PAIR_TIMES_S
    speech_s: float = 0.0  # what Silero takes for speech in the whole trial

    def decided_by(self, seconds: float) -> bool:
        return self.decided_s is not None and self.decided_s <= seconds + 1e-9


PAIR_TIMES_S = (*TIMES_S, 1.5)  # smart-turn takes 35 ms of a core at each


def pair_scores(scored: Sequence[Scored]) -> dict[str, Floats]:
    """(clip, time) of the two baselines; z-scores are taken over this table's clips and times."""
    features = np.array([item.pair for item in scored])
    usual = features.mean(axis=(0, 2), keepdims=True)
    spread = features.std(axis=(0, 2), keepdims=True) + 1e-9
    return {
        "speech seconds": features[:, 0],
        "speech seconds + (1 - smart-turn)": ((features - usual) / spread).sum(axis=1),
    }


def fires_before_onset(item: Scored, threshold: float) -> bool:
    """Whether the room alone would do: such a hit is luck."""
    before = item.probabilities[: frames_at(0)]
    return first_detection(before, threshold, MIN_FRAMES) is not None


def vad_fires(item: Scored) -> bool:
    """Whether Silero hears 0.1 s of speech: without it, a client would not ask at all."""
    return item.speech_s >= 0.1


def running_maximum(scores: Floats) -> Floats:
    """A cut cannot be taken back: what a threshold would have met by each time."""
    return np.maximum.accumulate(scores, axis=1)


@dataclass(frozen=True)
class AtFalseAlarms:
    """The operating point that lets through `allowed` of the negatives, chosen on these clips."""

    recall: float
    false_alarms: float
    median_delay_s: float
    threshold: float


def at_false_alarms(
    scores_by_time: Floats, times_s: Sequence[float], positive: NDArray[np.bool_], allowed: float
) -> AtFalseAlarms:
    reached = running_maximum(scores_by_time)
    negatives = np.sort(reached[~positive, -1])[::-1]
    passed = int(np.floor(allowed * len(negatives)))
    above = negatives[passed] if passed < len(negatives) else -np.inf
    fired = reached > above
    delays = [times_s[int(np.argmax(row))] for row in fired[positive] if row[-1]]
    return AtFalseAlarms(
        recall=float(fired[positive, -1].mean()),
        false_alarms=float(fired[~positive, -1].mean()),
        median_delay_s=float(np.median(delays)) if delays else float("nan"),
        threshold=float(above),
    )


def calibration(
    probabilities: Floats, positive: NDArray[np.bool_], bins: int = 10
) -> tuple[float, list[tuple[float, float, int]]]:
    """Brier score, and (mean probability, share of interruptions, clips) of each occupied bin."""
    brier = float(np.mean((probabilities - positive) ** 2))
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        if inside.any():
            found.append(
                (
                    float(probabilities[inside].mean()),
                    float(positive[inside].mean()),
                    int(inside.sum()),
                )
            )
    return brier, found


def summary(
    scored: Sequence[Scored], threshold: float, times_s: Sequence[float] = TIMES_S
) -> dict[str, Any]:
    """All figures of one table of clips: one channel, positives and negatives together."""
    positive = np.array([item.trial.positive for item in scored])
    sources = [item.trial.source for item in scored]
    ranked = against_backchannels(scored)
    kinds = sorted({item.trial.kind for item in scored if not item.trial.positive})
    out: dict[str, Any] = {
        "interruptions": int(positive.sum()),
        "others": int((~positive).sum()),
        "sources": len(set(sources)),
        "base_rate": float(positive.mean()),
        "decisions": {},
        "threshold": threshold,
    }
    out["ranking"] = {seconds: _ranking(ranked, seconds) for seconds in times_s}
    for seconds in DECIDED_AT_S:
        of_kind = {}
        for kind in ["interruption", *kinds]:
            members = [item for item in scored if item.trial.kind == kind]
            of_kind[kind] = {
                "n": len(members),
                "rate": rate(
                    [item.decided_by(seconds) for item in members],
                    [item.trial.source for item in members],
                ),
            }
        out["decisions"][seconds] = of_kind
    out["ever"] = {
        kind: {
            "n": sum(item.trial.kind == kind for item in scored),
            "rate": rate(
                [item.decided_s is not None for item in scored if item.trial.kind == kind],
                [item.trial.source for item in scored if item.trial.kind == kind],
            ),
        }
        for kind in ["interruption", *kinds]
    }
    delays = [item.decided_s for item in scored if item.trial.positive and item.decided_s]
    out["delay_s"] = (
        {"median": float(np.median(delays)), "p90": float(np.percentile(delays, 90))}
        if delays
        else {"median": float("nan"), "p90": float("nan")}
    )
    out["precision"] = _precision(scored)
    out["before_onset"] = float(np.mean([fires_before_onset(item, threshold) for item in scored]))
    out["heard_by_vad"] = {
        kind: {
            "n": len(heard),
            "rate": rate([i.decided_by(1.0) for i in heard], [i.trial.source for i in heard]),
        }
        for kind in kinds
        if (heard := [i for i in scored if i.trial.kind == kind and vad_fires(i)])
    }
    newest = np.array([newest_score(item.probabilities, 1.0) for item in ranked])
    brier, bins = calibration(newest, np.array([item.trial.positive for item in ranked]))
    out["brier"], out["reliability"] = brier, bins
    out["same_false_alarms"] = _same_false_alarms(ranked)
    return out


def against_backchannels(scored: Sequence[Scored]) -> list[Scored]:
    """What is ranked: interruptions and backchannels, or all where there are no backchannels."""
    kinds = {item.trial.kind for item in scored}
    wanted = {TURN, BACKCHANNEL} if BACKCHANNEL in kinds else kinds
    return [item for item in scored if item.trial.kind in wanted]


def _ranking(scored: Sequence[Scored], seconds: float) -> dict[str, Any]:
    positive = np.array([item.trial.positive for item in scored])
    sources = [item.trial.source for item in scored]
    decided = np.array([decision_score(item.probabilities, seconds) for item in scored])
    newest = np.array([newest_score(item.probabilities, seconds) for item in scored])
    row: dict[str, Any] = {
        "auc": _drawn(auc, decided, positive, sources),
        "average_precision": _drawn(average_precision, decided, positive, sources),
        "auc_newest": _drawn(auc, newest, positive, sources),
    }
    if all(item.pair is not None for item in scored):
        features = np.array([item.pair for item in scored])[:, :, PAIR_TIMES_S.index(seconds)]
        z = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
        row["auc_speech_seconds"] = _drawn(auc, features[:, 0], positive, sources)
        row["auc_pair"] = _drawn(auc, z.sum(axis=1), positive, sources)
        row["average_precision_speech_seconds"] = _plain(features[:, 0], positive)
        row["average_precision_pair"] = _plain(z.sum(axis=1), positive)
    return row


def _drawn(
    figure: Callable[[Floats, NDArray[np.bool_], Weights], Floats],
    scores: Floats,
    positive: NDArray[np.bool_],
    sources: Sequence[str],
) -> Estimate:
    return interval(sources, lambda weights: figure(scores, positive, weights))


def _plain(scores: Floats, positive: NDArray[np.bool_]) -> float:
    return float(average_precision(scores, positive, np.ones((1, len(scores))))[0])


def _precision(scored: Sequence[Scored]) -> dict[str, Any]:
    recall = np.mean([item.decided_by(1.0) for item in scored if item.trial.positive])
    false = [item.decided_by(1.0) for item in scored if not item.trial.positive]
    false_alarms = float(np.mean(false)) if false else float("nan")
    base = float(np.mean([item.trial.positive for item in scored]))
    return {
        "base_rate": base,
        "at_base_rate": precision_at(base, float(recall), false_alarms),
        "at_half": precision_at(0.5, float(recall), false_alarms),
        "at_fifth": precision_at(0.2, float(recall), false_alarms),
    }


def _same_false_alarms(
    scored: Sequence[Scored],
) -> dict[str, dict[str, AtFalseAlarms]]:
    positive = np.array([item.trial.positive for item in scored])
    if not positive.any() or positive.all():
        return {}
    ours = np.array(
        [[decision_score(item.probabilities, t) for t in PAIR_TIMES_S] for item in scored]
    )
    ways = {"this model": ours}
    if all(item.pair is not None for item in scored):
        ways |= pair_scores(scored)
    return {
        name: {
            f"{allowed:g}": at_false_alarms(scores, PAIR_TIMES_S, positive, allowed)
            for allowed in (0.05, 0.1, 0.2)
        }
        for name, scores in ways.items()
    }
