"""Tool calls put together from pieces, and checked before anybody may run them. Pure.

Servers are careless with ids, indices and names (vLLM, llama.cpp, Ollama, Gemini, proxies): the
rules here are tried by tests with what each of them sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.providers._openai.chunk_writer import Call
from gateway.upstreams.bounded_json import loads
from gateway.upstreams.errors import Failure, Kind, quoted

CALLS_MAX: Final = 64
"""More tool calls in one answer are nonsense."""

CALL_BYTES_MAX: Final = 1 << 20
"""Longer arguments of the calls of one answer are nonsense."""

NAME_CHARS_MAX: Final = 256
"""Longest name of a function; vendors take 64 or 128."""


@dataclass(slots=True)
class _Partial:
    """A tool call while it is being written."""

    id: str
    name: str
    index: int | None
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The arguments so far."""
        if len(self.arguments) > 1:
            self.arguments = ["".join(self.arguments)]
        return self.arguments[0] if self.arguments else ""

    @property
    def whole(self) -> bool:
        """Whether its arguments are a complete JSON object."""
        return is_object(self.text)


def is_object(text: str) -> bool:
    """Whether `text` is a JSON object."""
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):
        return False
    try:
        return isinstance(loads(stripped), dict)
    except orjson.JSONDecodeError:
        return False


def unfit(name: str, arguments: str) -> str | None:
    """Why a call cannot be run; None: it can. Empty arguments are those of no parameters."""
    if not name:
        return "the provider made a tool call without a name"
    if arguments.strip() and not is_object(arguments):
        return f"the arguments of the provider's call of {quoted(name)} are no JSON object"
    return None


def checked(calls: Sequence[Call], *, cut: bool) -> list[Call] | Failure:
    """Calls that can be run; a failure if one of them cannot. `cut`: the answer's length ran out,
    so what is not whole is left out, and the caller is told of the length."""
    fit: list[Call] = []
    for call in calls:
        problem = unfit(call.name, call.arguments)
        if cut and (problem is not None or not call.arguments.strip()):
            continue
        if problem is not None:
            return Failure(Kind.PROTOCOL_ERROR, problem)
        fit.append(call)
    return fit


class CallCollector:
    """Puts calls together.

    A piece belongs to the call at its index; without one to the call with its id; else to the
    last. At an index that is taken a new call begins with another id, with another name, or with
    whole arguments after whole arguments; whole arguments that repeat the call's own are dropped.
    `tools` are the names that the request offers: a name that comes in pieces is joined until it
    is one of them.
    """

    def __init__(self, tools: frozenset[str] = frozenset()) -> None:
        self._tools = tools
        self._calls: list[_Partial] = []
        self._at: dict[int, _Partial] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, entry: Mapping[str, Any]) -> Failure | None:
        """One entry of `delta.tool_calls`."""
        given = entry.get("function")
        function: Mapping[str, Any] = given if isinstance(given, dict) else {}
        name, arguments = function.get("name"), function.get("arguments")
        name = name if isinstance(name, str) else ""
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        index, call_id = entry.get("index"), entry.get("id")
        call = self._find(
            call_id if isinstance(call_id, str) else "",
            index if isinstance(index, int) else None,
            name,
            arguments,
        )
        if call is None:
            return Failure(
                Kind.PROTOCOL_ERROR, f"the provider made more than {CALLS_MAX} tool calls"
            )
        self._size += len(arguments) + len(name)
        if self._size > CALL_BYTES_MAX:
            return Failure(Kind.PROTOCOL_ERROR, f"the tool calls exceed {CALL_BYTES_MAX} bytes")
        if arguments and not (is_object(arguments) and call.text == arguments):
            call.arguments.append(arguments)
        if isinstance(extra := entry.get("extra_content"), dict):
            call.extra.update(extra)
        return None

    def take(self, *, keep_extra: frozenset[str], cut: bool = False) -> list[Call] | Failure:
        """The calls in order of their first appearance, with what is kept of `extra_content`; a
        failure if one cannot be run. `cut`: the answer's length ran out, so the last one may be
        half a call, which is left out."""
        partial, self._calls, self._at = self._calls, [], {}
        return checked(
            [
                Call(
                    one.id,
                    one.name,
                    one.text,
                    {key: value for key, value in one.extra.items() if key in keep_extra},
                )
                for one in partial
            ],
            cut=cut,
        )

    def _find(self, call_id: str, index: int | None, name: str, arguments: str) -> _Partial | None:
        """The call that a piece belongs to, begun if need be; None: there are too many."""
        if index is not None:
            current = self._at.get(index)
            if current is None and not name:
                # a piece that has lost its index, or whose call had none
                current = self._by_id(call_id) or self._last_without_index()
        else:
            current = self._by_id(call_id)
            if current is None and not call_id and self._calls:
                current = self._calls[-1]
        if current is None or self._begins_anew(current, call_id, name, arguments):
            if len(self._calls) >= CALLS_MAX:
                return None
            # whole arguments after whole arguments are a second call of the same function
            inherited = current.name if current is not None and not name else name
            taken = any(call_id and one.id == call_id for one in self._calls)
            current = _Partial("" if taken else call_id, inherited[:NAME_CHARS_MAX], index)
            self._calls.append(current)
            if index is not None:
                self._at[index] = current
            return current
        current.id = current.id or call_id
        if name and name != current.name:
            current.name = (current.name + name)[:NAME_CHARS_MAX]
        return current

    def _by_id(self, call_id: str) -> _Partial | None:
        return next((one for one in self._calls if call_id and one.id == call_id), None)

    def _last_without_index(self) -> _Partial | None:
        last = self._calls[-1] if self._calls else None
        return last if last is not None and last.index is None else None

    def _begins_anew(self, current: _Partial, call_id: str, name: str, arguments: str) -> bool:
        """Whether a piece at the place of `current` is the first of another call."""
        if call_id and current.id and call_id != current.id:
            return True
        if name and current.name:
            if current.text.strip():
                return name != current.name or (
                    current.whole and not self._repeats(current, arguments)
                )
            if name != current.name:
                return not self._continues_name(current.name, name)
            return False
        return is_object(arguments) and current.whole and not self._repeats(current, arguments)

    @staticmethod
    def _repeats(current: _Partial, arguments: str) -> bool:
        return not arguments or current.text.strip() == arguments.strip()

    def _continues_name(self, begun: str, piece: str) -> bool:
        """Whether `piece` is more of a name that has begun."""
        if begun in self._tools:
            return False
        joined = begun + piece
        return any(tool.startswith(joined) for tool in self._tools)


def tool_names(body: Mapping[str, Any]) -> frozenset[str]:
    """The names of the functions that a request offers."""
    tools = body.get("tools")
    names = set()
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            names.add(name)
    return frozenset(names)
