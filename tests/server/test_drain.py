"""When a shutdown does what."""

from __future__ import annotations

from gateway.server.drain import (
    DRAINED,
    OVERRUN_S,
    SPREAD_S_MAX,
    TOO_LONG,
    Drain,
    OpenSocket,
    ending,
)

NEVER = float("inf")
DRAIN = Drain(began=100.0, delay_s=5.0, grace_s=1000.0)


def a_socket(
    *, ends_at: float = NEVER, spread: float = 0.5, replaces: bool = False, calm: bool = True
) -> OpenSocket:
    return OpenSocket(ends_at, spread, replaces, lambda now: calm)


def test_connections_are_taken_until_balancers_can_have_noticed() -> None:
    assert DRAIN.listens(104.9)
    assert not DRAIN.listens(105.0)


def test_a_delay_longer_than_the_grace_is_cut() -> None:
    assert not Drain(100.0, delay_s=5.0, grace_s=1.0).listens(101.0)


def test_an_empty_server_ends_after_the_delay_and_a_full_one_after_the_grace() -> None:
    assert not DRAIN.is_over(104.9, 0)
    assert DRAIN.is_over(105.0, 0)
    assert not DRAIN.is_over(1099.9, 1)
    assert DRAIN.is_over(1100.0, 1)


def test_idle_sockets_that_clients_replace_are_closed_spread_over_the_first_part() -> None:
    for spread, at in ((0.0, 105.0), (0.5, 105.0 + SPREAD_S_MAX / 2), (1.0, 105.0 + SPREAD_S_MAX)):
        socket = a_socket(spread=spread, replaces=True)
        assert ending(socket, DRAIN, at - 0.1) is None
        assert ending(socket, DRAIN, at) is DRAINED


def test_in_a_short_grace_they_are_spread_over_half_of_it() -> None:
    drain = Drain(100.0, delay_s=0.0, grace_s=10.0)

    assert ending(a_socket(spread=1.0, replaces=True), drain, 104.9) is None
    assert ending(a_socket(spread=1.0, replaces=True), drain, 105.0) is DRAINED


def test_one_that_speaks_is_not_closed() -> None:
    assert ending(a_socket(replaces=True, calm=False), DRAIN, 1099.0) is None


def test_others_are_left_alone_until_the_last_seconds() -> None:
    assert ending(a_socket(), DRAIN, 1089.9) is None
    assert ending(a_socket(), DRAIN, 1090.0) is DRAINED
    assert ending(a_socket(calm=False), DRAIN, 1090.0) is None


def test_without_a_shutdown_nothing_is_closed() -> None:
    assert ending(a_socket(replaces=True), None, 1e9) is None


def test_a_session_that_has_lasted_long_enough_ends_when_nobody_speaks() -> None:
    assert ending(a_socket(ends_at=200.0), None, 199.9) is None
    assert ending(a_socket(ends_at=200.0), None, 200.0) is TOO_LONG
    assert ending(a_socket(ends_at=200.0, calm=False), None, 200.0 + OVERRUN_S - 0.1) is None
    assert ending(a_socket(ends_at=200.0, calm=False), None, 200.0 + OVERRUN_S) is TOO_LONG
