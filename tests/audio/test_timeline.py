"""One clock over several connections."""

from gateway.audio.timeline import Timeline

RATE = 100


def test_time_of_a_connection_begins_where_its_audio_does() -> None:
    line = Timeline(RATE)
    line.feed(500, 100)

    assert line.session_s(0.0) == 5.0
    assert line.session_s(0.7) == 5.7


def test_audio_that_follows_on_makes_no_piece_of_its_own() -> None:
    line = Timeline(RATE)
    for i in range(1000):
        line.feed(5 * i, 5)

    assert line.session_s(12.34) == 12.34
    assert line.sent_s == 50.0


def test_what_was_left_out_is_skipped() -> None:
    line = Timeline(RATE)
    line.feed(0, 100)
    line.feed(400, 100)

    assert line.session_s(0.5) == 0.5
    assert line.session_s(1.5) == 4.5


def test_silence_that_was_put_in_is_a_moment() -> None:
    line = Timeline(RATE)
    line.feed(0, 100)
    line.fill(300)
    line.feed(100, 100)

    assert line.session_s(2.0) == 1.0
    assert line.session_s(4.5) == 1.5


def test_times_beyond_what_was_sent_end_with_it() -> None:
    line = Timeline(RATE)
    line.feed(0, 100)
    line.feed(900, 100)

    assert line.session_s(0.999) < 1.0
    assert line.session_s(-1.0) == 0.0


def test_a_connection_without_audio_is_at_the_start() -> None:
    assert Timeline(RATE).session_s(3.0) == 0.0


def test_the_map_is_bounded() -> None:
    line = Timeline(RATE)
    for i in range(20_000):
        line.feed(10 * i, 5)

    assert line.session_s(line.sent_s) == 2000.0 - 0.05
