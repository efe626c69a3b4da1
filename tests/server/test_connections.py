"""Places for addresses."""

from __future__ import annotations

from gateway.server.connections import AddressLimit


def test_each_address_has_places_of_its_own_and_gets_them_back() -> None:
    limit = AddressLimit(2)
    assert [limit.take("a"), limit.take("a"), limit.take("a"), limit.take("b")] == [
        True,
        True,
        False,
        True,
    ]
    limit.give_back("a")
    assert limit.take("a")


def test_a_flood_is_told_of_once_until_the_address_has_had_a_place_again() -> None:
    full: list[str] = []
    limit = AddressLimit(1, full.append)
    limit.take("a")
    for _ in range(3):
        limit.take("a")
    assert full == ["a"]
    limit.give_back("a")
    limit.take("a")
    limit.take("a")
    assert full == ["a", "a"]
