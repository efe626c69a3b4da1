"""What every route does with a client's JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from gateway.conversations.messages import (
    EXTRA_ENTRIES_MAX,
    FALLBACKS_MAX,
    JSON_DEPTH_MAX,
    NAME_CHARS_MAX,
    Connection,
    Fallback,
    JsonBudget,
    Message,
    Name,
    OptionalName,
    Options,
    embedded_json_failure,
    parse,
    read,
    required,
    validated,
)
from gateway.upstreams.bounded_json import VALUES_MAX
from gateway.upstreams.errors import MESSAGE_CHARS_MAX, Failure
from gateway.upstreams.plan import FallbackModel
from tests.conversations.hostile import nested


class Inner(Message):
    name: Name = required()


class Ask(Message):
    type: Literal["ask"]
    model: OptionalName = None
    inner: Inner = required()
    extra: Options | None = None
    fallback: Fallback | None = None


class Close(Message):
    type: Literal["close"]


ADAPTER: TypeAdapter[Ask | Close] = TypeAdapter(Annotated[Ask | Close, Field(discriminator="type")])


def asked(**fields: Any) -> Ask | Close | Failure:
    return read(json.dumps({"type": "ask", "inner": {"name": "n"}} | fields), ADAPTER)


def refused(**fields: Any) -> Failure:
    failure = asked(**fields)
    assert isinstance(failure, Failure)
    assert failure.status == 400
    return failure


def test_fields_that_are_not_known_are_ignored() -> None:
    assert asked(new="x", inner={"name": "n", "newer": 1}) == Ask(type="ask", inner=Inner(name="n"))


def test_the_type_decides_which_message_it_is() -> None:
    assert read('{"type": "close"}', ADAPTER) == Close(type="close")


@pytest.mark.parametrize("text", ["{}", *(f'{{"type": {t}}}' for t in ('"x"', "[]", "{}", "7"))])
def test_an_unknown_type_hears_which_there_are(text: str) -> None:
    failure = read(text, ADAPTER)
    assert isinstance(failure, Failure)
    assert failure.message.startswith("type: expected ask or close, got ")
    assert failure.param == "type"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inner": 5}, "inner: expected an object, got 5"),
        ({"inner": None}, "inner: expected an object, got nothing"),
        ({"model": ["x"]}, "model: expected a name of at most 256 characters without control "),
        ({"extra": []}, "extra: expected an object of at most 64 provider options, got an empty "),
        ({"extra": True}, "extra: expected an object of at most 64 provider options, got true"),
        (
            {"fallback": {"models": "x"}},
            "fallback.models: expected a list of at most 8 models, got",
        ),
        ({"fallback": {"models": [{}]}}, "fallback.models.0.model: expected a name of at most"),
        ({"fallback": 7.5}, "fallback: expected an object, got 7.5"),
    ],
)
def test_a_refusal_says_where_what_was_expected_and_what_came(fields: Any, message: str) -> None:
    failure = refused(**fields)
    assert failure.message.startswith(message)
    assert failure.param == message.partition(":")[0]


def test_what_is_missing_is_named_by_its_path() -> None:
    assert refused(inner={}).message.startswith("inner.name: expected a name")
    assert refused(inner={}).message.endswith("got nothing")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "secret"},
        {"type": ["secret"]},
        {"inner": "secret"},
        {"inner": {"name": ["secret"]}},
        {"inner": {"name": "secret\0"}},
        {"extra": "secret"},
        {"extra": [{"key": "secret"}]},
        {"fallback": "secret"},
        {"fallback": {"models": {"secret": "secret"}}},
        {"fallback": {"models": [{"model": {"secret": 1}}]}},
    ],
)
def test_a_refusal_does_not_repeat_what_may_be_a_secret(fields: Any) -> None:
    assert "secret" not in refused(**fields).message


def test_a_refusal_is_short_whatever_came() -> None:
    assert len(refused(model="x" * 100_000).message) <= MESSAGE_CHARS_MAX
    assert refused(inner=10**18).message == f"inner: expected an object, got {10**18}"
    assert refused(inner=-1.2345678901234567e-300).message.endswith("got a number")


@pytest.mark.parametrize("name", ["a\0", "\n", "x\x1b[2Jy", "\x7f", "\x85", "a\u2028b"])
def test_a_name_with_control_characters_is_refused(name: str) -> None:
    assert refused(model=name).param == "model"
    assert refused(inner={"name": name}).param == "inner.name"
    assert refused(fallback={"models": [name]}).param == "fallback.models.0.model"


@pytest.mark.parametrize("name", ["deepgram/nova-3:en", "Zoë", "日本語", "می‌خواهم", "a b", "👩‍💻"])
def test_a_name_may_be_of_any_script(name: str) -> None:
    message = asked(model=name)
    assert isinstance(message, Ask)
    assert message.model == name


def test_names_and_options_are_bounded() -> None:
    assert isinstance(asked(model="x" * NAME_CHARS_MAX), Ask)
    assert refused(model="x" * (NAME_CHARS_MAX + 1)).message.endswith("a string of 257 characters")
    options = {str(i): i for i in range(EXTRA_ENTRIES_MAX + 1)}
    assert refused(extra=options).param == "extra"
    models = ["m"] * (FALLBACKS_MAX + 1)
    assert refused(fallback={"models": models}).message.endswith("got a list of 9")


@pytest.mark.parametrize("given", ["", None])
def test_an_empty_name_is_none(given: str | None) -> None:
    message = asked(model=given)
    assert isinstance(message, Ask)
    assert message.model is None


@pytest.mark.parametrize(
    ("given", "models"),
    [
        ({"models": [{"model": "a", "extra": {"x": 1}}, "b"]}, [("a", {"x": 1}), ("b", {})]),
        (["a"], [("a", {})]),
        ([{"model": "a", "extra": None}], [("a", {})]),
        ({"models": None}, []),
        ({}, []),
    ],
)
def test_fallbacks_come_in_several_forms(
    given: Any, models: list[tuple[str, dict[str, Any]]]
) -> None:
    fallback = validated(given, TypeAdapter(Fallback))
    assert isinstance(fallback, Fallback)
    assert [one.choice for one in fallback.models] == [FallbackModel(*one) for one in models]


@pytest.mark.parametrize(
    ("given", "timeout", "retries"),
    [
        ({"timeout": 10.0, "retries": 3}, 10.0, 3),
        ({"timeout": "10", "retries": "3"}, 10.0, 3),
        ({}, None, None),
        ({"timeout": None, "retries": None}, None, None),
    ],
)
def test_numbers_may_be_strings(given: Any, timeout: float | None, retries: int | None) -> None:
    connection = validated(given, TypeAdapter(Connection))
    assert isinstance(connection, Connection)
    assert (connection.timeout, connection.retries) == (timeout, retries)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"timeout": True}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "inf"}, "timeout"),
        ({"timeout": "nan"}, "timeout"),
        ({"retries": 1.5}, "retries"),
        ({"retries": -1}, "retries"),
        ({"retries": "9" * 5000}, "retries"),
        ({"retries": False}, "retries"),
    ],
)
def test_what_is_no_such_number_is_refused(given: Any, named: str) -> None:
    failure = validated(given, TypeAdapter(Connection), "connection")
    assert isinstance(failure, Failure)
    assert failure.param == f"connection.{named}"


@pytest.mark.parametrize("text", ["", "{", "\xff", "{'a': 1}", "nan", "9" * 400])
def test_what_is_not_json_is_told_so(text: str) -> None:
    failure = parse(text, "the body")
    assert isinstance(failure, Failure)
    assert failure.message.startswith("the body is not JSON: ")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"x"'])
def test_what_is_no_object_is_told_so(text: str) -> None:
    failure = parse(text, "the body")
    assert isinstance(failure, Failure)
    assert failure.message.startswith("the body: expected a JSON object, got ")


@pytest.mark.parametrize("bracket", ["[", "{"])
def test_the_deepest_json_that_is_taken_has_as_many_levels_as_are_allowed(bracket: str) -> None:
    def with_depth(depth: int) -> str:
        return json.dumps({"x": nested(depth - 1, bracket)})

    assert isinstance(parse(with_depth(JSON_DEPTH_MAX), "it"), dict)
    for depth in (JSON_DEPTH_MAX + 1, 254, 255, 800, 1024, 3000):
        failure = parse(
            with_depth(depth) if depth < 900 else '{"x":' * depth + "1" + "}" * depth, "it"
        )
        assert isinstance(failure, Failure)
        assert f"{JSON_DEPTH_MAX} levels" in failure.message


def test_much_that_is_not_deep_is_taken() -> None:
    assert isinstance(parse(json.dumps({"x": [[] for _ in range(5000)]}), "it"), dict)


def test_json_inside_a_string_is_as_deep_as_other_json() -> None:
    budget = JsonBudget()
    assert embedded_json_failure(json.dumps(nested(JSON_DEPTH_MAX)), "x", budget) is None
    assert embedded_json_failure("{ no json " * 100, "x", budget) is None
    for depth in (JSON_DEPTH_MAX + 1, 3000):
        failure = embedded_json_failure("[" * depth + "1" + "]" * depth, "x.arguments", budget)
        assert failure is not None
        assert failure.param == "x.arguments"
        assert f"{JSON_DEPTH_MAX} levels" in failure.message


def test_strings_with_json_share_one_budget() -> None:
    budget = JsonBudget(100)
    words = json.dumps({"text": "one, two, three [four]" * 50})
    for _ in range(40):
        assert embedded_json_failure(words, "x", budget) is None
    failure = embedded_json_failure(json.dumps([1] * 100), "x.arguments", budget)
    assert failure is not None
    assert (failure.status, failure.param) == (413, "x.arguments")
    assert "at most 100 values" in failure.message


@pytest.mark.parametrize("piece", ["{}", "1", '{"a":1}', '"a"'])
def test_a_message_with_too_many_values_is_refused_unread(piece: str) -> None:
    text = '{"type": "ask", "x": [' + ",".join([piece] * VALUES_MAX) + "]}"
    for given in (text, text.encode()):
        failure = read(given, ADAPTER)
        assert isinstance(failure, Failure)
        assert failure.status == 413
        assert failure.message == (
            f"the message holds too much JSON: expected at most {VALUES_MAX} values"
        )
