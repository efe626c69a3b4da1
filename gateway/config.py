"""What an operator may set: read once, checked whole, frozen.

A YAML file (`--config`, `GATEWAY_CONFIG`) and the environment. `${VAR}` and `${VAR:-default}` are
replaced in the file's strings (`$${` is a literal `${`). What the file does not say comes from
the environment: `LIVEKIT_API_KEY`/`LIVEKIT_API_SECRET` make a key pair, and each provider is on
when its usual variable is set.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from gateway.settings.bargein import BargeinConfig
from gateway.settings.chat import ChatConfig
from gateway.settings.eot import EotConfig
from gateway.settings.models import Deployment
from gateway.settings.prices import Price
from gateway.settings.quota import QuotaConfig
from gateway.settings.section import Section
from gateway.settings.server import LimitsConfig, LogConfig, ServerConfig
from gateway.settings.stt import SttConfig
from gateway.settings.tts import TtsConfig
from gateway.settings.usage import UsageConfig
from gateway.upstreams import provider as vendors
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.secrets import SECRETS

SECRET_CHARS_MIN = 32
"""HS256 wants a key as long as its hash (RFC 7518, section 3.2)."""

CONFIG_BYTES_MAX = 1 << 20
"""A configuration file larger than this is refused."""


class ConfigError(Exception):
    """Every mistake found, each with its place and remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Config(Section):
    """Everything. See deploy/config.example.yaml."""

    keys: dict[str, SecretStr] = Field(default_factory=dict)
    """API key -> API secret, as LiveKit server's own configuration has it."""
    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    log: LogConfig = LogConfig()
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    """Name -> provider. Several of one type may stand under different names."""
    models: dict[str, list[Deployment]] = Field(default_factory=dict)
    """Model name -> deployments in the order they are tried; comes before the built-in names. A
    plain name in place of a deployment is an alias. A name that ends in `*` stands for all names
    with that beginning."""
    local_stand_in: bool = True
    """A model of a vendor that has no provider (`deepgram/nova-3` with no key for Deepgram) is
    served by the engine on this machine that does the same, if one is installed. Logs, usage and
    metrics name that engine. False: such a model is not served."""
    chat: ChatConfig = ChatConfig()
    bargein: BargeinConfig = BargeinConfig()
    quota: QuotaConfig = QuotaConfig()
    usage: UsageConfig = UsageConfig()
    prices: dict[str, Price] = Field(default_factory=dict)
    """Model as callers name it, or deployment as `provider:model` -> its prices. A name may end
    in `*`."""
    eot: EotConfig = EotConfig()
    stt: SttConfig = SttConfig()
    tts: TtsConfig = TtsConfig()

    @field_validator("models", mode="before")
    @classmethod
    def _names_are_aliases(cls, models: Any) -> Any:
        """`a: b` and `a: [b]` for `a: [{model: b}]`."""
        if not isinstance(models, dict):
            return models
        return {
            name: [{"model": one} if isinstance(one, str) else one for one in given]
            if isinstance(given, list)
            else [{"model": given}]
            if isinstance(given, str)
            else given
            for name, given in models.items()
        }

    @field_validator("keys")
    @classmethod
    def _keys_are_named(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for key, secret in keys.items():
            if not key or not secret.get_secret_value():
                raise ValueError("an API key and its secret must not be empty")
        return keys

    def accounts(self) -> dict[str, Account]:
        """The enabled providers as adapters see them, in the order of the file."""
        return {
            name: vendors.find(settings.type).account(name, settings)
            for name, settings in self.providers.items()
            if settings.enabled
        }


def load(
    path: Path | None, environ: Mapping[str, str] = os.environ, *, dev: bool = False
) -> Config:
    """The configuration from `path` (or `GATEWAY_CONFIG`, or none) and the environment.

    Raises ConfigError with every mistake at once. `dev` accepts short secrets.
    """
    if path is None and environ.get("GATEWAY_CONFIG"):
        path = Path(environ["GATEWAY_CONFIG"])
    raw = _read(path) if path is not None else {}
    mistakes: list[str] = []
    raw = _interpolate(raw, environ, (), mistakes)
    _add_environment(raw, environ)
    provider_settings = _check_providers(raw.pop("providers", None), environ, mistakes)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(mistakes + _describe(error, Config, ())) from None
    config = config.model_copy(update={"providers": provider_settings})
    mistakes += _check_references(config)
    if not dev:
        mistakes += [
            f"keys.{key}: the secret has fewer than {SECRET_CHARS_MIN} characters; "
            "make a pair with `gateway keys new`"
            for key, secret in config.keys.items()
            if len(secret.get_secret_value()) < SECRET_CHARS_MIN
        ]
    SECRETS.learn(secrets_of(config))
    if mistakes:
        raise ConfigError(mistakes)
    return config


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret in a part of the configuration; of a URL its password too."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        yield text
        if "://" in text and (password := urlsplit(text).password):
            yield password
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_of(item)


class _Loader(yaml.SafeLoader):
    """Safe, and strict about a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError([f"{path}: larger than {CONFIG_BYTES_MAX} bytes"])
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        # only problem and place: the context would show the line, and secrets with it
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "malformed"
        raise ConfigError([f"{path}: not valid YAML{place}: {problem}"]) from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError([f"{path}: expected a mapping of sections at the top"])
    return raw


_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _interpolate(
    value: Any, environ: Mapping[str, str], place: tuple[str, ...], mistakes: list[str]
) -> Any:
    if isinstance(value, dict):
        return {
            key: _interpolate(item, environ, (*place, str(key)), mistakes)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _interpolate(item, environ, (*place, str(i)), mistakes) for i, item in enumerate(value)
        ]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name is None:
            return "${"
        if environ.get(name):
            return environ[name]
        if default is not None:
            return default
        mistakes.append(
            f"{'.'.join(place)}: the environment variable {name} is not set "
            f"(use ${{{name}:-default}} for a default)"
        )
        return ""

    return _VARIABLE.sub(replace, value)


def _add_environment(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    key, secret = environ.get("LIVEKIT_API_KEY"), environ.get("LIVEKIT_API_SECRET")
    if not key or not secret:
        return
    keys = raw.get("keys")
    if keys is None:
        raw["keys"] = {key: secret}
    elif isinstance(keys, dict):
        keys.setdefault(key, secret)


def _check_providers(
    raw: Any, environ: Mapping[str, str], mistakes: list[str]
) -> dict[str, ProviderSettings]:
    """Validated settings by name: those of the file, then those the environment switches on."""
    if raw is not None and not isinstance(raw, dict):
        mistakes.append("providers: expected a mapping of names to settings")
        raw = None
    checked: dict[str, ProviderSettings] = {}
    for name, given in (raw or {}).items():
        if given is None:
            given = {}
        if not isinstance(name, str) or not isinstance(given, dict):
            mistakes.append(f"providers.{name}: expected a mapping of settings")
            continue
        type_name = given.get("type") or name
        try:
            vendor = vendors.find(str(type_name))
        except KeyError:
            mistakes.append(
                f"providers.{name}.type: no provider type {str(type_name)!r}"
                f"{_suggestion(str(type_name), vendors.type_names())}; "
                f"there are {', '.join(vendors.type_names())}"
            )
            continue
        # ${VAR:-} leaves an empty string: the same as nothing
        given = {k: v for k, v in given.items() if v not in ("", None)} | {"type": type_name}
        if name == type_name:
            given = _from_environment(str(type_name), vendor, environ) | given
        try:
            settings = vendor.settings.model_validate(given)
        except ValidationError as error:
            mistakes += _describe(error, vendor.settings, ("providers", name))
            continue
        checked[name] = settings
        if not settings.enabled:
            continue
        if vendor.key_required and settings.api_key is None:
            hint = f" or set {vendor.key_variable}" if name == type_name else ""
            mistakes.append(f"providers.{name}.api_key: missing; give it here{hint}")
        if not (settings.base_url or vendor.base_url):
            mistakes.append(f"providers.{name}.base_url: missing; say where it lives")
    for type_name in vendors.type_names():
        vendor = vendors.find(type_name)
        given = _from_environment(type_name, vendor, environ)
        enough = "api_key" in given if vendor.key_required else "base_url" in given
        enough = enough and bool(vendor.base_url or "base_url" in given)
        if vendor.available is not None:
            enough = vendor.available()
        if not enough or type_name in checked or type_name in (raw or {}):
            continue
        try:
            checked[type_name] = vendor.settings.model_validate(given | {"type": type_name})
        except ValidationError as error:
            mistakes += _describe(error, vendor.settings, ("environment", type_name))
    return checked


def _from_environment(
    type_name: str, vendor: vendors.Vendor[Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if vendor.key_variable and environ.get(vendor.key_variable):
        given["api_key"] = environ[vendor.key_variable]
    if base_url := environ.get(vendors.base_url_variable(type_name)):
        given["base_url"] = base_url
    return given


def _check_references(config: Config) -> list[str]:
    mistakes = []
    for model, deployments in config.models.items():
        if not deployments:
            mistakes.append(f"models.{model}: expected at least one deployment")
        for i, deployment in enumerate(deployments):
            if deployment.provider is None:
                if model in _reachable(config, deployment.model):
                    mistakes.append(f"models.{model}.{i}: the alias leads back to {model!r}")
                continue
            if "*" in deployment.model and (
                deployment.concurrency or deployment.requests_per_minute
            ):
                mistakes.append(
                    f"models.{model}.{i}: limits are for one model; expected no `*` in "
                    f"{deployment.model!r}"
                )
            if deployment.provider not in config.providers:
                mistakes.append(
                    f"models.{model}.{i}.provider: no provider {deployment.provider!r} is "
                    f"configured{_suggestion(deployment.provider, config.providers)}"
                )
    return mistakes


def _reachable(config: Config, model: str) -> set[str]:
    """The names that `model` stands for by way of aliases, itself included."""
    seen: set[str] = set()
    waiting = [model]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [d.model for d in config.models.get(name, []) if d.provider is None]
    return seen


def _describe(error: ValidationError, model: type[Section], place: tuple[str, ...]) -> list[str]:
    """One line a mistake: where, what, and for an unknown key the one that was probably meant."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        location = (*place, *(str(part) for part in problem["loc"]))
        where = ".".join(location) or "the file"
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, tuple(str(part) for part in problem["loc"][:-1]))
            unknown = str(problem["loc"][-1])
            lines.append(f"{where}: unknown key{_suggestion(unknown, known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message[:1].lower()}{message[1:]}")
    return lines


def _fields_at(model: type[Section], place: tuple[str, ...]) -> list[str]:
    """The keys known at `place` inside `model`."""
    current: Any = model
    for part in place:
        fields = getattr(current, "model_fields", {})
        if part in fields:
            current = fields[part].annotation
        while not hasattr(current, "model_fields"):
            inner = [a for a in getattr(current, "__args__", ()) if a is not type(None)]
            if not inner:
                return []
            current = inner[-1]
    return list(getattr(current, "model_fields", {}))


def _suggestion(unknown: str, known: Any) -> str:
    close = difflib.get_close_matches(unknown, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
