"""The options of all voices in one table: what each vendor takes, and what its words mean.

A client's options are those of the vendor that it asked for. Where another vendor speaks instead,
what can be said in its words is translated (speed, loudness), and the rest is left out: vendors
refuse what they do not know, so a list of voices would be without one exactly when it is needed.
Values of the wrong type are left out too. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.providers._shared.options import (
    FLAG,
    TEXT,
    TEXTS,
    Option,
    Table,
    choice,
    is_absent,
)
from gateway.upstreams.tts import OptionsRead

SPEED_WORDS: Final = {"slow": 0.8, "normal": 1.0, "fast": 1.2}
"""Cartesia's words as what others call the rate of speech, 1 being natural."""


def _number(value: Any) -> Any | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _speed(value: Any) -> Any | None:
    return SPEED_WORDS.get(value) if isinstance(value, str) else _number(value)


def _numbers(value: Any) -> Any | None:
    whole = isinstance(value, list) and all(_number(one) is not None for one in value)
    return value if whole else None


NUMBER: Final = Option(_number, "a number")
"""Any: vendors' own bounds differ by model, and they say so themselves."""
SPEED: Final = Option(_speed, "a number, or slow, normal, fast")
NUMBERS: Final = Option(_numbers, "a list of numbers")
OBJECTS: Final = Option(lambda value: value if isinstance(value, list) else None, "a list")
SPEED_OR_WORD: Final = Option(
    lambda value: value if value in tuple(SPEED_WORDS) else _number(value),
    "a number, or slow, normal, fast",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """An option with a meaning that other vendors know too: its name, how it is read and written
    as a ratio (1: natural; more is faster or louder), and the least and the most that the vendor
    takes of its own unit."""

    name: str
    low: float
    high: float
    read: Callable[[float], float] = lambda value: value
    write: Callable[[float], float] = lambda ratio: ratio

    def ratio(self, value: Any) -> float | None:
        """What a client's value means; None if it means nothing."""
        number = _speed(value)
        if number is None:
            return None
        try:
            ratio = self.read(float(number))
        except (ArithmeticError, ValueError):
            return None
        return ratio if math.isfinite(ratio) and ratio > 0 else None

    def value(self, ratio: float) -> float:
        """The same in this vendor's unit, within what it takes."""
        return round(min(max(self.write(ratio), self.low), self.high), 3)


@dataclass(frozen=True, slots=True)
class VoiceOptions:
    """One vendor's. `free`: names that are not in `table` are passed on as well, for its servers
    have options of their own."""

    vendor: str
    table: Table = field(default_factory=dict)
    speed: Scale | None = None
    volume: Scale | None = None
    free: bool = False

    def read(self, extra: Mapping[str, Any], asked: str) -> OptionsRead:
        """See `OptionReader`."""
        given = {name: value for name, value in extra.items() if not is_absent(value)}
        if asked == self.vendor:
            return self._own(given)
        theirs = VOICES.get(asked)
        if theirs is None:
            return OptionsRead({}, tuple(given))
        chosen: dict[str, Any] = {}
        meant = set()
        for source, target in ((theirs.speed, self.speed), (theirs.volume, self.volume)):
            if source is None or target is None or source.name not in given:
                continue
            ratio = source.ratio(given[source.name])
            if ratio is not None:
                chosen[target.name] = target.value(ratio)
                meant.add(source.name)
        return OptionsRead(chosen, tuple(name for name in given if name not in meant))

    def _own(self, given: Mapping[str, Any]) -> OptionsRead:
        chosen: dict[str, Any] = {}
        left_out = []
        for name, value in given.items():
            option = self.table.get(name)
            if option is None and self.free:
                chosen[name] = value
            elif option is None or (taken := option.read(value)) is None:
                left_out.append(name)
            else:
                chosen[name] = taken
        return OptionsRead(chosen, tuple(left_out))


def _decibels(ratio: float) -> float:
    return 20 * math.log10(ratio)


def _ratio(decibels: float) -> float:
    return float(10.0 ** (decibels / 20))


def _inverse(value: float) -> float:
    return 1 / value


_OPENAI: Final = {"speed": SPEED, "instructions": TEXT}

_ALL: Final = (
    VoiceOptions("assemblyai", {"word_timestamps": FLAG}),
    VoiceOptions(
        "cartesia",
        {
            "speed": SPEED_OR_WORD,
            "volume": NUMBER,
            "emotion": TEXT,
            "duration": NUMBER,
            "max_buffer_delay_ms": NUMBER,
            "add_timestamps": FLAG,
            "add_phoneme_timestamps": FLAG,
            "use_normalized_timestamps": FLAG,
            "pronunciation_dict_id": TEXT,
        },
        speed=Scale("speed", 0.6, 1.5),
        volume=Scale("volume", 0.5, 2.0),
    ),
    # `speed` is of some of its models alone, and the others refuse the handshake: it is never
    # made of another vendor's
    VoiceOptions(
        "deepgram",
        {"mip_opt_out": FLAG, "speed": SPEED, "expressivity": NUMBER, "tag": TEXTS},
    ),
    VoiceOptions(
        "elevenlabs",
        {
            "enable_logging": FLAG,
            "enable_ssml_parsing": FLAG,
            "inactivity_timeout": NUMBER,
            "apply_text_normalization": choice("auto", "on", "off"),
            "apply_language_text_normalization": FLAG,
            "language_code": TEXT,
            "seed": NUMBER,
            "sync_alignment": FLAG,
            "auto_mode": FLAG,
            "stability": NUMBER,
            "similarity_boost": NUMBER,
            "style": NUMBER,
            "use_speaker_boost": FLAG,
            "speed": SPEED,
            "chunk_length_schedule": NUMBERS,
            "preferred_alignment": choice("normalized", "original"),
        },
        speed=Scale("speed", 0.7, 1.2),
    ),
    VoiceOptions(
        "fishaudio",
        {
            "latency": TEXT,
            "chunk_length": NUMBER,
            "min_chunk_length": NUMBER,
            "max_new_tokens": NUMBER,
            "temperature": NUMBER,
            "top_p": NUMBER,
            "repetition_penalty": NUMBER,
            "normalize": FLAG,
            "condition_on_previous_chunks": FLAG,
            "early_stop_threshold": NUMBER,
            "references": OBJECTS,
            "speed": SPEED,
            "volume": NUMBER,
            "normalize_loudness": FLAG,
        },
        speed=Scale("speed", 0.5, 2.0),
        volume=Scale("volume", -20.0, 20.0, _ratio, _decibels),
    ),
    VoiceOptions(
        "inworld",
        {
            "speaking_rate": SPEED,
            "temperature": NUMBER,
            "delivery_mode": TEXT,
            "timestamp_type": TEXT,
            "apply_text_normalization": TEXT,
            "text_normalization": TEXT,
            "timestamp_transport_strategy": TEXT,
            "max_buffer_delay_ms": NUMBER,
            "buffer_char_threshold": NUMBER,
            "auto_mode_strategy": TEXT,
        },
        speed=Scale("speaking_rate", 0.55, 1.5),  # its lower bound, 0.5, is not allowed itself
    ),
    VoiceOptions(
        "rime",
        {
            "speed_alpha": NUMBER,
            "pause_between_brackets": FLAG,
            "phonemize_between_brackets": FLAG,
            "inline_speed_alpha": TEXT,
            "no_text_normalization": FLAG,
            "reduce_latency": FLAG,
            "save_oovs": FLAG,
            "time_scale_factor": NUMBER,
            "repetition_penalty": NUMBER,
            "temperature": NUMBER,
            "top_p": NUMBER,
            "max_tokens": NUMBER,
        },
        speed=Scale("speed_alpha", 0.5, 2.0, _inverse, _inverse),  # more is slower
    ),
    VoiceOptions(
        "xai",
        {
            "speed": SPEED,
            "bit_rate": NUMBER,
            "optimize_streaming_latency": NUMBER,
            "text_normalization": FLAG,
            "with_timestamps": FLAG,
        },
        speed=Scale("speed", 0.7, 1.5),
    ),
    VoiceOptions("openai", _OPENAI, speed=Scale("speed", 0.25, 4.0)),
    # the narrowest bounds among the servers that are known
    VoiceOptions("openai-compatible", _OPENAI, speed=Scale("speed", 0.5, 2.0), free=True),
    VoiceOptions("local"),
    VoiceOptions(
        "piper",
        {
            "speaker_id": NUMBER,
            "length_scale": NUMBER,
            "noise_scale": NUMBER,
            "noise_w_scale": NUMBER,
        },
        speed=Scale("length_scale", 0.5, 2.0, _inverse, _inverse),  # more is slower
    ),
)

VOICES: Final[Mapping[str, VoiceOptions]] = {one.vendor: one for one in _ALL}
"""By the vendor's type name."""
