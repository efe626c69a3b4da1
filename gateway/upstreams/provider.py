"""What a vendor's file offers, and how it is found.

A vendor is one module under `gateway/providers/` with a constant `PROVIDER`; one that takes part in
several conversations is a package with a file for each (`chat.py`, `stt.py`, `tts.py`). Its type
name is the module's name with dashes (`openai_compatible` is `openai-compatible`). Naming a type
in the configuration, or setting its environment variable, loads it: there is no list to extend.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from gateway import providers
from gateway.settings import urls
from gateway.settings.section import Section
from gateway.upstreams.chat import ChatUpstream
from gateway.upstreams.dial import Dial
from gateway.upstreams.stt import SttUpstream
from gateway.upstreams.tts import TtsUpstream

Modality = Literal["chat", "stt", "tts"]
"""What a provider can be asked for."""


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
    models: list[str] = Field(default_factory=list)
    """Names it is known to serve as `<provider>/<name>`, for `/models` and `gateway models`. Where
    it has several modalities, one that sounds like a recogniser (whisper, ...) or a voice (kokoro,
    tts, ...) is listed as that, every other one for chat."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and (wrong := urls.problem(value, urls.UPSTREAM_SCHEMES, query=False)):
            raise ValueError(wrong)
        return value

    def named_for(self, modality: Modality) -> Iterable[str]:
        """Names of models that further options of the vendor's give for one modality."""
        return ()


@dataclass(frozen=True, slots=True)
class Account:
    """A configured provider: what an adapter needs to dial. The key stays out of the repr."""

    name: str
    type: str
    base_url: str
    api_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: ProviderSettings = field(default_factory=ProviderSettings, repr=False)


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor: how to reach it, and an adapter for each conversation it can take.

    The `*_models` map a client's model name to the vendor's own id for it: the built-in
    catalogue. A name that no catalogue has still reaches the provider that it starts with.
    """

    title: str
    base_url: str | None
    key_variable: str | None
    key_required: bool = True
    available: Callable[[], bool] | None = None
    """An engine of ours is on without being named where this says so."""
    settings: type[ProviderSettings] = ProviderSettings
    chat: Callable[[Account], ChatUpstream] | None = None
    chat_models: Mapping[str, str] = field(default_factory=dict)
    stt: Callable[[Account], SttUpstream] | None = None
    stt_models: Mapping[str, str] = field(default_factory=dict)
    tts: Callable[[Account], TtsUpstream] | None = None
    tts_models: Mapping[str, str] = field(default_factory=dict)
    listing: Callable[[Account], Dial] | None = None
    """The request for its list of models, for a vendor without chat (`ChatUpstream.warm`)."""
    listed: tuple[Modality, ...] = ("chat",)
    """For which modalities that list is complete."""
    lacks: Callable[[ProviderSettings], Sequence[tuple[str, str]]] | None = None
    """Of an engine of ours: option that names what is not there (or "") and what to do."""

    def serves(self, conversation: Modality) -> bool:
        """Whether it has an adapter for this conversation."""
        return getattr(self, conversation, None) is not None

    def models(self, conversation: Modality) -> Mapping[str, str]:
        """The built-in catalogue for this conversation."""
        models: Mapping[str, str] = getattr(self, f"{conversation}_models", {})
        return models


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
def find(type_name: str) -> Provider:
    """The vendor called `type_name`. Raises KeyError if there is none."""
    if type_name not in type_names():
        raise KeyError(type_name)
    module = importlib.import_module(f"gateway.providers.{type_name.replace('-', '_')}")
    provider = module.PROVIDER
    assert isinstance(provider, Provider)
    return provider


def base_url_variable(type_name: str) -> str:
    """The environment variable that says where a vendor lives, e.g. OPENAI_BASE_URL."""
    return f"{type_name.replace('-', '_').upper()}_BASE_URL"
