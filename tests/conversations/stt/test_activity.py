"""What was sent and heard, and when."""

from gateway.conversations.stt.activity import Activity


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
