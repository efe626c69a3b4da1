"""Quotas and budgets of API keys: what each may use."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from gateway.settings import urls
from gateway.settings.extras import how_to_install
from gateway.settings.section import Section


class Budget(Section):
    """What may be used in a day or a month. What is not given is not limited."""

    requests: int | None = Field(None, ge=0)
    """Requests, sessions and utterances, as of `requests_per_minute`."""
    tokens: int | None = Field(None, ge=0)
    """Tokens, prompt and completion."""
    audio_seconds: int | None = Field(None, ge=0)
    """Seconds of audio that /stt hears."""
    characters: int | None = Field(None, ge=0)
    """Characters that /tts is given to speak."""
    cost: float | None = Field(None, ge=0)
    """Money, in `usage.currency`."""


class Allowance(Section):
    """What may be used. What is not given is not limited. Whoever has something left is let in, and
    what it used is counted then: a request may go over by what it takes, a session of /stt by 10 s
    and the utterance it is in, one of /tts by one utterance."""

    requests_per_minute: int | None = Field(None, ge=1)
    """Chat and embedding requests, sessions of /stt and utterances of /tts in any 60 s."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Tokens, prompt and completion. A request is let in while any are left, and counted when it
    has ended."""
    audio_seconds_per_minute: int | None = Field(None, ge=1)
    """Seconds of audio that /stt hears, of all sessions together."""
    characters_per_minute: int | None = Field(None, ge=1)
    """Characters that /tts is given to speak."""
    credits: float | None = Field(None, ge=0)
    """Balance in `usage.currency`, over chat, /stt and /tts, from the first use on. Kept with the
    usage records; raise it to top it up."""
    day: Budget = Budget()
    """In a day of `usage.time_zone`."""
    month: Budget = Budget()
    """In a month of `usage.time_zone`."""

    @property
    def counts_money(self) -> bool:
        """Whether anything of it is money."""
        return any(one is not None for one in (self.credits, self.day.cost, self.month.cost))


class KeyAllowance(Allowance):
    """What one key may use, and of single models."""

    allowed_models: list[str] | None = None
    """Names of models that this key may ask for; a name may end in `*`. Default: all."""
    models: dict[str, Allowance] = Field(default_factory=dict)
    """Model name -> what this key may use of it; a name may end in `*`."""

    @property
    def counts_money(self) -> bool:
        return super().counts_money or any(one.counts_money for one in self.models.values())


class TenantAllowance(Allowance):
    """What several keys may use together."""

    keys: list[str] = Field(default_factory=list)
    """Its API keys; a key has one tenant at most. Usage can be shown by tenant."""


def _problem(url: str) -> str:
    if url.startswith("redis+unix://"):
        return urls.problem(url, ("redis", "rediss", "redis+unix"), host=False)
    wrong = urls.problem(url, ("redis", "rediss"))
    database = urlsplit(url).path.strip("/") if not wrong else ""
    if database and not database.isdecimal():
        return "expected the number of a database at the end, such as redis://host:6379/0"
    return wrong


class QuotaConfig(Section):
    """Quotas and budgets of API keys. Balances and the budgets of days and months are kept with the
    usage records, from where every start reads them."""

    redis_url: SecretStr | None = None
    """redis://[user:password@]host:port/db: quotas and `limits.sessions_per_key` are counted over
    all processes that share it, and these tell one another what agents say (`bargein.own_voice`).
    Default: in this server alone."""
    prefix: str = Field("parley", pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    """Beginning of the names of all that is kept in Redis."""
    warn_at: float = Field(0.8, gt=0, le=1)
    """When this share of a balance or of the budget of a day or month is used, the log, a metric
    and the header X-Parley-Budget-Warning say so."""
    keys: dict[str, KeyAllowance] = Field(default_factory=dict)
    """API key -> what it may use; `*` is for every key that has no entry, each for itself."""
    tenants: dict[str, TenantAllowance] = Field(default_factory=dict)
    """Tenant (a customer, a team) -> its keys, and what they may use together."""
    models: dict[str, Allowance] = Field(default_factory=dict)
    """Model name -> what all keys together may use of it; a name may end in `*`."""

    @property
    def counts_money(self) -> bool:
        """Whether a budget or balance of anybody's is money."""
        tables = (self.keys, self.tenants, self.models)
        return any(one.counts_money for table in tables for one in table.values())

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

    @field_validator("tenants")
    @classmethod
    def _one_tenant_a_key(cls, tenants: dict[str, TenantAllowance]) -> dict[str, TenantAllowance]:
        seen: dict[str, str] = {}
        for name, tenant in tenants.items():
            for key in tenant.keys:
                if key in seen:
                    raise ValueError(
                        f"the key {key!r} stands under {seen[key]!r} and {name!r}; "
                        "expected one tenant a key"
                    )
                seen[key] = name
        return tenants
