"""The speech session: words of a client and of providers in, actions out."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.conversations.tts.actions import (
    Action,
    Begin,
    CancelSynthesis,
    Close,
    Finish,
    Found,
    Keep,
    LookUp,
    Prepare,
    Say,
    SendToClient,
    Sounded,
    Spoke,
    Spoken,
    Tried,
    Unblocked,
)
from gateway.conversations.tts.protocol import Encoder, Style
from gateway.conversations.tts.session import TtsSession
from gateway.routing.breaker import Breaker
from gateway.settings.tts import TtsConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import Binary, ClientLeft, DeadlinePassed, Text
from gateway.upstreams.plan import Attempt, Plan
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Chars,
    Clip,
    Failed,
    Finished,
    PartSpoken,
    Restart,
    Retried,
    SynthesisEvent,
    Timed,
    Times,
    Words,
)

RATE = 24000
TRAITS = {
    "acme": Capabilities(rates=(16000, 24000), text_chars_max=400),
    "cartesia": Capabilities(rates=(24000,), text_chars_max=400),
    "zeus": Capabilities(rates=(24000,), text_chars_max=400),
    "low": Capabilities(rates=(8000,), text_chars_max=400),
    "marked": Capabilities(rates=(24000,), text_chars_max=20, marks=True),
    "again": Capabilities(rates=(24000,), text_chars_max=400, times=Times.RESTARTING),
    "brief": Capabilities(rates=(24000,), text_chars_max=400, expires_s=0.7),
}
BROKEN = Failure(Kind.CONNECTION_LOST, "broke off")


def plan_of(style: Style, fallback: tuple[Style, ...]) -> Plan | Failure:
    if style.model == "nobody/x":
        return Failure(Kind.NOT_FOUND, "the model 'nobody/x' is not served here", param="model")
    attempts = []
    for one in (style, *fallback):
        provider, _, model = one.model.partition("/")
        attempts.append(Attempt(provider, model, one.extra, one.voice, one.language))
    return tuple(attempts)


class Conversation:
    """A session and the clock; collects what it does."""

    def __init__(
        self,
        model: str = "acme/one",
        fallback: Sequence[str] = (),
        rate: int = RATE,
        clips: dict[str, Clip] | None = None,
        tells_sound: bool = False,
        connection: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        config = {"rounds": 1, "cache": {"enabled": clips is not None}} | config
        self.clips = clips
        self.now = 0.0
        self.rate = rate
        self.health = Breaker()
        self.session = TtsSession(
            "s1",
            plan_of,
            TRAITS,
            self.health,
            TtsConfig(**config),
            None,
            600.0,
            0.0,
            tells_sound=tells_sound,
        )
        self.log: list[Action] = []
        create: dict[str, Any] = {
            "type": "session.create",
            "sample_rate": str(rate),
            "encoding": "pcm_s16le",
            "model": model,
            "voice": "ann",
            "extra": {},
        }
        if fallback:
            create["fallback"] = {
                "models": [{"model": m, "voice": "eve", "extra": None} for m in fallback]
            }
        if connection is not None:
            create["connection"] = connection
        self.created = self.say(create)

    def handle(self, event: Any, after_s: float = 0.0) -> list[Action]:
        self.now += after_s
        actions = self.session.handle(event, self.now)
        self.log += actions
        return actions + self._cached(actions)

    def _cached(self, actions: list[Action]) -> list[Action]:
        """The cache, if there is one, does what it is asked to."""
        more: list[Action] = []
        clips = self.clips
        for action in actions if clips is not None else ():
            assert clips is not None
            if isinstance(action, Keep):
                clips[action.key] = action.clip
            elif isinstance(action, LookUp):
                more += self.handle(Found(action.key, clips.get(action.key)))
        return more

    def say(self, message: dict[str, Any]) -> list[Action]:
        return self.handle(Text(json.dumps(message)))

    def text(self, text: str, **more: Any) -> list[Action]:
        return self.say({"type": "input_transcript", "transcript": text, **more})

    def flush(self) -> list[Action]:
        return self.say({"type": "session.flush"})

    def hear(self, number: int, *heard: SynthesisEvent, after_s: float = 0.0) -> list[Action]:
        actions: list[Action] = []
        for one in heard:
            actions += self.handle(Spoke(number, one), after_s)
        return actions

    def wait(self) -> list[Action]:
        """Until the session's deadline."""
        assert self.session.deadline is not None
        self.now = max(self.now, self.session.deadline)
        return self.handle(DeadlinePassed())

    def wait_until(self, wanted: type[Action]) -> list[Action]:
        for _ in range(100):
            actions = self.wait()
            if any(isinstance(action, wanted) for action in actions):
                return actions
        raise AssertionError(f"no {wanted}")


def told(actions: Sequence[Action]) -> list[dict[str, Any]]:
    return [json.loads(action.text) for action in actions if isinstance(action, SendToClient)]


def types(actions: Sequence[Action]) -> list[str]:
    return [message["type"] for message in told(actions)]


def audio_of(actions: Sequence[Action]) -> bytes:
    return b"".join(
        base64.b64decode(m["audio"]) for m in told(actions) if m["type"] == "output_audio"
    )


def tone(seconds: float, rate: int = RATE, amplitude: float = 8000) -> bytes:
    t = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 220 * t) * amplitude).astype(np.int16).tobytes()


def upstream(actions: Sequence[Action]) -> list[Action]:
    return [a for a in actions if isinstance(a, (Begin, Say, Finish, CancelSynthesis))]


def begins(actions: Sequence[Action]) -> list[Begin]:
    return [action for action in actions if isinstance(action, Begin)]


def words(*entries: tuple[str, float, float]) -> Words:
    return Words(tuple(Timed(*entry) for entry in entries))


def test_a_connection_is_opened_upstream_before_there_is_text() -> None:
    call = Conversation()
    assert types(call.created) == ["session.created"]
    (prepared,) = [a for a in call.created if isinstance(a, Prepare)]
    assert prepared.provider == "acme"
    assert (prepared.request.model, prepared.request.voice) == ("one", "ann")
    assert prepared.request.sample_rate == RATE


def test_the_first_sentence_is_spoken_while_the_next_is_written() -> None:
    call = Conversation()
    begin, say = upstream(call.text("One. "))
    assert isinstance(begin, Begin)
    assert say == Say(1, "One. ")
    assert types(call.hear(1, Audio(tone(0.05)))) == ["output_audio"]
    assert upstream(call.text("Two. ")) == [Say(1, "Two. ")]
    assert upstream(call.flush()) == [Finish(1)]
    assert types(call.hear(1, Audio(tone(0.05)), Finished())) == ["output_audio", "done"]


def test_every_message_of_an_utterance_carries_the_session_id() -> None:
    call = Conversation()
    call.text("One. ")
    call.hear(1, words(("One.", 0, 0.02)), Audio(tone(0.3)))
    call.flush()
    call.hear(1, Finished())
    assert {m["session_id"] for m in told(call.log)} == {"s1"}


def test_many_utterances_follow_each_other_on_one_connection() -> None:
    call = Conversation()
    for number in (1, 2, 3):
        assert upstream(call.text("Again. "))[0] == Begin(
            number,
            "acme",
            call.log[1].request,  # type: ignore[union-attr]
        )
        call.flush()
        assert types(call.hear(number, Audio(tone(0.1)), Finished()))[-1] == "done"


def test_it_may_end_between_two_utterances() -> None:
    call = Conversation()
    assert call.session.may_end(call.now)
    call.text("Hello there, my friend.")
    assert not call.session.may_end(call.now)
    call.flush()
    assert not call.session.may_end(call.now)


def test_an_utterance_without_text_is_done_at_once() -> None:
    call = Conversation()
    assert types(call.flush()) == ["done"]
    assert types(call.flush()) == ["done"]


def test_text_without_a_letter_gives_a_little_silence_and_no_request() -> None:
    call = Conversation()
    assert upstream(call.text("... !? ")) == []
    flushed = call.flush()
    assert types(flushed) == ["output_audio", "done"]
    assert set(audio_of(flushed)) == {0}
    assert upstream(call.log) == []


def test_audio_is_cut_into_even_messages_of_at_most_100_ms() -> None:
    call = Conversation()
    call.text("One. ")
    sent = [base64.b64decode(m["audio"]) for m in told(call.hear(1, Audio(tone(0.25))))]
    assert b"".join(sent) == tone(0.25)
    assert [len(one) for one in sent] == [4000, 4000, 4000]


def test_what_is_passed_on_unchanged_is_not_encoded_again_and_what_is_changed_is() -> None:
    pcm = tone(0.05)
    text = base64.b64encode(pcm).decode()
    call = Conversation()
    call.text("One. ")
    (same,) = call.hear(1, Audio(pcm, text))
    assert isinstance(same, SendToClient)
    assert same.text == Encoder("s1").audio(pcm)
    assert same.audio_s == pytest.approx(0.05)
    assert audio_of(call.hear(1, Audio(pcm[:-1], "odd"))) == pcm[:-2]
    assert audio_of(call.hear(1, Audio(pcm[-1:] + pcm, "even now"))) == pcm[-2:] + pcm
    long = tone(0.5)
    assert audio_of(call.hear(1, Audio(long, "too long for one message"))) == long
    slow = Conversation("low/one")
    slow.text("One. ")
    assert "another rate" not in str(slow.hear(1, Audio(tone(1.0, 8000), "another rate")))


def test_samples_torn_by_the_provider_are_made_whole() -> None:
    call = Conversation()
    call.text("One. ")
    pcm = tone(0.2)
    actions = call.hear(1, Audio(pcm[:101]), Audio(pcm[101:102]), Audio(pcm[102:333]))
    actions += call.hear(1, Audio(pcm[333:]))
    assert all(len(base64.b64decode(m["audio"])) % 2 == 0 for m in told(actions))
    assert audio_of(actions) == pcm


def test_another_rate_is_resampled_without_a_seam_and_without_losing_its_end() -> None:
    call = Conversation("low/one")
    call.text("One. ")
    call.flush()
    pcm = tone(1.0, 8000)
    actions: list[Action] = []
    for start in range(0, len(pcm), 1000):
        actions += call.hear(1, Audio(pcm[start : start + 1000]))
    actions += call.hear(1, Finished())
    got = np.frombuffer(audio_of(actions), np.int16).astype(float)
    assert len(got) == RATE
    expected = np.frombuffer(tone(1.0), np.int16)
    assert np.abs(got[2000:-2000] - expected[2000:-2000]).max() < 200


def test_done_comes_after_all_audio_and_nothing_comes_after_done() -> None:
    call = Conversation()
    call.text("One. ")
    call.flush()
    call.hear(1, Audio(tone(0.1)), Finished())
    assert types(call.log)[-1] == "done"
    assert call.hear(1, Audio(tone(0.1)), words(("late", 0, 1))) == []


def test_words_are_sent_with_the_audio_they_belong_to() -> None:
    call = Conversation()
    call.text("One two. ")
    assert told(call.hear(1, words(("One", 0.0, 0.2), ("two.", 0.3, 0.5)))) == []
    first = told(call.hear(1, Audio(tone(0.1))))
    assert first[-1]["words"] == [{"word": "One ", "start": 0.0, "end": 0.2}]
    second = told(call.hear(1, Audio(tone(0.4))))
    assert second[-1]["words"] == [{"word": "two. ", "start": 0.3, "end": 0.5}]


def test_the_clients_of_cartesia_get_words_without_a_space_from_any_provider() -> None:
    call = Conversation("cartesia/sonic-3")
    call.text("One. ")
    call.hear(1, words(("One.", 0.0, 0.2)))
    assert told(call.hear(1, Audio(tone(0.1))))[-1]["words"][0]["word"] == "One."


def test_timings_that_begin_again_are_put_on_the_utterances_clock() -> None:
    call = Conversation("again/one")
    call.text("One. Two. ")
    call.hear(1, words(("One.", 0.0, 0.9)), Audio(tone(1.0)))
    call.hear(1, words(("Two.", 0.0, 0.4)), Audio(tone(0.5)))
    timed = [w for m in told(call.log) for w in m.get("words", [])]
    assert timed[1] == {"word": "Two. ", "start": 1.0, "end": 1.4}


def test_a_restart_told_by_the_provider_begins_at_the_audio_so_far() -> None:
    call = Conversation("again/one")
    call.text("One. Two. ")
    call.hear(1, Chars((Timed("O", 0.0, 0.9),)), Audio(tone(1.0)), Restart())
    call.hear(1, Chars((Timed("T", 0.1, 0.4),)), Audio(tone(0.5)))
    assert [c["start"] for m in told(call.log) for c in m.get("chars", [])] == [0.0, 1.1]


def test_a_slow_writer_does_not_make_the_client_give_up() -> None:
    call = Conversation()
    call.text("One. ")
    call.hear(1, words(("One.", 0.0, 0.4)), Audio(tone(0.5)))
    for _ in range(5):
        before = call.now
        assert types(call.wait()) == ["keepalive"]
        assert call.now - before <= 3.0
    assert upstream(call.log)[-1] == Say(1, "One. ")
    assert upstream(call.text("Two. ")) == [Say(1, "Two. ")]


def test_no_keepalive_is_sent_between_utterances() -> None:
    call = Conversation()
    call.text("One. ")
    call.flush()
    call.hear(1, Audio(tone(0.1)), Finished())
    assert call.session.deadline == pytest.approx(600.0)


def test_generation_config_wins_over_session_create() -> None:
    call = Conversation()
    begin = upstream(
        call.text(
            "Uno. ",
            generation_config={"voice": "bob", "model": "zeus/two", "language": "es"},
            extra={"speed": 1.2},
        )
    )[0]
    assert isinstance(begin, Begin)
    assert (begin.provider, begin.request.model, begin.request.voice) == ("zeus", "two", "bob")
    assert begin.request.language == "es"
    assert begin.request.options == {"speed": 1.2}


def test_a_voice_that_changes_inside_an_utterance_waits_for_the_one_before() -> None:
    call = Conversation()
    call.text("One. ")
    assert upstream(call.text("Two. ", generation_config={"voice": "bob"})) == [Finish(1)]
    begin, say = upstream(call.hear(1, Audio(tone(0.2)), Finished()))
    assert isinstance(begin, Begin)
    assert begin.request.voice == "bob"
    assert say == Say(2, "Two. ")
    call.flush()
    assert types(call.hear(2, Audio(tone(0.2)), Finished()))[-1] == "done"


def test_text_that_comes_before_done_belongs_to_the_next_utterance() -> None:
    call = Conversation()
    call.text("One. ")
    call.flush()
    assert upstream(call.text("Two. ")) == []
    call.flush()
    actions = call.hear(1, Audio(tone(0.1)), Finished())
    assert types(actions) == ["output_audio", "done"]
    assert [type(a) for a in upstream(actions)] == [Begin, Say, Finish]
    assert types(call.hear(2, Audio(tone(0.1)), Finished())) == ["output_audio", "done"]


def test_a_flood_of_flushes_is_answered_one_by_one_or_refused() -> None:
    call = Conversation()
    call.text("One. ")
    for _ in range(257):
        call.flush()
    assert types(call.hear(1, Audio(tone(0.1)), Finished())).count("done") == 257
    call.text("One. ")
    for _ in range(300):
        call.flush()
    assert types(call.log)[-1] == "error"
    assert isinstance(call.log[-1], Close)
    assert CancelSynthesis(2) in call.log


def test_long_texts_are_cut_for_the_provider_and_lose_nothing() -> None:
    call = Conversation("marked/one")
    text = "A sentence that is far too long for one message, you see. "
    parts = [a.text for a in upstream(call.text(text)) if isinstance(a, Say)]
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 20


# Failover


def test_a_provider_that_fails_before_audio_gives_all_text_to_the_next() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One. ")
    call.text("Two. ")
    actions = call.hear(1, Failed(BROKEN))
    begin, *rest = upstream(actions)
    assert isinstance(begin, Begin)
    assert (begin.provider, begin.request.voice) == ("zeus", "eve")
    assert rest == [Say(2, "One. "), Say(2, "Two. ")]
    assert types(actions) == []
    assert upstream(call.flush()) == [Finish(2)]


def test_a_silent_provider_is_left_for_the_next_in_time() -> None:
    call = Conversation(fallback=["zeus/two"], first_audio_timeout_s=1.0)
    call.text("One. ")
    actions = call.wait()
    assert call.now == pytest.approx(1.0)
    assert [type(a) for a in upstream(actions)] == [CancelSynthesis, Begin, Say]


def test_the_last_provider_is_given_more_time_and_the_client_is_kept() -> None:
    call = Conversation(first_audio_timeout_s=1.0, last_audio_timeout_s=20.0)
    call.text("One. ")
    call.flush()
    actions = call.wait_until(Close)
    assert call.now == pytest.approx(20.0)
    assert types(call.log).count("keepalive") == 6
    assert told(actions)[-1]["code"] == 504


def test_a_clients_own_time_out_and_tries_hold_within_the_gateways_bounds() -> None:
    call = Conversation(fallback=["zeus/two"], rounds=3, connection={"timeout": 0.5, "retries": 0})
    call.text("One. ")
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(0.5)
    actions = call.wait_until(Close)
    assert call.now == pytest.approx(1.0)
    assert told(actions)[-1]["code"] == 504
    call = Conversation(last_audio_timeout_s=20.0, connection={"timeout": 500})
    call.text("One. ")
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(20.0)


def test_after_audio_the_next_goes_on_with_the_first_sentence_not_fully_spoken() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One two. ")
    call.text("Three four. ")
    call.text("Five. ")
    call.flush()
    call.hear(
        1,
        words(("One", 0, 0.3), ("two.", 0.3, 0.6), ("Three", 0.7, 1.0), ("four.", 1.0, 1.4)),
        Audio(tone(1.1)),
    )
    begin, *rest = upstream(call.hear(1, Failed(BROKEN)))
    assert isinstance(begin, Begin)
    assert rest == [Say(2, "Three four. "), Say(2, "Five. "), Finish(2)]


def test_timings_after_a_seam_stay_on_the_utterances_clock_and_never_go_back() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One two. ")
    call.text("Three four. ")
    call.flush()
    call.hear(
        1,
        words(("One", 0, 0.3), ("two.", 0.3, 0.6), ("Three", 0.7, 1.0), ("four.", 1.0, 1.4)),
        Audio(tone(0.9)),
    )
    call.hear(1, Failed(BROKEN))
    call.hear(2, words(("Three", 0, 0.3), ("four.", 0.3, 0.7)), Audio(tone(0.8)), Finished())
    timed = [w for m in told(call.log) for w in m.get("words", [])]
    assert [w["word"] for w in timed] == ["One ", "two. ", "Three ", "Three ", "four. "]
    starts = [w["start"] for w in timed]
    assert starts == sorted(starts)
    assert starts[3] == pytest.approx(0.905)  # what was heard, and the glide to silence
    assert types(call.log)[-1] == "done"


def test_a_provider_that_marks_its_texts_is_resumed_exactly() -> None:
    call = Conversation("marked/one", fallback=["zeus/two"])
    call.text("One. ")
    call.text("Two. ")
    call.flush()
    call.hear(1, Audio(tone(3.0)), PartSpoken(), Audio(tone(9.0)))
    assert upstream(call.hear(1, Failed(BROKEN)))[1:] == [Say(2, "Two. "), Finish(2)]


def test_without_timings_a_pause_near_the_expected_end_tells_a_sentence_from_the_next() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("This sentence takes about two seconds. ")
    call.text("And so does the one that comes next. ")
    call.flush()
    call.hear(1, Audio(tone(2.3) + bytes(2 * int(0.3 * RATE)) + tone(0.6)))
    assert upstream(call.hear(1, Failed(BROKEN)))[1] == Say(
        2, "And so does the one that comes next. "
    )


def test_without_timings_a_sentence_in_doubt_is_said_again() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("This sentence takes about two seconds. ")
    call.flush()
    call.hear(1, Audio(tone(2.3)))
    assert upstream(call.hear(1, Failed(BROKEN)))[1] == Say(
        2, "This sentence takes about two seconds. "
    )


def test_numbers_that_the_provider_spells_out_are_no_evidence() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("It is 21. ")
    call.text("Go on. ")
    call.flush()
    call.hear(
        1,
        words(("It", 0, 0.1), ("is", 0.1, 0.2), ("twenty", 0.2, 0.3), ("one.", 0.3, 0.35)),
        Audio(tone(0.4)),
    )
    assert upstream(call.hear(1, Failed(BROKEN)))[1] == Say(2, "It is 21. ")


def test_a_provider_that_breaks_off_after_the_last_word_has_done_its_work() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One. ")
    call.flush()
    call.hear(1, words(("One.", 0, 0.4)), Audio(tone(0.5)))
    actions = call.hear(1, Failed(BROKEN))
    assert upstream(actions) == []
    assert types(actions)[-1] == "done"


def test_a_voice_that_is_cut_off_glides_to_silence() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("A sentence. ")
    pcm = tone(0.2)[:-24]
    call.hear(1, Audio(pcm))
    samples = np.frombuffer(audio_of(call.hear(1, Failed(BROKEN))), np.int16)
    assert len(samples) == int(0.005 * RATE)
    assert samples[-1] == 0
    steps = np.abs(np.diff(np.concatenate((np.frombuffer(pcm, np.int16)[-1:], samples))))
    assert steps.max() < 300


def test_the_voice_that_takes_over_is_as_loud_as_the_one_before() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(0.5, amplitude=4000)))
    call.hear(1, Failed(BROKEN))
    loud = tone(1.0, amplitude=8000)
    actions: list[Action] = []
    for start in range(0, len(loud), 4800):
        actions += call.hear(2, Audio(loud[start : start + 4800]))
    actions += call.hear(2, Finished())
    samples = np.frombuffer(audio_of(actions), np.int16)
    assert len(samples) == RATE
    assert np.abs(samples).max() == pytest.approx(4000, rel=0.02)


def test_a_hole_in_the_middle_is_filled_before_the_listener_notices() -> None:
    call = Conversation(fallback=["zeus/two"], hole_timeout_s=2.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(0.5)))
    actions = call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(2.0)
    assert [type(a) for a in upstream(actions)] == [CancelSynthesis, Begin, Say, Finish]


def test_a_hole_while_the_listener_has_audio_left_is_waited_for_longer() -> None:
    call = Conversation(fallback=["zeus/two"], hole_timeout_s=2.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(6.0)))
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(5.0)


def test_a_provider_far_ahead_of_the_listener_is_not_left_before_he_has_nearly_heard_it() -> None:
    call = Conversation(fallback=["zeus/two"], hole_timeout_s=2.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(20.0)))
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(19.0)


def test_however_far_ahead_it_is_its_silence_has_a_bound() -> None:
    call = Conversation(fallback=["zeus/two"], last_audio_timeout_s=25.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(90.0)))
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(25.0)


def test_what_is_still_to_be_played_counts_from_after_a_gap_and_not_from_the_first_audio() -> None:
    call = Conversation(fallback=["zeus/two"], hole_timeout_s=2.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(0.5)))
    call.hear(1, Audio(tone(6.0)), after_s=1.5)
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(1.5 + 6.0 - 1.0)


def test_speakable_text_without_audio_is_a_failure_of_the_provider() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One. ")
    call.flush()
    assert isinstance(upstream(call.hear(1, Finished()))[0], Begin)
    assert types(call.hear(2, Finished()))[-1] == "error"


def test_a_refused_key_skips_all_tries_at_that_provider() -> None:
    call = Conversation(fallback=["acme/two", "zeus/two"])
    call.text("One. ")
    failure = Failure(Kind.UPSTREAM_AUTH, "bad key")
    begin = upstream(call.hear(1, Failed(failure)))[0]
    assert isinstance(begin, Begin)
    assert begin.provider == "zeus"


def test_a_voice_that_one_vendor_does_not_know_is_no_fault_of_the_next() -> None:
    call = Conversation(fallback=["acme/two", "zeus/two"])
    call.text("One. ")
    failure = Failure(Kind.UPSTREAM_REFUSED, "voice: there is no 'ann'", param="voice")
    asked = []
    for number in (1, 2):
        begin = upstream(call.hear(number, Failed(failure)))[0]
        assert isinstance(begin, Begin)
        asked.append(begin.provider)
    assert asked == ["acme", "zeus"]


def test_when_all_have_failed_the_client_hears_the_last_reason_and_is_let_go() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One. ")
    call.hear(1, Failed(BROKEN))
    actions = call.hear(2, Failed(Failure(Kind.UPSTREAM_ERROR, "out of order")))
    assert told(actions) == [
        {"type": "error", "message": "out of order", "code": 503, "session_id": "s1"}
    ]
    assert isinstance(actions[-1], Close)
    assert call.session.deadline is None


def test_a_resting_provider_is_not_asked_first() -> None:
    call = Conversation(fallback=["zeus/two"])
    for _ in range(3):
        call.health.failed(Attempt("acme", "one"), BROKEN, 0.0)
    begin = upstream(call.text("One. "))[0]
    assert isinstance(begin, Begin)
    assert begin.provider == "zeus"


def test_a_context_is_finished_before_the_provider_forgets_it() -> None:
    call = Conversation("brief/one")
    call.text("One. ")
    call.hear(1, words(("One.", 0.0, 0.4)), Audio(tone(0.5)))
    assert upstream(call.wait()) == [Finish(1)]
    assert call.now == pytest.approx(0.7)
    call.hear(1, Finished())
    assert [type(a) for a in upstream(call.text("Two. "))] == [Begin, Say]
    call.flush()
    call.hear(2, words(("Two.", 0.1, 0.4)), Audio(tone(0.5)), Finished())
    assert types(call.log)[-1] == "done"
    assert [w["start"] for m in told(call.log) for w in m.get("words", [])] == [0.0, 0.6]


def test_text_that_comes_while_a_context_ends_is_spoken_by_the_next() -> None:
    call = Conversation("brief/one")
    call.text("One. ")
    call.hear(1, words(("One.", 0.0, 0.4)), Audio(tone(0.5)))
    call.wait()
    assert upstream(call.text("Two. ")) == []
    call.flush()
    assert [type(a) for a in upstream(call.hear(1, Finished()))] == [Begin, Say, Finish]


def test_a_hole_of_the_only_provider_is_waited_for() -> None:
    call = Conversation(hole_timeout_s=2.0, last_audio_timeout_s=20.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(0.5)))
    call.wait_until(Close)
    assert call.now == pytest.approx(20.0)


def test_a_voice_that_the_client_changes_is_left_as_loud_as_it_is() -> None:
    call = Conversation()
    call.text("One. ")
    call.text("Two. ", generation_config={"voice": "bob"})
    call.flush()
    call.hear(1, Audio(tone(0.5, amplitude=2000)), Finished())
    assert audio_of(call.hear(2, Audio(tone(0.1)))) == tone(0.1)


def test_a_connection_is_ready_again_after_an_utterance() -> None:
    call = Conversation()
    call.text("One. ", generation_config={"voice": "bob"})
    call.flush()
    (prepared,) = [a for a in call.hear(1, Audio(tone(0.1)), Finished()) if isinstance(a, Prepare)]
    assert prepared.request.voice == "bob"


def test_compressed_audio_is_never_played_and_the_next_voice_speaks() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One. ")
    call.flush()
    actions = call.hear(1, Audio(b"ID3\x04" + bytes(400)))
    assert "output_audio" not in types(actions)
    assert upstream(actions)[0] == CancelSynthesis(1)
    assert types(call.hear(2, Audio(tone(0.2)), Finished()))[-1] == "done"


# Hedging


def test_a_hedge_asks_the_next_provider_and_the_first_to_speak_is_heard() -> None:
    call = Conversation(fallback=["zeus/two"], hedge_after_s=0.5)
    call.text("One. ")
    call.flush()
    assert [type(a) for a in upstream(call.wait())] == [Begin, Say, Finish]
    assert call.now == pytest.approx(0.5)
    actions = call.hear(2, Audio(tone(0.2)))
    assert upstream(actions) == [CancelSynthesis(1)]
    assert call.hear(1, Audio(tone(0.2))) == []
    assert types(call.hear(2, Finished()))[-1] == "done"


def test_the_first_provider_can_still_win_against_its_hedge() -> None:
    call = Conversation(fallback=["zeus/two"], hedge_after_s=0.5)
    call.text("One. ")
    call.wait()
    assert upstream(call.hear(1, Audio(tone(0.2)))) == [CancelSynthesis(2)]


def test_a_hedge_takes_over_when_the_first_fails() -> None:
    call = Conversation(fallback=["zeus/two"], hedge_after_s=0.5)
    call.text("One. ")
    call.wait()
    assert upstream(call.hear(1, Failed(BROKEN))) == []
    assert upstream(call.text("Two. ")) == [Say(2, "Two. ")]
    call.flush()
    assert types(call.hear(2, Audio(tone(0.2)), Finished()))[-1] == "done"


def test_a_hedge_that_fails_leaves_the_first_alone() -> None:
    call = Conversation(fallback=["zeus/two"], hedge_after_s=0.5)
    call.text("One. ")
    call.wait()
    assert upstream(call.hear(2, Failed(BROKEN))) == []
    call.flush()
    assert types(call.hear(1, Audio(tone(0.2)), Finished()))[-1] == "done"


def test_no_more_is_hedged_than_the_budget_of_all_sessions_allows() -> None:
    call = Conversation(
        fallback=["zeus/two"], hedge={"enabled": True, "after_s": 0.5, "share_max": 0.1}
    )
    begun = []
    for _ in range(3):
        call.text("One. ")
        call.flush()
        first = begins(call.log)[-1].number
        call.now += 0.5
        call.handle(DeadlinePassed())
        begun.append(begins(call.log)[-1].number - first)
        call.hear(first, Audio(tone(0.1)), Finished())
    assert begun == [1, 0, 0]


def test_without_a_time_of_its_own_a_hedge_waits_as_long_as_recent_answers_took() -> None:
    call = Conversation(fallback=["zeus/two"], hedge={"enabled": True})
    asked = Attempt("acme", "one", {}, "ann")
    for _ in range(20):
        call.health.record_ttft(asked, 0.7)
    call.text("One. ")
    assert isinstance(upstream(call.wait())[0], Begin)
    assert call.now == pytest.approx(0.7)


def test_the_time_to_the_first_audio_is_kept_for_later_hedges() -> None:
    call = Conversation(hedge={"enabled": True})
    for number in range(1, 21):
        call.text("One. ")
        call.flush()
        call.hear(number, Audio(tone(0.1)), after_s=0.2)
        call.hear(number, Finished())
    assert call.health.ttft_p95_s(Attempt("acme", "one")) == pytest.approx(0.2)


def test_a_hedge_that_fails_is_followed_by_another() -> None:
    call = Conversation(fallback=["zeus/two", "low/x"], hedge_after_s=0.5)
    call.text("One. ")
    call.wait()
    call.hear(2, Failed(BROKEN))
    assert [begin.provider for begin in begins(call.wait())] == ["low"]
    assert call.now == pytest.approx(0.5)


def test_who_lost_against_its_hedge_is_asked_again_after_all_others() -> None:
    call = Conversation(fallback=["zeus/two", "low/x"], hedge_after_s=0.5)
    call.text("One two three. ")
    call.flush()
    call.wait()
    call.hear(2, Audio(tone(0.1)))
    asked = [begins(call.hear(number, Failed(BROKEN)))[0].provider for number in (2, 3)]
    assert asked == ["low", "acme"]


# Rounds


def test_who_failed_for_a_passing_reason_is_asked_again_after_a_pause() -> None:
    call = Conversation(fallback=["zeus/two"], rounds=2)
    call.text("One. ")
    call.hear(1, Failed(BROKEN))
    assert upstream(call.hear(2, Failed(BROKEN))) == []
    call.text("Two. ")
    (begin, *rest) = upstream(call.wait())
    assert call.now == pytest.approx(0.25)
    assert isinstance(begin, Begin)
    assert begin.provider == "acme"
    assert rest == [Say(3, "One. "), Say(3, "Two. ")]
    call.flush()
    assert types(call.hear(3, Audio(tone(0.2)), Finished()))[-1] == "done"


def test_by_default_the_only_provider_is_asked_once_more() -> None:
    call = Conversation(rounds=TtsConfig().rounds)
    call.text("One. ")
    assert types(call.hear(1, Failed(BROKEN))) == []
    assert isinstance(upstream(call.wait())[0], Begin)
    assert types(call.hear(2, Failed(BROKEN))) == ["error"]


def test_what_failed_for_good_is_not_asked_again() -> None:
    call = Conversation(rounds=3)
    call.text("One. ")
    refused = Failure(Kind.UPSTREAM_REFUSED, "voice: there is no 'ann'")
    assert types(call.hear(1, Failed(refused))) == ["error"]


def test_the_last_of_the_last_round_is_given_more_time() -> None:
    call = Conversation(
        fallback=["zeus/two"], rounds=2, first_audio_timeout_s=1.0, last_audio_timeout_s=20.0
    )
    call.text("One. ")
    call.flush()
    waits = []
    for _ in range(4):
        began = call.now
        call.wait_until(CancelSynthesis)
        waits.append(round(call.now - began, 2))
        if len(waits) == 2:
            call.wait()  # the pause between the rounds
    assert waits == [1.0, 1.0, 1.0, 20.0]


# Connections


def test_a_connection_whose_provider_was_silent_serves_nobody_else() -> None:
    call = Conversation(fallback=["zeus/two"], first_audio_timeout_s=1.0)
    call.text("One. ")
    assert upstream(call.wait())[0] == CancelSynthesis(1, suspect=True)


def test_a_dead_connection_that_was_replaced_counts_as_a_try() -> None:
    call = Conversation()
    call.text("One. ")
    assert call.hear(1, Retried(BROKEN)) == [Tried("acme", "one", replace(BROKEN, provider="acme"))]
    call.flush()
    call.hear(1, Audio(tone(0.2)), Finished())
    assert [one.failure for one in call.log if isinstance(one, Tried)][-1] is None


def test_it_says_nothing_about_the_provider_unless_the_new_one_fails_as_well() -> None:
    for fails, rests in ((False, False), (True, True)):
        call = Conversation(fallback=["zeus/two"])
        asked = Attempt("acme", "one", {}, "ann")
        call.health.failed(asked, BROKEN, 0.0)
        call.text("One. ")
        call.flush()
        call.hear(1, Retried(BROKEN))
        if fails:
            call.hear(1, Failed(BROKEN))
        else:
            call.hear(1, Audio(tone(0.2)), Finished())
        assert call.health.resting(asked, call.now) is rests


def test_a_client_that_read_slowly_is_not_taken_for_a_silent_provider() -> None:
    call = Conversation(fallback=["zeus/two"], hole_timeout_s=2.0)
    call.text("One two three. ")
    call.flush()
    call.hear(1, Audio(tone(0.5)))
    assert call.handle(Unblocked(), after_s=4.0) == []
    assert call.session.deadline is not None
    assert upstream(call.handle(DeadlinePassed())) == []
    call.wait_until(CancelSynthesis)
    assert call.now == pytest.approx(6.0)


# Ends


def test_an_utterance_that_is_interrupted_counts_as_far_as_it_came() -> None:
    call = Conversation()
    call.text("One two three. ")
    call.hear(1, Audio(tone(0.5)), after_s=0.25)
    actions = call.handle(ClientLeft())
    assert actions == [
        Tried("acme", "one", began=0.0, first_audio_s=0.25, left=True),
        Spoken("acme", 0.25, 0.5, len("One two three. ")),
        CancelSynthesis(1),
        Close(1000),
    ]


def test_what_is_under_way_when_a_connection_goes_without_a_word_is_counted_once() -> None:
    call = Conversation()
    call.text("One. ")
    call.hear(1, Audio(tone(0.5)))
    assert [type(action) for action in call.session.settle()] == [Tried, Spoken]
    assert call.session.settle() == []


def test_the_hedge_that_lost_is_a_try_too() -> None:
    call = Conversation(fallback=["zeus/two"], hedge={"enabled": True, "after_s": 0.5})
    call.text("One. ")
    call.wait_until(Begin)
    actions = call.hear(2, Audio(tone(0.2)), after_s=0.25)
    lost = [one for one in actions if isinstance(one, Tried)]
    assert lost == [Tried("acme", "one", lost=True)]
    call.flush()
    (won,) = [one for one in call.hear(2, Finished()) if isinstance(one, Tried)]
    assert won == Tried("zeus", "two", began=0.5, first_audio_s=0.25, hedge=True)


def test_a_client_that_leaves_has_its_speech_cancelled() -> None:
    call = Conversation()
    call.text("One. ")
    assert upstream(call.handle(ClientLeft())) == [CancelSynthesis(1)]
    assert call.hear(1, Audio(tone(0.1))) == []


def test_what_was_asked_and_delivered_of_an_interrupted_utterance_is_counted() -> None:
    call = Conversation()
    call.text("One two three. ")
    call.hear(1, Audio(tone(0.5)))
    [spoken] = [one for one in call.handle(ClientLeft()) if isinstance(one, Spoken)]
    assert spoken.chars == len("One two three. ")
    assert spoken.audio_s > 0.3


def test_a_close_in_the_middle_is_acknowledged() -> None:
    call = Conversation()
    call.text("One. ")
    actions = call.say({"type": "session.close"})
    assert upstream(actions) == [CancelSynthesis(1)]
    assert types(actions) == ["session.closed"]
    assert actions[-1] == Close(1000)


@pytest.mark.parametrize(
    ("message", "words_of_it"),
    [
        ("nonsense", "not JSON"),
        ("[]", "JSON object"),
        ('{"type": "hello"}', "type: expected"),
        ('{"type": "input_transcript", "transcript": 7}', "transcript: expected a string"),
        (json.dumps({"type": "input_transcript", "transcript": "x" * 20001}), "at most 20000"),
        ('{"type": "input_transcript", "transcript": "x", "extra": 1}', "extra: expected"),
        (
            '{"type": "input_transcript", "transcript": "x", "generation_config": {"voice": 1}}',
            "generation_config.voice",
        ),
        (
            '{"type": "input_transcript", "transcript": "x",'
            ' "generation_config": {"model": "nobody/x"}}',
            "nobody/x",
        ),
    ],
)
def test_a_bad_message_gets_a_clear_error_and_the_end(message: str, words_of_it: str) -> None:
    call = Conversation()
    actions = call.handle(Text(message))
    (error,) = told(actions)
    assert error["type"] == "error"
    assert words_of_it in error["message"]
    assert isinstance(actions[-1], Close)


@pytest.mark.parametrize(
    ("change", "words_of_it"),
    [
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"sample_rate": "4000"}, "sample_rate"),
        ({"encoding": "mp3"}, "encoding"),
        ({"model": None}, "model"),
        ({"model": "nobody/x"}, "nobody/x"),
        ({"fallback": {"models": "x"}}, "fallback.models"),
        ({"fallback": {"models": [{"voice": "x"}]}}, "fallback.models.0.model"),
        ({"extra": []}, "extra"),
    ],
)
def test_a_bad_session_create_names_its_field(change: dict[str, Any], words_of_it: str) -> None:
    session = TtsSession("s1", plan_of, TRAITS, Breaker(), TtsConfig(), None, 600.0, 0.0)
    create = {"type": "session.create", "sample_rate": "24000", "model": "acme/one"} | change
    (error,) = told(session.handle(Text(json.dumps(create)), 0.0))
    assert error["type"] == "error"
    assert error["code"] in (400, 404)
    assert words_of_it in error["message"]


def test_text_before_session_create_is_refused() -> None:
    session = TtsSession("s1", plan_of, TRAITS, Breaker(), TtsConfig(), None, 600.0, 0.0)
    event = Text('{"type": "input_transcript", "transcript": "x"}')
    assert "session.create first" in told(session.handle(event, 0.0))[0]["message"]


def test_a_binary_message_is_refused() -> None:
    call = Conversation()
    assert "binary" in told(call.handle(Binary(b"\0")))[0]["message"]


def test_an_utterance_without_end_is_refused() -> None:
    call = Conversation()
    for _ in range(6):
        call.text("x" * 20_000)
    assert "100000 characters" in told(call.log)[-1]["message"]
    assert CancelSynthesis(1) in call.log


def test_an_idle_connection_is_closed_at_last() -> None:
    call = Conversation()
    assert call.wait() == [Close(1001, "idle")]
    assert call.now == pytest.approx(600.0)


def test_what_happened_is_reported_for_metrics() -> None:
    call = Conversation(fallback=["zeus/two"])
    call.text("One. ")
    call.hear(1, Failed(BROKEN), after_s=0.1)
    call.flush()
    call.hear(2, Audio(tone(0.5)), after_s=0.2)
    call.hear(2, Finished())
    tried = [a for a in call.log if isinstance(a, Tried)]
    assert [(t.provider, t.failure is None, t.switched) for t in tried] == [
        ("acme", False, True),
        ("zeus", True, False),
    ]
    (spoken,) = [a for a in call.log if isinstance(a, Spoken)]
    assert spoken.provider == "zeus"
    assert spoken.first_audio_s == pytest.approx(0.3)
    assert spoken.audio_s == pytest.approx(0.5)


def sounded(actions: Sequence[Action]) -> list[Sounded]:
    return [action for action in actions if isinstance(action, Sounded)]


def test_samples_are_told_with_the_earliest_moment_at_which_they_are_played() -> None:
    call = Conversation(tells_sound=True)
    call.text("One. ")
    call.flush()

    first = sounded(call.hear(1, Audio(tone(1.0)), after_s=1.0))
    second = sounded(call.hear(1, Audio(tone(0.5)), after_s=0.1))
    third = sounded(call.hear(1, Audio(tone(0.5)), after_s=5.0))
    call.hear(1, Finished())
    call.text("Two. ")
    fourth = sounded(call.hear(2, Audio(tone(0.5)), after_s=0.1))

    told = (*first, *second, *third, *fourth)
    assert [one.plays_at for one in told] == pytest.approx([1.0, 2.0, 6.1, 6.2])
    assert [one.begins for one in told] == [True, False, False, True]
    assert first[0].pcm == tone(1.0)
    assert first[0].rate == RATE


def test_samples_are_told_to_nobody_who_does_not_keep_them() -> None:
    call = Conversation()
    call.text("One. ")

    assert sounded(call.hear(1, Audio(tone(1.0)))) == []
