"""Who may see the operator's page."""

from __future__ import annotations

import pytest

from gateway.page.access import VISIT_S, VISITS_MAX, WRONG_MAX, WRONG_WINDOW_S, Access, same_origin


def test_the_token_opens_a_visit_that_ends() -> None:
    access = Access("a-long-enough-token")
    cookie = access.enter("a-long-enough-token", 0.0)
    assert access.knows(cookie, VISIT_S - 1)
    assert not access.knows(cookie, VISIT_S)
    assert not access.knows("another", 0.0)
    assert not access.knows(None, 0.0)


def test_a_visitor_who_leaves_is_forgotten() -> None:
    access = Access("t")
    cookie = access.enter("t", 0.0)
    access.leave(cookie)
    assert not access.knows(cookie, 0.0)


def test_guessing_is_slow_and_a_wrong_token_is_nobodys() -> None:
    access = Access("right")
    for _ in range(WRONG_MAX):
        assert access.enter("wrong", 0.0) is None
    assert access.enter("right", 1.0) is None
    assert access.enter("right", WRONG_WINDOW_S) is not None


def test_a_program_bears_the_token_itself_and_guesses_no_faster() -> None:
    access = Access("right")
    assert access.bears("right", 0.0)
    for _ in range(WRONG_MAX):
        assert not access.bears("wrong", 0.0)
    assert not access.bears("right", 1.0)
    assert access.enter("right", 1.0) is None
    assert access.bears("right", WRONG_WINDOW_S)


def test_visits_are_bounded() -> None:
    access = Access("t")
    cookies = [access.enter("t", 0.0) for _ in range(VISITS_MAX + 1)]
    assert not access.knows(cookies[0], 0.0)
    assert access.knows(cookies[-1], 0.0)


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://a:9090", True),
        ("https://a:9090", True),
        ("http://b:9090", False),
        ("null", False),
        ("http://[", False),
        (None, False),
    ],
)
def test_another_pages_requests_are_told_apart(origin: str | None, same: bool) -> None:
    headers = {"host": "a:9090"} | ({} if origin is None else {"origin": origin})
    assert same_origin(headers) is same
