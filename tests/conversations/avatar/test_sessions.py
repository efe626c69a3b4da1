"""The avatars that are in rooms: bounded in number and in time."""

from gateway.conversations.avatar.sessions import AvatarSessions


def test_a_key_has_so_many_and_no_more() -> None:
    made: AvatarSessions[str] = AvatarSessions(2, 60.0)
    assert made.take("a")
    assert made.take("a")
    assert not made.take("a")
    assert made.take("b")
    made.give_back("a")
    assert made.take("a")


def test_one_that_leaves_makes_room_and_is_told_once() -> None:
    made: AvatarSessions[str] = AvatarSessions(1, 60.0)
    made.take("a")
    made.begin("a", "p", "s1", 0.0, "ticket")
    assert len(made) == 1
    ended = made.end("p", "s1")
    assert ended is not None
    assert ended.ticket == "ticket"
    assert made.end("p", "s1") is None
    assert made.take("a")


def test_one_that_nobody_ends_is_overdue() -> None:
    made: AvatarSessions[str] = AvatarSessions(2, 60.0)
    for name, now in (("s1", 0.0), ("s2", 30.0)):
        made.take("a")
        made.begin("a", "p", name, now, name)
    assert list(made.overdue(59.0)) == []
    assert [one.session_id for one in made.overdue(60.0)] == ["s1"]
    assert len(made) == 1
    assert made.take("a")
