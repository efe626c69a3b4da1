"""What every route does with a client's JSON: a message that was checked, or what is wrong. Pure.

Each route's `protocol` says in pydantic models what its clients send; `read` turns text into one of
them. Whatever comes, nothing here raises: what cannot be read is a `Failure` that names the field,
what was expected there, and what kind of thing came instead. Values are not repeated, except
numbers: they may be secrets, and they may be long.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gateway.upstreams.bounded_json import VALUES_MAX, count_values, holds_more
from gateway.upstreams.bounds import Bound
from gateway.upstreams.errors import MESSAGE_CHARS_MAX, Failure, Kind
from gateway.upstreams.plan import FallbackModel

JSON_DEPTH_MAX: Final = 240
"""Levels of nesting. orjson reads 1024 levels but writes only 254, and an adapter may put what the
client sent a few levels deeper into the provider's request."""

_WRITABLE_DEPTH: Final = 254
"""Levels that orjson writes."""

_READABLE_DEPTH: Final = 1024
"""Levels that orjson reads."""

NAME_CHARS_MAX: Final = 256
"""Of a model, a voice or a language."""

EXTRA_ENTRIES_MAX: Final = 64
"""Provider options of one session; providers have some twenty."""

FALLBACKS_MAX: Final = 8
"""Models that a client may name in addition to the one it asks for."""

_SHOWN_DIGITS_MAX: Final = 20
"""A number with more digits is not repeated in a message."""

M = TypeVar("M")


class Message(BaseModel):
    """Something that a client says. Frozen; fields that are not declared are ignored, because
    clients of other versions send more than we know."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, protected_namespaces=()
    )


def required() -> Any:
    """Default of a field that must be there: its absence is checked like a null, so that the same
    words say what was expected."""
    return Field(default=None, validate_default=True)


# -- reading


def read(text: str | bytes, adapter: TypeAdapter[M], what: str = "the message") -> M | Failure:
    """`text` as one of the adapter's messages, told apart by `type`. `what` names the whole in a
    failure."""
    parsed = parse(text, what)
    if isinstance(parsed, Failure):
        return parsed
    parsed.setdefault("type", None)  # the error for a wrong type says which there are
    return validated(parsed, adapter)


def parse(text: str | bytes, what: str, values_max: int = VALUES_MAX) -> dict[str, Any] | Failure:
    """`text` as a JSON object of at most JSON_DEPTH_MAX levels and `values_max` values. `what`
    names it in a failure."""
    if holds_more(text, values_max):
        return too_many_values(what, values_max)
    try:
        parsed: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if _may_be_too_deep_to_read(text):
            return bad_request(
                f"{what} is not JSON, or nested deeper than {JSON_DEPTH_MAX} levels: {error.msg}"
            )
        return bad_request(f"{what} is not JSON: {error.msg}")
    if not isinstance(parsed, dict):
        return bad_request(f"{what}: expected a JSON object, got {_came(parsed)}")
    if len(text) > 2 * JSON_DEPTH_MAX and _is_too_deep(parsed):
        return bad_request(f"{what} is nested too deep: expected at most {JSON_DEPTH_MAX} levels")
    return parsed


def validated(value: Any, adapter: TypeAdapter[M], place: str = "") -> M | Failure:
    """`value` (parsed JSON) as one of the adapter's messages. `place` is where it was found, and
    precedes the names of fields in a failure."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        return _failure(error, value, place)


def embedded_json_failure(text: str, place: str, budget: JsonBudget) -> Failure | None:
    """What is wrong with a string that holds JSON (a tool call's arguments) if it is nested too
    deep, or holds more than is left of the budget. A string that is no JSON is not refused: models
    write such, and providers take them."""
    if not budget.take(text):
        return too_many_values(place, budget.most, place)
    if len(text) <= 2 * JSON_DEPTH_MAX:
        return None
    try:
        too_deep = _is_too_deep(orjson.loads(text))
    except orjson.JSONDecodeError:
        too_deep = _may_be_too_deep_to_read(text)
    if not too_deep:
        return None
    return bad_request(
        f"{place} is nested too deep: expected at most {JSON_DEPTH_MAX} levels", place
    )


class JsonBudget:
    """Values that all JSON inside the strings of one message may hold together: each string is read
    for itself, so a bound on each would be none."""

    def __init__(self, most: int = VALUES_MAX) -> None:
        self.most = most
        self._left = most

    def take(self, text: str) -> bool:
        """Whether there is enough left for `text`."""
        self._left -= count_values(text, self._left)
        return self._left >= 0


def too_many_values(what: str, values_max: int, param: str | None = None) -> Failure:
    """A 413 for JSON that would take long to read, however short it is."""
    words = f"{what} holds too much JSON: expected at most {values_max} values"
    return Failure(Kind.TOO_LARGE, words, param=param, bound=Bound.JSON_VALUES)


def bad_request(message: str, param: str | None = None) -> Failure:
    """A 400 that says `message`; `param` is the path of the field."""
    return Failure(Kind.BAD_REQUEST, message[:MESSAGE_CHARS_MAX], param=param)


def _is_too_deep(value: Any) -> bool:
    # orjson is asked to write it: a tenth of what reading it cost, where a walk in Python would
    # cost more than the reading
    for _ in range(_WRITABLE_DEPTH - JSON_DEPTH_MAX):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


def _may_be_too_deep_to_read(text: str | bytes) -> bool:
    if isinstance(text, str):
        return text.count("[") + text.count("{") > _READABLE_DEPTH
    return text.count(b"[") + text.count(b"{") > _READABLE_DEPTH


# -- what is wrong

_WORDS: Final = {
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "bool_type": "true or false",
    "string_type": "a string",
}
"""What pydantic's own kinds of errors mean, where a schema has no words of its own."""


def _failure(error: ValidationError, value: Any, place: str) -> Failure:
    """The first thing that is wrong, in our words: where, what was expected, what came."""
    problem = error.errors(include_url=False)[0]
    kind, path, came = problem["type"], list(problem["loc"]), problem["input"]
    if kind == "union_tag_invalid":  # the input is the object whose `type` it is
        path, came = [*path, "type"], came["type"]
        words = _one_of(problem["ctx"]["expected_tags"])
    elif kind == "union_tag_not_found":
        path, came, words = [*path, "type"], None, "one"
    else:
        words = problem.get("ctx", {}).get("words") or _WORDS.get(kind, "something else")
        if path and isinstance(value, dict) and path[0] == value.get("type"):
            path = path[1:]  # which message of the union it is
    where = ".".join(str(part) for part in ([place] if place else []) + path)
    return Failure(
        Kind.TOO_LARGE if kind == _TOO_LARGE else Kind.BAD_REQUEST,
        f"{where}: expected {words}, got {_came(came)}"[:MESSAGE_CHARS_MAX],
        param=where or None,
        bound=Bound.FIELD_SIZE if kind in (_TOO_LARGE, _TOO_MANY) else None,
    )


def _one_of(tags: str) -> str:
    """Pydantic's list of tags, `'a', 'b', 'c'`, as `a, b or c`."""
    *others, last = tags.replace("'", "").split(", ")
    return f"{', '.join(others)} or {last}" if others else last


def _came(value: Any) -> str:
    """What kind of thing `value` is, without repeating it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            shown = repr(value) if isinstance(value, float) or abs(value) < 1 << 64 else ""
            return shown if 0 < len(shown) <= _SHOWN_DIGITS_MAX else "a number"
        case str():
            return f"a string of {len(value)} characters" if value else "an empty string"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case _:
            return "an object"


# -- what fields are made of

_EXPECTED: Final = "expected"
_TOO_LARGE: Final = "too_large"
_TOO_MANY: Final = "too_many"


def expected(words: str) -> PydanticCustomError:
    """To be raised by a validator: `words` say what the field has to be."""
    return PydanticCustomError(_EXPECTED, "{words}", {"words": words})


def too_large(words: str) -> PydanticCustomError:
    """As `expected`, for what is only too large (413)."""
    return PydanticCustomError(_TOO_LARGE, "{words}", {"words": words})


def too_many(words: str) -> PydanticCustomError:
    """As `expected`, for what has too many items or characters."""
    return PydanticCustomError(_TOO_MANY, "{words}", {"words": words})


class Expected:
    """In an annotation, last: whatever is wrong with the field, `words` say what it has to be."""

    __slots__ = ("words",)

    def __init__(self, words: str) -> None:
        self.words = words

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source),
            _EXPECTED,
            custom_error_message="{words}",
            custom_error_context={"words": self.words},
        )


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - what pydantic reports
    return value


def _nothing_if_empty(value: Any) -> Any:
    return None if value == "" else value


def list_of_at_most(count: int, of: str) -> BeforeValidator:
    """A list is short enough; looked at before its items are."""

    def check(value: Any) -> Any:
        words = f"a list of at most {count} {of}"
        if not isinstance(value, list):
            raise expected(words)
        if len(value) > count:
            raise too_many(words)
        return value

    return BeforeValidator(check)


def at_most(count: int, words: str) -> BeforeValidator:
    """In an annotation, behind `Expected`: a list or text is short enough. `words` as there."""

    def check(value: Any) -> Any:
        if isinstance(value, list | str) and len(value) > count:
            raise too_many(words)
        return value

    return BeforeValidator(check)


Whole = Annotated[int, BeforeValidator(_no_boolean)]
"""A whole number, or a string that is one: clients send both."""

Seconds = Annotated[
    FiniteFloat, BeforeValidator(_no_boolean), Field(gt=0), Expected("seconds above 0")
]

Share = Annotated[
    FiniteFloat, BeforeValidator(_no_boolean), Field(ge=0, le=1), Expected("a number from 0 to 1")
]

Name = Annotated[
    str,
    # names are logged and stored: a NUL breaks a database, a line break or ESC forges a log line
    StringConstraints(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\p{Cc}\p{Zl}\p{Zp}]+$"),
    Expected(f"a name of at most {NAME_CHARS_MAX} characters without control characters"),
]
"""Of a model, a voice or a language."""

OptionalName = Annotated[Name | None, BeforeValidator(_nothing_if_empty)]
"""A name; null and "" stand for none."""

_REQUESTS_OWN: Final = frozenset(
    "model models modelid modelname input messages transcript stream n background "
    "callback callbackurl callbackmethod webhook webhookurl".split()
)
"""What decides whom a request goes to, what it costs and who learns of it: limits and prices go by
what the client said in the fields for that."""

_SPEECHS_OWN: Final = frozenset(
    "text container codec encoding samplerate samplingrate sampleratehertz audioformat "
    "responseformat outputformat streamformat".split()
)
"""The same of speech, where text and seconds of audio are metered, and the form of the audio that
the gateway reads."""


def is_requests_own(name: str, *, speech: bool = False) -> bool:
    """Whether `extra` must not hold this name, in any vendor's spelling of it (`modelId`)."""
    plain = name.replace("_", "").replace("-", "").lower()
    return plain in _REQUESTS_OWN or (speech and plain in _SPEECHS_OWN)


def _without_speechs_own(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in options.items() if not is_requests_own(name, speech=True)
    }


Options = Annotated[
    dict[str, Any],
    Field(max_length=EXTRA_ENTRIES_MAX),
    Expected(f"an object of at most {EXTRA_ENTRIES_MAX} provider options"),
]
"""`extra`: what only the provider understands. Passed on as it is."""

SpeechOptions = Annotated[Options, AfterValidator(_without_speechs_own)]
"""The same of /stt and /tts, without what is the request's own: clients send the options of other
providers too, so what is not for a provider is left out and no reason to refuse."""


def as_list_entry(value: Any) -> Any:
    """A fallback that is only a name, as an object."""
    return {"model": value} if isinstance(value, str) else value


class FallbackEntry(Message):
    """A model that the client wants tried when the first one fails."""

    model: Name = required()
    extra: Options | None = None

    @property
    def choice(self) -> FallbackModel:
        return FallbackModel(self.model, self.extra or {})


Fallbacks = Annotated[
    tuple[Annotated[FallbackEntry, BeforeValidator(as_list_entry)], ...],
    list_of_at_most(FALLBACKS_MAX, "models"),
]


class Fallback(Message):
    """`fallback`: {"models": [...]}, or the list itself."""

    models: Fallbacks = ()

    @model_validator(mode="before")
    @classmethod
    def _whichever_form(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"models": given}
        if isinstance(given, dict) and given.get("models") is None:
            return {}
        return given


class Connection(Message):
    """`connection`: the client's wishes for connections to providers. Taken as far as they are
    within the gateway's bounds."""

    timeout: Seconds | None = None
    retries: Annotated[Whole, Field(ge=0), Expected("a whole number from 0")] | None = None
