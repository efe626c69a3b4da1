"""Which deployments serve a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.settings.section import Section


class Deployment(Section):
    """One deployment of a model; or, without `provider`, the deployments of another model."""

    provider: str | None = None
    """Name of a configured provider. Without it, `model` is a name as callers use it (of this
    section or a catalogue), and its deployments stand here: an alias."""
    model: str
    """The provider's own name of the model. A `*` stands for what the `*` of the model's name
    here stood for: `local/*` -> provider ollama, model `*`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Parameters merged over what the client sent (null removes one)."""
    weight: float | None = Field(None, gt=0)
    """Those with a weight come first, in an order drawn for each request with these odds; those
    without follow in the order of the file."""
    context_tokens: int | None = Field(None, ge=1)
    """The model's window: a request too long for one is tried only where there is more."""
    abilities: list[Literal["tools", "images", "json_schema"]] | None = None
    """All that it can do: a request that needs more is not sent there. Default: it is asked, and a
    refusal is remembered for ten minutes."""
    concurrency: int | None = Field(None, ge=1)
    """Requests that it takes at a time; further ones wait for a place, by their priority."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Requests that it takes in any 60 s."""
    low_share: float = Field(0.5, gt=0, le=1)
    """Part of `concurrency` that requests of priority `low` may hold together."""
