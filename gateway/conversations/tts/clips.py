"""Audio of texts that are said again and again: its name in the cache, and how it is cut. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import orjson

from gateway.audio.chunks import SAMPLE_BYTES
from gateway.conversations.tts.protocol import Style
from gateway.conversations.tts.synthesis import Synthesis
from gateway.upstreams.tts import Clip


def clip_key(style: Style, rate: int, text: str) -> str:
    """The same for the same text spoken in the same way, in every process; a file name."""
    asked = [style.model, style.voice, style.language, style.extra, rate, text.strip()]
    encoded = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(encoded).hexdigest()


def clips_of(synthesis: Synthesis, rate: int) -> Iterator[tuple[str, Clip]]:
    """What a complete synthesis has said, sentence by sentence: (text, its clip). Nothing if it
    was not recorded, or if it is not known where each sentence ends. `rate` is the client's."""
    if synthesis.recording is None:
        return
    ends = synthesis.progress.ends(synthesis.sent_s)
    if ends is None:
        return
    begins = 0
    words = synthesis.spoken_words
    for text, end_s in zip(synthesis.progress.texts, ends, strict=True):
        end = round(end_s * rate)
        start_s = begins / rate
        mine = tuple(
            replace(word, start=word.start - start_s, end=word.end - start_s)
            for word in words
            if start_s <= word.start < end_s
        )
        pcm = bytes(synthesis.recording[begins * SAMPLE_BYTES : end * SAMPLE_BYTES])
        yield text, Clip(pcm, mine)
        begins = end
