"""Texts that are said again: their names, and the session with a cache."""

from __future__ import annotations

import pytest

from gateway.conversations.tts.actions import Found, Keep, Looked, LookUp, Spoken
from gateway.conversations.tts.clips import clip_key, clips_of
from gateway.conversations.tts.protocol import Style
from gateway.conversations.tts.synthesis import Synthesis
from gateway.conversations.tts.utterance import LOOK_UP_S_MAX
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Clip,
    Failed,
    Finished,
    PartSpoken,
    Timed,
)
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


def call(clips: dict[str, Clip], model: str = "acme/one", **more: object) -> Conversation:
    return Conversation(model, clips=clips, **more)  # type: ignore[arg-type]


def test_a_text_has_the_same_key_only_in_the_same_voice_rate_and_options() -> None:
    key = clip_key(STYLE, 24000, "Hello. ")
    assert clip_key(STYLE, 24000, "Hello.") == key
    others = [
        clip_key(STYLE, 16000, "Hello. "),
        clip_key(STYLE, 24000, "Hello! "),
        clip_key(Style("acme/two", "ann", "en", {"speed": 1.0}), 24000, "Hello. "),
        clip_key(Style("acme/one", "bob", "en", {"speed": 1.0}), 24000, "Hello. "),
        clip_key(Style("acme/one", "ann", "es", {"speed": 1.0}), 24000, "Hello. "),
        clip_key(Style("acme/one", "ann", "en", {"speed": 1.1}), 24000, "Hello. "),
    ]
    assert len({key, *others}) == 7


def recorded(marks: bool) -> Synthesis:
    traits = Capabilities(rates=(8000,), text_chars_max=400, marks=marks)
    synthesis = Synthesis(1, Attempt("acme", "one"), traits, 0, 8000, 0.0, None)
    synthesis.recording = bytearray()
    for text in ("One. ", "Two. "):
        synthesis.progress.said(text, 1)
        synthesis.record(bytes(2 * 8000))
        synthesis.sent += 8000
        if marks:
            synthesis.progress.part_spoken(synthesis.sent_s)
    synthesis.keep_words([Timed("One.", 0.1, 0.9), Timed("Two.", 1.25, 1.75)])
    return synthesis


def test_a_recording_is_cut_where_the_sentences_end() -> None:
    assert list(clips_of(recorded(marks=True), 8000)) == [
        ("One. ", Clip(bytes(2 * 8000), (Timed("One.", 0.1, 0.9),))),
        ("Two. ", Clip(bytes(2 * 8000), (Timed("Two.", 0.25, 0.75),))),
    ]


def test_nothing_is_cut_where_the_ends_are_not_known_or_nothing_was_recorded() -> None:
    assert list(clips_of(recorded(marks=False), 8000)) == []
    unrecorded = recorded(marks=True)
    unrecorded.recording = None
    assert list(clips_of(unrecorded, 8000)) == []


# The session


def test_without_a_cache_the_first_text_goes_to_its_provider_at_once() -> None:
    plain = Conversation()
    assert [type(a).__name__ for a in plain.text("Hello. ")] == ["Begin", "Say"]


def test_a_greeting_is_said_again_at_once_without_a_provider() -> None:
    clips: dict[str, Clip] = {}
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


def test_sentences_of_one_synthesis_are_kept_apart_by_their_words() -> None:
    clips: dict[str, Clip] = {}
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
    clips: dict[str, Clip] = {}
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
    clips: dict[str, Clip] = {}
    first = call(clips, fallback=["zeus/two"])
    first.text("Hello. ")
    first.flush()
    if provider_fails:
        first.hear(1, BROKEN)
    first.hear(2 if provider_fails else 1, Audio(tone(0.5)), Finished())
    again = call(clips, fallback=["zeus/two"])
    assert bool(upstream(again.text("Hello. "))) is provider_fails


def test_a_text_that_is_too_long_for_the_cache_is_neither_looked_up_nor_kept() -> None:
    again = call({}, cache={"enabled": True, "text_chars": 5})
    again.text("Hello. ")
    again.flush()
    again.hear(1, Audio(tone(0.5)), Finished())
    assert not [a for a in again.log if isinstance(a, (LookUp, Keep))]
    assert [a for a in again.log if isinstance(a, Looked)] == [Looked(False)]


def slow(**config: object) -> Conversation:
    """A session whose cache answers when the test says so."""
    return Conversation(cache={"enabled": True}, **config)  # type: ignore[arg-type]


def test_what_comes_while_the_cache_is_asked_waits_for_its_answer() -> None:
    again = slow()
    (asked,) = again.text("One. ")
    assert isinstance(asked, LookUp)
    assert again.text("Two. ") == []
    assert again.flush() == []
    actions = again.handle(Found(asked.key, None))
    assert [type(a).__name__ for a in upstream(actions)] == ["Begin", "Say", "Say", "Finish"]
    assert [a for a in again.log if isinstance(a, LookUp)] == [asked]


def test_a_cache_that_does_not_answer_in_time_is_not_waited_for() -> None:
    again = slow()
    (asked,) = again.text("One. ")
    assert isinstance(asked, LookUp)
    actions = again.wait()
    assert again.now == pytest.approx(LOOK_UP_S_MAX)
    assert actions[0] == Looked(False)
    assert [type(a).__name__ for a in upstream(actions)] == ["Begin", "Say"]
    assert again.handle(Found(asked.key, Clip(tone(0.1)))) == [], "too late"
