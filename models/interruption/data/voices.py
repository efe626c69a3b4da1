"""Speaks the texts with Kokoro, many voices, and notes when each phoneme sounds.

    python -m models.interruption.data.voices --count 6000 --short 3000

Weights and styles come from packages (`DATA.md`); the durations that the network predicts for its
phonemes (25 ms units) are read out of the graph, so labels need no aligner. Job `n` of a seed is
always the same text and voice; finished jobs are skipped, and any prefix of them is a fair sample.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnxruntime as ort
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from models.interruption.cache import cache_folder
from models.interruption.data.splits import EVAL_VOICES, SHORT_JOBS, Side
from models.interruption.data.texts import BACKCHANNELS, FLOOR, FLOOR_MORE, chosen, sentence

SAMPLE_RATE = 16_000
KOKORO_RATE = 24_000
DURATION_UNIT_S = 0.025  # one predicted duration unit is 600 samples at 24 kHz
_DURATIONS = "/encoder/Round_output_0"
_STYLE_ROWS, _STYLE_SIZE = 510, 256

_ESPEAK = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
_LANGUAGE = {"e": "es", "f": "fr", "h": "hi", "i": "it", "p": "pt"}


@dataclass(frozen=True)
class Job:
    """One utterance. `parts` are spoken in a row; `kinds` says what each of them is."""

    index: int
    side: str
    kinds: tuple[str, ...]  # backchannel | floor | sentence
    parts: tuple[str, ...]
    joint: str  # punctuation between the parts
    ending: str
    language: str  # as espeak calls it
    voices: tuple[str, ...]
    shares: tuple[float, ...]
    speed: float


def job(index: int, styles: list[str], seed: int = 1) -> Job:
    rng = Random(f"{seed}:{index}")
    side = Side.EVAL if rng.random() < 0.15 else Side.TRAIN
    mine = [s for s in styles if (s in EVAL_VOICES) == (side is Side.EVAL)]
    english = [s for s in mine if s[0] in "ab"]
    if rng.random() < 0.74:  # English, by natives or with an accent
        first = rng.choice(english) if rng.random() < 0.8 else rng.choice(mine)
        espeak, language = ("en-gb" if first[0] == "b" else "en-us"), "en"
        pool = english if first in english else mine
    else:
        first = rng.choice([s for s in mine if s[0] in _LANGUAGE])
        espeak, language, pool = _ESPEAK[first[0]], _LANGUAGE[first[0]], mine
        if rng.random() < 0.25:
            espeak, language = "de", "de"
    voices: tuple[str, ...] = (first,)
    shares: tuple[float, ...] = (1.0,)
    if side is Side.TRAIN and rng.random() < 0.75:
        second = rng.choice(pool if rng.random() < 0.7 else mine)
        share = rng.uniform(0.25, 0.75)
        voices, shares = (first, second), (share, 1 - share)
    kinds, parts = (_content if index < SHORT_JOBS else _short)(rng, language)
    return Job(
        index=index, side=side, kinds=kinds, parts=parts,
        joint=rng.choice([" ", " ", ", ", ", ", "... "]),
        ending=rng.choices(["", ".", "?", "!", "..."], [3, 6, 2, 1.5, 1])[0],
        language=espeak, voices=voices, shares=shares, speed=round(rng.uniform(0.8, 1.45), 3),
    )  # fmt: skip


def _content(rng: Random, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    def backchannel() -> str:
        return chosen(rng, BACKCHANNELS[language])

    pick = rng.random()
    if pick < 0.42:
        return ("backchannel",), (backchannel(),)
    if pick < 0.55:
        return ("backchannel", "sentence"), (backchannel(), sentence(rng, language))
    if pick < 0.59:
        return ("backchannel", "floor"), (backchannel(), chosen(rng, FLOOR[language]))
    if pick < 0.72:
        return ("floor",), (chosen(rng, FLOOR[language]),)
    if pick < 0.80:
        return ("floor", "sentence"), (chosen(rng, FLOOR[language]), sentence(rng, language))
    return ("sentence",), (sentence(rng, language),)


def _short(rng: Random, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    floor = FLOOR[language] | (FLOOR_MORE if language == "en" else {})
    pick = rng.random()
    if pick < 0.45:
        return ("backchannel",), (chosen(rng, BACKCHANNELS[language]),)
    if pick < 0.9:
        return ("floor",), (chosen(rng, floor),)
    return ("backchannel", "floor"), (chosen(rng, BACKCHANNELS[language]), chosen(rng, floor))


class Kokoro:
    """Phonemes of one utterance in, 16 kHz samples and phoneme durations out."""

    def __init__(self, model: Path, styles: Path, threads: int = 1) -> None:
        import onnx

        graph = onnx.load(model)
        graph.graph.output.append(onnx.ValueInfoProto(name=_DURATIONS))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._styles = {
            path.stem: np.fromfile(path, np.float32).reshape(_STYLE_ROWS, 1, _STYLE_SIZE)
            for path in sorted(styles.glob("*.bin"))
        }

    @property
    def styles(self) -> list[str]:
        return list(self._styles)

    def speak(
        self, tokens: list[int], voices: tuple[str, ...], shares: tuple[float, ...], speed: float
    ) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Samples [n] and the durations [len(tokens) + 2] in units, silences at both ends."""
        style = sum(
            share * self._styles[voice][len(tokens)]
            for voice, share in zip(voices, shares, strict=True)
        )
        audio, durations = self._session.run(
            ["audio", _DURATIONS],
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": np.asarray(style, np.float32),
                "speed": np.array([speed], np.float32),
            },
        )
        at_16k = resample_poly(audio, SAMPLE_RATE, KOKORO_RATE)
        peak = max(float(np.abs(at_16k).max()), 1e-4)
        samples = np.round(at_16k / peak * 0.9 * 32767).astype(np.int16)
        return samples, np.asarray(durations).reshape(-1).astype(np.int64)


def phonemes(part: str, language: str, tokenizer: Any) -> str:
    if part.startswith("/"):
        return part.strip("/")
    return str(tokenizer.phonemize(part, language)).strip()


def run(indexes: Sequence[int], seed: int, out: Path, downloads: Path) -> None:
    from kokoro_onnx.tokenizer import Tokenizer

    tokenizer = Tokenizer()
    kokoro = Kokoro(downloads / "kokoro.onnx", downloads / "styles")
    out.mkdir(parents=True, exist_ok=True)
    started, spoken_s, made = time.monotonic(), 0.0, 0
    for at_job, index in enumerate(indexes):
        target = out / f"{index:06d}.json"
        if target.exists():
            continue
        item = job(index, kokoro.styles, seed)
        written = [phonemes(part, item.language, tokenizer) for part in item.parts]
        text, starts = "", []
        for part in written:
            text = text + (item.joint if text else "")
            starts.append(len(tokenizer.known(text)))
            text += part
        known = tokenizer.known(text + item.ending)[:500]
        samples, durations = kokoro.speak(
            tokenizer.tokenize(known), item.voices, item.shares, item.speed
        )
        at = np.concatenate([[0], np.cumsum(durations)]) * DURATION_UNIT_S  # at[1 + i]: phoneme i
        soundfile.write(target.with_suffix(".flac"), samples, SAMPLE_RATE, subtype="PCM_16")
        note = asdict(item) | {
            "phonemes": known,
            "phoneme_starts_s": [round(float(t), 3) for t in at[1:-1]],
            "part_starts_s": [round(float(at[1 + start]), 3) for start in starts],
            "part_ends_s": [
                round(float(at[1 + start + len(tokenizer.known(part))]), 3)
                for start, part in zip(starts, written, strict=True)
            ],
        }
        partial = target.with_suffix(".part")
        partial.write_text(json.dumps(note, ensure_ascii=False))
        os.replace(partial, target)
        made, spoken_s = made + 1, spoken_s + len(samples) / SAMPLE_RATE
        if made % 50 == 0:
            took = time.monotonic() - started
            print(
                f"{at_job + 1}/{len(indexes)}: {spoken_s:.0f} s spoken, RTF {took / spoken_s:.2f}",
                flush=True,
            )


def notes(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Finished utterances in order: sound file and what is known of it."""
    for path in sorted(folder.glob("*.json")):
        yield path.with_suffix(".flac"), json.loads(path.read_text())


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=6000, help="utterances of every kind")
    parser.add_argument("--short", type=int, default=3000, help="and so many short ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", default="0/1", help="this process of how many, such as 0/2")
    arguments = parser.parse_args()
    number, of = map(int, arguments.worker.split("/"))
    root = cache_folder()
    indexes = [*range(arguments.count), *range(SHORT_JOBS, SHORT_JOBS + arguments.short)]
    run(
        indexes[number::of],
        arguments.seed,
        root / f"voices-{arguments.seed}",
        root / "downloads",
    )


if __name__ == "__main__":
    main()
