"""Two-channel conversations with labelled events: hits, false alarms, and when they were decided.

The CSV has a header and one row for each event:

    audio      WAV or FLAC, relative to the CSV; any rate
    channel    the caller's channel in that file, from 0
    label      interruption | backchannel | other
    onset_s    when the event starts, in seconds of the file
    end_s      when it ends
    source     optional: speaker or call; intervals are drawn over it (default: the file)

A detection from 0.25 s before to 3.0 s after an interruption's onset is a hit, one inside a
backchannel (or an `other` event) is a false alarm. A detection counts at the time at which the
server's answer would have been given, not at the frame that caused it. As in a client, requests
start when a VAD (Silero) hears the caller, 1 s before that onset is sent along, one request goes
out for each 100 ms, and after a detection nothing is asked until the caller has fallen silent.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.engines.interruption.decision import first_detection
from models.interruption.evaluate import channels, scoring
from models.interruption.evaluate.channels import SAMPLE_RATE
from models.interruption.pretrained.silero import VAD_FRAME, speech_probabilities

HIT_BEFORE_S, HIT_AFTER_S = 0.25, 3.0
SILENCE_S = 0.55  # the clients' VAD calls speech ended after this much silence
COLUMNS = ("audio", "channel", "label", "onset_s", "end_s")
LABELS = ("interruption", "backchannel", "other")

Span = tuple[float, float]


@dataclass(frozen=True)
class Event:
    label: str
    onset_s: float
    end_s: float
    source: str


@dataclass(frozen=True)
class Verdict:
    """What became of one event; `delay_s` from its onset to the decision that hit it."""

    event: Event
    detected: bool
    delay_s: float | None = None


@dataclass(frozen=True)
class Conversation:
    audio: Path
    channel: int
    events: tuple[Event, ...]


def read_conversations(path: Path) -> list[Conversation]:
    events: dict[tuple[Path, int], list[Event]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: columns missing: {', '.join(sorted(missing))}")
        for row in reader:
            if row["label"] not in LABELS:
                raise ValueError(f"{path}, line {reader.line_num}: label {row['label']!r}")
            event = Event(
                label=row["label"],
                onset_s=float(row["onset_s"]),
                end_s=float(row["end_s"]),
                source=row.get("source") or row["audio"],
            )
            events[path.parent / row["audio"], int(row["channel"])].append(event)
    return [
        Conversation(audio, channel, tuple(found)) for (audio, channel), found in events.items()
    ]


def verdicts(events: Sequence[Event], detections_s: Sequence[float]) -> list[Verdict]:
    """The rule, alone: which detections hit what."""
    out = []
    for event in events:
        if event.label == "interruption":
            begin, end = event.onset_s - HIT_BEFORE_S, event.onset_s + HIT_AFTER_S
        else:
            begin, end = event.onset_s, event.end_s
        inside = [at for at in detections_s if begin <= at <= end]
        delay = min(inside) - event.onset_s if inside else None
        out.append(Verdict(event, bool(inside), delay))
    return out


Vad = Callable[[NDArray[np.float32]], NDArray[np.floating]]  # P(speech) of each 32 ms


def speech_spans(samples: NDArray[np.float64], speech: Vad) -> list[Span]:
    """When the client would ask: from a VAD's onset until SILENCE_S after the last speech."""
    heard = speech(samples.astype(np.float32)) >= 0.5
    spans: list[Span] = []
    begin, last = None, 0
    for frame, speaks in enumerate(heard):
        if speaks and begin is None and frame + 1 < len(heard) and heard[frame + 1]:
            begin = frame
        if begin is None:
            continue
        if speaks:
            last = frame
        elif (frame - last) * VAD_FRAME / SAMPLE_RATE >= SILENCE_S:
            spans.append((begin * VAD_FRAME / SAMPLE_RATE, (frame + 1) * VAD_FRAME / SAMPLE_RATE))
            begin = None
    if begin is not None:
        spans.append((begin * VAD_FRAME / SAMPLE_RATE, len(samples) / SAMPLE_RATE))
    return spans


def detections(
    samples: NDArray[np.int16],
    spans: Sequence[Span],
    streamed: Callable[[NDArray[np.int16], float], scoring.Floats],
    threshold: float,
    min_frames: int = scoring.MIN_FRAMES,
) -> list[float]:
    """At most one decision for each span, at the time of its request."""
    found = []
    for onset_s, end_s in spans:
        before_s = min(1.0, onset_s) // scoring.FRAME_S * scoring.FRAME_S
        begin = round((onset_s - before_s) * SAMPLE_RATE)
        end = begin + (round(end_s * SAMPLE_RATE) - begin) // 400 * 400
        probabilities = streamed(samples[begin:end], before_s)
        step_frames = round(scoring.STEP_S / scoring.FRAME_S)
        first = round(before_s / scoring.FRAME_S) + step_frames
        for known in range(first, len(probabilities) + 1, step_frames):
            window = probabilities[max(0, known - scoring.WINDOW_FRAMES) : known]
            if first_detection(window, threshold, min_frames) is not None:
                found.append(begin / SAMPLE_RATE + known * scoring.FRAME_S)
                break
    return found


def read_channel(path: Path, channel: int) -> NDArray[np.float64]:
    import soundfile

    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    if channel >= samples.shape[1]:
        raise ValueError(f"{path} has {samples.shape[1]} channels, the CSV asks for {channel}")
    return channels.resampled(samples[:, channel], rate, SAMPLE_RATE)


def scored_table(
    path: Path, model: scoring.Model, threshold: float, speech: Vad = speech_probabilities
) -> str:
    """The whole CSV as Markdown."""
    every: list[Verdict] = []
    elsewhere, seconds = 0, 0.0
    for conversation in read_conversations(path):
        samples = read_channel(conversation.audio, conversation.channel)
        spans = speech_spans(samples, speech)
        at = detections(channels.as_int16(samples), spans, model.streamed, threshold)
        every += verdicts(conversation.events, at)
        elsewhere += sum(
            not any(v.detected for v in verdicts(conversation.events, [one])) for one in at
        )
        seconds += len(samples) / SAMPLE_RATE
    return table(every, elsewhere, seconds, threshold)


def table(every: Sequence[Verdict], elsewhere: int, seconds: float, threshold: float) -> str:
    from models.interruption.evaluate import report

    rows = []
    for label in LABELS:
        members = [verdict for verdict in every if verdict.event.label == label]
        if not members:
            continue
        share = scoring.rate(
            [verdict.detected for verdict in members],
            [verdict.event.source for verdict in members],
        )
        delays = [v.delay_s for v in members if v.delay_s is not None]
        rows.append(
            [
                "recall of interruptions" if label == "interruption" else f"false alarms: {label}",
                str(len(members)),
                report.spread(share, 3),
                report.milliseconds(float(np.median(delays))) if delays else "-",
                report.milliseconds(float(np.percentile(delays, 90))) if delays else "-",
            ]
        )
    hits = sum(v.detected for v in every if v.event.label == "interruption")
    false = sum(v.detected for v in every if v.event.label != "interruption")
    precision = report.number(hits / (hits + false)) if hits + false else "-"
    asked = sum(v.event.label == "interruption" for v in every)
    base_rate = report.number(asked / len(every)) if every else "-"
    return "\n".join(
        [
            report.table(["", "n", "share", "median ms", "p90 ms"], rows),
            "",
            f"Threshold {threshold:g}, min_frames {scoring.MIN_FRAMES}. Precision {precision} at a "
            f"base rate of {base_rate}. {elsewhere} detections outside every event in "
            f"{seconds / 60:.1f} minutes.",
            "",
        ]
    )
