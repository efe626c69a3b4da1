"""Tool calls of careless servers stay apart, and only those that can be run are let go."""

import pytest

from gateway.providers._openai.chunk_writer import Call
from gateway.providers._openai.tool_calls import (
    CallCollector,
    checked,
    is_object,
    tool_names,
    unfit,
)
from gateway.upstreams.errors import Failure

Piece = tuple[int | None, str | None, str | None, str | None]


def calls(*pieces: Piece, tools: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    collector = CallCollector(frozenset(tools))
    for index, call_id, name, arguments in pieces:
        entry = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
        assert collector.add(entry) is None
    made = collector.take(keep_extra=frozenset())
    assert not isinstance(made, Failure), made
    ids = [one.id for one in made if one.id]
    assert len(set(ids)) == len(ids), "ids are told apart"
    return [(one.name, one.arguments) for one in made]


MON, TUE = '{"day":"mon"}', '{"day":"tue"}'


def test_one_id_at_two_indices_is_two_calls() -> None:
    assert calls((0, "c", "book", MON), (1, "c", "mail", TUE)) == [("book", MON), ("mail", TUE)]


def test_whole_arguments_after_whole_arguments_are_a_second_call_of_the_same_function() -> None:
    pieces: list[Piece] = [(0, "c", "book", ""), (0, None, "", MON), (0, None, "", TUE)]
    assert calls(*pieces) == [("book", MON), ("book", TUE)]


def test_whole_arguments_that_are_repeated_at_the_end_count_once() -> None:
    pieces: list[Piece] = [
        (0, "c", "book", ""),
        (0, None, None, '{"day":'),
        (0, None, None, '"mon"}'),
    ]
    assert calls(*pieces, (0, None, None, MON)) == [("book", MON)]
    assert calls(*pieces, (0, "c", "book", MON)) == [("book", MON)]


def test_a_name_in_pieces_is_joined() -> None:
    pieces: list[Piece] = [
        (0, "c", "get_", None),
        (0, None, "weather", None),
        (0, None, None, "{}"),
    ]
    assert calls(*pieces, tools=("get_weather", "get_")[:1]) == [("get_weather", "{}")]


def test_two_functions_without_arguments_at_one_index_are_two_calls() -> None:
    pieces: list[Piece] = [(0, None, "stop", ""), (0, None, "start", "")]
    assert calls(*pieces, tools=("stop", "start")) == [("stop", ""), ("start", "")]


def test_a_name_that_is_repeated_counts_once() -> None:
    pieces: list[Piece] = [(0, "c", "f", '{"x":'), (0, "c", "f", "1}")]
    assert calls(*pieces) == [("f", '{"x":1}')]


def test_a_piece_that_has_lost_its_index_is_found_by_its_id() -> None:
    pieces: list[Piece] = [(0, "a", "f", "{"), (1, "b", "g", "{"), (None, "a", None, "}")]
    assert calls(*pieces, (1, None, None, "}")) == [("f", "{}"), ("g", "{}")]


@pytest.mark.parametrize("arguments", ["[1]", "1", '"x"', "{", "{}{}", "null", "}"])
def test_arguments_that_are_no_object_cannot_be_run(arguments: str) -> None:
    assert not is_object(arguments)
    assert unfit("f", arguments) is not None
    assert isinstance(checked([Call("a", "f", arguments)], cut=False), Failure)
    assert checked([Call("a", "f", arguments)], cut=True) == []


def test_no_arguments_are_those_of_no_parameters() -> None:
    assert unfit("f", "") is None
    assert unfit("", "{}") is not None


def test_the_names_of_a_request_are_read_from_whatever_a_caller_sends() -> None:
    tools = [{"function": {"name": "f"}}, {"function": 5}, 7, {"function": {"name": None}}]
    assert tool_names({"tools": tools}) == {"f"}
    assert tool_names({"tools": 5}) == frozenset()
