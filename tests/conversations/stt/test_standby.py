"""A second recogniser that is kept connected and silent."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.hedges import STEP_S
from gateway.conversations.stt.stall_detector import DOUBT_S
from gateway.conversations.stt.standby import AGE_SHARE, RENEW_S, RENEW_S_MAX, Places
from gateway.conversations.stt.states import OPEN_DOUBT_S
from gateway.routing.breaker import Breaker
from gateway.routing.hedging import HedgeBudget
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import Capabilities, KeepAlive
from tests.conversations.stt.play import ACME, FAST, ZEUS, Play, final, interim

ALIVE = Capabilities(replay_rate=float("inf"), keepalive_s=5.0)
BRIEF = Capabilities(replay_rate=float("inf"), session_s=100.0)


def warm(**given: object) -> Play:
    """acme serves, zeus is connected beside it."""
    play = Play(standby=(ZEUS,), **given).started()  # type: ignore[arg-type]
    assert play.providers == ["acme", "zeus"]
    play.accept(2)
    return play


def test_it_is_connected_once_the_first_takes_audio() -> None:
    play = Play(standby=(ZEUS,))
    play.say(play.create)
    assert play.providers == ["acme"]
    play.accept(1)
    assert play.providers == ["acme", "zeus"]


def test_it_is_connected_too_where_the_first_was_overtaken_before_it_was_open() -> None:
    play = Play(standby=(ACME,))
    play.say(play.create)
    play.wait(OPEN_DOUBT_S + 0.1)
    assert play.providers == ["acme", "zeus"]
    play.accept(2)
    assert play.providers == ["acme", "zeus", "acme"]
    assert play.dropped == [1]


def test_it_hears_nothing_and_is_kept_alive() -> None:
    play = warm(traits=ALIVE)
    for _ in range(4):
        play.speak(1.0)
        play.hear(interim("a", 0.0, 0.5), number=1)
    play.hush(2.0)

    assert play.audio_s(2) == 0.0
    assert play.asked(KeepAlive, 2) == 1


def test_where_the_first_breaks_off_it_serves_without_a_connect() -> None:
    play = warm()
    play.talk(1.0)
    play.close_upstream(number=1)

    assert play.providers == ["acme", "zeus"]
    assert play.audio_s(2) == pytest.approx(1.0)
    play.hear(final("hello", 0.0, 0.9), number=2)
    assert play.finals() == ["hello"]


def test_where_the_first_is_doubted_it_is_asked_beside_it_at_once_and_costs_no_hedge() -> None:
    play = warm(hedges=HedgeBudget(0.01, 0.0))
    play.talk(DOUBT_S + 0.4)
    assert play.audio_s(2) == pytest.approx(play.audio_s(1))
    play.hear(final("hello", 0.0, 1.0), number=2)

    assert play.dropped == [1]
    assert play.finals() == ["hello"]
    tries = play.session.report.tries
    assert (tries[1].standby, tries[1].hedge, tries[1].lost) == (False, True, False)


def test_one_that_opens_while_the_session_waits_for_the_next_round_serves_at_once() -> None:
    play = Play(plan=(ACME,), standby=(ZEUS,)).started()
    play.talk(1.0)
    play.close_upstream(number=1)
    play.fail(number=3)
    assert play.providers == ["acme", "zeus", "acme"]
    play.accept(2)

    assert play.audio_s(2) == pytest.approx(1.0)


def test_another_one_is_kept_after_it_has_taken_over() -> None:
    play = warm()
    play.talk(1.0)
    play.close_upstream(number=1)
    assert len(play.opened) == 2
    play.hush(RENEW_S + 0.1)

    assert play.providers == ["acme", "zeus", "zeus"]


def test_one_that_dies_is_renewed_after_pauses_that_grow() -> None:
    play = warm()
    pauses = []
    for _ in range(8):
        play.close_upstream(number=play.number)
        before, opened = play.now, len(play.opened)
        while len(play.opened) == opened:
            play.hush(0.5)
            play.hear(number=1)
        pauses.append(round(play.now - before))
        play.health.worked(ZEUS)  # that it rests is another test
        play.accept(play.number)

    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) <= RENEW_S_MAX + 1
    assert play.ended is None


def test_none_is_opened_at_a_provider_that_rests() -> None:
    health = Breaker()
    for _ in range(3):
        health.failed(ZEUS, Failure(Kind.TIMEOUT, "no"), 100.0)
    play = Play(standby=(ZEUS,), health=health).started()
    play.hush(2.0)
    assert play.providers == ["acme"]
    play.hush(6.0)

    assert play.providers == ["acme", "zeus"]


def test_it_is_renewed_before_the_provider_ends_it() -> None:
    play = warm(traits={"acme": FAST, "zeus": BRIEF})
    for _ in range(round(AGE_SHARE * 100.0) + 1):
        play.hush(1.0)
        play.hear(number=1)

    assert play.providers == ["acme", "zeus", "zeus"]
    assert play.dropped == [2]


def test_no_more_are_kept_than_there_are_places() -> None:
    places = Places(1)
    first = Play(standby=(ZEUS,), places=places).started()
    second = Play(standby=(ZEUS,), places=places).started()
    assert (first.providers, second.providers) == (["acme", "zeus"], ["acme"])
    first.leave()
    second.hush(RENEW_S + 0.1)

    assert second.providers == ["acme", "zeus"]


def test_other_settings_mean_another_one() -> None:
    play = warm()
    play.say({"type": "session.update", "settings": {"language": "de"}})

    assert 2 in play.dropped
    assert play.providers.count("zeus") == 2


def test_what_was_kept_is_told_and_let_go_at_the_end() -> None:
    play = warm()
    play.hush(3.0)
    play.say({"type": "session.close"})
    play.close_upstream(1000, number=1)
    report = play.session.report

    assert sorted(play.dropped) == [1, 2]
    assert report.standby_s == {ZEUS.deployment: pytest.approx(3.0)}
    assert report.tries[1].standby
    assert report.tries[1].failure is None


def test_one_that_was_not_needed_is_let_go_when_the_doubted_one_speaks() -> None:
    play = warm()
    play.talk(DOUBT_S + 0.4)
    play.hear(interim("hello", 0.0, 0.5), number=1)
    assert play.dropped == [2]
    play.talk(STEP_S)
    play.hear(interim("hello there", 0.0, 1.0), number=1)
    play.talk(RENEW_S)

    assert play.providers == ["acme", "zeus", "zeus"]


def test_a_session_without_one_has_none() -> None:
    play = Play().started()
    play.hush(3.0)

    assert play.providers == ["acme"]
    assert play.session.report.standby_s == {}
