"""What pydantic found wrong, in our own words: place, expectation, what is there. Pure."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.settings.mistake import Mistake, Place
from gateway.settings.section import Section

VALUE_CHARS_SHOWN: Final = 60
"""Longer values are cut."""

OPTIONS_SHOWN: Final = 3
"""Options of a section that are named where one was expected."""

_NAMES: Final[Mapping[Any, str]] = {
    str: "text",
    SecretStr: "text",
    bool: "true or false",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    IPv4Network: "a network such as 10.0.0.0/8 (all zero behind the prefix)",
}

_PATTERNS: Final[Mapping[str, str]] = {
    r"^[A-Za-z0-9_.:-]{1,64}$": "up to 64 letters, digits and . : _ -",
    r"^[a-z]{2,3}$": "a language code such as en",
    r"^[A-Z]{3}$": "three capital letters such as USD",
    r"^\d{4}-\d{2}-\d{2}(-preview)?$": "a date such as 2024-10-21, or one with -preview",
}


def describe(
    error: ValidationError, model: type[Section], place: Place, sources: Mapping[Place, str]
) -> list[Mistake]:
    """One mistake for each place. `place` is where `model` stands; `sources` says which values
    came from a variable: those are named by it and not shown."""
    found: dict[Mistake, None] = {}
    for problem in error.errors(include_url=False, include_context=False):
        loc = tuple(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _Spot(model).at(loc[:-1]).options()
            text = f"unknown key{suggestion(loc[-1], known)}"
            found[Mistake((*place, *loc), text)] = None
            continue
        spot = _Spot(model)
        told: list[str] = []
        for part in loc:
            inner = spot.inner(part)
            if inner is None:  # pydantic goes on with names of its own
                break
            spot = inner
            if part != "[key]":
                told.append(part)
        at = (*place, *told)
        if problem["type"] == "value_error":
            text = problem["msg"].removeprefix("Value error, ")
        elif problem["type"] == "missing":
            text = f"missing: expected {spot.expected()}"
        else:
            text = f"expected {spot.expected()}{_instead(problem['input'], spot, sources.get(at))}"
        found[Mistake(at, text)] = None
    return list(found)


def expectation(field: FieldInfo) -> str:
    """What a field takes: "a whole number from 0 to 65535"."""
    return _Spot(field.annotation, tuple(field.metadata)).expected()


def suggestion(unknown: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something close is known."""
    close = difflib.get_close_matches(unknown, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class _Spot:
    """A place in the settings' types."""

    def __init__(self, annotation: Any, metadata: tuple[Any, ...] = ()) -> None:
        if get_origin(annotation) in (Union, UnionType):
            parts = [part for part in get_args(annotation) if part is not NoneType]
            annotation = parts[0]  # ours are all "X or none", and two kinds of networks
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata = (*metadata, *more)
        self.annotation = annotation
        self.metadata = metadata

    def inner(self, part: str) -> _Spot | None:
        """The place one step further down."""
        if _is_section(self.annotation):
            field = self.annotation.model_fields.get(part)
            return None if field is None else _Spot(field.annotation, tuple(field.metadata))
        arguments = get_args(self.annotation)
        match get_origin(self.annotation):
            case kind if kind is dict:
                # an error of the name itself has the name before it
                return _Key(arguments[1], arguments[0])
            case kind if kind in (list, tuple):
                return _Spot(arguments[0])
        return None

    def at(self, loc: Iterable[str]) -> _Spot:
        spot = self
        for part in loc:
            spot = spot.inner(part) or spot
        return spot

    def options(self) -> list[str]:
        return list(self.annotation.model_fields) if _is_section(self.annotation) else []

    def secret(self) -> bool:
        return "SecretStr" in repr(self.annotation) or _is_section(self.annotation)

    def expected(self) -> str:
        annotation = self.annotation
        if _is_section(annotation):
            first = ", ".join(self.options()[:OPTIONS_SHOWN])
            return (
                f"a mapping of options ({first}{', ...' * (len(self.options()) > OPTIONS_SHOWN)})"
            )
        arguments = get_args(annotation)
        origin = get_origin(annotation)
        if origin is Literal:
            return f"one of {', '.join(map(str, arguments))}"
        if inspect.isclass(annotation) and issubclass(annotation, Enum):
            return f"one of {', '.join(str(one.value) for one in annotation)}"
        if origin is dict:
            return f"a mapping of names, each with {_Spot(arguments[1]).expected()}"
        if origin is frozenset:  # of which one may stand alone
            one = _Spot(arguments[0]).expected()
            return f"{one} or a list, each entry {one}"
        if origin in (list, tuple):
            return f"a list, each entry {_Spot(arguments[0]).expected()}"
        return self._bounded(_NAMES.get(annotation, "another value"))

    def _bounded(self, name: str) -> str:
        words, least, most = [], None, None
        for bound in self.metadata:
            match bound:
                case FieldInfo():
                    return _Spot(self.annotation, tuple(bound.metadata))._bounded(name)
                case annotated_types.Ge(value):
                    least = value
                case annotated_types.Le(value):
                    most = value
                case annotated_types.Gt(value):
                    words.append(f"more than {value}")
                case annotated_types.Lt(value):
                    words.append(f"less than {value}")
                case _ if (pattern := getattr(bound, "pattern", None)) is not None:
                    return _PATTERNS.get(pattern, f"text of the form {pattern}")
        if least is not None and most is not None:
            return f"{name} from {least} to {most}"
        words += [f"at least {least}"] if least is not None else []
        words += [f"at most {most}"] if most is not None else []
        return f"{name}, {' and '.join(words)}" if words else name


class _Key(_Spot):
    """A value of a mapping, or by `[key]` its name."""

    def __init__(self, annotation: Any, key: Any) -> None:
        super().__init__(annotation)
        self._key = key

    def inner(self, part: str) -> _Spot | None:
        return _Spot(self._key) if part == "[key]" else super().inner(part)


def _instead(value: Any, spot: _Spot, source: str | None) -> str:
    """What is there, without showing what may be a secret."""
    match value:
        case None:
            return ", not nothing"
        case dict():
            return ", not a mapping"
        case list():
            return ", not a list"
        case _ if source is not None:
            return f", not the value of {source}"
        case bool() if spot.annotation in (str, SecretStr, Path):
            return (
                f", not {str(value).lower()}: put it in quotes (yes, no, on, off are words of YAML)"
            )
        case int() | float() if spot.annotation in (str, SecretStr, Path):
            what = "a number" if spot.secret() else repr(value)[:VALUE_CHARS_SHOWN]
            return f", not {what}: put it in quotes"
        case str() if spot.secret() or get_origin(spot.annotation) in (dict, list, tuple):
            return ", not text"
        case bool():
            return f", not {str(value).lower()}"
        case str():
            cut = value[:VALUE_CHARS_SHOWN]
            return f", not {cut!r}{'...' if len(value) > len(cut) else ''}{_close(value, spot)}"
        case int() | float():
            return f", not {repr(value)[:VALUE_CHARS_SHOWN]}"
    return ""


def _close(value: str, spot: _Spot) -> str:
    if get_origin(spot.annotation) is Literal:
        return suggestion(value, map(str, get_args(spot.annotation)))
    return ""


def _is_section(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Section)
