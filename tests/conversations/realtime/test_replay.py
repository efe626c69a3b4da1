from __future__ import annotations

from gateway.conversations.realtime.replay import Replay
from gateway.upstreams.realtime import ClientEvent


def event(kind: str, text: str = "x") -> ClientEvent:
    return ClientEvent(kind, {}, text)


def append(name: str) -> ClientEvent:
    return event("input_audio_buffer.append", name)


def texts(replay: Replay) -> list[str]:
    return [one.text for one in replay]


def test_events_keep_their_order() -> None:
    replay = Replay(10.0, 1000)
    replay.add(event("session.update", "a"))
    replay.add(append("b"), 1.0)
    replay.add(event("conversation.item.create", "c"))
    assert texts(replay) == ["a", "b", "c"]


def test_the_newest_audio_is_kept_and_everything_else() -> None:
    replay = Replay(2.0, 1000)
    replay.add(event("session.update", "a"))
    for name in "bcde":
        replay.add(append(name), 1.0)
    assert texts(replay) == ["a", "d", "e"]
    assert replay.whole


def test_audio_makes_room_for_the_rest() -> None:
    replay = Replay(100.0, 10)
    replay.add(append("bbbb"), 1.0)
    replay.add(append("cccc"), 1.0)
    replay.add(event("conversation.item.create", "ddd"))
    assert texts(replay) == ["cccc", "ddd"]


def test_more_than_may_be_kept_without_audio_is_kept_no_longer() -> None:
    replay = Replay(100.0, 10)
    replay.add(append("b"), 1.0)
    replay.add(event("conversation.item.create", "d" * 11))
    assert not replay.whole
    replay.add(event("response.create", "r"))
    assert len(replay) == 0


def test_what_the_client_clears_is_not_heard_again() -> None:
    replay = Replay(100.0, 1000)
    replay.add(append("a"), 1.0)
    replay.add(event("input_audio_buffer.commit", "b"))
    replay.add(append("c"), 1.0)
    replay.add(event("input_audio_buffer.clear", "d"))
    replay.add(append("e"), 1.0)
    assert texts(replay) == ["a", "b", "e"]


def test_clearing_takes_no_more_than_is_there() -> None:
    replay = Replay(1.0, 1000)
    for name in "abc":
        replay.add(append(name), 1.0)
    replay.add(event("input_audio_buffer.clear"))
    replay.add(event("input_audio_buffer.clear"))
    assert texts(replay) == []
