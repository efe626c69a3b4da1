"""The example configuration and the example environment, made from the settings themselves."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import annotated_types
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from gateway.config import Config
from gateway.settings.quota import Allowance
from gateway.settings.section import Section
from gateway.upstreams import provider as vendors
from gateway.upstreams.provider import ProviderSettings, base_url_variable

WIDTH = 98

_HEAD = """\
Every option of Parley, with its default.

  gateway serve --config config.yaml     or GATEWAY_CONFIG=config.yaml
  gateway check --config config.yaml     says what is wrong, and who serves which model

Nothing here is needed: the environment alone suffices (see deploy/.env.example), and a file needs
only the lines that differ. ${VAR} is replaced by an environment variable, ${VAR:-default} by
`default` where it is not set, ${file:/run/secrets/x} by what that file holds; $${ is a literal ${.
Every variable may be given as a file: OPENAI_API_KEY_FILE, LIVEKIT_API_SECRET_FILE. Merge keys (<<)
share settings. An unknown key is an error."""

_LIMITS = Allowance().model_dump()

SHOWN: dict[str, Any] = {
    "providers": {
        "my-llm": {
            "type": "openai-compatible",
            "enabled": True,
            "api_key": "${MY_LLM_API_KEY:-}",
            "base_url": "${MY_LLM_BASE_URL:-http://127.0.0.1:8000/v1}",
            "headers": {"X-Team": "voice"},
            "models": ["qwen3-8b"],
        },
        "spare-llm": {"type": "openai-compatible", "base_url": "http://127.0.0.1:8001/v1"},
    },
    "models": {
        "fast": [
            {"provider": "my-llm", "model": "qwen3-8b", "options": {"temperature": 0.4}},
            {"provider": "spare-llm", "model": "llama-3.1-8b"},
        ]
    },
    "quota": {
        "keys": {"*": {"models": {"fast": {}}}},
        "tenants": {"acme": {"keys": [], **_LIMITS}},
        "models": {"fast": _LIMITS},
    },
    "prices": {"fast": {"input": 0.4, "output": 1.6}},
    "cascades": {"support": {"stt": "auto", "chat": "fast", "tts": "cartesia/sonic-3:VOICE"}},
}
"""What stands under the keys whose default is nothing."""

_NOTES = {
    "keys": "LIVEKIT_API_KEY and LIVEKIT_API_SECRET add a pair; `gateway keys new` makes one, and "
    "the secret may come from a variable: {APIab12cd34ef56: '${AGENTS_SECRET}'}.",
    "providers": "A vendor whose usual variable is set (OPENAI_API_KEY, ...) is there without a "
    "line here, a server of your own (vLLM, llama.cpp, LocalAI, speaches, a proxy) by "
    "OPENAI_COMPATIBLE_BASE_URL.",
}


def configuration() -> str:
    """deploy/config.example.yaml: every field of every section."""
    lines = [f"# {line}".rstrip() for line in _HEAD.splitlines()]
    for name, field in Config.model_fields.items():
        lines.append("")
        lines += _field(name, field, _shown(name, field), 0, set())
    return "\n".join(lines) + "\n"


def _shown(name: str, field: FieldInfo) -> Any:
    shown = SHOWN.get(name, ...)
    if name == "quota":
        shown = _default(field) | shown
    if name == "providers":
        shown = shown | {
            f"my-{type_name}": {"type": type_name, "enabled": False}
            for type_name in vendors.type_names()
            # vendors with settings of their own
            if vendors.find(type_name).settings is not ProviderSettings
        }
    return _default(field) if shown is ... else shown


def _default(field: FieldInfo) -> Any:
    return to_jsonable_python(field.get_default(call_default_factory=True))


def _field(
    name: str, field: FieldInfo, value: Any, depth: int, told: set[type[Section]]
) -> list[str]:
    indent = "  " * depth
    section = section_in(field.annotation)
    direct = section is not None and section is field.annotation
    parts = (meaning_of(field), "" if depth else _NOTES.get(name, ""), _bounds(field))
    lines = _comment(" ".join(part for part in parts if part), indent)
    if section is None or not value:
        dumped = _dump(value)
        return [*lines, f"{indent}{_key(name)}: {dumped}"]
    lines.append(f"{indent}{_key(name)}:")
    if direct:
        return lines + _section(section, value, depth + 1, told)
    for key, item in value.items():
        if isinstance(item, list):
            lines.append(f"{indent}  {_key(key)}:")
            for entry in item:
                body = _section(section, entry, depth + 3, told)
                at = next(i for i, line in enumerate(body) if not line.lstrip().startswith("#"))
                # the dash stands before the first key, below the comment that explains it
                lines += [line.removeprefix("  ") for line in body[:at]]
                lines += [f"{indent}    - {body[at].lstrip()}", *body[at + 1 :]]
        else:
            of = section
            if of is ProviderSettings:
                of = vendors.find(item.get("type", key)).settings
            lines.append(f"{indent}  {_key(key)}:")
            lines += _section(of, item, depth + 2, told)
    return lines


def _section(
    section: type[Section], given: Mapping[str, Any], depth: int, told: set[type[Section]]
) -> list[str]:
    """All fields where `section` is shown for the first time, later only the given ones."""
    first = section not in told
    inherited = [known for known in told if issubclass(section, known)]
    news = {
        name
        for name in section.model_fields
        if not any(name in known.model_fields for known in inherited)
    }
    told.add(section)
    lines: list[str] = []
    for name, field in section.model_fields.items():
        if name not in given and name not in news:
            continue
        value = given.get(name, ...)
        value = _default(field) if value is ... else value
        shown = _field(name, field, value, depth, told)
        if not (first and name in news):
            shown = [line for line in shown if not line.lstrip().startswith("#")]
        lines += shown
    return lines


def meaning_of(field: FieldInfo) -> str:
    """The description of a field; a section's own where the field has none."""
    section = section_in(field.annotation)
    own = inspect.getdoc(section) if section is not None and section is field.annotation else None
    return field.description or own or ""


def section_in(annotation: Any) -> type[Section] | None:
    """The section that `annotation` is, or holds."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return annotation
    for part in get_args(annotation):
        if (found := section_in(part)) is not None:
            return found
    return None


def _bounds(field: FieldInfo) -> str:
    """What values are allowed, where that is not any."""
    if get_origin(field.annotation) is Literal:
        return f"One of {', '.join(map(str, get_args(field.annotation)))}."
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    if bounds.keys() >= {"Ge", "Le"}:
        return f"({bounds['Ge'].ge} to {bounds['Le'].le})"
    words = []
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(least):
                words.append(f"at least {least}")
            case annotated_types.Gt(more):
                words.append(f"more than {more}")
            case annotated_types.Le(most):
                words.append(f"at most {most}")
            case annotated_types.Lt(less):
                words.append(f"less than {less}")
    return f"({', '.join(words)})" if words else ""


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text, WIDTH - len(indent) - 2)]


def _key(name: str) -> str:
    return _dump(name)


def _dump(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def environment() -> str:
    """deploy/.env.example: what docker-compose.yml and the gateway read from the environment."""
    return "\n".join([*_ENVIRONMENT_HEAD.splitlines(), *_vendor_lines()]) + "\n"


_ENVIRONMENT_HEAD = """\
# Copy to .env beside docker-compose.yml. Lines that begin with # are off.

# The key pair that agents sign with (their LIVEKIT_API_KEY and LIVEKIT_API_SECRET; those of your
# LiveKit server will do). To make a new one:
#   docker build -t parley-gateway:local . && docker run --rm parley-gateway:local keys new
LIVEKIT_API_KEY=
LIVEKIT_API_SECRET=

# Where the gateway is to be reached. Behind a public address put a proxy with TLS before it: tokens
# and speech travel through it.
#PARLEY_BIND=127.0.0.1
#PARLEY_PORT=8080

# A configuration of your own in place of deploy/config.compose.yaml (config.example.yaml explains).
#PARLEY_CONFIG=./config.yaml

# The network that agents in other containers join, and its addresses.
#PARLEY_NETWORK=parley
#PARLEY_SUBNET=172.31.251.0/24

# Monitoring; always on this machine alone.
#GRAFANA_PORT=3000
#PROMETHEUS_PORT=9090

# A language model on this machine: it is downloaded at the first start and then served as the model
# llm/qwen3:0.6b.
#COMPOSE_PROFILES=llm
#LLM_ENABLED=true
#LLM_MODEL=qwen3:0.6b

# Quotas and balances that outlive a restart and are counted by several gateways together; with
# COMPOSE_PROFILES=redis in the Redis that comes along. A password for it: openssl rand -hex 24
#REDIS_PASSWORD=
#REDIS_URL=redis://:${REDIS_PASSWORD}@redis:6379/0

# Usage records in PostgreSQL; by default they are in a file in the volume `state`.
#USAGE_URL=

# For deploy/compose.production.yaml: the name that leads to this machine, PostgreSQL's password
# (openssl rand -hex 24), the network of the proxy, whom alerts reach.
#PARLEY_DOMAIN=voice.example.com
#POSTGRES_PASSWORD=
#PARLEY_EDGE_SUBNET=172.31.250.0/24
#ALERTMANAGER_CONFIG=./alertmanager.yml
#ALERTMANAGER_PORT=9093

# Engines that hear and speak on this machine, built into the image (espeak-ng among them is GPL-3).
#PARLEY_REQUIREMENTS=requirements-full.txt
#PARLEY_MODELS=silero-vad whisper-base kokoro

# An end-of-turn detector for all agents, in place of the one that each carries; add it to those
# above. models/turn/README.md says which is better when.
#PARLEY_MODELS=smart-turn

# Labels of the image that is built: the commit, and where you publish its source.
#PARLEY_REVISION=
#PARLEY_SOURCE=

# Each provider is on when its variable is set; ..._BASE_URL says where it lives, if not at the
# vendor's public address. Each variable may be given as a file that the container sees, for example
# OPENAI_API_KEY_FILE=/run/secrets/openai."""


def _vendor_lines() -> Iterator[str]:
    for type_name in vendors.type_names():
        vendor = vendors.find(type_name)
        yield f"# {vendor.title}"
        if vendor.key_variable:
            yield f"#{vendor.key_variable}="
        yield f"#{base_url_variable(type_name)}={vendor.base_url or ''}"
