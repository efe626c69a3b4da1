"""Whisper in a worker process: the only module that imports faster-whisper (extra `local`).

Whisper repeats itself, and invents words where nothing was said. What it reports of itself
(compression, log-probability, no-speech) tells such a transcript, which is then made again at
other temperatures, or not told at all. Thresholds are those of the paper (Radford et al., 2022,
section 4.5) unless said otherwise.
"""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from gateway.audio.pcm import BYTES_PER_SAMPLE, floats
from gateway.upstreams.stt import Transcript, Word

NICE: Final = 5
"""The worker yields to the process that relays audio."""

BEAM_FINAL: Final = 3

TEMPERATURES: Final = (0.0, 0.2, 0.4)
"""Of finals: a transcript that fails its checks is made again at the next one."""

REPETITION_PENALTY: Final = 1.1
"""Makes a loop less likely: without it a spoken digit became a hundred of them, in 10 CPU seconds.
It costs nothing: 1.0 and 1.1 give the same word error rate."""

TOKENS_A_SECOND: Final = 30
TOKENS_MIN: Final = 24
TOKENS_MAX: Final = 440
TOKENS_MAX_PROMPTED: Final = 216
"""Text that speech of some length may have: fast Hindi needs 25 tokens a second, English 7. A loop
goes on until it is stopped. The model holds 448 tokens, a prompt among them."""

COMPRESSION_MAX: Final = 2.4
"""Text that compresses better than this repeats itself."""

NO_SPEECH: Final = 0.6
LOGPROB_MIN: Final = -1.0
"""What is more probably no speech and was guessed badly is left out."""

INVENTED_NO_SPEECH: Final = 0.2
INVENTED_LOGPROB: Final = -0.6
"""The same for phrases that Whisper is known to invent: they need more evidence."""

REPEATS_MAX: Final = 4
"""A word or phrase said so often in a row, and more, is a loop."""

LANGUAGE_SURE: Final = 0.7
"""Probability from which a session's language is remembered."""

LANGUAGE_CHANGES: Final = 0.85
CHANGE_S_MIN: Final = 2.0
"""Another language than the session's is believed with this probability, of speech this long."""

RATE: Final = 16_000

_INVENTED: Final = re.compile(
    r"(thank(s| you)( (so|very) much)?( for (watching|listening))?|you|bye( ?bye)?|so|oh|okay|"
    r"please subscribe.*|subtitles by .*|i'm sorry|ご視聴ありがとうございました|"
    r"untertitel.*|sous-titr.*|\u0e02\u0e2d\u0e1a\u0e04\u0e38\u0e13.*)",
    re.IGNORECASE,
)
"""What subtitles hold where nobody speaks, which Whisper learnt."""

_SOUND: Final = re.compile(
    r"[(\[*♪].*|((cough(s|ing)?|ahem|achoo|ha|sigh(s|ing)?|a+h+|u+h+|e+r+m*|f+)[\s,.!?]*)+",
    re.IGNORECASE,
)
"""How a sound that is no speech is written. (Uh-huh and uh-uh are answers, and have a hyphen.)"""

_model: Any = None


class WhisperError(Exception):
    """The model cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A transcript, and how sure its language is (1 where it was given)."""

    transcript: Transcript
    language_probability: float


class Segment(Protocol):
    """What faster-whisper tells of a part of the text."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float


def installed() -> bool:
    """Whether the extra `local` is there."""
    from importlib.util import find_spec

    return find_spec("faster_whisper") is not None


def cannot_compute(device: str, compute_type: str | None) -> str:
    """Why Whisper cannot run so on this machine, as far as that is known before a model is loaded;
    "" if it can."""
    import ctranslate2

    on_gpu = device != "cpu" and ctranslate2.get_cuda_device_count() > 0
    if device == "cuda" and not on_gpu:
        return "there is no GPU that CTranslate2 could use"
    able = ctranslate2.get_supported_compute_types("cuda" if on_gpu else "cpu")
    if compute_type is None or compute_type in able:
        return ""
    where = "GPU" if on_gpu else "CPU"
    can = ", ".join(sorted(able))
    return f"{compute_type!r} cannot be computed on this machine's {where}; it can {can}"


def load(path: str, device: str, compute_type: str | None, threads: int) -> None:
    """Start of the worker: load the model at `path` (a folder, or a hub's name)."""
    global _model
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends its workers itself
    if hasattr(os, "nice"):
        os.nice(NICE)
    try:
        _model = _loaded(path, device, compute_type, threads)
    except Exception as error:  # whatever the library raises: the first utterance is told
        _model = WhisperError(str(error)[:300])


def _loaded(path: str, device: str, compute_type: str | None, threads: int) -> Any:
    """The model; `auto` is a GPU if there is one on which it really runs: that libraries are
    missing shows only then."""
    import ctranslate2
    from faster_whisper import WhisperModel

    if device == "cuda" or (device == "auto" and ctranslate2.get_cuda_device_count()):
        try:
            model = WhisperModel(path, device="cuda", compute_type=compute_type or "float16")
            list(model.transcribe(np.zeros(RATE, np.float32), language="en")[0])
        except (RuntimeError, ValueError):
            if device == "cuda":
                raise
        else:
            return model
    return WhisperModel(
        path, device="cpu", compute_type=compute_type or "int8", cpu_threads=threads
    )


def ready() -> None:
    """Nothing to do: a worker that answers has loaded its model."""


def transcribe(
    pcm: bytes, language: str | None, prompt: str, is_final: bool, remembered: str | None = None
) -> Heard:
    """The words in s16le samples at 16 kHz; times from their start. `remembered` is the language of
    the session so far, which is doubted before it is changed. Raises WhisperError."""
    if isinstance(_model, WhisperError):
        raise _model
    seconds = len(pcm) / BYTES_PER_SAMPLE / RATE
    heard = _transcribe(pcm, language, prompt, is_final)
    if language is None and remembered is not None:
        found = heard.transcript.language
        if found != remembered and not believed(heard.language_probability, seconds):
            heard = _transcribe(pcm, remembered, prompt, is_final)
    return heard


def believed(probability: float, seconds: float) -> bool:
    """Whether speech is in another language than the session's."""
    return probability >= LANGUAGE_CHANGES and seconds >= CHANGE_S_MIN


def _transcribe(pcm: bytes, language: str | None, prompt: str, is_final: bool) -> Heard:
    segments, info = _model.transcribe(
        floats(pcm),
        language=language,
        beam_size=BEAM_FINAL if is_final else 1,
        best_of=1,  # five samples of a loop take five times as long
        temperature=TEMPERATURES if is_final else 0.0,
        repetition_penalty=REPETITION_PENALTY,
        max_new_tokens=tokens_max(len(pcm) / BYTES_PER_SAMPLE / RATE, prompted=bool(prompt)),
        compression_ratio_threshold=COMPRESSION_MAX,
        log_prob_threshold=LOGPROB_MIN,
        no_speech_threshold=NO_SPEECH,
        condition_on_previous_text=False,
        initial_prompt=prompt or None,
        word_timestamps=is_final,
        without_timestamps=not is_final,
        vad_filter=False,
    )
    kept = list(told(segments))
    words = tuple(
        # the library's are numpy's
        Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
        for segment in kept
        for word in segment.words or ()
    )
    logprobs = [segment.avg_logprob for segment in kept]
    confidence = math.exp(float(sum(logprobs)) / len(logprobs)) if logprobs else 1.0
    text = " ".join(filter(None, (segment.text.strip() for segment in kept)))
    transcript = Transcript(text, language=info.language, confidence=confidence, words=words)
    return Heard(transcript, 1.0 if language else float(info.language_probability))


def tokens_max(seconds: float, *, prompted: bool) -> int:
    """The longest text of so much speech."""
    most = TOKENS_MAX_PROMPTED if prompted else TOKENS_MAX
    return min(TOKENS_MIN + round(TOKENS_A_SECOND * seconds), most)


def told(segments: Iterable[Any]) -> Iterable[Any]:
    """The segments that were said: no loops, and nothing that was probably invented."""
    return (segment for segment in segments if not is_loop(segment) and not is_invented(segment))


def is_loop(segment: Segment) -> bool:
    """Whether a text repeats itself."""
    return segment.compression_ratio > COMPRESSION_MAX or repeats(segment.text)


def repeats(text: str) -> bool:
    """Whether a phrase of up to six words stands more than REPEATS_MAX times in a row."""
    words = re.findall(r"[\w']+", text.lower())
    for size in range(1, 7):
        run = 1
        for at in range(size, len(words) - size + 1, size):
            run = run + 1 if words[at : at + size] == words[at - size : at] else 1
            if run > REPEATS_MAX + (2 if size == 1 and words[at].isdecimal() else 0):
                return True
    return False


def is_invented(segment: Segment) -> bool:
    """Whether a text was probably made up where nobody spoke."""
    if segment.no_speech_prob > NO_SPEECH and segment.avg_logprob < LOGPROB_MIN:
        return True
    if _SOUND.fullmatch(segment.text.strip()) is not None:
        return True
    if _INVENTED.fullmatch(segment.text.strip().rstrip(".!。 ")) is None:
        return False
    return segment.no_speech_prob > INVENTED_NO_SPEECH or segment.avg_logprob < INVENTED_LOGPROB


class LanguageMemory:
    """The language of one session, where nobody has said it."""

    __slots__ = ("language",)

    def __init__(self) -> None:
        self.language: str | None = None

    def heard(self, heard: Heard, seconds: float) -> None:
        """A final of the session."""
        found = heard.transcript.language
        if not heard.transcript.text or found is None or found == self.language:
            return
        if self.language is None:
            if heard.language_probability >= LANGUAGE_SURE:
                self.language = found
        elif believed(heard.language_probability, seconds):
            self.language = found
