"""Whisper in a worker process: the only module that imports faster-whisper (extra `local`)."""

from __future__ import annotations

import math
import os
import signal
from typing import Any, Final

from gateway.audio.pcm import floats
from gateway.upstreams.stt import Transcript, Word

NICE: Final = 5
"""The worker yields to the process that relays audio."""

BEAM_FINAL: Final = 3
NO_SPEECH: Final = 0.6
LOGPROB_MIN: Final = -1.0
"""What is more probably no speech and was guessed badly is left out: Whisper invents words in
silence."""

_model: Any = None


class WhisperError(Exception):
    """The model cannot be used; the message says why."""


def installed() -> bool:
    """Whether the extra `local` is there."""
    from importlib.util import find_spec

    return find_spec("faster_whisper") is not None


def load(path: str, device: str, compute_type: str, threads: int) -> None:
    """Start of the worker: load the model at `path` (a folder, or a hub's name)."""
    global _model
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends its workers itself
    if hasattr(os, "nice"):
        os.nice(NICE)
    from faster_whisper import WhisperModel

    try:
        _model = WhisperModel(path, device=device, compute_type=compute_type, cpu_threads=threads)
    except Exception as error:  # whatever the library raises: the first utterance is told
        _model = WhisperError(str(error)[:300])


def ready() -> None:
    """Nothing to do: a worker that answers has loaded its model."""


def transcribe(pcm: bytes, language: str | None, prompt: str, is_final: bool) -> Transcript:
    """The words in s16le samples at 16 kHz; times from their start. Raises WhisperError."""
    if isinstance(_model, WhisperError):
        raise _model
    segments, info = _model.transcribe(
        floats(pcm),
        language=language,
        beam_size=BEAM_FINAL if is_final else 1,
        temperature=0.0,
        condition_on_previous_text=False,
        initial_prompt=prompt or None,
        word_timestamps=is_final,
        without_timestamps=not is_final,
        vad_filter=False,
    )
    texts: list[str] = []
    words: list[Word] = []
    logprobs: list[float] = []
    for segment in segments:
        if segment.no_speech_prob > NO_SPEECH and segment.avg_logprob < LOGPROB_MIN:
            continue
        texts.append(segment.text.strip())
        logprobs.append(segment.avg_logprob)
        words += [
            # the library's are numpy's
            Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
            for word in segment.words or ()
        ]
    confidence = math.exp(float(sum(logprobs)) / len(logprobs)) if logprobs else 1.0
    return Transcript(
        " ".join(filter(None, texts)),
        language=info.language,
        confidence=confidence,
        words=tuple(words),
    )
