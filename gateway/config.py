"""What an operator may set: read once, checked whole, frozen.

A YAML file (`--config`, `GATEWAY_CONFIG`) and the environment. `${VAR}`, `${VAR:-default}` and
`${file:PATH}` are replaced in the file's strings (`$${` is a literal `${`). What the file does not
say comes from the environment: `LIVEKIT_API_KEY`/`LIVEKIT_API_SECRET` make a key pair, and each
provider is on when its usual variable is set. Each variable may be given as a file: VAR_FILE.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from gateway.routing import references
from gateway.settings.avatar import AvatarConfig
from gateway.settings.bargein import BargeinConfig
from gateway.settings.cascades import CascadeConfig, CascadeName
from gateway.settings.chat import ChatConfig
from gateway.settings.contradictions import contradictions
from gateway.settings.document import Document, DocumentError, parse
from gateway.settings.eot import EotConfig
from gateway.settings.mistake import Mistake, Place
from gateway.settings.models import Deployment
from gateway.settings.page import PageConfig
from gateway.settings.prices import Price
from gateway.settings.quota import QuotaConfig
from gateway.settings.realtime import RealtimeConfig
from gateway.settings.residency import ResidencyConfig
from gateway.settings.section import Section
from gateway.settings.server import LimitsConfig, LogConfig, ServerConfig
from gateway.settings.stt import SttConfig
from gateway.settings.traces import TracesConfig
from gateway.settings.tts import TtsConfig
from gateway.settings.usage import UsageConfig
from gateway.settings.variables import Interpolation, Variables
from gateway.settings.wording import describe, suggestion
from gateway.upstreams import provider as vendors
from gateway.upstreams.provider import Account, ProviderSettings
from gateway.upstreams.secrets import SECRETS

SECRET_CHARS_MIN = 32
"""HS256 wants a key as long as its hash (RFC 7518, section 3.2)."""

CONFIG_BYTES_MAX = 1 << 20
"""A configuration file larger than this is refused."""


KEY_VARIABLES = ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
"""They make a key pair."""

SECRET_BYTES_MAX = 64 << 10
"""Largest file that may hold a secret."""


class ConfigError(Exception):
    """Every mistake found, each with its place and remedy. `path` is the file, if there is one."""

    def __init__(self, mistakes: list[str], path: Path | None = None) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
        self.path = path


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
    successors: bool = False
    """A model that its vendor has ended (`deepseek-ai/deepseek-v3`, which clients still list) is
    served by what the vendor says took its place. False: whoever asks for it is told so."""
    chat: ChatConfig = ChatConfig()
    bargein: BargeinConfig = BargeinConfig()
    quota: QuotaConfig = QuotaConfig()
    usage: UsageConfig = UsageConfig()
    prices: dict[str, Price] = Field(default_factory=dict)
    """Model as callers name it, or deployment as `provider:model` -> its prices. A name may end
    in `*`."""
    page: PageConfig = PageConfig()
    traces: TracesConfig = TracesConfig()
    residency: ResidencyConfig = ResidencyConfig()
    eot: EotConfig = EotConfig()
    stt: SttConfig = SttConfig()
    tts: TtsConfig = TtsConfig()
    realtime: RealtimeConfig = RealtimeConfig()
    cascades: dict[CascadeName, CascadeConfig] = Field(default_factory=dict)
    """Name -> recogniser, chat model and voice, which serve /realtime together as
    `cascade/<name>`: see deploy/realtime.md. Where this machine has an engine of each kind, there
    is `local/cascade` too."""
    avatar: AvatarConfig = AvatarConfig()

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
            # its name is not shown: it may be a secret
            if any(map(str.isspace, key)):
                raise ValueError("expected API keys without spaces")
            if any(map(str.isspace, secret.get_secret_value())):
                raise ValueError("expected API secrets without spaces and line breaks")
        return keys

    def accounts(self) -> dict[str, Account]:
        """The enabled providers as adapters see them, in the order of the file."""
        return {
            name: vendors.find(settings.type).account(name, settings)
            for name, settings in self.providers.items()
            if settings.enabled
        }


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without mistakes, and what is odd about it: a line each."""

    config: Config
    warnings: tuple[str, ...] = ()


def load(
    path: Path | None, environ: Mapping[str, str] = os.environ, *, dev: bool = False
) -> Config:
    """The configuration from `path` (or `GATEWAY_CONFIG`, or none) and the environment.

    Raises ConfigError with every mistake at once. `dev` accepts short secrets.
    """
    return load_with_warnings(path, environ, dev=dev).config


def load_with_warnings(
    path: Path | None, environ: Mapping[str, str] = os.environ, *, dev: bool = False
) -> Loaded:
    """As `load`, with what is odd but no reason not to start."""
    if path is None and environ.get("GATEWAY_CONFIG"):
        path = Path(environ["GATEWAY_CONFIG"])
    document = Document({}) if path is None else _read(path)
    reading = _Reading(Variables(environ, read_secret), document)
    config = reading.config(dev=dev)
    told = [(mistake, document.line(mistake.place)) for mistake in reading.found()]
    told.sort(key=lambda one: one[1] or 0)
    fatal = [mistake.told(line) for mistake, line in told if mistake.fatal]
    if config is None or fatal:
        raise ConfigError(list(dict.fromkeys(fatal)), path)
    warnings = [mistake.told(line) for mistake, line in told if not mistake.fatal]
    return Loaded(config, tuple(dict.fromkeys(warnings)))


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret in a part of the configuration; of a URL its password too."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        yield text
        with contextlib.suppress(ValueError):  # it only looks like a URL
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


def read_secret(path: str) -> str:
    """The text of a file that holds a secret. Raises OSError, or ValueError with what is wrong."""
    with open(path, "rb") as file:
        data = file.read(SECRET_BYTES_MAX + 1)
    if len(data) > SECRET_BYTES_MAX:
        raise ValueError(f"is larger than {SECRET_BYTES_MAX} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not text in UTF-8") from None


def _read(path: Path) -> Document:
    """The file's values. Raises ConfigError."""
    try:
        with path.open("rb") as file:  # /dev/zero and a pipe have no size that could be asked for
            data = file.read(CONFIG_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise ConfigError([f"{path}: cannot be read: {reason.lower()}"], path) from None
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError([f"{path}: larger than {CONFIG_BYTES_MAX} bytes"], path)
    try:
        document = parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}: cannot be read: not UTF-8 in line {line}"], path) from None
    except DocumentError as error:
        place = f" in line {error.line}" if error.line else ""
        raise ConfigError([f"{path}: not valid YAML{place}: {error.problem}"], path) from None
    if document.values is None:
        document.values = {}
    if not isinstance(document.values, dict):
        raise ConfigError([f"{path}: expected a mapping of sections at the top"], path)
    return document


@dataclass(slots=True)
class _Reading:
    """One look at a file and the environment; collects what is wrong."""

    variables: Variables
    document: Document
    mistakes: list[Mistake] = field(default_factory=list)

    def found(self) -> list[Mistake]:
        return [*self.variables.mistakes, *self.mistakes]

    def config(self, *, dev: bool) -> Config | None:
        """The configuration; None where a value has the wrong form."""
        interpolation = Interpolation(self.variables)
        raw = interpolation.of(self.document.values)
        self.mistakes += interpolation.mistakes
        # what is missing is told once, and not again as a wrong value
        missing = {mistake.place for mistake in interpolation.mistakes}
        self._add_key_pair(raw)
        providers = self._providers(raw.pop("providers", None), interpolation.sources)
        try:
            config = Config.model_validate(raw)
        except ValidationError as error:
            wrong = describe(error, Config, (), interpolation.sources)
            self.mistakes += [
                mistake
                for mistake in wrong
                if mistake.place not in missing
                # what is said of all keys is said because one is missing
                and not (mistake.place == ("keys",) and any(one[0] == "keys" for one in missing))
            ]
            return None
        config = config.model_copy(update={"providers": providers})
        SECRETS.learn(secrets_of(config))
        if config.page.token is not None and config.server.admin_port is None:
            text = "the page is on the operator's port; expected a server.admin_port"
            self.mistakes.append(Mistake(("page", "token"), text))
        for name in config.traces.headers:
            if not _HEADER_NAME.fullmatch(name):
                text = "expected a header's name: letters, digits and -"
                self.mistakes.append(Mistake(("traces", "headers", name), text))
        self._check_keys(config, missing, dev=dev)
        self._warn(config)
        self.mistakes += contradictions(
            {
                "server": config.server,
                "limits": config.limits,
                "chat": config.chat,
                "stt": config.stt,
                "tts": config.tts,
            }
        )
        if not any(mistake.fatal for mistake in self.mistakes):
            self.mistakes += references.check(
                references.Named(
                    models=config.models,
                    providers=config.providers,
                    accounts=config.accounts(),
                    keys=None if dev and not config.keys else config.keys,
                    quota=config.quota,
                    prices=config.prices,
                    stt=config.stt,
                    default_voice=config.tts.default_model,
                    turn_languages=config.eot.thresholds,
                    residency=config.residency,
                    eager_keys=config.bargein.eagerness_by_key,
                    learning=config.bargein.learn,
                    decision_model=config.chat.decision_model,
                    cascades=config.cascades,
                )
            )
        return config

    def _add_key_pair(self, raw: dict[str, Any]) -> None:
        names = KEY_VARIABLES
        key, secret = (self.variables.get(name) for name in names)
        if key and secret:
            keys = raw.get("keys")
            if keys is None:
                raw["keys"] = {key: secret}
            elif isinstance(keys, dict):
                keys.setdefault(key, secret)
        elif key or secret:
            given, lacking = names if key else names[::-1]
            self.mistakes.append(
                Mistake(
                    (lacking,),
                    f"{self.variables.lack(lacking)}, and {given} is; expected both or neither",
                )
            )

    def _warn(self, config: Config) -> None:
        """Networks that are everybody."""
        for place, networks, what in (
            (
                ("server", "trusted_proxies"),
                config.server.trusted_proxies,
                "may name its own address",
            ),
            (
                ("eot", "anonymous_networks"),
                config.eot.anonymous_networks,
                "is answered on /eot/multi without a token",
            ),
        ):
            for i, network in enumerate(networks):
                if network.prefixlen == 0:
                    at = (*place, str(i))
                    self.mistakes.append(
                        Mistake(at, f"{network} is everybody, who then {what}", fatal=False)
                    )

    def _check_keys(self, config: Config, missing: set[Place], *, dev: bool) -> None:
        for key, secret in config.keys.items():
            place = ("keys", key)
            if dev or place in missing:
                continue
            if wrong := _no_secret(secret.get_secret_value()):
                self.mistakes.append(Mistake(place, wrong))
                continue
            if len(secret.get_secret_value()) >= SECRET_CHARS_MIN:
                continue
            if len(key) >= SECRET_CHARS_MIN:  # the name may be the secret: it is not shown
                text = "a secret has fewer characters than its key; are they swapped?"
                self.mistakes.append(Mistake(("keys",), text))
                continue
            self.mistakes.append(
                Mistake(
                    place,
                    f"the secret has fewer than {SECRET_CHARS_MIN} characters; "
                    "make a pair with `gateway keys new`",
                )
            )

    def _providers(self, raw: Any, sources: Mapping[Place, str]) -> dict[str, ProviderSettings]:
        """Valid settings by name: those of the file, then those the environment switches on."""
        if raw is not None and not isinstance(raw, dict):
            self.mistakes.append(Mistake(("providers",), "expected a mapping of names to settings"))
            raw = None
        checked: dict[str, ProviderSettings] = {}
        for name, given in (raw or {}).items():
            settings = self._provider(name, {} if given is None else given, sources)
            if settings is not None:
                checked[name] = settings
        for type_name in vendors.type_names():
            vendor = vendors.find(type_name)
            given, named_by = self._from_environment(type_name, vendor)
            enough = "api_key" in given if vendor.key_required else "base_url" in given
            enough = enough and bool(vendor.base_url or "base_url" in given)
            if vendor.available is not None:
                enough = vendor.available()
            if not enough or type_name in checked or type_name in (raw or {}):
                continue
            settings = self._valid(type_name, vendor, given | {"type": type_name}, named_by, {})
            if settings is not None:
                checked[type_name] = settings
        return checked

    def _provider(
        self, name: str, given: Any, sources: Mapping[Place, str]
    ) -> ProviderSettings | None:
        """The settings of a provider of the file, or None if they are wrong."""
        place = ("providers", name)
        if _NO_NAME.search(name):
            text = "expected a name without spaces, / : and *, which names of models are made of"
            self.mistakes.append(Mistake(place, text))
            return None
        if not isinstance(given, dict):
            self.mistakes.append(Mistake(place, "expected a mapping of settings"))
            return None
        type_name = str(given.get("type") or name)
        try:
            vendor = vendors.find(type_name)
        except KeyError:
            known = vendors.type_names()
            self.mistakes.append(
                Mistake(
                    (*place, "type"),
                    f"no provider type {type_name[:64]!r}{suggestion(type_name, known)}; "
                    f"there are {', '.join(known)}",
                )
            )
            return None
        # ${VAR:-} leaves an empty string: the same as nothing
        given = {k: v for k, v in given.items() if v not in ("", None)} | {"type": type_name}
        named_by: dict[str, str] = {}
        if name == type_name:
            found, named_by = self._from_environment(type_name, vendor)
            named_by = {k: v for k, v in named_by.items() if k not in given}
            given = found | given
        settings = self._valid(name, vendor, given, named_by, sources)
        if settings is None or not settings.enabled:
            return settings
        if vendor.key_required and settings.api_key is None:
            hint = ""
            if name == type_name and vendor.key_variable:
                lack = self.variables.lack(vendor.key_variable)
                hint = f" or set {vendor.key_variable}, which {lack}"
            self.mistakes.append(Mistake((*place, "api_key"), f"missing; give it here{hint}"))
        if not (settings.base_url or vendor.base_url):
            self.mistakes.append(Mistake((*place, "base_url"), "missing; say where it lives"))
        return settings

    def _valid(
        self,
        name: str,
        vendor: vendors.Vendor[Any],
        given: dict[str, Any],
        named_by: Mapping[str, str],
        sources: Mapping[Place, str],
    ) -> ProviderSettings | None:
        """Checked settings. `named_by`: which variable an option came from."""
        place = ("providers", name)
        try:
            settings: ProviderSettings = vendor.settings.model_validate(given)
        except ValidationError as error:
            self.mistakes += [
                Mistake((named_by[mistake.place[2]],), mistake.text)
                if len(mistake.place) > 2 and mistake.place[2] in named_by
                else mistake
                for mistake in describe(error, vendor.settings, place, sources)
            ]
            return None
        wrong = dict(_unsendable(settings))
        self.mistakes += [
            Mistake((named_by[at[0]],) if at[0] in named_by else (*place, *at), text)
            for at, text in wrong.items()
        ]
        return settings

    def _from_environment(
        self, type_name: str, vendor: vendors.Vendor[Any]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The options that a vendor's variables give, and the variable of each."""
        variables = {"base_url": vendors.base_url_variable(type_name)}
        if vendor.key_variable:
            variables["api_key"] = vendor.key_variable
        found = {option: self.variables.get(name) for option, name in variables.items()}
        return {option: value for option, value in found.items() if value is not None}, variables


def _unsendable(settings: ProviderSettings) -> Iterator[tuple[Place, str]]:
    """What cannot stand in a header of HTTP: places inside the settings, and why."""
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        wrong = _no_secret(key) if _is_header(key) else "expected one line of plain characters"
        if wrong:
            yield ("api_key",), wrong
    for name, value in settings.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            yield ("headers", name), "expected a header's name: letters, digits and -"
        elif name.lower() in _OF_THE_CONNECTION:
            yield ("headers", name), "each connection sets it itself; expected another header"
        if not _is_header(value.get_secret_value()):
            yield ("headers", name), "expected one line of plain characters"


def _no_secret(text: str) -> str:
    """Why this is hardly a secret, which is not shown; "" if it may be one."""
    if re.fullmatch(r"\$\w+|%\w+%", text):
        return "the name of a variable stands there; its value is ${NAME}"
    if re.fullmatch(r"\.{2,}|…|<.*>", text):
        return "a placeholder stands there; put your own, or leave the line out"
    if re.match("bearer ", text, re.IGNORECASE):
        return "expected the key alone, without `Bearer` before it"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        return "expected the key alone, without quotes around it"
    return ""


_NO_NAME = re.compile(r"[\s/:*]")
"""In a provider's name: what stands between it and a model, and in patterns of names."""

_OF_THE_CONNECTION = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
"""Headers that no configuration can know."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()
