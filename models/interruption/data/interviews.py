"""Real backchannels and turns out of recorded conversations, found by a recogniser and a VAD.

    # for each of SOURCES:
    git clone --bare https://github.com/Umanagendra-M/scribex FOLDER/Umanagendra-M+scribex
    pip install faster-whisper==1.2.1
    python -m models.interruption.data.interviews --repositories FOLDER --whisper base

`--whisper` is a faster-whisper model, a folder or a name. Interviews are excerpts of the OSCE set
of F. Fareez et al. (Scientific Data 9, 313, 2022): unscripted role play between two people in a
video call, both in one channel; and there is a quarter of an hour of an AMI meeting. What is said
alone between two pauses and holds nothing but words of listening is a backchannel; what goes on for
a second is a turn, also where it begins with such a word. Everything between, such as a lone "yes",
is left out: nobody could say what it is. Labels are automatic. Both kinds come out of one channel
and from the same people.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.interruption.cache import cache_folder
from models.interruption.data import splits
from models.interruption.data.collect import RATE, Clone, Source, decoded
from models.interruption.pretrained.silero import VAD_FRAME, speech_probabilities

FOLDER = "interviews"
# The group `speaker` of a path, after the source's prefix, is the name of the recording.
SOURCES = (
    Source(
        "Umanagendra-M/scribex", "b51e50ce21d261a71eaa5b626282390fa3df69ac",
        "CC BY 4.0 (F. Fareez et al., 2022)", FOLDER,
        r"data/captured_audio/(?P<speaker>CAR000[1-5]|GAS000[12347]|MSK000[14])\.mp3", "", 1,
    ),
    Source(
        "SakshamBindal17/DeepCare-AI", "52659d427cbdd58c0fce873121973666c95e1aea",
        "CC BY 4.0 (F. Fareez et al., 2022)", FOLDER,
        r"tests/conversations/(?P<speaker>RES0091)\.mp3", "", 1,
    ),
    # The first 16 minutes of AMI's meeting ES2002a, four people in one channel.
    Source(
        "solpbc/field_journal", "f2b367e13ef1e0c8c6136702179583f1e1ef209b",
        "CC BY 4.0 (AMI Meeting Corpus)", FOLDER,
        r"journal/\d+/field\.audio/(?P<speaker>091500_420(?=/audio\.flac)|091000_540(?=/audio\.ogg))/audio\.\w+",
        "ES2002a-", 1,
    ),
)  # fmt: skip
COLUMNS = ("path", "start_s", "end_s", "decisive_s", "label", "text")

# Words that say no more than "I hear you"; "yes" and "no" may be answers and are in neither list.
_LISTENING = frozenset(
    "ok okay yeah yep yup mhm mm mmm hmm hm mm-hmm mm-hm m-hmm hm-mm uh-huh uhhuh huh right sure "
    "alright gotcha see got it i good great perfect all oh ah wow".split()
)
# Of these, ones that are more than listening when nothing of the first list but them is said.
_NOT_ALONE = frozenset("i it see got all good great perfect oh".split())
_ANSWERS = frozenset("yes no nope".split())

_JOINED_S = 0.16  # a shorter gap is inside a word
_PAUSE_S = 0.2  # before what is said, and after a backchannel
_TURN_PAUSE_S = 0.35  # ends a turn
_BACKCHANNEL_S = (0.1, 1.3)
_TURN_S = 1.1  # of speech within the first 1.6 s
_LONGEST_S = 3.5
_SPEECH = 0.5


def table(more: Path) -> Path:
    """Where the events of all interviews are written, COLUMNS wide."""
    return more / "train" / FOLDER / "segments.csv"


def labelled(more: Path, side: splits.Side) -> dict[str, list[dict[str, str]]]:
    """Rows of that table by the recording's path, of one side; none where there is no table."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    if table(more).exists():
        with table(more).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if splits.interview_side(Path(row["path"]).stem) is side:
                    found[row["path"]].append(row)
    return found


class Word(NamedTuple):
    text: str
    start_s: float
    end_s: float
    sure: float  # the recogniser's probability


@dataclass(frozen=True)
class Event:
    label: str  # "backchannel" or "turn"
    start_s: float
    end_s: float
    decisive_s: float  # where a turn is known to be one; for a backchannel its start
    text: str


Span = tuple[float, float]


def speech_spans(probabilities: NDArray[np.float32], joined_s: float = _JOINED_S) -> list[Span]:
    """Seconds from and to which someone speaks; shorter gaps than `joined_s` are speech too."""
    spans: list[list[float]] = []
    for frame in np.flatnonzero(probabilities >= _SPEECH):
        start, end = frame * VAD_FRAME / RATE, (frame + 1) * VAD_FRAME / RATE
        if spans and start - spans[-1][1] < joined_s:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return [(start, end) for start, end in spans if end - start >= 2 * VAD_FRAME / RATE]


def plain(text: str) -> str:
    return re.sub("[^a-z'-]", "", text.lower()).strip("-")


def words_of(spans: Sequence[Span], words: Sequence[Word]) -> list[list[Word]]:
    """The words of each span: a recogniser's times are rough, so each is where it overlaps most."""
    found: list[list[Word]] = [[] for _ in spans]
    for word in words:
        overlaps = [min(e, word.end_s) - max(s, word.start_s) for s, e in spans]
        if overlaps and max(overlaps) > -0.3:
            found[int(np.argmax(overlaps))].append(word)
    return found


def only_listening(words: Sequence[Word]) -> bool:
    said = {plain(word.text) for word in words}
    return bool(said) and said <= _LISTENING and bool(said - _NOT_ALONE or len(said) > 1)


def events(probabilities: NDArray[np.float32], words: Sequence[Word]) -> Iterator[Event]:
    spans = speech_spans(probabilities)
    said = words_of(spans, words)
    for i, (start, end) in enumerate(spans):
        before = start - (spans[i - 1][1] if i else 0.0)
        after = (spans[i + 1][0] if i + 1 < len(spans) else np.inf) - end
        if before < _PAUSE_S:
            continue
        text = " ".join(word.text.strip() for word in said[i])
        if only_listening(said[i]):
            short = _BACKCHANNEL_S[0] <= end - start <= _BACKCHANNEL_S[1]
            if after >= _PAUSE_S and short and min(word.sure for word in said[i]) > 0.4:
                yield Event("backchannel", start, end, start, text)
            if after >= _TURN_PAUSE_S:
                continue  # else it is the beginning of something
        turn = _turn(spans[i:], said[i:])
        if turn is not None:
            yield turn


def _turn(spans: Sequence[Span], said: Sequence[Sequence[Word]]) -> Event | None:
    start, end, words = spans[0][0], spans[0][1], list(said[0])
    for (next_start, next_end), more in zip(spans[1:], said[1:], strict=False):
        if next_start - end >= _TURN_PAUSE_S or end - start > _LONGEST_S:
            break
        end = next_end
        words += more
    spoken = sum(max(0.0, min(e, start + 1.6) - s) for s, e in spans if s < min(end, start + 1.6))
    listening = 0
    opening = (_LISTENING - _NOT_ALONE) | _ANSWERS
    while listening < len(words) and plain(words[listening].text) in opening:
        listening += 1
    if spoken < _TURN_S or len(words) - listening < 2:
        return None
    decisive = max(start, words[listening].start_s) if listening else start
    if decisive > start + 1.5:
        return None
    text = " ".join(word.text.strip() for word in words)
    return Event("turn", start, min(end, start + _LONGEST_S), decisive, text)


def heard(path: Path, whisper: str) -> list[Word]:
    """The recogniser's words, kept beside the recording: minutes of one core each."""
    kept = path.with_suffix(".words.json")
    if not kept.exists():
        from faster_whisper import WhisperModel

        model = WhisperModel(whisper, device="cpu", compute_type="int8", cpu_threads=1)
        segments, _ = model.transcribe(
            str(path), language="en", beam_size=1, word_timestamps=True, temperature=0,
            condition_on_previous_text=False,
            initial_prompt="Okay. Mhm. Uh-huh. Yeah. Um, right.",  # else it leaves such words out
        )  # fmt: skip
        found = [
            (word.word, round(word.start, 3), round(word.end, 3), round(word.probability, 3))
            for segment in segments
            for word in segment.words or ()
        ]
        kept.write_text(json.dumps(found))
    return [Word(*word) for word in json.loads(kept.read_text())]


def recordings(repositories: Path) -> Iterator[tuple[str, Clone, str]]:
    """Name of each conversation, the clone that holds it and its path there."""
    for source in SOURCES:
        clone = Clone(repositories, source)
        for match in clone.matches(source.pattern):
            yield source.speaker + match["speaker"], clone, match[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=Path, required=True, help="folder of clones")
    parser.add_argument("--whisper", required=True, help="faster-whisper model: folder or name")
    arguments = parser.parse_args()
    out = table(cache_folder() / "more").parent
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, clone, path in recordings(arguments.repositories):
        target = out / f"{name}.flac"
        if not target.exists():
            soundfile.write(target, decoded(clone.read(path))[0], RATE, subtype="PCM_16")
        sound, _ = soundfile.read(target, dtype="float32")
        loudest = float(np.percentile(np.abs(sound), 99.9))
        probabilities = speech_probabilities(np.clip(sound * (0.5 / loudest), -1, 1))
        found = list(events(probabilities, heard(target, arguments.whisper)))
        rows += [
            (f"train/{FOLDER}/{target.name}", *(f"{t:.3f}" for t in (e.start_s, e.end_s)),
             f"{e.decisive_s:.3f}", e.label, e.text)
            for e in found
        ]  # fmt: skip
        short = sum(event.label == "backchannel" for event in found)
        print(f"{target.stem}: {short} backchannels, {len(found) - short} turns", flush=True)
    with table(cache_folder() / "more").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
