"""Mistakes in our own words. tests/test_wrong_configurations.py walks every option there is."""

from pydantic import Field, SecretStr, ValidationError

from gateway.settings.mistake import Place
from gateway.settings.section import Section
from gateway.settings.wording import describe, expectation, suggestion

SECRET = "s3cr3t-s3cr3t"


class Example(Section):
    """Something to set."""

    port: int = Field(1, ge=0, le=9)
    share: float = Field(0.5, gt=0, le=1)
    token: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    numbers: dict[str, list[int]] = Field(default_factory=dict)


def told(given: object, sources: dict[Place, str] | None = None) -> list[str]:
    try:
        Example.model_validate(given)
    except ValidationError as error:
        return [one.told() for one in describe(error, Example, ("x",), sources or {})]
    return []


def test_an_option_says_what_it_takes() -> None:
    fields = Example.model_fields
    assert expectation(fields["port"]) == "a whole number from 0 to 9"
    assert expectation(fields["share"]) == "a number, more than 0 and at most 1"
    assert expectation(fields["token"]) == "text"
    assert (
        expectation(fields["numbers"])
        == "a mapping of names, each with a list, each entry a whole number"
    )


def test_a_secret_is_never_shown() -> None:
    for given in ({"token": [SECRET]}, {"headers": SECRET}, {"headers": {"a": {SECRET: 1}}}):
        assert SECRET not in " ".join(told(given))


def test_the_place_goes_as_far_as_it_is_ours() -> None:
    assert told({"numbers": {"a": [1, "b"]}}) == ["x.numbers.a.1: expected a whole number, not 'b'"]


def test_a_long_value_is_cut() -> None:
    (line,) = told({"port": "9x" * 500})
    assert len(line) < 150


def test_a_value_of_a_variable_is_named_by_it() -> None:
    (line,) = told({"port": SECRET}, {("x", "port"): "${PORT}"})
    assert line == "x.port: expected a whole number from 0 to 9, not the value of ${PORT}"


def test_something_close_is_suggested() -> None:
    assert suggestion("prot", ["port", "host"]) == "; did you mean 'port'?"
    assert suggestion("zzz", ["port"]) == ""
