"""Made speech for judging the end of a turn in languages of which there are too few recordings.

    python -m models.turn.made        # speaks those of texts.py, into $PARLEY_CACHE/turn/voices

Kokoro speaks sentences that callers say. An `end` is a whole sentence with its final intonation; a
`hold` is the same kind of sentence that stops between two words. Both are cut in the same way, so
that nothing but the speech tells them apart. A cut is no hesitation: nobody slows down before it,
nobody says "uh". The sentences of `voices.py` of the interruption model serve as well.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.interruption.cache import cache_folder as interruption_folder
from models.interruption.data.splits import EVAL_VOICES, Side
from models.turn.texts import TEXTS

Samples = npt.NDArray[np.int16]

SAMPLE_RATE = 16_000
HELD_S_MIN = 0.6
"""So much is spoken before a cut: the model never hears less in service."""
WORDS_LEFT_MIN = 2
"""So many words are still to come after a cut."""
CUTS_MAX = 3
"""Cuts of one sentence: further ones would be near copies of these."""
ROOM = 30.0
"""Standard deviation of the noise under everything, of 32768 (-61 dB): no room is silent."""
TAIL_S = 0.05
"""What is kept after the last phoneme, faded out: a voice does not stop at a sample."""
FRAME = 160
QUIET = 0.02
"""Of a sentence's loudest 10 ms (-34 dB): what is below is no longer speech."""
FINAL = ".?!"
"""What a sentence ends in if its intonation says so; others may sound open."""
VOICES_EACH = 6
"""Voices that say each sentence: 8 sentences of each half make 48 ends."""

ESPEAK = {
    "en": "en-us",
    "es": "es",
    "fr": "fr-fr",
    "de": "de",
    "it": "it",
    "pt": "pt-br",
    "hi": "hi",
}
"""What espeak calls the language."""

NATIVE = {"en": "a", "es": "e", "fr": "f", "it": "i", "pt": "p", "hi": "h"}
"""How the names of a language's voices begin. Kokoro has none for German: all speak with an accent,
as do those that fill up where there are fewer than VOICES_EACH."""


def folder() -> Path:
    """Where the spoken sentences are kept."""
    found = interruption_folder().parent / "turn" / "voices"
    found.mkdir(parents=True, exist_ok=True)
    return found


@dataclass(frozen=True)
class Spoken:
    """One sentence of one voice to be made."""

    name: str
    side: Side
    language: str
    text: str
    voice: str
    speed: float


def voices_of(language: str, side: Side, styles: Sequence[str]) -> list[str]:
    """The voices that speak a language: its own first, then others with their accent."""
    mine = [style for style in styles if (style in EVAL_VOICES) == (side is Side.EVAL)]
    native = [style for style in mine if style[0] == NATIVE.get(language)]
    others = [style for style in mine if style not in native and style[0] in "aefhip"]
    Random(f"{language}:{side}").shuffle(others)
    return (native + others)[:VOICES_EACH]


def plan(styles: Sequence[str]) -> list[Spoken]:
    """All that is spoken, in an order of which any beginning is a fair sample."""
    found = []
    for language, texts in TEXTS.items():
        half = len(texts) // 2
        for side, mine in ((Side.TRAIN, texts[:half]), (Side.EVAL, texts[half:])):
            for voice in voices_of(language, side, styles):
                for number, text in enumerate(mine):
                    name = f"{language}-{side}-{number}-{voice}"
                    speed = round(Random(name).uniform(0.85, 1.2), 3)
                    found.append(Spoken(name, side, language, text, voice, speed))
    Random(1).shuffle(found)
    return found


def speak(out: Path, downloads: Path, languages: Sequence[str]) -> None:
    """Make what is missing in `out` of these `languages`, with the weights in `downloads`."""
    import soundfile  # wanted here alone, as the engine is
    from kokoro_onnx.tokenizer import Tokenizer

    from models.interruption.data.voices import DURATION_UNIT_S, Kokoro

    tokenizer, kokoro = Tokenizer(), Kokoro(downloads / "kokoro.onnx", downloads / "styles")
    planned = [one for one in plan(kokoro.styles) if one.language in languages]
    for number, one in enumerate(planned, 1):
        target = out / f"{one.name}.json"
        if target.exists():
            continue
        ending = "." if one.text[-1] == "।" else one.text[-1]
        body = one.text.strip("¿ .?!।")
        espeak = ESPEAK[one.language]
        known = tokenizer.known(str(tokenizer.phonemize(body, espeak)).strip() + ending)
        samples, durations = kokoro.speak(
            tokenizer.tokenize(known), (one.voice,), (1.0,), one.speed
        )
        at = np.concatenate([[0], np.cumsum(durations)]) * DURATION_UNIT_S
        soundfile.write(target.with_suffix(".flac"), samples, SAMPLE_RATE, subtype="PCM_16")
        note = {
            "side": str(one.side), "kinds": ["sentence"], "parts": [one.text], "ending": ending,
            "language": espeak, "voices": [one.voice], "phonemes": known,
            "phoneme_starts_s": [round(float(t), 3) for t in at[1:-1]],
        }  # fmt: skip
        partial = target.with_suffix(".part")
        partial.write_text(json.dumps(note, ensure_ascii=False))
        os.replace(partial, target)
        if number % 50 == 0:
            print(f"{number}/{len(planned)}", flush=True)


@dataclass(frozen=True)
class Cut:
    """What was said up to the silence, and whether that was all."""

    language: str
    side: Side
    voice: str
    kind: Literal["hold", "end"]
    samples: Samples

    def heard(self, silence_s: float) -> Samples:
        """What was heard when the silence had lasted `silence_s`, in a quiet room."""
        silence = np.zeros(round(silence_s * SAMPLE_RATE) - round(TAIL_S * SAMPLE_RATE), np.int16)
        whole = np.concatenate([self.samples, silence]).astype(np.float32)
        whole += np.random.default_rng(len(whole)).normal(0.0, ROOM, len(whole))
        return np.clip(np.round(whole), -32768, 32767).astype(np.int16)


def cut(samples: Samples, at_s: float) -> Samples:
    """`samples` up to `at_s`, or to where they fell silent before, with a tail that fades."""
    until = samples[: round(at_s * SAMPLE_RATE)]
    frames = until[: len(until) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float32)
    level = np.sqrt(np.square(frames).mean(axis=1))
    loud = np.flatnonzero(level > QUIET * level.max())
    # the last phoneme of a sentence is noted as lasting into the silence
    end = (int(loud[-1]) + 1) * FRAME + round(TAIL_S * SAMPLE_RATE)
    kept = samples[:end].astype(np.float32)
    fade = min(len(kept), round(TAIL_S * SAMPLE_RATE))
    if fade:
        kept[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.round(kept).astype(np.int16)


def places(note: dict[str, Any]) -> tuple[list[float], float] | None:
    """Where a sentence may be cut (s), and where it ends; None if it is no sentence, or its
    intonation may be open."""
    if note["kinds"] != ["sentence"] or note["ending"] not in tuple(FINAL):
        return None
    phonemes, starts = note["phonemes"], note["phoneme_starts_s"]
    gaps = [i for i, phoneme in enumerate(phonemes[:-1]) if phoneme == " "]
    # behind a comma or a dash one may well have finished
    inner = [i for i in gaps if phonemes[i - 1].isalpha() or phonemes[i - 1] in "ːʰ̃ʲ"]
    begin = starts[0]
    found = [
        starts[i]
        for i in inner
        if starts[i] - begin >= HELD_S_MIN and sum(gap >= i for gap in gaps) >= WORDS_LEFT_MIN
    ]
    return found, starts[len(phonemes) - 1]


def cuts(name: str, note: dict[str, Any], samples: Samples) -> Iterator[Cut]:
    """The end of one sentence, and up to CUTS_MAX places in it where it might stop."""
    found = places(note)
    if found is None:
        return
    holds, end = found
    language, side = note["language"].split("-")[0], Side(note["side"])
    voice = "+".join(note["voices"])
    yield Cut(language, side, voice, "end", cut(samples, end))
    for at_s in sorted(Random(name).sample(holds, min(CUTS_MAX, len(holds)))):
        yield Cut(language, side, voice, "hold", cut(samples, at_s))


def spoken(folder: Path) -> Iterator[Cut]:
    """The cuts of all sentences in `folder`, as this module or `voices.py` of the interruption
    model writes them: a sound file and a note for each."""
    import soundfile

    for path in sorted(folder.glob("*.json")):
        note = json.loads(path.read_text())
        if places(note) is not None:
            samples, rate = soundfile.read(path.with_suffix(".flac"), dtype="int16")
            assert rate == SAMPLE_RATE, path
            yield from cuts(path.stem, note, samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--languages", nargs="+", default=list(TEXTS), choices=list(TEXTS))
    arguments = parser.parse_args()
    speak(folder(), interruption_folder() / "downloads", arguments.languages)


if __name__ == "__main__":
    main()
