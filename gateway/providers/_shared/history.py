"""A conversation that one vendor wrote, put into the form that another reads. Pure.

Histories travel between vendors with every fallback: ids of tool calls that the next one refuses,
results without calls, empty turns, an assistant's turn at the end. What a vendor takes as it is
stays as it is, to the same object.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

NO_RESULT: Final = "(no result)"
"""Stands for the result of a call that has none: every vendor refuses a call without one."""

UNKNOWN_FUNCTION: Final = "unknown_function"
"""Name of the function whose result stands without a call and without a name."""

PLACEHOLDER: Final = "..."
"""Text of a turn that a vendor's order of roles asks for."""


@dataclass(frozen=True, slots=True)
class HistoryRules:
    """What a vendor accepts.

    `call_id`: pattern of a tool call's id (None: anything). `id_chars`: length of the ids that are
    made in place of those it refuses. `unique_ids`: whether an id may stand once only. `name`:
    pattern of a function's name. `ends_with_user`: whether the last turn, system messages aside,
    must be the user's or a tool's. `tool_parts`: whether a tool's result may hold images.
    """

    call_id: re.Pattern[str] | None = None
    id_chars: int = 24
    unique_ids: bool = False
    name: re.Pattern[str] | None = None
    ends_with_user: bool = False
    tool_parts: bool = True


ANY: Final = HistoryRules()
"""For servers that are known to take all that is sound."""

OPENAI: Final = HistoryRules(
    # https://platform.openai.com/docs/api-reference/chat/create
    call_id=re.compile(r".{1,64}", re.DOTALL),
    name=re.compile(r"[A-Za-z0-9_-]{1,64}"),
    tool_parts=False,
)
ANTHROPIC: Final = HistoryRules(
    # https://docs.claude.com/en/api/messages
    call_id=re.compile(r"[A-Za-z0-9_-]{1,64}"),
    unique_ids=True,
    name=re.compile(r"[A-Za-z0-9_-]{1,128}"),
    ends_with_user=True,
)
MISTRAL: Final = HistoryRules(
    # https://docs.mistral.ai/api
    call_id=re.compile(r"[A-Za-z0-9]{9}"),
    id_chars=9,
    ends_with_user=True,
    tool_parts=False,
)


def normalised(messages: Sequence[Any], rules: HistoryRules) -> Sequence[Any]:
    """`messages` (OpenAI's form) as a vendor with these rules takes them; the same object where
    nothing has to change."""
    if not _is_odd(messages, rules):
        return messages
    return _Rewriter(messages, rules).run()


def _is_odd(messages: Sequence[Any], rules: HistoryRules) -> bool:
    """Whether anything has to change. Histories are long and nearly always fine."""
    waiting: set[Any] = set()
    seen: set[Any] = set()
    last_role = None
    for message in messages:
        if not isinstance(message, dict):
            return False  # the vendor's to refuse
        role = message.get("role")
        if role == "tool":
            call_id = message.get("tool_call_id")
            if call_id not in waiting:
                return True
            waiting.discard(call_id)
            if not rules.tool_parts and _other_parts(message.get("content")):
                return True
        elif waiting:
            return True
        elif role == "assistant":
            calls = _calls(message)
            if not calls and _is_empty(message):
                return True
            for call in calls:
                call_id = call.get("id")
                if not _takes_id(call_id, rules) or not _takes_name(call, rules):
                    return True
                if call_id in waiting or (rules.unique_ids and call_id in seen):
                    return True
                waiting.add(call_id)
                seen.add(call_id)
        if role not in ("system", "developer"):
            last_role = role
    return bool(waiting) or (rules.ends_with_user and last_role == "assistant")


class _Rewriter:
    """Writes a history anew, turn by turn, in a time that grows with its length alone: callers send
    thousands of messages."""

    def __init__(self, messages: Sequence[Any], rules: HistoryRules) -> None:
        self._messages = messages
        self._rules = rules
        self._used: set[int] = set()  # results that stand behind their calls already
        self._ids: set[str] = set()
        self._made: dict[str, int] = {}  # how many ids were made in place of one
        # where each id is, in the turns that are still to be written
        self._results: dict[str, deque[int]] = {}
        self._calls: dict[str, deque[int]] = {}
        for at, message in enumerate(messages):
            if not isinstance(message, dict):
                continue
            if message.get("role") == "tool":
                key = _key(message.get("tool_call_id"))
                self._results.setdefault(key, deque()).append(at)
            elif message.get("role") == "assistant":
                for call in _calls(message):
                    self._calls.setdefault(_key(call.get("id")), deque()).append(at)

    def run(self) -> list[Any]:
        out: list[Any] = []
        for at, message in enumerate(self._messages):
            if not isinstance(message, dict):
                out.append(message)
            elif message.get("role") == "assistant":
                out += self._assistant(at, message)
            elif message.get("role") == "tool":
                if at not in self._used:
                    out += self._orphan(at, message)
            else:
                out.append(message)
        if self._rules.ends_with_user and _last_turn(out) == "assistant":
            _end_with_user(out)
        return out

    def _assistant(self, at: int, message: dict[str, Any]) -> Iterator[Any]:
        """A turn of the assistant's, its results right behind it."""
        calls = _calls(message)
        if not calls:
            if not _is_empty(message):
                yield message
            return
        made: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        pictures: list[Any] = []
        for call in calls:
            call_id = self._id(call.get("id"))
            made.append(self._named({**call, "id": call_id}))
            found = self._result(at, call.get("id"))
            if found is None:
                found = {"role": "tool", "content": NO_RESULT}
            results.append(self._text_alone({**found, "tool_call_id": call_id}, pictures))
        yield {**message, "tool_calls": made}
        yield from results
        if pictures:
            yield {"role": "user", "content": pictures}

    def _orphan(self, at: int, message: dict[str, Any]) -> Iterator[Any]:
        """A result without a call gets one before it."""
        name = message.get("name")
        function = {"name": name if isinstance(name, str) else UNKNOWN_FUNCTION, "arguments": "{}"}
        call_id = message.get("tool_call_id")
        call = {"id": call_id, "type": "function", "function": function}
        self._used.add(at)
        made = self._id(call_id)
        pictures: list[Any] = []
        yield {"role": "assistant", "tool_calls": [self._named({**call, "id": made})]}
        yield self._text_alone({**message, "tool_call_id": made}, pictures)
        if pictures:
            yield {"role": "user", "content": pictures}

    def _result(self, at: int, call_id: Any) -> dict[str, Any] | None:
        """The next result after the turn at `at` that names this call, and is not that of a later
        call with the same id. To be asked in the order of turns."""
        key = _key(call_id)
        results, calls = self._results.get(key), self._calls.get(key)
        for places in (results, calls):
            while places and places[0] <= at:
                places.popleft()
        if not results or (calls and calls[0] < results[0]):
            return None
        found = results.popleft()
        self._used.add(found)
        message: dict[str, Any] = self._messages[found]
        return message

    def _id(self, call_id: Any) -> str:
        made = call_id if isinstance(call_id, str) else ""
        if not _takes_id(made, self._rules) or (self._rules.unique_ids and made in self._ids):
            key = _key(call_id)
            times = self._made.get(key, 0)
            while True:
                digest = hashlib.sha256(f"{call_id}\0{times}".encode()).hexdigest()
                made = digest[: self._rules.id_chars]
                if made not in self._ids or not self._rules.unique_ids:
                    break
                times += 1
            if self._rules.unique_ids:
                self._made[key] = times + 1
        self._ids.add(made)
        return made

    def _named(self, call: dict[str, Any]) -> dict[str, Any]:
        if _takes_name(call, self._rules):
            return call
        function = call["function"] if isinstance(call.get("function"), dict) else {}
        name = re.sub(r"[^A-Za-z0-9_-]", "_", str(function.get("name") or UNKNOWN_FUNCTION))
        return {**call, "function": {**function, "name": name[:64]}}

    def _text_alone(self, result: dict[str, Any], pictures: list[Any]) -> dict[str, Any]:
        """A result whose other parts go into a user's turn behind it, where a tool may say text
        alone."""
        content = result.get("content")
        if self._rules.tool_parts or not _other_parts(content):
            return result
        pictures += _other_parts(content)
        text = [part for part in content or () if not _is_other(part)]
        return {**result, "content": text or "(see the next message)"}


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return [one for one in calls if isinstance(one, dict)] if isinstance(calls, list) else []


def _is_empty(message: Mapping[str, Any]) -> bool:
    """Whether a turn of the assistant's says nothing."""
    content = message.get("content")
    if isinstance(content, str):
        return not content.strip()
    others = ("refusal", "audio", "function_call", "reasoning_content")
    return not content and not any(message.get(name) for name in others)


def _other_parts(content: Any) -> list[Any]:
    """The parts of a content that are no text."""
    if not isinstance(content, list):
        return []
    return [part for part in content if _is_other(part)]


def _is_other(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") != "text"


def _key(call_id: Any) -> str:
    """By which ids are told apart: what a caller sends as one may be anything."""
    return call_id if isinstance(call_id, str) else f"\0{call_id!r}"


def _takes_id(call_id: Any, rules: HistoryRules) -> bool:
    if not isinstance(call_id, str) or not call_id:
        return False
    return rules.call_id is None or rules.call_id.fullmatch(call_id) is not None


def _takes_name(call: Mapping[str, Any], rules: HistoryRules) -> bool:
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if rules.name is None:
        return True
    return isinstance(name, str) and rules.name.fullmatch(name) is not None


def _end_with_user(messages: list[Any]) -> None:
    """Let the user speak last: the system's words behind the last turn (instructions for this
    answer) if there are any."""
    behind = len(messages)
    while behind and messages[behind - 1].get("role") in ("system", "developer"):
        behind -= 1
    if behind == len(messages):
        messages.append({"role": "user", "content": PLACEHOLDER})
    for at in range(behind, len(messages)):
        messages[at] = {**messages[at], "role": "user"}


def _last_turn(messages: Sequence[Any]) -> Any:
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") not in ("system", "developer"):
            return message.get("role")
    return None
