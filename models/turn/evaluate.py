"""Scores an end-of-turn model on recorded pauses, and chooses its thresholds.

    python -m models.turn.evaluate [--audio DIR] [--model FILE.onnx] [--out FILE.md]
    python -m models.turn.evaluate --made DIR [DIR ...]

The second form is of made speech, language by language, in a table of its own (see languages.py).
Of the first, DIR holds manifest.csv and the recordings (see README.md for what stands where); by
default it is `train` in the folder that PARLEY_AUDIO names, or in `audio` in PARLEY_CACHE. What is
a trial is in pauses.py. The model hears what it would hear in service: the speech, and so much of
the pause as has passed. Speakers are split in two halves: one chooses the thresholds, all figures
are of the other.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from gateway.engines.turn_detection.model import Question, TurnModel
from gateway.weights import fetch
from models.interruption.cache import audio_folder, existing
from models.interruption.pretrained.silero import SAMPLE_RATE
from models.turn import languages
from models.turn.pauses import Pause, Recording, Samples, Segment, meeting_pauses, pauses
from models.turn.scoring import Judge, Kept, choose, cost_s, held_out, report, scored, table

CHOSEN_ON = "speech_ocean"
"""The one source with enough of both kinds to choose a threshold on."""


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
    if args.audio is not None and args.made is not None:
        parser.error("either --audio or --made, not both")
    if args.audio is None and args.made is None:
        try:
            args.audio = existing(audio_folder()) / "train"
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
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
