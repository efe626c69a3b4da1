"""What the states of a session share."""

import json

from gateway.conversations.stt.actions import Close, Pause, SendToClient
from gateway.upstreams.stt import Capabilities
from tests.conversations.stt.parts import Parts, buffered, ready
from tests.conversations.stt.play import HUSH, TONE, interim


def types(parts: Parts) -> list[str]:
    return [json.loads(a.text)["type"] for a in parts.out if isinstance(a, SendToClient)]


def test_actions_are_taken_once() -> None:
    parts = Parts()
    parts.client.say("session.created")
    assert len(parts.context.take_actions()) == 1
    assert parts.context.take_actions() == []


def test_nothing_is_lost_where_nothing_was_said() -> None:
    assert Parts(buffered(*[HUSH] * 10)).context.nothing_said
    assert not Parts(buffered(*[TONE] * 10)).context.nothing_said
    parts = Parts(buffered(HUSH))
    parts.transcripts.hypothesis(ready(), interim("x").transcript)
    assert not parts.context.nothing_said


def test_a_good_end_tells_the_open_utterance_first() -> None:
    parts = Parts(buffered(TONE))
    parts.transcripts.hypothesis(ready(), interim("x").transcript)
    parts.context.close_well()
    assert types(parts) == ["final_transcript", "session.closed"]
    assert parts.out[-1] == Close(1000)


def test_a_client_is_held_back_by_what_was_not_sent() -> None:
    parts, connection = Parts(buffered(*[TONE] * 500)), ready()
    connection.start_at(parts.buffer.end)
    parts.context.slow_down(connection)
    assert parts.out == []
    parts.context.slow_down(None)
    assert [type(action) for action in parts.out] == [Pause]


def test_the_last_finals_may_take_as_long_as_the_audio_before_them() -> None:
    parts = Parts(buffered(*[TONE] * 100))
    assert parts.context.closing_s(None) == 10.0
    assert parts.context.closing_s(ready(Capabilities(replay_rate=2.5))) == 7.0
    slow = Capabilities(replay_rate=2.5, flush_is_answered=True, final_within_s=8.0)
    assert parts.context.closing_s(ready(slow)) == 10.0
