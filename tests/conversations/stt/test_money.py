"""A session whose key has limits: admitted per plan, metered as it goes on, ended when calm."""

from gateway.conversations.stt.actions import Admitted, Metered
from gateway.conversations.stt.connections import Used
from gateway.conversations.stt.route import Bill
from gateway.conversations.stt.session import METER_S, USED_UP_S
from gateway.settings.prices import Price
from gateway.telemetry.prices import Prices
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt
from tests.conversations.stt.play import ACME, ZEUS, Play, final, interim

USED_UP = Failure(Kind.QUOTA, "the quota of this API key is used up: 60 seconds of audio a minute")


def charged() -> Play:
    play = Play(charged=True)
    play.say(play.create)
    return play


def admitted() -> Play:
    play = charged()
    play.event(Admitted(play.admits[-1].plan))
    play.accept()
    return play


def test_nothing_is_opened_before_the_quota_has_answered() -> None:
    play = charged()
    assert not play.opened
    assert not play.told
    (asked,) = play.admits
    assert [one.provider for one in asked.plan] == ["acme", "zeus"]
    assert (asked.asked, asked.is_new) == ("acme/ear-1", True)
    play.event(Admitted((ZEUS,)))
    assert play.providers == ["zeus"]
    assert play.types() == ["session.created"]


def test_a_session_without_anything_left_is_refused_with_words_and_a_code() -> None:
    play = charged()
    play.event(Admitted(USED_UP))
    (error,) = play.of("error")
    assert (error["code"], error["kind"]) == (429, "inference_quota_exceeded")
    assert "60 seconds of audio" in error["message"]
    assert play.ended is not None
    assert not play.opened


def test_another_model_in_the_middle_is_asked_for_too() -> None:
    play = admitted()
    play.say({"type": "session.update", "settings": {"model": "zeus/ear-2"}})
    asked = play.admits[-1]
    assert [one.provider for one in asked.plan] == ["zeus"]
    assert not asked.is_new
    play.event(Admitted(Failure(Kind.FORBIDDEN, "this API key may not use 'zeus/ear-2'")))
    assert [one["code"] for one in play.of("session.update_refused")] == [403]
    assert play.ended is None
    assert play.providers == ["acme"]


def test_audio_is_metered_in_steps() -> None:
    play = admitted()
    play.hush(METER_S - 1)
    assert play.meters == 0
    play.hush(2)
    assert play.meters == 1
    play.event(Metered(None))
    play.hush(2 * METER_S)
    assert play.meters == 3


def test_a_session_that_is_used_up_ends_between_utterances() -> None:
    play = admitted()
    play.hush(METER_S)
    play.talk(0.5)
    play.hear(interim("one two", 10.0, 10.5))
    play.event(Metered(USED_UP))
    play.talk(1.0)
    assert play.ended is None
    play.hear(final("one two three", 10.0, 11.5))
    play.hush(3.0)
    assert play.finals() == ["one two three"]
    assert [one["code"] for one in play.of("error")] == [429]
    assert play.ended is not None


def test_a_caller_that_never_pauses_is_ended_after_a_minute_with_what_was_understood() -> None:
    play = admitted()
    play.hush(METER_S)
    play.talk(0.5)
    play.hear(interim("on and on", 10.0, 10.5))
    play.event(Metered(USED_UP))
    for second in range(int(USED_UP_S) + 1):
        if play.ended is None:
            play.talk(1.0)
            play.hear(interim(f"on and on {second}", 10.0, 11.5 + second))
    play.wait(1.0)
    assert play.ended is not None
    (told,) = play.finals()
    assert told.startswith("on and on 4")
    assert play.session.heard_s <= METER_S + USED_UP_S + 1


def test_a_caller_that_never_pauses_is_ended_no_later_for_being_told_again() -> None:
    play = admitted()
    play.hush(METER_S)
    play.talk(0.5)
    play.hear(interim("on and on", 10.0, 10.5))
    for second in range(int(USED_UP_S) + 2):
        play.event(Metered(USED_UP))
        if play.ended is None:
            play.talk(1.0)
            play.hear(interim(f"on and on {second}", 10.0, 11.5 + second))
    assert play.ended is not None


def test_without_limits_nobody_is_asked() -> None:
    play = Play().started()
    play.hush(3 * METER_S)
    assert not play.admits
    assert play.meters == 0


def test_what_each_deployment_was_sent_is_known_after_a_failover() -> None:
    play = Play().started()
    play.hush(3.0)
    play.fail()
    play.accept()
    play.hush(2.0)
    sent = {one.attempt.provider: one.seconds for one in play.session.used()}
    assert sent["acme"] == 3.0
    assert sent["zeus"] >= 2.0
    assert play.session.heard_s == 5.0
    play.leave()
    assert {one.attempt.provider: one.seconds for one in play.session.used()} == sent


def test_a_bill_counts_each_second_and_each_connection_once() -> None:
    prices = Prices({"acme:ear-1": Price(audio_minute=0.6, request=1), "zeus:ear-2": Price()})
    bill, other = Bill(prices), Attempt("free", "x", names=frozenset({"named"}))
    first = bill.since_last(10.0, [Used(ACME, 10.0, 1)])
    assert [(one.audio_ms, one.cost, one.requests) for one in first] == [(10_000, 1_100_000_000, 1)]
    assert "acme/ear-1" in first[0].names
    assert bill.ahead().cost == round(0.6 / 60 * METER_S * 1e9)
    assert bill.since_last(10.0, [Used(ACME, 10.0, 1)]) == []
    second = bill.since_last(16.0, [Used(ACME, 11.0, 1), Used(other, 8.0, 1)])
    assert [(one.audio_ms, one.cost) for one in second] == [(6_000, 0), (0, 10_000_000)]
    assert "named" in second[0].names
    assert bill.ahead().cost == 0
    assert (bill.cost, bill.heard_ms) == (1_110_000_000, 16_000)


def test_interims_that_are_sent_an_utterance_again_are_billed_once_each() -> None:
    bill = Bill(Prices({"acme:ear-1": Price(audio_minute=0.6)}))
    assert bill.interims(0.0) == []
    bill.since_last(10.0, [Used(ACME, 10.0, 1)])
    (one,) = bill.interims(5.0)
    assert (one.cost, one.audio_ms) == (50_000_000, 0)
    assert bill.interims(5.0) == []
    assert [again.cost for again in bill.interims(7.0)] == [20_000_000]
    assert bill.cost == 170_000_000
