"""One connection: what it is sent."""

from dataclasses import replace

import pytest

from gateway.conversations.stt.connection import (
    BURST_S,
    CREDIT_S,
    QUIET_KEPT_S,
    Activity,
    Pacer,
    RecognizerConnection,
)
from gateway.upstreams.stt import Capabilities, Finish, Flush, KeepAlive
from tests.conversations.stt.parts import buffered, ready, seconds
from tests.conversations.stt.play import ACME, FAST, HUSH, RATE, TONE, Scripted, interim


def test_all_that_is_kept_is_sent_and_then_each_frame() -> None:
    one, buffer = ready(), buffered(*[TONE] * 4)
    assert one.is_behind(buffer)
    assert seconds(one.send_audio(buffer, 0.0)) == pytest.approx(0.2)
    assert not one.is_behind(buffer)
    buffer.add(TONE)
    assert seconds(one.send_audio(buffer, 0.1)) == pytest.approx(0.05)
    assert one.sent_s == pytest.approx(0.25)


def test_what_is_sent_faster_than_allowed_waits() -> None:
    one, buffer = ready(Capabilities(replay_rate=1.0)), buffered(*[TONE] * 40)
    first = seconds(one.send_audio(buffer, 0.0))
    assert first < 1.0
    assert one.is_behind(buffer)
    assert one.next_send_at > 0.0
    assert seconds(one.send_audio(buffer, one.next_send_at)) == pytest.approx(0.05)
    assert one.behind_s(buffer) == pytest.approx(2.0 - first - 0.05)


def test_audio_that_a_final_has_covered_meanwhile_is_not_sent() -> None:
    one, buffer = ready(), buffered(*[TONE] * 4)
    buffer.forget(0.2)
    assert not one.is_behind(buffer)
    assert one.send_audio(buffer, 0.0) == []


def test_it_begins_where_it_takes_over() -> None:
    one, buffer = ready(), buffered(*[TONE] * 4)
    one.start_at(buffer.end)
    buffer.add(TONE)
    assert seconds(one.send_audio(buffer, 0.0)) == pytest.approx(0.05)


def test_it_gets_nothing_of_what_comes_after_it_was_replaced() -> None:
    one, buffer = ready(), buffered(*[TONE] * 2)
    one.stop_at(buffer.end)
    buffer.add(TONE)
    assert seconds(one.send_audio(buffer, 0.0)) == pytest.approx(0.1)
    assert not one.is_behind(buffer)
    assert one.send_audio(buffer, 1.0) == []


def test_a_slow_replay_keeps_a_little_of_each_silence() -> None:
    one = ready(Capabilities(replay_rate=1.0))
    buffer = buffered(*[TONE] * 2, *[HUSH] * 60, *[TONE] * 2)
    one.skip_silence()
    sent, now = 0.0, 0.0
    while one.is_behind(buffer):
        sent += seconds(one.send_audio(buffer, now))
        now += 0.1
    assert sent == pytest.approx(0.2 + 2 * QUIET_KEPT_S, abs=0.06)


def test_once_it_has_caught_up_silence_is_sent_again() -> None:
    one, buffer = ready(Capabilities(replay_rate=1.0)), buffered(*[HUSH] * 4)
    one.skip_silence()
    one.send_audio(buffer, 0.0)
    buffer.add(HUSH)
    assert seconds(one.send_audio(buffer, 1.0)) == pytest.approx(0.05)


def test_a_flush_by_silence_is_silence_and_moves_no_clock() -> None:
    one, buffer = ready(Capabilities(flush_by="silence")), buffered(TONE)
    one.send_audio(buffer, 0.0)
    frames = one.flush(1.0)
    assert seconds(frames) == pytest.approx(1.0)
    assert isinstance(frames[-1], Flush)
    assert one.flush_sent_at == 1.0
    assert one.timeline.session_s(1.0) == pytest.approx(0.05)
    one.flush_answered()
    assert one.flush_sent_at is None


def test_speech_before_a_flush_is_untold_until_anything_is_heard() -> None:
    one, buffer = ready(), buffered(*[TONE] * 10)
    one.send_audio(buffer, 0.0)
    one.flush(0.5)
    assert one.untold_at_flush_s == pytest.approx(0.5)
    one.heard([interim("x")], 0.6)
    assert one.untold_at_flush_s == 0.0


def test_speech_that_is_not_in_the_words_that_came_is_untold_until_the_next() -> None:
    one, buffer = ready(), buffered(*[TONE] * 10)
    one.send_audio(buffer, 0.0)
    one.activity.heard_text(0.6)
    assert one.activity.untold_s == 0.0
    one.activity.still_owes(0.2)
    assert one.activity.untold_s == one.activity.doubtful_s == 0.2
    one.flush(0.7)
    assert one.untold_at_flush_s == 0.2
    one.activity.heard_text(0.8)
    assert one.activity.untold_s == 0.0
    assert not one.activity.gaps  # of speech that was sent after a text there was none


def test_what_was_too_short_to_send_goes_out_before_the_end() -> None:
    one, buffer = ready(Capabilities(replay_rate=float("inf"), frame_s_min=0.1)), buffered(TONE)
    assert one.send_audio(buffer, 0.0) == []
    frames = one.finish(0.0)
    assert seconds(frames) == pytest.approx(0.1)
    assert isinstance(frames[-1], Finish)
    assert one.finishing


@pytest.mark.parametrize(
    ("traits", "kinds"),
    [
        (Capabilities(), [KeepAlive]),
        (Capabilities(keepalive_by="silence"), []),
        (Capabilities(first_audio=True), [KeepAlive]),
    ],
)
def test_a_keepalive_has_the_form_that_counts(traits: Capabilities, kinds: list[type]) -> None:
    one = ready(traits)
    frames = one.keep_alive(4.0)
    assert [type(frame) for frame in frames if not hasattr(frame, "pcm")] == kinds
    assert bool(seconds(frames)) == (traits != Capabilities())
    assert one.activity.last_sent_at == 4.0


@pytest.mark.parametrize("lively", [True, False])
def test_settings_that_it_takes_are_its_own_from_then_on(lively: bool) -> None:
    one = RecognizerConnection(1, ACME, Scripted(ACME, FAST, RATE, lively), RATE, 0.0)
    german = replace(ACME, language="de")
    assert one.update(german) == (["changed"] if lively else None)
    assert one.attempt == (german if lively else ACME)


def test_a_burst_goes_out_at_once_and_then_real_time_is_kept() -> None:
    pacer = Pacer(1.0, 0.0)
    sent = 0
    while pacer.next_at <= 0.0:
        pacer.sent(0.1, 0.0)
        sent += 1
    assert sent * 0.1 == pytest.approx(BURST_S + 0.1)
    assert pacer.next_at == pytest.approx(0.1)


def test_a_gap_is_made_up_for_so_far_and_no_further() -> None:
    pacer = Pacer(1.0, 0.0)
    pacer.sent(0.1, 0.0)
    pacer.sent(CREDIT_S + BURST_S, 60.0)
    assert pacer.next_at == pytest.approx(60.0)


def test_a_provider_without_a_greatest_rate_is_never_waited_for() -> None:
    pacer = Pacer(float("inf"), 5.0)
    pacer.sent(1000.0, 5.0)
    assert pacer.next_at == 0.0


def test_any_message_ends_the_count_of_audio_without_one() -> None:
    activity = Activity(0.0)
    activity.sent_audio(2.0, True, 1.0)
    activity.sent_audio(1.0, False, 2.0)
    assert (activity.audio_since_message_s, activity.speech_since_message_s) == (3.0, 2.0)
    activity.heard(3.0)
    assert (activity.audio_since_message_s, activity.speech_since_message_s) == (0.0, 0.0)
    assert activity.speech_since_text_s == 2.0


def test_only_text_ends_the_count_of_speech_without_text() -> None:
    activity = Activity(0.0)
    activity.sent_audio(2.0, True, 1.0)
    activity.heard(3.0)
    activity.heard_text(3.0)
    assert activity.speech_since_text_s == 0.0
    assert activity.has_text


def test_the_last_speech_is_what_was_sent_or_told_last() -> None:
    activity = Activity(0.0)
    activity.sent_audio(1.0, True, 1.0)
    activity.sent_audio(1.0, False, 2.0)
    assert activity.last_speech_at == 1.0
    activity.heard_text(3.0)
    assert activity.last_speech_at == 3.0


def test_a_keepalive_is_sent_but_is_no_audio() -> None:
    activity = Activity(0.0)
    activity.sent(4.0)
    assert activity.last_sent_at == 4.0
    assert activity.audio_since_message_s == 0.0


def test_nothing_is_owed_for_the_time_before_a_connection_was_ready() -> None:
    activity = Activity(0.0)
    activity.became_ready(7.0)
    assert activity.last_heard_at == activity.last_text_at == activity.last_speech_at == 7.0
