"""The base of every part of the configuration: frozen, and closed to unknown keys."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Frozen; an unknown key is an error; each field's description is its documentation."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, given: Any) -> Any:
        """A section or list whose lines are all commented out is as if it were not there."""
        if not isinstance(given, dict) or None not in given.values():
            return given
        return {
            name: value
            for name, value in given.items()
            if value is not None
            or name not in cls.model_fields
            or not _holds_others(cls.model_fields[name].annotation)
        }

    @field_validator("*", mode="before")
    @classmethod
    def _an_empty_path_is_none(cls, value: Any, info: ValidationInfo) -> Any:
        """${VAR:-} of a variable that is not set; for pathlib it is the current folder."""
        if value != "" or info.field_name is None:
            return value
        kinds = get_args(cls.model_fields[info.field_name].annotation)
        return None if kinds == (Path, NoneType) else value

    @field_validator("*", mode="after")
    @classmethod
    def _a_tilde_is_the_home_folder(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return expanded(value)
        if isinstance(value, dict):
            return {
                name: expanded(one) if isinstance(one, Path) else one for name, one in value.items()
            }
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`true` is 1 for pydantic."""
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            if {int, float} & {annotation, *get_args(annotation)}:
                raise PydanticCustomError("number_type", "expected a number")
        return value


def _holds_others(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return False  # "none" has a meaning of its own there
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return True
    return get_origin(annotation) in (dict, list, tuple)


def expanded(path: Path) -> Path:
    """`path` with the folder that a `~` at its beginning stands for, where there is one."""
    try:
        return path.expanduser()
    except RuntimeError:  # the home of nobody
        return path
