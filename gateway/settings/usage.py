"""What an operator may set for usage records."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator

from gateway.settings import urls
from gateway.settings.extras import how_to_install
from gateway.settings.section import Section, expanded


def _problem(url: str) -> str:
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:").removeprefix("//")
        return "" if path and path.isprintable() else "expected a path behind sqlite:"
    if not url.startswith(("postgresql://", "postgres://")):
        return "expected sqlite:PATH or postgresql://..."
    return urls.problem(url, ("postgresql", "postgres"), host=False)


class UsageConfig(Section):
    """One record for each request and session: who, what, how long, how much, what it cost."""

    enabled: bool = True
    """False writes no records."""
    url: SecretStr | None = None
    """sqlite:PATH or postgresql://user:password@host/db (extra `postgres`). Default: the SQLite
    file parley/usage.db under $XDG_STATE_HOME (~/.local/state)."""
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")
    """Of `prices`, budgets and credits (ISO 4217). The price table that ships with this server is
    in USD, and is used with that alone."""
    shipped_prices: bool = True
    """Models for which `prices` has nothing cost what the shipped, dated table says."""
    time_zone: str = "UTC"
    """Where days and months of budgets and reports begin, such as Europe/Berlin."""
    flush_s: float = Field(2.0, gt=0, le=60)
    """Records are written in batches so far apart."""
    running_s: float = Field(50.0, ge=1, le=3600)
    """What a session of /stt or /tts has used is recorded so often while it goes on: a server that
    is killed loses no more than that and `flush_s`."""
    keep_days: int = Field(90, ge=1)
    """Older records are deleted."""
    spill: str | None = None
    """File for records that the store does not take in time; they are written to it later. Default:
    parley/usage-spill.jsonl beside the default store."""

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("expected a time zone such as UTC or Europe/Berlin") from None
        return name

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value():
            return None  # ${VAR:-} of a variable that is not set
        if url is not None and (wrong := _problem(url.get_secret_value())):
            raise ValueError(wrong)
        if (
            url is not None
            and url.get_secret_value().startswith("postgres")
            and importlib.util.find_spec("asyncpg") is None
        ):
            raise ValueError(f"needs the package asyncpg ({how_to_install('postgres')})")
        if url is not None and url.get_secret_value().startswith("sqlite:"):
            path = url.get_secret_value().removeprefix("sqlite:").removeprefix("//")
            return SecretStr(f"sqlite:{expanded(Path(path))}")
        return url

    @field_validator("spill")
    @classmethod
    def _is_a_path(cls, spill: str | None) -> str | None:
        return str(expanded(Path(spill))) if spill else None
