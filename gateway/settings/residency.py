"""Where what callers say may be sent."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.settings.section import Section

REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
"""At most 32 characters."""


def _is_region(name: str) -> str:
    if not REGION.fullmatch(name):
        raise ValueError("expected a name such as eu or us-east: small letters, digits and -")
    return name


Region = Annotated[str, AfterValidator(_is_region)]
"""A name of the operator's own: "eu", "us-east", "on-premises"."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Regions = Annotated[frozenset[Region], Field(min_length=1), BeforeValidator(_listed)]
"""One region or a list; each of them will do."""


class ResidencyConfig(Section):
    """Who may be served in some regions alone. A provider is inside a region if its `region` says
    so; one without is outside of all, the engines of this machine (`providers.local.region`) too.
    A request may demand a region as well: `X-Parley-Region: eu` (or a list, `eu, ch`). All demands
    hold. What cannot be served inside is refused with 403."""

    keys: dict[str, Regions] = Field(default_factory=dict)
    """API key -> region, or a list of which any will do."""
    models: dict[str, Regions] = Field(default_factory=dict)
    """Model as callers name it, or as a fallback or an alias names it -> the same. A name may end
    in `*`."""
