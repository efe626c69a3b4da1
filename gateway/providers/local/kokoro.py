"""The embedded voice: Kokoro-82M by ONNX Runtime, in its own process (see runtime/voice_worker.py).

    python -m gateway.providers.local.kokoro --model FOLDER [--threads 2]

Weights Apache-2.0 (hexgrad). Letters become phonemes by espeak-ng (GPL-3, extra `espeak`), which is
why this runs apart from the gateway and is no part of it.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import orjson

from gateway.engines.onnx import open_session, stoppable
from gateway.engines.types import ModelError
from gateway.providers.local.phonemes import ENGLISH, NUMBERS
from gateway.runtime.voice_worker import AUDIO, DROP, FAILED, HEAD, READY, SAY, SPOKEN, frame

RATE: Final = 24000
STYLE_ROWS: Final = 510
"""A style has a vector for each number of phonemes; so many are the most in one run."""

STYLE_SIZE: Final = 256

CLAUSE_CHARS: Final = 90
"""A sentence longer than this is cut at a comma or the like: its beginning is heard sooner."""

FIRST_CLAUSE_CHARS: Final = 24
"""The first clause of a sentence that is cut is no shorter: two words alone sound clipped."""

QUIET: Final = 0.001
"""Root mean square, of full scale 1, below which QUIET_SAMPLES are silence. The model's own silence
is below 0.0005, the weakest consonant at a word's edge above 0.002."""

QUIET_SAMPLES: Final = 240

LEAD_S: Final = 0.02
"""Silence kept before speech; the model gives about 0.33 s."""

SENTENCE_TAIL_S: Final = 0.2
"""Silence kept after a text: the pause before the next sentence. The model gives about 0.45 s."""

CLAUSE_TAIL_S: Final = 0.1
"""Silence kept where a sentence was cut."""

LANGUAGES: Final = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "p": "pt-br",
}
"""Language of a voice by the first letter of its name. Chinese and Japanese voices need other
phonemes than espeak-ng has."""

BY_LANGUAGE: Final = {
    "en": "af_heart",
    "es": "ef_dora",
    "fr": "ff_siwis",
    "hi": "hf_alpha",
    "it": "if_sara",
    "pt": "pf_dora",
}
"""Default voices."""

_BREAK: Final = re.compile(r"(?<=[,;:—\u2013])\s+|\s+(?=—)")
_TAG: Final = re.compile(r"<[^<>]{1,200}>")


class Speaker:
    """Text in, samples out."""

    def __init__(self, folder: Path, threads: int, device: str = "cpu") -> None:
        """Raises ModelError, which names the file."""
        model = folder / "kokoro.onnx"
        self._session = open_session(model, threads, device)
        if {one.name for one in self._session.get_inputs()} != {"tokens", "style", "speed"}:
            raise ModelError(f"{model}: expected the inputs tokens, style and speed")
        self._styles = {
            path.stem: _style(path)
            for path in sorted(folder.glob("*.bin"))
            if path.stem[0] in LANGUAGES
        }
        if not self._styles:
            raise ModelError(f"{folder}: there is no style of a voice (af_heart.bin, ...)")
        self._backends: dict[str, Any] = {}

    def speak(self, job: dict[str, Any], stop: Any = None) -> Iterator[bytes]:
        """s16le samples, clause by clause. Raises ValueError for what cannot be spoken, and
        whatever ONNX Runtime raises once `stop.terminate` is True."""
        name = job.get("voice") or self._default_voice(job.get("language"))
        style = self.style(name)
        speed = job.get("options", {}).get("speed", 1.0)
        if not isinstance(speed, (int, float)) or not 0.5 <= speed <= 2:
            raise ValueError("speed: expected a number from 0.5 to 2")
        parts = tuple(clauses(_TAG.sub(" ", job["text"])))
        for i, clause in enumerate(parts):
            tail_s = SENTENCE_TAIL_S if i == len(parts) - 1 else CLAUSE_TAIL_S
            phonemes = self.phonemes(clause, LANGUAGES[name[0]])
            for start in range(0, len(phonemes), STYLE_ROWS - 2):
                tokens = [NUMBERS[p] for p in phonemes[start : start + STYLE_ROWS - 2]]
                if any(p.isalpha() for p in phonemes):
                    audio = trimmed(self._run(tokens, style, float(speed), stop), tail_s)
                    yield np.clip(audio * 32767, -32768, 32767).astype(np.int16).tobytes()

    def _run(
        self, tokens: list[int], style: npt.NDArray[np.float32], speed: float, stop: Any
    ) -> npt.NDArray[np.float32]:
        (audio,) = self._session.run(
            ["audio"],
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style[len(tokens)],
                "speed": np.array([speed], np.float32),
            },
            stop,
        )
        return np.asarray(audio, np.float32)

    def _default_voice(self, language: str | None) -> str:
        if language and language.lower().replace("_", "-") == "en-gb":
            return "bf_emma"
        return BY_LANGUAGE.get((language or "en").lower()[:2], BY_LANGUAGE["en"])

    def style(self, name: str) -> npt.NDArray[np.float32]:
        """A voice, or a mixture of some: `af_heart(2)+am_adam`. Raises ValueError."""
        parts: list[tuple[str, float]] = []
        for part in name.split("+"):
            match = re.fullmatch(r"\s*(\w+)(?:\((\d+(?:\.\d+)?)\))?\s*", part)
            if match is None or match.group(1) not in self._styles:
                raise ValueError(
                    f"voice: there is no {part.strip()[:64]!r}; expected one of "
                    f"{', '.join(self._styles)}, or several joined by +"
                )
            parts.append((match.group(1), float(match.group(2) or 1.0)))
        total = sum(share for _, share in parts) or 1.0
        mixed = sum(self._styles[voice] * np.float32(share / total) for voice, share in parts)
        return np.asarray(mixed, np.float32)

    def phonemes(self, text: str, language: str) -> str:
        """What the model knows of the text's phonemes."""
        backend = self._backends.get(language)
        if backend is None:
            backend = self._backends[language] = _espeak(language)
        spelt = "".join(backend.phonemize([text.strip()], strip=True))
        if language.startswith("en"):
            for many, one in ENGLISH:
                spelt = spelt.replace(many, one)
        return "".join(p for p in spelt if p in NUMBERS)


def _style(path: Path) -> npt.NDArray[np.float32]:
    if path.stat().st_size != 4 * STYLE_ROWS * STYLE_SIZE:
        raise ModelError(f"{path}: expected {STYLE_ROWS} vectors of {STYLE_SIZE} float32")
    return np.fromfile(path, np.float32).reshape(STYLE_ROWS, 1, STYLE_SIZE)


def _espeak(language: str) -> Any:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend(
        language, preserve_punctuation=True, with_stress=True, language_switch="remove-flags"
    )


def clauses(text: str) -> Iterator[str]:
    """The text, cut after commas and the like where it is long; no clause is very short. The first
    one may be shorter than the others: what follows is made while it is heard."""
    if len(text) <= CLAUSE_CHARS:
        yield text
        return
    waiting = ""
    enough = FIRST_CLAUSE_CHARS
    for part in _BREAK.split(text):
        waiting = f"{waiting} {part}".strip()
        if len(waiting) >= enough:
            yield waiting
            waiting, enough = "", CLAUSE_CHARS // 2
    if waiting:
        yield waiting


def trimmed(audio: npt.NDArray[np.float32], tail_s: float) -> npt.NDArray[np.float32]:
    """`audio` with LEAD_S of silence before its speech and `tail_s` after it, or less."""
    frames = audio[: len(audio) // QUIET_SAMPLES * QUIET_SAMPLES].reshape(-1, QUIET_SAMPLES)
    (loud,) = np.nonzero(np.mean(frames * frames, axis=1) >= QUIET * QUIET)
    if not len(loud):
        return audio[: round(tail_s * RATE)]
    start = int(loud[0]) * QUIET_SAMPLES - round(LEAD_S * RATE)
    end = (int(loud[-1]) + 1) * QUIET_SAMPLES + round(tail_s * RATE)
    return audio[max(0, start) : end]


class Jobs:
    """The jobs that nobody wants any more: told by one thread, asked by the one that does them."""

    def __init__(self) -> None:
        self._dropped: set[int] = set()
        self._running: dict[int, Any] = {}

    def begin(self, job: int) -> Any | None:
        """Options for the runs of this job; None if it is not wanted."""
        stop = self._running[job] = stoppable()
        # in this order: a drop that comes between the two sets `terminate`
        if job in self._dropped:
            self.end(job)
            return None
        return stop

    def drop(self, job: int) -> None:
        """Skip a job that waits, end the one that runs."""
        self._dropped.add(job)
        if (stop := self._running.get(job)) is not None:
            stop.terminate = True

    def end(self, job: int) -> None:
        """The job is over; none of those before it will come again."""
        self._running.pop(job, None)
        for done in [one for one in tuple(self._dropped) if one <= job]:
            self._dropped.discard(done)

    def is_dropped(self, job: int) -> bool:
        return job in self._dropped


def _read(source: BinaryIO, waiting: queue.SimpleQueue[Any], jobs: Jobs) -> None:
    """Frames of the gateway, until it is gone."""
    while True:
        head = source.read(HEAD.size)
        if len(head) < HEAD.size:
            # the gateway is gone; a job that is running need not be ended
            os._exit(0)
        length, kind, job = HEAD.unpack(head)
        payload = source.read(length)
        if kind == DROP:
            jobs.drop(job)
        elif kind == SAY:
            waiting.put((job, payload))


def serve(speaker: Speaker, source: BinaryIO, out: BinaryIO) -> None:
    """Do jobs in order, for ever."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    jobs = Jobs()
    threading.Thread(target=_read, args=(source, waiting, jobs), daemon=True).start()

    def say(kind: int, job: int, payload: bytes = b"") -> None:
        out.write(frame(kind, job, payload))
        out.flush()

    say(READY, 0)
    while True:
        job, payload = waiting.get()
        stop = jobs.begin(job)
        if stop is None:
            continue  # nobody waits to be told
        try:
            for pcm in speaker.speak(orjson.loads(payload), stop):
                say(AUDIO, job, pcm)
            say(SPOKEN, job)
        except ValueError as error:
            say(FAILED, job, str(error).encode())
        except Exception as error:  # one text must not end the voice of all
            if not jobs.is_dropped(job):  # a run that was ended raises too
                say(FAILED, job, f"the local voice failed: {type(error).__name__}".encode())
        finally:
            jobs.end(job)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.nice(10)  # relays come first
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    try:
        speaker = Speaker(options.model, options.threads, options.device)
    except ModelError as error:
        sys.exit(f"the local voice cannot start: {error}")
    serve(speaker, sys.stdin.buffer, out)


if __name__ == "__main__":
    main()
