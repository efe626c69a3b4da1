"""What a client has asked for, what it is owed, what it is told."""

import json

from gateway.conversations.stt.actions import Close, Linger, Pause, Resume, SendToClient
from gateway.conversations.stt.client_state import END_S, FINALIZES_MAX, MUTED_S
from gateway.upstreams.errors import Failure, Kind
from tests.conversations.stt.parts import Parts


def told(parts: Parts) -> list[str]:
    return [json.loads(a.text)["type"] for a in parts.out if isinstance(a, SendToClient)]


def test_a_flush_answers_the_finalizes_before_it_and_no_later_one() -> None:
    parts = Parts()
    client = parts.client
    client.finalize(0.0)
    client.finalize(0.0)
    client.flushing()
    assert not client.wants_flush
    client.finalize(1.0)
    assert client.wants_flush
    client.acknowledge()
    assert told(parts) == ["session.finalized"] * 2
    assert client.wants_answers


def test_a_flush_that_fails_is_wanted_again() -> None:
    client = Parts().client
    client.finalize(0.0)
    client.flushing()
    client.flush_failed()
    assert client.wants_flush


def test_finalizes_are_bounded() -> None:
    parts = Parts()
    for _ in range(FINALIZES_MAX + 10):
        parts.client.finalize(0.0)
    parts.client.flushing()
    parts.client.acknowledge()
    assert len(told(parts)) == FINALIZES_MAX


def test_a_client_without_audio_for_a_while_is_muted_unless_we_hold_it_back() -> None:
    client = Parts().client
    client.audio_at = 1.0
    assert not client.is_muted(MUTED_S)
    assert client.is_muted(1.0 + MUTED_S)
    client.slow_down(0.9)
    assert not client.is_muted(1.0 + MUTED_S)


def test_it_is_paused_at_the_upper_mark_and_resumed_at_the_lower() -> None:
    parts = Parts()
    for share in (0.5, 0.8, 0.9, 0.5, 0.4, 0.1):
        parts.client.slow_down(share)
    assert [type(action) for action in parts.out] == [Pause, Resume]


def test_a_client_that_closes_is_told_nothing_at_once_and_not_paused() -> None:
    parts = Parts()
    parts.client.close()
    parts.client.slow_down(1.0)
    assert [type(action) for action in parts.out] == [Linger]


def test_a_recording_runs_ahead_and_a_microphone_does_not() -> None:
    client = Parts().client
    assert not client.runs_ahead(60.0, 0.0)
    client.first_audio_at = 0.0
    assert client.runs_ahead(5.0, 1.0)
    assert not client.runs_ahead(5.0, 5.0)


def test_an_old_client_ends_after_its_last_finalize_unless_audio_follows() -> None:
    client = Parts(ends_itself=True).client
    client.finalize(1.0)
    assert client.ends_at(utterance_open=False) is None  # it waits for the answer
    client.flushing()
    client.acknowledge()
    assert client.ends_at(utterance_open=True) is None
    assert client.ends_at(utterance_open=False) == 1.0 + END_S
    client.audio_at = 2.0
    assert client.ends_at(utterance_open=False) is None


def test_a_clients_mistake_and_a_providers_failure_have_their_close_codes() -> None:
    parts = Parts()
    parts.client.refuse(Failure(Kind.BAD_REQUEST, "no"))
    assert parts.client.over
    assert parts.report.failure is not None
    parts.client.refuse(Failure(Kind.UNREACHABLE, "gone"))
    assert [a.code for a in parts.out if isinstance(a, Close)] == [1008, 1011]


def test_a_good_end_answers_every_finalize_first() -> None:
    parts = Parts()
    parts.client.finalize(0.0)
    parts.client.close_well()
    assert told(parts) == ["session.finalized", "session.closed"]
    assert parts.out[-1] == Close(1000)
