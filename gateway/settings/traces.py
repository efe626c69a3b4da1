"""What an operator may set for traces."""

from __future__ import annotations

import importlib.util
from typing import Final

from pydantic import Field, SecretStr, field_validator

from gateway.settings import urls
from gateway.settings.extras import how_to_install
from gateway.settings.section import Section

_SCHEMES: Final = ("http", "https")


class TracesConfig(Section):
    """OpenTelemetry: a trace for each request and session, by OTLP over HTTP (extra `otel`). What
    people say is never in it."""

    endpoint: str | None = None
    """Where spans go, whole: http(s)://.../v1/traces. Default: nowhere."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with them, e.g. `authorization` for Langfuse."""
    share: float = Field(1.0, ge=0, le=1)
    """Of the traces that no caller has begun, so many are kept; one that came with a `traceparent`
    is kept if its caller keeps it."""

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if not endpoint:
            return None  # ${VAR:-} of a variable that is not set
        if wrong := urls.problem(endpoint, _SCHEMES):
            raise ValueError(wrong)
        if not _installed():
            raise ValueError(f"needs the extra otel ({how_to_install('otel')})")
        return endpoint


def _installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # not even the packages around it
        return False
