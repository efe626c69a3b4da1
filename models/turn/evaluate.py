"""Scores an end-of-turn model on recorded pauses, and chooses its thresholds.

    python -m models.turn.evaluate --audio DIR [--model FILE.onnx] [--out FILE.md]
    python -m models.turn.evaluate --made DIR [DIR ...]

The second form is of made speech, language by language, in a table of its own (see languages.py).
Of the first, DIR holds manifest.csv and the recordings (see README.md for what stands where). Every
pause of at least 0.2 s is a trial: `hold` where the speaker goes on, `end` where the sentence is
over. The model hears what it would hear in service: the speech, and so much of the pause as has
passed. Speakers are split in two halves: one chooses the thresholds, all figures are of the other.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway import fetch
from gateway.eot.model import Question, TurnModel
from models.interruption.pretrained.listeners import SAMPLE_RATE, VAD_FRAME, speech_probabilities

Samples = npt.NDArray[np.int16]
Kind = Literal["hold", "end"]

PAUSES_S = (0.2, 0.3, 0.5, 0.8, 1.2)
"""How long the speaker has been silent when the question is asked; clients ask at 0.2 s."""
PAUSE_S_MIN = 0.2
CHOSEN_ON = "speech_ocean"
"""The one source with enough of both kinds to choose a threshold on."""
CUT_OFF_S = 10.0
"""A user who is cut off is taken for as bad as one who waits so long at the end of a turn."""
NEAR_BEST = 1.05
"""Thresholds that cost up to this times the least are as good as the best: chance decides there."""
MIN_DELAY_S, MAX_DELAY_S = 0.5, 3.0
"""The clients' own: so long an agent waits when a turn seems over, and when it does not."""
TIMERS_S = (0.3, 0.5, 0.8, 1.2, 2.0)

SPEECH, SILENCE = 0.5, 0.35
"""Of Silero's probability: above one speech begins, below the other it ends."""
END_S = 2.0
"""Who lets another speak in a meeting and is silent for so long had finished."""
EDGE_S = 0.1
"""Audio nearer than this to a recording's end was cut there: it says nothing of a turn."""


@dataclass(frozen=True)
class Recording:
    """One person who speaks, and whether the recording's end is the end of a sentence."""

    source: str
    language: str
    speaker: str
    samples: Samples
    whole: bool


@dataclass(frozen=True)
class Pause:
    """A silence after speech that ends at `end` (samples), `length_s` long (inf for an end)."""

    recording: Recording
    kind: Kind
    end: int
    length_s: float
    tone: Samples

    def heard(self, silence_s: float, lead_s: float = 0.0) -> Samples:
        """What was heard when the silence had lasted `silence_s`, after `lead_s` of room tone."""
        until = self.end + round(silence_s * SAMPLE_RATE)
        heard = self.recording.samples[:until]
        lead = tiled(self.tone, round(lead_s * SAMPLE_RATE))
        return np.concatenate([lead, heard, tiled(self.tone, until - len(heard))])


def tiled(tone: Samples, length: int) -> Samples:
    """`length` samples of a room's tone, there and back again, so that no click is heard."""
    if length <= 0:
        return np.empty(0, np.int16)
    both = np.concatenate([tone, tone[::-1]])
    return np.tile(both, -(-length // len(both)))[:length]


def held_out(speaker: str) -> bool:
    """Whether figures are made of this speaker; the others choose the thresholds."""
    return hashlib.sha256(f"parley-turn-1:{speaker}".encode()).digest()[0] % 2 == 0


def spans(probabilities: Sequence[float] | npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Where there is speech: first frame, and the one after the last. Gaps shorter than
    PAUSE_S_MIN are part of it."""
    found: list[tuple[int, int]] = []
    begin = None
    for i, probability in enumerate(probabilities):
        if begin is None and probability >= SPEECH:
            begin = i
        elif begin is not None and probability < SILENCE:
            found.append((begin, i))
            begin = None
    if begin is not None:
        found.append((begin, len(probabilities)))
    joined: list[tuple[int, int]] = []
    gap = PAUSE_S_MIN * SAMPLE_RATE / VAD_FRAME
    for begin, end in found:
        if joined and begin - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def room_tone(samples: Samples, probabilities: npt.NDArray[np.float32]) -> Samples:
    """The quietest 0.2 s without speech, at least 64 ms; silence if the recording has none."""
    frames = samples[: len(probabilities) * VAD_FRAME].reshape(-1, VAD_FRAME).astype(np.float64)
    energy = np.square(frames).mean(axis=1)
    best, length = None, 6
    while best is None and length >= 2:
        for i in range(len(frames) - length + 1):
            if probabilities[i : i + length].max() < SILENCE:
                loud = energy[i : i + length].mean()
                if best is None or loud < best[0]:
                    best = (loud, i)
        length -= 1 if best is None else 0
    if best is None:
        return np.zeros(VAD_FRAME, np.int16)
    return samples[best[1] * VAD_FRAME : (best[1] + length) * VAD_FRAME]


def pauses(recording: Recording) -> Iterator[Pause]:
    """The pauses of a recording."""
    probabilities = speech_probabilities(recording.samples.astype(np.float32) / 32768)
    speech = spans(probabilities)
    tone = room_tone(recording.samples, probabilities)
    for i, (begin, end) in enumerate(speech):
        at = end * VAD_FRAME
        if (end - begin) * VAD_FRAME < 0.2 * SAMPLE_RATE:
            continue  # a click
        if i + 1 < len(speech):
            length = (speech[i + 1][0] - end) * VAD_FRAME / SAMPLE_RATE
            yield Pause(recording, "hold", at, length, tone)
        elif recording.whole and len(recording.samples) - at >= EDGE_S * SAMPLE_RATE:
            yield Pause(recording, "end", at, float("inf"), tone)


@dataclass(frozen=True)
class Segment:
    """Something one person said in a meeting, in seconds."""

    speaker: str
    start_s: float
    end_s: float


def meeting_pauses(samples: Samples, segments: Sequence[Segment]) -> Iterator[Pause]:
    """Silences of a whole meeting: `hold` where the same person goes on, `end` where another
    begins and the first is silent for END_S. Those around which several talk are left out."""
    whole_s = len(samples) / SAMPLE_RATE
    for segment in segments:
        end_s = segment.end_s
        others = [one for one in segments if one.speaker != segment.speaker]
        if any(one.start_s < end_s + PAUSE_S_MIN and one.end_s > end_s - 0.2 for one in others):
            continue
        again_s = min(
            (s.start_s for s in segments if s.speaker == segment.speaker and s.start_s >= end_s),
            default=np.inf,
        )
        other_s = min((s.start_s for s in others if s.start_s >= end_s), default=np.inf)
        gap_s = min(again_s, other_s) - end_s
        if not PAUSE_S_MIN <= gap_s <= whole_s - end_s:
            continue
        # as in service, where the others are not on this microphone: from where they stopped
        begin = round(max((s.end_s for s in others if s.end_s < end_s), default=0) * SAMPLE_RATE)
        heard = samples[begin:]
        recording = Recording("conversation_ami", "en", segment.speaker, heard, True)
        end = round(end_s * SAMPLE_RATE) - begin
        if again_s < other_s:
            yield Pause(recording, "hold", end, gap_s, heard[:VAD_FRAME])
        elif again_s - end_s >= END_S:
            yield Pause(recording, "end", end, gap_s, heard[:VAD_FRAME])


@dataclass(frozen=True)
class Scored:
    """A pause and the model's probability at each of PAUSES_S that it lasted."""

    source: str
    language: str
    speaker: str
    kind: Kind
    length_s: float
    probabilities: tuple[float, ...]

    def at(self, pause_s: float) -> float | None:
        """The probability when the silence had lasted so long, None if it did not."""
        i = PAUSES_S.index(pause_s)
        return self.probabilities[i] if i < len(self.probabilities) else None


Judge = Callable[[list[Samples]], list[float]]


def scored(found: Iterable[Pause], judge: Judge, lead_s: float = 0.0) -> list[Scored]:
    """What `judge` says of each pause."""
    out = []
    for pause in found:
        lasted = [silence for silence in PAUSES_S if silence <= pause.length_s]
        said = judge([pause.heard(silence, lead_s) for silence in lasted])
        recording = pause.recording
        out.append(
            Scored(
                recording.source,
                recording.language,
                recording.speaker,
                pause.kind,
                pause.length_s,
                tuple(said),
            )
        )
    return out


class Kept:
    """A judge that remembers: the same sound is asked about once for each model file."""

    def __init__(self, judge: Judge, model: Path, path: Path) -> None:
        self._judge = judge
        self._model = hashlib.sha256(model.read_bytes()).hexdigest()
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        self.asked = 0

    def __call__(self, heard: list[Samples]) -> list[float]:
        said = []
        for samples in heard:
            key = hashlib.sha256(self._model.encode() + samples.tobytes()).hexdigest()[:24]
            if key not in self._known:
                (self._known[key],) = self._judge([samples])
                self.asked += 1
            said.append(self._known[key])
        return said

    def keep(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._known))


def recall(items: Sequence[Scored], pause_s: float, threshold: float) -> float:
    """Part of the ends that are taken for one when the silence has lasted `pause_s`; of those
    before which nobody else began to speak."""
    ends = [p for item in items if item.kind == "end" and (p := item.at(pause_s)) is not None]
    return float(np.mean([p >= threshold for p in ends])) if ends else np.nan


def false_cut_offs(items: Sequence[Scored], pause_s: float, threshold: float) -> float:
    """Part of all pauses in which the speaker went on that last `pause_s` and are then taken for
    an end. With a threshold of 0 it is the silence timer's."""
    holds = [item.at(pause_s) for item in items if item.kind == "hold"]
    return float(np.mean([p is not None and p >= threshold for p in holds])) if holds else np.nan


def area(items: Sequence[Scored], pause_s: float) -> float:
    """Area under the ROC curve: P(an end scores higher than a pause that is none)."""
    ends = [p for i in items if i.kind == "end" and (p := i.at(pause_s)) is not None]
    holds = [p for i in items if i.kind == "hold" and (p := i.at(pause_s)) is not None]
    if not ends or not holds:
        return np.nan
    higher = np.greater.outer(ends, holds).mean() + 0.5 * np.equal.outer(ends, holds).mean()
    return float(higher)


def in_service(items: Sequence[Scored], threshold: float) -> tuple[float, float]:
    """As clients use it: asked at 0.2 s, they answer after MIN_DELAY_S of silence if the turn seems
    over, else after MAX_DELAY_S. Part of the holds that are cut off; mean wait at an end (s)."""
    delays = [MIN_DELAY_S if item.probabilities[0] >= threshold else MAX_DELAY_S for item in items]
    holds = [d <= i.length_s for d, i in zip(delays, items, strict=True) if i.kind == "hold"]
    ends = [d for d, i in zip(delays, items, strict=True) if i.kind == "end"]
    return float(np.mean(holds)) if holds else np.nan, float(np.mean(ends)) if ends else np.nan


def cost_s(items: Sequence[Scored], threshold: float) -> float:
    """What users suffer in service: the mean wait at an end, CUT_OFF_S for each hold cut off."""
    cut, wait_s = in_service(items, threshold)
    return wait_s + CUT_OFF_S * cut


def choose(items: Sequence[Scored]) -> float:
    """The threshold that costs users least, in hundredths: the median of those that are as good as
    the best."""
    costs = {h / 100: cost_s(items, h / 100) for h in range(5, 96)}
    good = [one for one, cost in costs.items() if cost <= NEAR_BEST * min(costs.values())]
    return good[len(good) // 2]


def timer(items: Sequence[Scored], wait_s: float) -> float:
    """Part of the holds that a silence timer of `wait_s` cuts off."""
    holds = [wait_s <= item.length_s for item in items if item.kind == "hold"]
    return float(np.mean(holds)) if holds else np.nan


def table(title: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(title) + " |", "|" + "---|" * len(title)]
    for row in rows:
        cells = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cell.replace("nan", "-") for cell in cells) + " |")
    return "\n".join(lines)


def report(items: Sequence[Scored], thresholds: dict[str, float], default: float) -> str:
    """All tables, of the speakers held out."""
    tested = [item for item in items if held_out(item.speaker)]
    parts = []
    sources = sorted({(item.source, item.language) for item in tested})
    groups = [
        (f"{s} ({lang})", [i for i in tested if i.source == s and i.language == lang])
        for s, lang in sources
    ]
    rows: list[Sequence[object]] = []
    for name, group in groups:
        threshold = thresholds.get(group[0].language, default)
        ends = sum(item.kind == "end" for item in group)
        people = len({item.speaker for item in group})
        for pause_s in PAUSES_S:
            rows.append(
                (
                    name,
                    f"{people} / {ends} / {len(group) - ends}",
                    pause_s,
                    area(group, pause_s),
                    recall(group, pause_s, threshold),
                    false_cut_offs(group, pause_s, threshold),
                    timer(group, pause_s),
                )
            )
    parts.append(
        table(
            (
                "source",
                "speakers / ends / holds",
                "silence (s)",
                "AUC",
                "recall",
                "false cut-offs",
                "a timer's",
            ),
            rows,
        )
    )
    rows = []
    for name, group in groups:
        threshold = thresholds.get(group[0].language, default)
        cut, wait = in_service(group, threshold)
        rows.append((name, f"model, threshold {threshold:.2f}", cut, wait))
        rows += [(name, f"timer {wait_s:g} s", timer(group, wait_s), wait_s) for wait_s in TIMERS_S]
    parts.append(table(("source", "rule", "holds cut off", "mean wait at an end (s)"), rows))
    return "\n\n".join(parts)


def read(path: Path) -> Samples:
    """The samples of a recording at 16 kHz."""
    import soundfile  # wanted by the command alone

    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == SAMPLE_RATE, path
    found: Samples = samples
    return found


def recordings(folder: Path) -> Iterator[Recording]:
    """The recordings of `folder` in which one person says sentences."""
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        source = Path(row["path"]).parent.name
        if source not in ("speech_libri", "speech_ocean", "ivr_speech"):
            continue
        samples = read(folder.parent / row["path"])
        language = row["speaker"][:2] if source == "ivr_speech" else "en"
        # audiobooks were cut after 6 s: only the shorter ones end with a sentence
        whole = source != "speech_libri" or float(row["duration_s"]) < 6.4
        yield Recording(source, language, row["speaker"], samples, whole)


def meetings(folder: Path) -> Iterator[Pause]:
    """The pauses of the meetings in `folder`."""
    by_file: dict[str, list[Segment]] = {}
    with (folder / "conversation_ami" / "segments.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            segment = Segment(row["speaker"], float(row["start_s"]), float(row["end_s"]))
            by_file.setdefault(row["path"], []).append(segment)
    for path, segments in by_file.items():
        samples = read(folder.parent / path)
        yield from meeting_pauses(samples, segments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, help="folder with manifest.csv")
    parser.add_argument("--made", type=Path, nargs="+", help="folders with made sentences")
    parser.add_argument("--model", type=Path, help="ONNX file (default: the fetched Smart Turn)")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    parser.add_argument("--lead-s", type=float, default=0.0, help="room tone before the speech")
    parser.add_argument("--threshold", type=float, help="with --audio: choose none, take this")
    args = parser.parse_args()
    if (args.audio is None) == (args.made is None):
        parser.error("either --audio or --made is needed")
    path = args.model
    if path is None:
        place = fetch.find("smart-turn")
        if place is None:
            raise SystemExit("no model: run `gateway models fetch smart-turn`, or give --model")
        path = place / fetch.WEIGHTS["smart-turn"].files[0].name
    model = TurnModel(path)

    def judge(heard: list[Samples]) -> list[float]:
        return [p.probability for p in model.run([Question(h.tobytes()) for h in heard])]

    kept = Kept(judge, path, fetch.cache_folder().parent / "turn" / "scores.json")
    try:
        if args.made:
            from models.turn import languages  # it needs this module

            text = languages.evaluate(args.made, kept, model.card.default_threshold)
        else:
            text = of_recordings(args.audio, model, kept, args.lead_s, args.threshold)
    finally:
        kept.keep()
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n", "utf-8")


def of_recordings(
    folder: Path, model: TurnModel, judge: Judge, lead_s: float, threshold: float | None
) -> str:
    """The tables of real recordings, with the threshold chosen on them or the one that is given."""
    found = itertools.chain(
        (pause for one in recordings(folder) for pause in pauses(one)), meetings(folder)
    )
    if threshold is not None:
        mine = (pause for pause in found if held_out(pause.recording.speaker))
        items = scored(mine, judge, lead_s)
        costs = [
            (source, cost_s([item for item in items if item.source == source], threshold))
            for source in sorted({item.source for item in items if item.language == "en"})
        ]
        return "\n\n".join([report(items, {}, threshold), table(("source", "cost (s)"), costs)])
    items = scored(found, judge, lead_s)
    chosen = [item for item in items if not held_out(item.speaker)]
    english = [item for item in chosen if item.source == CHOSEN_ON]
    thresholds = {"en": choose(english)}
    default = thresholds["en"]
    return (
        f"Model: {model.card.name} {model.card.version}. Thresholds chosen on "
        f"{len({i.speaker for i in english})} other speakers: {thresholds}.\n\n"
        + report(items, thresholds, default)
    )


if __name__ == "__main__":
    main()
