"""Callers on real telephone lines: a sentence, and a single word of the same person.

    git clone --bare https://github.com/wake-up-word/wuw-corpus-ii FOLDER/wake-up-word+wuw-corpus-ii
    python -m models.interruption.evaluate.telephone --repositories FOLDER

A table in Markdown of the Wake-Up-Word corpus II (V. Kepuska; CC BY-SA 4.0), recorded over land
lines, mobiles and loudspeaking telephones. It is used for this table alone: weights that were
trained on it might have to be shared alike. A recording begins about half a second before its
word, whose beginning is written down; that of a sentence is where Silero's detector first hears
speech.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.interruption.cache import PUBLISHED
from models.interruption.data.collect import Clone, Source
from models.interruption.evaluate import scoring
from models.interruption.evaluate.channels import as_int16, resampled
from models.interruption.evaluate.echo import stretches

SOURCE = Source(
    "wake-up-word/wuw-corpus-ii", "edd16fe0e8c861daef05e6778016764e20b3d628", "CC BY-SA 4.0",
    "wuw", r"calls/\d{5}/WUWII(\d{5})_(\d{3})\.ulaw", "", 1,
)  # fmt: skip
TRANSCRIPTS = "archive/WUWII_Transcriptions.txt"
TELEPHONE_HZ: Final = 8000
BEFORE_S: Final = 1.0
AFTER_S: Final = 3.0
BY_S: Final = (0.5, 1.0, 2.0)
WORD, SENTENCE = "single word", "sentence"
_KINDS = {f"{n:03}": WORD for n in range(1, 6)} | {f"{n:03}": SENTENCE for n in range(6, 11)}


@dataclass(frozen=True)
class Said:
    """A row of the transcripts: `word_s` is when the word begins that the corpus is about."""

    path: str
    speaker: str
    phone: str
    kind: str
    word_s: float


@dataclass(frozen=True)
class Found:
    """When one utterance was taken for an interruption, seconds from its onset; inf: never."""

    said: Said
    after_s: float


def rows(transcripts: str) -> Iterator[Said]:
    """Utterances of which the word's place is known, sentences that have words before it."""
    for line in transcripts.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if line.startswith("#") or len(fields) < 11:
            continue
        phone, call, number, name, start, text = (*fields[4:9], fields[10])
        kind = _KINDS.get(number)
        match = re.fullmatch(r"\d+\.\d+", start)
        if kind is None or match is None or float(start) <= 0.0:
            continue
        if kind == SENTENCE and (len(_words(text)) < 4 or float(start) < BEFORE_S):
            continue
        if kind == WORD and len(_words(text)) != 1:
            continue
        yield Said(f"calls/{call}/{name}", call, phone, kind, float(start))


def _words(text: str) -> list[str]:
    """What is spoken; noises stand in brackets."""
    return re.sub(r"\[[^]]*\]|\{[^}]*\}", " ", text).split()


def linear(content: bytes) -> NDArray[np.float64]:
    """Samples (-1 to 1) of mu-law bytes (ITU-T G.711)."""
    codes = ~np.frombuffer(content, np.uint8)
    exponent, mantissa = (codes >> 4) & 7, codes & 15
    size = ((mantissa.astype(np.int32) << 3) + 132 << exponent) - 132
    return np.where(codes & 128, -size, size) / 32768


def onset_s(said: Said, samples: NDArray[np.int16]) -> float | None:
    """When the caller begins to speak; None: the detector hears nobody."""
    if said.kind == WORD:
        return said.word_s
    heard = stretches(samples)
    return heard[0][0] if heard else None


def found(model: scoring.Model, said: Said, samples: NDArray[np.int16]) -> Found | None:
    """What the published rule makes of it, asked for each 100 ms from the onset on; None: there is
    nothing to ask about."""
    onset = onset_s(said, samples)
    if onset is None:
        return None
    begin = max(0, round((onset - BEFORE_S) * scoring.SAMPLE_RATE))
    before_s = onset - begin / scoring.SAMPLE_RATE
    frames = round(before_s / scoring.FRAME_S)
    clip = samples[begin : begin + frames * 400 + round(AFTER_S * scoring.SAMPLE_RATE)]
    whole = len(clip) // 400
    if whole <= frames:  # the recording ends before the word that it should have
        return None
    probabilities = model.streamed(clip[: whole * 400], before_s=before_s)
    for step in range(1, round(AFTER_S / scoring.STEP_S) + 1):
        known = probabilities[: frames + round(step * scoring.STEP_S / scoring.FRAME_S)]
        newest = known[-scoring.WINDOW_FRAMES :]
        runs = np.lib.stride_tricks.sliding_window_view(newest, scoring.MIN_FRAMES).min(axis=1)
        if (runs >= model.threshold).any():
            return Found(said, step * scoring.STEP_S)
    return Found(said, float("inf"))


def table(results: list[Found]) -> str:
    """Markdown: by what was said and over what kind of telephone."""
    groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in results:
        groups[one.said.kind, "all"].append(one)
        groups[one.said.kind, one.said.phone].append(one)
    head = " | ".join(f"by {seconds:g} s" for seconds in BY_S)
    lines = [f"| said | telephone | n | callers | {head} | median ms |", "|---" * 7 + "|---|"]
    for (kind, phone), ones in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        speakers = [one.said.speaker for one in ones]
        cells = []
        for seconds in BY_S:
            value, low, high = scoring.rate([one.after_s <= seconds for one in ones], speakers)
            cells.append(f"{value:.2f} ({low:.2f}-{high:.2f})")
        waits = [one.after_s for one in ones if np.isfinite(one.after_s)]
        median = f"{1000 * np.median(waits):.0f}" if waits else "-"
        cells = [kind, phone, str(len(ones)), str(len(set(speakers))), *cells, median]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=PUBLISHED)
    parser.add_argument("--repositories", type=Path, required=True, help="folder of clones")
    arguments = parser.parse_args()
    model = scoring.Model(arguments.model)
    clone = Clone(arguments.repositories, SOURCE)
    there = {match[0] for match in clone.matches(SOURCE.pattern)}
    results = []
    for said in rows(clone.read(TRANSCRIPTS).decode("utf-8", "replace")):
        if said.path in there:
            sound = resampled(linear(clone.read(said.path)), TELEPHONE_HZ, scoring.SAMPLE_RATE)
            if (one := found(model, said, as_int16(sound))) is not None:
                results.append(one)
    print(table(results))


if __name__ == "__main__":
    main()
