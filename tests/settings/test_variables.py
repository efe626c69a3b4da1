"""Variables, files that hold secrets, and what stands in `${...}`."""

from gateway.settings.variables import Interpolation, Variables

FILES = {"/run/secrets/a": "secret-a\n", "/run/secrets/empty": " \n"}


def read(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


def replaced(value: object, environ: dict[str, str]) -> tuple[object, list[str]]:
    variables = Variables(environ, read)
    interpolation = Interpolation(variables)
    found = interpolation.of(value)
    return found, [one.told() for one in (*interpolation.mistakes, *variables.mistakes)]


def test_a_variable_a_default_and_an_escape() -> None:
    found, wrong = replaced(
        {"a": "${A}", "b": "${B:-x}", "c": "$${A} $A $", "d": ["${A}-${B:-}"], "e": 3},
        {"A": "1"},
    )
    assert found == {"a": "1", "b": "x", "c": "${A} $A $", "d": ["1-"], "e": 3}
    assert not wrong


def test_names_are_replaced_too() -> None:
    assert replaced({"${KEY}": "${SECRET}"}, {"KEY": "APIx", "SECRET": "s"}) == ({"APIx": "s"}, [])


def test_two_names_may_not_become_one() -> None:
    _, wrong = replaced({"${A}": 1, "x": 2}, {"A": "x"})
    assert wrong == ["x: stands twice once it is replaced"]


def test_a_file_gives_its_text_without_the_line_end() -> None:
    assert replaced("${file:/run/secrets/a}", {}) == ("secret-a", [])


def test_a_variable_may_be_given_as_a_file() -> None:
    assert replaced("${TOKEN}", {"TOKEN_FILE": "/run/secrets/a"}) == ("secret-a", [])


def test_a_variable_may_not_be_given_both_ways() -> None:
    _, wrong = replaced("${T} ${T}", {"T_FILE": "/run/secrets/a", "T": "x"})
    assert "T_FILE: T is set too; expected one of the two" in wrong
    assert len([line for line in wrong if line.startswith("T_FILE")]) == 1


def test_a_default_takes_the_place_of_an_empty_variable() -> None:
    assert replaced("${A:-x}", {"A": ""}) == ("x", [])


def test_empty_and_missing_are_told_apart() -> None:
    _, (empty,) = replaced("${A}", {"A": ""})
    _, (missing,) = replaced("${A}", {})
    assert "the environment variable A is set, but empty" in empty
    assert "the environment variable A is not set" in missing


def test_a_file_that_cannot_be_used_is_named() -> None:
    _, (missing,) = replaced({"k": "${file:/nowhere}"}, {})
    _, (empty,) = replaced({"k": "${file:/run/secrets/empty}"}, {})
    assert missing == "k: the file /nowhere cannot be read: no such file or directory"
    assert empty == "k: the file /run/secrets/empty is empty"


def test_it_is_known_what_came_from_where() -> None:
    interpolation = Interpolation(Variables({"A": "1"}, read))
    interpolation.of({"x": {"y": "${A}"}, "z": "plain"})
    assert interpolation.sources == {("x", "y"): "${A}"}
