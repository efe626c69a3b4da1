"""Which options a client may use, and what a vendor calls them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.providers._shared import options
from gateway.providers._shared.options import (
    FLAG,
    IGNORED,
    OBJECT,
    TEXT,
    TEXTS,
    Option,
    base_language,
    check,
    known,
    query_string,
    translated,
)

TABLE = {
    "pace": options.number(0, 2).called("speed"),
    "turns": options.whole(1, 9),
    "mode": options.choice("fast", "slow"),
    "terms": TEXTS,
    "dropped": IGNORED,
}


@pytest.mark.parametrize(
    ("option", "value", "read"),
    [
        (FLAG, True, True),
        (FLAG, 1, None),
        (TEXT, "x", "x"),
        (TEXT, "x" * 4001, None),
        (TEXTS, "x", ["x"]),
        (TEXTS, ["x", {"content": "y"}, ""], ["x", "y"]),
        (TEXTS, ["x", 7], None),
        (OBJECT, {"a": 1}, {"a": 1}),
        (OBJECT, [1], None),
        (options.number(0, 1), 0.5, 0.5),
        (options.number(0, 1), True, None),
        (options.number(0, 1), float("nan"), None),
        (options.whole(0, 9), 3.0, 3),
        (options.whole(0, 9), 10, None),
        (options.choice("a", "b"), "a", "a"),
        (options.choice("a", "b"), "c", None),
    ],
)
def test_a_value_is_read_or_is_not_what_was_expected(option: Option, value: Any, read: Any) -> None:
    assert option.read(value) == read


def test_options_go_on_under_the_vendors_names_and_those_of_others_are_left_out() -> None:
    given = {"pace": 1.5, "mode": "fast", "of_another": 1, "dropped": 1}
    assert known(given, TABLE) == {"speed": 1.5, "mode": "fast"}
    assert check(given, TABLE) is None


@pytest.mark.parametrize("absent", [None, "", [], ()])
def test_what_is_empty_is_absent(absent: Any) -> None:
    assert check({"turns": absent}, TABLE) is None
    assert known({"turns": absent}, TABLE) == {}


def test_what_is_wrong_is_told_with_its_place_and_left_out() -> None:
    wrong = check({"turns": 0}, TABLE)
    assert wrong is not None
    assert wrong.param == "settings.extra.turns"
    assert wrong.message == "settings.extra.turns: expected a whole number from 1 to 9"
    assert known({"turns": 0}, TABLE) == {}


def test_key_terms_of_one_vendor_become_those_of_another() -> None:
    assert translated({"keyterm": "Parley"}, "keywords", None) == {
        "keyterm": "Parley",
        "keywords": ["Parley"],
    }


def test_a_vendors_own_terms_come_before_those_of_others() -> None:
    given = {"keyterm": ["a"], "keywords": ["b"]}
    assert translated(given, "keywords", None) == given
    assert translated({"keyterm": ["a"], "keywords": []}, "keywords", None)["keywords"] == ["a"]


def test_terms_that_are_none_are_passed_over() -> None:
    given = {"keyterm": [1], "additional_vocab": [{"content": "a"}]}
    assert translated(given, "keywords", None)["keywords"] == ["a"]
    assert "keywords" not in translated({"keyterm": [1]}, "keywords", None)


@pytest.mark.parametrize(
    ("given", "wanted"), [("speaker", True), (True, True), (False, None), ("none", None)]
)
def test_telling_speakers_apart_is_a_switch_for_another_vendor(given: Any, wanted: Any) -> None:
    assert translated({"diarization": given}, None, "diarize").get("diarize") == wanted


def test_a_vendor_without_such_options_is_given_none() -> None:
    given = {"keyterm": ["a"], "diarize": True}
    assert translated(given, None, None) == given


def test_a_query_repeats_names_and_writes_spaces_and_truth_as_every_server_reads_them() -> None:
    parameters = {"a": ["x y", "z&"], "b": True, "c": 0.5}
    assert query_string(parameters) == "a=x%20y&a=z%26&b=true&c=0.5"


def test_a_base_language_has_no_region() -> None:
    assert base_language("pt-BR") == "pt"
    assert base_language(None) is None
