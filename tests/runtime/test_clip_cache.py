"""Texts that are said again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.conversations.tts.actions import (
    Looked,
    Spoken,
)
from gateway.conversations.tts.clips import Clip
from gateway.conversations.tts.protocol import Style
from gateway.runtime.clip_cache import ClipCache
from gateway.settings.tts import TtsCacheConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.tts import Audio, Failed, Finished, PartSpoken, Timed
from tests.conversations.tts.test_session import (
    Conversation,
    audio_of,
    told,
    tone,
    types,
    upstream,
    words,
)

STYLE = Style("acme/one", "ann", "en", {"speed": 1.0})
BROKEN = Failed(Failure(Kind.CONNECTION_LOST, "broke off"))


def cache(**settings: Any) -> ClipCache:
    return ClipCache(TtsCacheConfig(enabled=True, **settings))


def call(clips: ClipCache, model: str = "acme/one", **more: Any) -> Conversation:
    return Conversation(model, clips=clips, **more)


def test_a_text_is_found_only_in_the_same_voice_rate_and_options() -> None:
    clips = cache()
    clips.put(STYLE, 24000, "Hello. ", Clip(b"12"))
    assert clips.get(STYLE, 24000, "Hello.") == Clip(b"12")
    assert clips.get(STYLE, 16000, "Hello. ") is None
    assert clips.get(STYLE, 24000, "Hello! ") is None
    for other in (
        Style("acme/two", "ann", "en", {"speed": 1.0}),
        Style("acme/one", "bob", "en", {"speed": 1.0}),
        Style("acme/one", "ann", "es", {"speed": 1.0}),
        Style("acme/one", "ann", "en", {"speed": 1.1}),
    ):
        assert clips.get(other, 24000, "Hello. ") is None


def test_memory_is_bounded_and_what_was_unused_for_longest_goes() -> None:
    clips = cache(memory_mb=1)
    for name in "abc":
        clips.put(STYLE, 24000, name, Clip(bytes(400_000)))
        clips.get(STYLE, 24000, "a")
    assert clips.get(STYLE, 24000, "a") is not None
    assert clips.get(STYLE, 24000, "b") is None
    assert clips.get(STYLE, 24000, "c") is not None


def test_clips_on_disk_outlive_the_process_and_are_bounded(tmp_path: Path) -> None:
    clip = Clip(b"\n\0" * 100, (Timed("Hello.", 0.0, 0.4),))
    first = cache(directory=tmp_path)
    first.put(STYLE, 24000, "Hello. ", clip)
    first.close()
    assert cache(directory=tmp_path).get(STYLE, 24000, "Hello. ") == clip
    small = cache(directory=tmp_path, disk_mb=1)
    for name in "abc":
        small.put(STYLE, 24000, name, Clip(bytes(400_000)))
    small.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1 << 20


def test_a_spoilt_file_is_as_good_as_none(tmp_path: Path) -> None:
    clips = cache(directory=tmp_path)
    clips.put(STYLE, 24000, "Hello. ", Clip(b"12"))
    clips.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"nonsense")
    assert cache(directory=tmp_path).get(STYLE, 24000, "Hello. ") is None


def test_a_greeting_is_said_again_at_once_without_a_provider() -> None:
    clips = cache()
    first = call(clips)
    first.text("Hello. ")
    first.flush()
    first.hear(1, words(("Hello.", 0.0, 0.3)), Audio(tone(0.5)), Finished())
    again = call(clips)
    actions = again.text("Hello. ")
    assert upstream(actions) == []
    assert audio_of(actions) == tone(0.5)
    assert [w["word"] for m in told(actions) for w in m.get("words", [])] == ["Hello. "]
    assert types(again.flush())[-1] == "done"
    assert [a for a in again.log if isinstance(a, Looked)] == [Looked(True)]
    (spoken,) = [a for a in again.log if isinstance(a, Spoken)]
    assert (spoken.provider, spoken.first_audio_s) == ("cache", 0.0)


def test_sentences_of_one_speech_are_kept_apart_by_their_words() -> None:
    clips = cache()
    first = call(clips)
    first.text("One. ")
    first.text("Two. ")
    first.flush()
    timed = words(("One.", 0.0, 0.4), ("Two.", 0.6, 0.9))
    first.hear(1, timed, Audio(tone(0.5) + bytes(2 * 2400)), Audio(tone(0.4)), Finished())
    again = call(clips)
    assert len(audio_of(again.text("Two. "))) == 2 * 12000
    assert again.flush()
    actions = again.text("One. ")
    assert audio_of(actions) == tone(0.5)


def test_a_known_sentence_is_followed_by_an_unknown_one() -> None:
    clips = cache()
    first = call(clips, "marked/one")
    first.text("One. ")
    first.text("Two. ")
    first.flush()
    first.hear(1, Audio(tone(0.5)), PartSpoken(), Audio(tone(0.3)), PartSpoken(), Finished())
    again = call(clips, "marked/one")
    assert audio_of(again.text("One. ")) == tone(0.5)
    assert [type(a).__name__ for a in upstream(again.text("New. "))] == ["Begin", "Say"]
    again.flush()
    assert types(again.hear(1, Audio(tone(0.2)), PartSpoken(), Finished()))[-1] == "done"
    assert audio_of(again.log) == tone(0.5) + tone(0.2)


@pytest.mark.parametrize("provider_fails", [True, False])
def test_what_another_voice_said_is_not_kept(provider_fails: bool) -> None:
    clips = cache()
    first = call(clips, fallback=["zeus/two"])
    first.text("Hello. ")
    first.flush()
    if provider_fails:
        first.hear(1, BROKEN)
    first.hear(2 if provider_fails else 1, Audio(tone(0.5)), Finished())
    again = call(clips, fallback=["zeus/two"])
    assert bool(upstream(again.text("Hello. "))) is provider_fails
