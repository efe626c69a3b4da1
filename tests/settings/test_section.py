"""What every part of the configuration has in common."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from gateway.settings.section import Section


class Inner(Section):
    """Inside."""

    number: int = 3


class Outer(Section):
    """Outside."""

    inner: Inner = Inner()
    names: list[str] = Field(default_factory=list)
    maybe: int | None = 7
    number: float = 1.0
    switch: bool = False
    file: Path | None = None
    files: dict[str, Path] = Field(default_factory=dict)


def test_a_section_or_list_without_lines_is_as_if_it_were_not_there() -> None:
    assert Outer.model_validate({"inner": None, "names": None}) == Outer()


def test_none_stays_none_where_it_has_a_meaning() -> None:
    assert Outer.model_validate({"maybe": None}).maybe is None


@pytest.mark.parametrize("given", [{"number": True}, {"maybe": False}, {"inner": {"number": True}}])
def test_yes_is_no_number(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Outer.model_validate(given)


def test_yes_is_yes() -> None:
    assert Outer.model_validate({"switch": True}).switch


def test_nothing_is_infinite() -> None:
    with pytest.raises(ValidationError):
        Outer.model_validate({"number": float("inf")})


def test_an_empty_path_is_none_and_not_the_current_folder() -> None:
    assert Outer.model_validate({"file": ""}).file is None


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    made = Outer.model_validate({"file": "~/a", "files": {"b": "~/b", "c": "/c"}})
    assert made.file == Path("/home/op/a")
    assert made.files == {"b": Path("/home/op/b"), "c": Path("/c")}


def test_the_home_of_nobody_stays_as_it_is_written() -> None:
    assert Outer.model_validate({"file": "~nobody-of-this-name/a"}).file == Path(
        "~nobody-of-this-name/a"
    )
