"""How a mistake is told."""

from gateway.settings.mistake import Mistake


def test_it_has_its_place_and_line() -> None:
    assert Mistake(("a", "b"), "expected x").told(3) == "a.b: expected x (line 3)"
    assert Mistake((), "expected x").told() == "expected x"


def test_a_name_that_may_be_a_secret_is_shortened() -> None:
    assert "s" * 65 not in Mistake(("keys", "s" * 65), "wrong").told()


def test_a_name_cannot_break_the_line() -> None:
    assert Mistake(("a\nb",), "wrong").told() == "a?b: wrong"
