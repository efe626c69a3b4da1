"""Quotas of API keys: what each may use."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from gateway.settings import urls
from gateway.settings.extras import how_to_install
from gateway.settings.section import Section


class Allowance(Section):
    """What may be used. What is not given is not limited."""

    requests_per_minute: int | None = Field(None, ge=1)
    """Chat requests in any 60 s."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Tokens, prompt and completion. A request is let in while any are left, and counted when it
    has ended."""
    credits: float | None = Field(None, ge=0)
    """Balance in the currency of `prices`, from the first use on. Raise it to top it up."""


class KeyAllowance(Allowance):
    """What one key may use, and of single models."""

    models: dict[str, Allowance] = Field(default_factory=dict)
    """Model name -> what this key may use of it; a name may end in `*`."""


def _problem(url: str) -> str:
    if url.startswith("redis+unix://"):
        return urls.problem(url, ("redis", "rediss", "redis+unix"), host=False)
    wrong = urls.problem(url, ("redis", "rediss"))
    database = urlsplit(url).path.strip("/") if not wrong else ""
    if database and not database.isdecimal():
        return "expected the number of a database at the end, such as redis://host:6379/0"
    return wrong


class QuotaConfig(Section):
    """Quotas of API keys."""

    redis_url: SecretStr | None = None
    """redis://[user:password@]host:port/db: quotas and `limits.sessions_per_key` are counted over
    all processes that share it. Default: in this process alone."""
    prefix: str = Field("parley", pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    """Beginning of the names of all that is kept in Redis."""
    keys: dict[str, KeyAllowance] = Field(default_factory=dict)
    """API key -> what it may use; `*` is for every key that has no entry, each for itself."""
    models: dict[str, Allowance] = Field(default_factory=dict)
    """Model name -> what all keys together may use of it; a name may end in `*`."""

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value():
            return None  # ${VAR:-} of a variable that is not set
        if url is not None and (wrong := _problem(url.get_secret_value())):
            raise ValueError(wrong)
        if url is not None and importlib.util.find_spec("redis") is None:
            raise ValueError(f"needs the package redis ({how_to_install('redis')})")
        return url
