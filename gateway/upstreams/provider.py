"""What a vendor's file offers, and how it is found.

Three words, everywhere with these meanings:

- A *vendor* is a protocol: one module under `gateway/providers/` with a constant `VENDOR`; one that
  takes part in several modalities is a package with a file for each (`chat.py`, `stt.py`,
  `tts.py`, `realtime.py`). Its type name is the module's name with dashes (`openai_compatible` is
  `openai-compatible`). Naming a type in the configuration, or setting its environment variable,
  loads it: there is no list to extend.
- A *provider* is a configured account at a vendor: a name under `providers:`.
- A *deployment* is a provider and its own name of a model.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Final, Generic, Literal

from pydantic import Field, SecretStr, field_validator
from typing_extensions import TypeVar

from gateway import providers
from gateway.settings import urls
from gateway.settings.residency import Region
from gateway.settings.section import Section
from gateway.upstreams.avatar import AvatarUpstream
from gateway.upstreams.chat import ChatUpstream
from gateway.upstreams.dial import Dial
from gateway.upstreams.realtime import RealtimeUpstream
from gateway.upstreams.stt import SttUpstream
from gateway.upstreams.tts import TtsUpstream

Modality = Literal["chat", "stt", "tts", "realtime", "duplex", "avatar"]
"""What a provider can be asked for."""


ENDPOINTS: Final = (
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/messages",
    "/models",
    "/audio/speech",
    "/audio/transcriptions",
)
"""Paths that adapters put behind a `base_url` themselves; one is easily copied with it."""


class ProviderSettings(Section):
    """What an operator may set for a provider; a vendor with more has a subclass."""

    type: str = ""
    """Which vendor's protocol it speaks. Default: the name it is configured under."""
    enabled: bool = True
    """False switches the provider off, also where its environment variable is set."""
    api_key: SecretStr | None = None
    """Credential. Default: the vendor's usual environment variable."""
    base_url: str | None = None
    """Where it lives, http(s)://... . Default: the vendor's public address."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further headers sent with every request."""
    region: Region | None = None
    """Where it processes and keeps what it is sent, in words of your own: `eu`. See `residency`."""
    models: list[str] = Field(default_factory=list)
    """Names it is known to serve as `<provider>/<name>`, for `/models` and `gateway models`. Where
    it has several modalities, one that sounds like a recogniser (whisper, ...) or a voice (kokoro,
    tts, ...) is listed as that, every other one for chat."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if wrong := urls.problem(value, urls.UPSTREAM_SCHEMES, query=False):
            raise ValueError(wrong)
        for path in ENDPOINTS:
            if value.rstrip("/").endswith(path):
                raise ValueError(f"expected the address of the API, without {path} behind it")
        scheme, mark, rest = value.partition("://")
        return f"{scheme.lower()}{mark}{rest}"

    @field_validator("models")
    @classmethod
    def _are_names(cls, models: list[str]) -> list[str]:
        for name in models:
            if not name.strip() or "*" in name:
                raise ValueError(f"expected names of models, not {name[:64]!r}")
        return models

    def named_for(self, modality: Modality) -> Iterable[str]:
        """Names of models that further options of the vendor's give for one modality."""
        return ()


S = TypeVar("S", bound=ProviderSettings, default=ProviderSettings)
S_co = TypeVar("S_co", bound=ProviderSettings, default=ProviderSettings, covariant=True)
S_contra = TypeVar("S_contra", bound=ProviderSettings, default=ProviderSettings, contravariant=True)
U_co = TypeVar("U_co", default=Any, covariant=True)


@dataclass(frozen=True, slots=True)
class Account(Generic[S_co]):
    """A provider as its vendor's adapters see it: an account there, with all that they need to
    dial. `settings` are of the vendor's own class. The key stays out of the repr."""

    name: str
    type: str
    base_url: str
    api_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: S_co = field(kw_only=True, repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """That a vendor serves a model no more. `successor` is the vendor's own id of what took its
    place; `source` says where both stand; `day` is None where the vendor names none."""

    successor: str | None
    source: str
    day: date | None = None


@dataclass(frozen=True, slots=True)
class Offer(Generic[S_contra, U_co]):
    """One modality that a vendor serves.

    `adapter` makes the adapter of one provider. `models` maps a client's model name to the
    vendor's own id for it: the built-in catalogue. A name that no catalogue has still reaches the
    provider that it starts with. `languages`: what a model (by the vendor's id) speaks, as
    ISO 639-1 codes, where that is little; others are taken to speak every language. `ended`: names
    that clients still list. `deployed_as`: how names begin that lead to deployments which the
    operator makes there under the model's own name; they are asked only where a caller pins the
    provider, since nobody can know which there are.
    """

    adapter: Callable[[Account[S_contra]], U_co]
    models: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ended: Mapping[str, Ended] = field(default_factory=dict)
    deployed_as: str | None = None


@dataclass(frozen=True, slots=True)
class Vendor(Generic[S]):
    """A vendor's protocol: where it is spoken, what can be set, and what it offers."""

    title: str
    base_url: str | None
    key_variable: str | None
    key_required: bool = True
    pinned_as: tuple[str, ...] = ()
    """What callers name in X-LiveKit-Inference-Provider to mean it, besides its type and the
    provider's own name."""
    available: Callable[[], bool] | None = None
    """An engine of ours is on without being named where this says so."""
    settings: type[S] = ProviderSettings  # type: ignore[assignment]  # S is solved by it
    """What an operator may set for a provider of this vendor; its adapters are given it."""
    stand_ins: Callable[[S], Mapping[Modality, tuple[str, str]]] | None = None
    """Of an engine of ours: for each modality that it can serve now, the model that stands in for
    vendors with no provider, as callers name it and as the engine does."""
    chat: Offer[S, ChatUpstream] | None = None
    stt: Offer[S, SttUpstream] | None = None
    tts: Offer[S, TtsUpstream] | None = None
    realtime: Offer[S, RealtimeUpstream] | None = None
    duplex: Offer[S, RealtimeUpstream] | None = None
    avatar: Offer[S, AvatarUpstream] | None = None
    listing: Callable[[Account[S]], Dial] | None = None
    """The request for its list of models, for a vendor without chat (`ChatUpstream.warm`)."""
    listed: tuple[Modality, ...] = ("chat",)
    """For which modalities that list is complete."""
    lacks: Callable[[S], Sequence[tuple[str, str]]] | None = None
    """Of an engine of ours: option that names what is not there (or "") and what to do."""

    @property
    def offers(self) -> Mapping[Modality, Offer[S]]:
        """What it offers, by modality."""
        offers: dict[Modality, Offer[S] | None] = {
            "chat": self.chat,
            "stt": self.stt,
            "tts": self.tts,
            "realtime": self.realtime,
            "duplex": self.duplex,
            "avatar": self.avatar,
        }
        return {modality: offer for modality, offer in offers.items() if offer is not None}

    def models(self, modality: Modality) -> Mapping[str, str]:
        """The built-in catalogue for this modality."""
        offer = self.offers.get(modality)
        return offer.models if offer is not None else {}

    def account(self, name: str, settings: S) -> Account[S]:
        """The provider configured as `name` with these settings."""
        key = settings.api_key
        return Account(
            name,
            settings.type,
            settings.base_url or self.base_url or "",
            key.get_secret_value() if key is not None else "",
            {header: value.get_secret_value() for header, value in settings.headers.items()},
            settings=settings,
        )


def type_names() -> tuple[str, ...]:
    """Every vendor there is, sorted."""
    return tuple(
        sorted(
            module.name.replace("_", "-")
            for module in pkgutil.iter_modules(providers.__path__)
            if not module.name.startswith("_")
        )
    )


@cache
def find(type_name: str) -> Vendor[Any]:
    """The vendor called `type_name`. Raises KeyError if there is none."""
    if type_name not in type_names():
        raise KeyError(type_name)
    module = importlib.import_module(f"gateway.providers.{type_name.replace('-', '_')}")
    vendor = module.VENDOR
    assert isinstance(vendor, Vendor)
    return vendor


def base_url_variable(type_name: str) -> str:
    """The environment variable that says where a vendor lives, e.g. OPENAI_BASE_URL."""
    return f"{type_name.replace('-', '_').upper()}_BASE_URL"
