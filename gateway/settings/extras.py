"""What to install for each optional part. The project is on no package index: names there are
anybody's, so only a checkout or the image can be recommended."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_IN_IMAGE: Final = "in the image it is included"
_FULL: Final = "for the image, build with REQUIREMENTS=requirements-full.txt"
_NOT_IN_IMAGE: Final = "not available in the image"

EXTRAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "redis": _IN_IMAGE,
        "postgres": _IN_IMAGE,
        "otel": _IN_IMAGE,
        "learn": _IN_IMAGE,
        "local": _FULL,
        "espeak": _FULL,
        "turn-text": _FULL,
        "local-llm": _NOT_IN_IMAGE,
        "analyse": _NOT_IN_IMAGE,
    }
)
"""Every extra of pyproject.toml, and how the image gets it."""


def how_to_install(extra: str) -> str:
    """One line for an error message: how to get `extra`."""
    return f"in the checkout: pip install '.[{extra}]'; {EXTRAS[extra]}"
