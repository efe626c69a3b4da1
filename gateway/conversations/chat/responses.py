"""POST /responses: what a client may send, and what is asked of providers for it. Pure.

https://platform.openai.com/docs/api-reference/responses

A request goes to a provider in one of two forms. One that has the Responses API itself gets it as
it came (`native_body`); any other is asked for a chat completion (`chat_body`), and what it answers
is told in the events of the Responses API (responses_events.py).

What only the Responses API has (built-in tools such as web_search, a stored prompt) is asked of
those alone that have it, and refused by name where nobody has. `background` and `conversation` are
refused everywhere: both keep state at the provider, in an account that all keys of this server
share. So is `store`: the gateway keeps answers itself (responses_store.py), and always tells the
provider not to.

Reasoning state. A reasoning item's `encrypted_content` can be read by the account that wrote it:
it goes to that provider and is left out for any other. Providers of chat completions have such
state too (Google's thought signatures, for one); it travels in reasoning items of our own, whose
`encrypted_content` begins with STATE.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from pydantic import Field, StrictBool, TypeAdapter

from gateway.conversations.chat.protocol import MESSAGES_MAX, TOOLS_MAX
from gateway.conversations.messages import (
    Expected,
    Message,
    Name,
    Whole,
    bad_request,
    parse,
    required,
    validated,
)
from gateway.upstreams.errors import Failure, Kind, quoted

ID_CHARS_MAX: Final = 256
"""Of the id of a response."""

STATE: Final = "parley1."
"""How the `encrypted_content` of our own reasoning items begins; base64 of JSON follows."""

STATE_CHARS_MAX: Final = 64 << 10
"""Longer state of ours is left out; what chat adapters make has 16 KB at most."""

ORIGINS_MAX: Final = 8192
"""Reasoning items whose provider is remembered; the oldest is forgotten first."""

_SAME: Final = (
    "temperature", "top_p", "parallel_tool_calls", "metadata", "service_tier", "user",
    "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
    "fallback", "fallbacks", "models",
)  # fmt: skip
"""Parameters with the same name and meaning in a chat completion."""

_OURS: Final = frozenset(
    {"fallback", "fallbacks", "models", "store", "previous_response_id", "generate"}
)
"""What is for the gateway and not for a provider."""

_NAMES: Final[Mapping[str, str]] = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
"""Options of deployments by their names in /chat/completions, and those here."""

_INSIDE: Final[Mapping[str, tuple[str, str]]] = {
    "reasoning_effort": ("reasoning", "effort"),
    "verbosity": ("text", "verbosity"),
}
"""The same for those that stand inside an object here."""


class Request(Message):
    """The parameters that the gateway itself reads. The rest is the provider's business."""

    model: Name = required()
    input: Annotated[
        str | list[Any],
        Field(min_length=1, max_length=64 << 20),
        Expected("a text, or a list of input items"),
    ] = required()
    instructions: Annotated[str | None, Expected("a text")] = None
    stream: Annotated[StrictBool | None, Expected("true or false")] = None
    store: Annotated[StrictBool | None, Expected("true or false")] = None
    background: Annotated[StrictBool | None, Expected("true or false")] = None
    previous_response_id: Annotated[
        str | None,
        Field(max_length=ID_CHARS_MAX),
        Expected(f"the id of a response, at most {ID_CHARS_MAX} characters"),
    ] = None
    tools: Annotated[
        list[dict[str, Any]] | None,
        Field(max_length=TOOLS_MAX),
        Expected(f"a list of at most {TOOLS_MAX} tools"),
    ] = None
    tool_choice: Annotated[
        str | dict[str, Any] | None, Expected("auto, none, required, or an object")
    ] = None
    text: Annotated[dict[str, Any] | None, Expected("an object")] = None
    reasoning: Annotated[dict[str, Any] | None, Expected("an object")] = None
    metadata: Annotated[dict[str, Any] | None, Expected("an object of texts")] = None
    max_output_tokens: Annotated[
        Whole | None, Field(ge=1), Expected("a whole number of tokens from 1")
    ] = None


_REQUEST: Final = TypeAdapter(Request)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read.

    `body` is what the client sent, `items` its whole input: what came before under
    `previous_response_id`, then its own. `own` counts its own. `native` names the first thing that
    only the Responses API has, None if there is none.
    """

    body: Mapping[str, Any]
    request: Request
    items: Sequence[Any]
    own: int
    native: str | None

    @property
    def only_kept(self) -> bool:
        """Whether the input is to be kept for the next request, and nothing answered
        (`generate: false`, which a WebSocket has)."""
        return self.body.get("generate") is False

    @property
    def stored(self) -> bool:
        """Whether the answer is to be kept: yes, unless the client says no."""
        return self.request.store is not False


def read(body: bytes) -> tuple[dict[str, Any], Request] | Failure:
    """A request of a client: its JSON, and what the gateway reads of it."""
    parsed = parse(body, "the body")
    if isinstance(parsed, Failure):
        return parsed
    request = validated(parsed, _REQUEST)
    if isinstance(request, Failure):
        return request
    if request.background:
        return _refused("background", "answers are made while their client waits")
    if parsed.get("conversation") is not None:
        return _refused("conversation", "use previous_response_id, or send the whole input")
    return parsed, request


def _refused(name: str, hint: str) -> Failure:
    return Failure(Kind.UNABLE, f"{name} is not served here: {hint}", param=name)


def asked(body: Mapping[str, Any], request: Request, before: Iterable[Any] = ()) -> Asked | Failure:
    """The request with all its input. `before`: the items of the conversation until now."""
    given = request.input
    own = [{"role": "user", "content": given}] if isinstance(given, str) else given
    items = [*before, *own]
    if len(items) > MESSAGES_MAX:
        return bad_request(f"input: expected at most {MESSAGES_MAX} items in all", "input")
    native: str | None = None
    for i, item in enumerate(items):
        found = _item_failure(item, f"input.{i}")
        if isinstance(found, Failure):
            return found
        native = native or found
    for i, tool in enumerate(request.tools or ()):
        if tool.get("type") != "function":
            native = native or f"tools.{i}: {quoted(str(tool.get('type')))}"
        elif not isinstance(tool.get("name"), str):
            return bad_request(f"tools.{i}.name: expected the name of a function", "tools")
    choice = request.tool_choice
    if isinstance(choice, dict) and choice.get("type") != "function":
        native = native or f"tool_choice: {quoted(str(choice.get('type')))}"
    if body.get("prompt") is not None:
        native = native or "prompt"
    return Asked(body, request, items, len(own), native)


def _item_failure(item: Any, place: str) -> str | Failure | None:
    """What of an item only the Responses API has, or what is wrong with it."""
    match item:
        case {"type": "function_call", "call_id": str(), "name": str(), "arguments": str()}:
            return None
        case {"type": "function_call"}:
            words = f"{place}: expected call_id, name and arguments, all texts"
            return bad_request(words, place)
        case {"type": "function_call_output", "call_id": str(), "output": str() | list()}:
            return None
        case {"type": "function_call_output"}:
            return bad_request(f"{place}: expected call_id and output", place)
        case {"type": "reasoning"}:
            return None
        case {"type": "item_reference"}:
            words = f"{place}: expected the item itself: nothing is kept at the provider"
            return bad_request(words, place)
        case {"type": str(kind)} if kind != "message":
            return f"{place}: {quoted(kind)}"
        case {"role": str(), "content": str() | list()}:
            return None
        case _:
            return bad_request(f"{place}: expected role and content, or an item's type", place)


# -- as a chat completion


def chat_body(asked: Asked) -> dict[str, Any]:
    """The request as a chat completion. What that cannot say is left out: for a provider that is
    asked for one, there is nothing of the kind (see `Asked.native`)."""
    request, body = asked.request, asked.body
    made: dict[str, Any] = {name: body[name] for name in _SAME if body.get(name) is not None}
    made["model"] = request.model
    made["messages"] = _messages(request.instructions, asked.items)
    if request.stream:
        made["stream"] = True
        made["stream_options"] = {"include_usage": True}
    if request.tools and (tools := [_chat_tool(one) for one in request.tools if _is_plain(one)]):
        made["tools"] = tools
    choice = request.tool_choice
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice.get("name")}}
        if "tools" not in made:
            choice = None
    if choice is not None:
        made["tool_choice"] = choice
    if request.max_output_tokens is not None:
        made["max_completion_tokens"] = request.max_output_tokens
    if (effort := (request.reasoning or {}).get("effort")) is not None:
        made["reasoning_effort"] = effort
    text = request.text or {}
    if text.get("verbosity") is not None:
        made["verbosity"] = text["verbosity"]
    match text.get("format"):
        case {"type": "json_schema", **schema}:
            made["response_format"] = {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            made["response_format"] = {"type": "json_object"}
        case _:
            pass
    return made


def _is_plain(tool: Mapping[str, Any]) -> bool:
    return tool.get("type") == "function"


def _chat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _messages(instructions: str | None, items: Sequence[Any]) -> list[dict[str, Any]]:
    """The conversation as messages. Calls of one turn stand in one message, with the text before
    them: providers refuse calls whose results do not follow at once."""
    made: list[dict[str, Any]] = []
    if instructions:
        made.append({"role": "system", "content": instructions})
    state: dict[str, Any] = {}
    for item in items:
        match item:
            case {"type": "function_call", "call_id": call_id, "name": name, "arguments": words}:
                call: dict[str, Any] = {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": name, "arguments": words or "{}"},
                }
                if extra := state.pop("call", None):
                    call["extra_content"] = extra
                turn = made[-1] if made and made[-1]["role"] == "assistant" else None
                if turn is None:
                    turn = {"role": "assistant", "content": None}
                    made.append(turn)
                turn.setdefault("tool_calls", []).append(call)
            case {"type": "function_call_output", "call_id": call_id, "output": output}:
                made.append({"role": "tool", "tool_call_id": call_id, "content": _content(output)})
            case {"type": "reasoning"}:
                state = _own_state(item)
                if (extra := state.pop("message", None)) and made:
                    made[-1]["extra_content"] = extra
            case {"role": role, "content": content}:
                made.append({"role": role, "content": _content(content)})
            case _:
                pass  # what the provider's own tools did
    return made or [{"role": "user", "content": ""}]


def _content(content: Any) -> Any:
    """Content as a chat completion has it; a text where it is nothing else."""
    if not isinstance(content, list):
        return content
    parts = [part for one in content if (part := _part(one)) is not None]
    if parts and all(part.get("type") == "text" for part in parts):
        return "".join(str(part.get("text", "")) for part in parts)
    return parts


_NOT_OF_TEXT: Final = frozenset({"annotations", "logprobs", "type", "text"})


def _part(part: Any) -> dict[str, Any] | None:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": text}:
            kept = {name: value for name, value in part.items() if name not in _NOT_OF_TEXT}
            return {"type": "text", "text": text, **kept}
        case {"type": "input_image", "image_url": str(url)}:
            image = {"url": url, **_some(part, ("detail",))}
            return {"type": "image_url", "image_url": image}
        case {"type": "input_audio", "input_audio": dict(audio)}:
            return {"type": "input_audio", "input_audio": audio}
        case {"type": "input_file"}:
            return {"type": "file", "file": _some(part, ("file_id", "filename", "file_data"))}
        case {"type": "refusal", "refusal": text}:
            return {"type": "refusal", "refusal": text}
        case dict():
            return part
        case _:
            return None


def _some(of: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: of[name] for name in names if of.get(name)}


# -- as it came


class Origins:
    """Which provider wrote a reasoning item, by its encrypted content; as far as it is known."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, str] = OrderedDict()

    def note(self, items: Iterable[Any], provider: str) -> None:
        """`items` were written by `provider`."""
        for item in items:
            if (content := _encrypted(item)) is not None and not content.startswith(STATE):
                self._of[_digest(content)] = provider
                if len(self._of) > ORIGINS_MAX:
                    self._of.popitem(last=False)

    def of(self, item: Any) -> str | None:
        """Who wrote it; None: nobody knows."""
        content = _encrypted(item)
        return None if content is None else self._of.get(_digest(content))


def _encrypted(item: Any) -> str | None:
    match item:
        case {"type": "reasoning", "encrypted_content": str(content)}:
            return content
        case _:
            return None


def _digest(content: str) -> bytes:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:16]


def native_body(
    asked: Asked, provider: str, origin: Callable[[Any], str | None], *, first: bool
) -> dict[str, Any]:
    """The request for a provider that has the Responses API. `origin` says who wrote a reasoning
    item; one of which nobody knows goes to the `first` provider alone."""
    body = {name: value for name, value in asked.body.items() if name not in _OURS}
    body["store"] = False
    include = body.get("include")
    wanted = [one for one in include if isinstance(one, str)] if isinstance(include, list) else []
    state = "reasoning.encrypted_content"
    body["include"] = wanted if state in wanted else [*wanted, state]
    body["input"] = _native_items(asked.items, provider, origin, first)
    return body


def with_options(body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with a deployment's options, which have the names of /chat/completions, over what the
    client asked; None removes one."""
    for name, value in options.items():
        if name in _INSIDE:
            outer, inner = _INSIDE[name]
            given = body.get(outer)
            held = {**given} if isinstance(given, dict) else {}
            held[inner] = value
            held = {key: one for key, one in held.items() if one is not None}
            _put(body, outer, held or None)
        else:
            _put(body, _NAMES.get(name, name), value)
    return body


def _put(body: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        body.pop(name, None)
    else:
        body[name] = value


def _native_items(
    items: Sequence[Any], provider: str, origin: Callable[[Any], str | None], first: bool
) -> list[Any]:
    kept = [one for one in items if _may_read(one, provider, origin, first)]
    if len(kept) == len(items):
        return kept
    # the ids of a turn whose reasoning is left out would ask for that reasoning
    return [
        {name: value for name, value in one.items() if name != "id"}
        if isinstance(one, dict) and one.get("type") != "reasoning"
        else one
        for one in kept
    ]


def _may_read(item: Any, provider: str, origin: Callable[[Any], str | None], first: bool) -> bool:
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return True
    content = _encrypted(item)
    if content is None or content.startswith(STATE):
        return False  # without its content it is but an id, of something that nobody has kept
    known = origin(item)
    return first if known is None else known == provider


# -- state of chat completions


def state_item(item_id: str, extra: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """A reasoning item that carries the `extra_content` of a chat completion: of the "call" that
    follows it, or of the "message" before it. None if there is too much of it."""
    packed = base64.b64encode(orjson.dumps({where: extra})).decode()
    if len(packed) > STATE_CHARS_MAX:
        return None
    return {
        "id": item_id,
        "type": "reasoning",
        "summary": [],
        "encrypted_content": STATE + packed,
        "status": "completed",
    }


def _own_state(item: Any) -> dict[str, Any]:
    content = _encrypted(item)
    if content is None or not content.startswith(STATE) or len(content) > STATE_CHARS_MAX + 16:
        return {}
    try:
        found = parse(base64.b64decode(content[len(STATE) :], validate=True), "state", 1000)
    except (binascii.Error, ValueError):
        return {}
    return {} if isinstance(found, Failure) else found
