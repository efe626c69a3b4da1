"""Callers on real telephone lines: sentences, single words, and sounds that are no words.

    git clone --bare https://github.com/wake-up-word/wuw-corpus-ii FOLDER/wake-up-word+wuw-corpus-ii
    python -m models.interruption.evaluate.telephone --repositories FOLDER

Tables in Markdown of the Wake-Up-Word corpus II (V. Kepuska; CC BY-SA 4.0), recorded over land
lines, mobiles and loudspeaking telephones. It is used for these tables alone: weights that were
trained on it might have to be shared alike. A recording begins about half a second before its
word, whose beginning is written down; that of a sentence is where Silero's detector first hears
speech.

The second table is of people who laugh, cough, breathe or smack their lips before the first word or
after the last: what sounds there, 0.3 s and more away from the word by its written times, is put on
the line's own quiet, since words that follow would rightly be taken for an interruption.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.interruption.cache import PUBLISHED
from models.interruption.data.clips import levels_db
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
SOUND_BY_S: Final = (1.0, 2.0)
WORD, SENTENCE = "single word", "sentence"
LAUGH, COUGH, BREATH, SMACK = "laugh", "cough, throat", "breath", "lip smack"
_KINDS = {f"{n:03}": WORD for n in range(1, 6)} | {f"{n:03}": SENTENCE for n in range(6, 11)}
# How the transcripts name sounds; of several, what comes first here names them all.
_SOUNDS: Final = {
    "laugh": LAUGH, "laughing": LAUGH, "laughter": LAUGH,
    "cough": COUGH, "clears throat": COUGH, "cleared throat": COUGH,
    "breath": BREATH, "exhale": BREATH, "inhale": BREATH, "sigh": BREATH, "sniffle": BREATH,
    "smack": SMACK, "lip smack": SMACK,
}  # fmt: skip
_NAMES: Final = frozenset("operator thinkengine onword wildfire voyager".split())
_WHOLE_NAME: Final = "000"  # the recording of what the caller is called; its times are of it all
_MARK: Final = re.compile(r"\[[^]]*\]|\{[^}]*\}")
_AWAY_S: Final = 0.3  # from a word
_ABOVE_DB: Final = 9.0  # the line's quiet
_GAP_S: Final = 0.2  # within one sound
_SHORTEST_S: Final = 0.08
_LONGEST_S: Final = 2.0
_QUIET_S: Final = 0.3


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


def _lines(transcripts: str) -> Iterator[list[str]]:
    """Of each utterance: telephone, call, number, file, begin and end of its word, and text."""
    for line in transcripts.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if not line.startswith("#") and len(fields) >= 11:
            yield fields[4:11]


def rows(transcripts: str) -> Iterator[Said]:
    """Utterances of which the word's place is known, sentences that have words before it."""
    for phone, call, number, name, start, _, text in _lines(transcripts):
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
    return _MARK.sub(" ", text).split()


@dataclass(frozen=True)
class Sound:
    """Something that a caller does before the first word or after the last, and between which
    seconds of the recording; inf: its end."""

    said: Said
    from_s: float
    to_s: float


def sounds(transcripts: str) -> Iterator[Sound]:
    """Those of which the transcripts tell, on lines without other sounds all the time."""
    for phone, call, number, name, *times, text in _lines(transcripts):
        if any("/" in mark or "background" in mark for mark in _MARK.findall(text)):
            continue
        said = Said(f"calls/{call}/{name}", call, phone, "", BEFORE_S)
        words = [plain for word in _words(text) if (plain := re.sub("[^a-z]", "", word.lower()))]
        if not words:
            yield from _sound(said, text, 0.0, float("inf"))
            continue
        if not all(re.fullmatch(r"\d*\.\d+", time) for time in times):
            continue
        start, end = map(float, times)
        parts = _MARK.split(text)
        spoken = [i for i, part in enumerate(parts) if re.search("[A-Za-z]", part)]
        marks = [*_MARK.findall(text), ""]
        alone = number == _WHOLE_NAME or len(words) == 1
        if alone:
            yield from _sound(said, " ".join(marks[: spoken[0]]), 0.0, start - _AWAY_S)
        if alone or (words[-1] in _NAMES and sum(word in _NAMES for word in words) == 1):
            yield from _sound(said, " ".join(marks[spoken[-1] :]), end + _AWAY_S, float("inf"))


def _sound(said: Said, part: str, from_s: float, to_s: float) -> Iterator[Sound]:
    """What a part of a transcript without words tells of; none where anything else sounds too."""
    marks = [mark.strip("[]{} ") for mark in _MARK.findall(part)]
    if marks and all(mark in _SOUNDS for mark in marks):
        kind = min((_SOUNDS[mark] for mark in marks), key=list(_SOUNDS.values()).index)
        yield Sound(replace(said, kind=kind), from_s, to_s)


def cut_out(sound: Sound, samples: NDArray[np.int16]) -> NDArray[np.int16] | None:
    """The sound after BEFORE_S of the line's quiet, and quiet after it; None: nothing sounds."""
    levels = levels_db(samples)
    begin, end = (int(min(max(s, 0) * 100, len(levels))) for s in (sound.from_s, sound.to_s))
    on = np.flatnonzero(levels[begin:end] > np.percentile(levels, 15) + _ABOVE_DB)
    if not len(on):
        return None
    groups = np.split(on, np.flatnonzero(np.diff(on) > _GAP_S * 100) + 1)
    longest = max(groups, key=len)
    first, last = begin + int(longest[0]), begin + int(longest[-1]) + 1
    if last - first < _SHORTEST_S * 100:
        return None
    last = min(last, first + int(_LONGEST_S * 100))
    steps = int(_QUIET_S * 100)
    loud = np.convolve(levels, np.ones(steps), "valid")
    quiet = samples[int(loud.argmin()) * 160 :][: steps * 160]
    around = np.concatenate([quiet, quiet[::-1]])
    whole = np.resize(around, round((BEFORE_S + AFTER_S + 0.5) * scoring.SAMPLE_RATE))
    at = round(BEFORE_S * scoring.SAMPLE_RATE)
    whole[at : at + (last - first) * 160] = samples[first * 160 : last * 160]
    return whole


def linear(content: bytes) -> NDArray[np.float64]:
    """Samples (-1 to 1) of mu-law bytes (ITU-T G.711)."""
    codes = ~np.frombuffer(content, np.uint8)
    exponent, mantissa = (codes >> 4) & 7, codes & 15
    size = ((mantissa.astype(np.int32) << 3) + 132 << exponent) - 132
    return np.where(codes & 128, -size, size) / 32768


def onset_s(said: Said, samples: NDArray[np.int16]) -> float | None:
    """When the caller begins to speak; None: the detector hears nobody."""
    if said.kind != SENTENCE:
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


def sound_table(results: list[Found]) -> str:
    """Markdown: how many sounds of each kind were taken for the caller."""
    head = " | ".join(f"taken for the caller by {seconds:g} s" for seconds in SOUND_BY_S)
    lines = [f"| sound | n | callers | {head} |", "|---" * 4 + "|---|"]
    for kind in dict.fromkeys(_SOUNDS.values()):
        ones = [one for one in results if one.said.kind == kind]
        if not ones:
            continue
        speakers = [one.said.speaker for one in ones]
        cells = [kind, str(len(ones)), str(len(set(speakers)))]
        for seconds in SOUND_BY_S:
            value, low, high = scoring.rate([one.after_s <= seconds for one in ones], speakers)
            cells.append(f"{value:.2f} ({low:.2f}-{high:.2f})")
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
    transcripts = clone.read(TRANSCRIPTS).decode("utf-8", "replace")

    def recorded(said: Said) -> NDArray[np.int16]:
        return as_int16(resampled(linear(clone.read(said.path)), TELEPHONE_HZ, scoring.SAMPLE_RATE))

    heard = (found(model, said, recorded(said)) for said in rows(transcripts) if said.path in there)
    print(table([one for one in heard if one is not None]))
    results = []
    for sound in sounds(transcripts):
        if sound.said.path in there:
            alone = cut_out(sound, recorded(sound.said))
            if alone is not None and (one := found(model, sound.said, alone)) is not None:
                results.append(one)
    print(f"\n{sound_table(results)}")


if __name__ == "__main__":
    main()
