"""Every model name that the installed clients list, and who serves it with every vendor's key set.

`python -m tests.end_to_end.client_names` prints the table.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config import load
from gateway.routing.catalogue import Catalogue
from gateway.upstreams import provider as vendors
from gateway.upstreams.errors import Failure
from gateway.upstreams.provider import Modality
from tests.end_to_end.clients import CLIENTS, Client

FILES: Final[dict[Modality, str]] = {
    "chat": "llm",
    "stt": "stt",
    "tts": "tts",
    "realtime": "_realtime_models",
    "duplex": "_realtime_models",
}
"""Where the clients list names."""

LISTS: Final[dict[Modality, str]] = {"realtime": "RealtimeModels", "duplex": "DuplexModels"}
"""How lists are called where one file has those of several modalities; else `...Models`."""

IN_THE_AGENT: Final = frozenset({"silero"})
NEEDS_ITS_ADDRESS: Final = "https://example.invalid"


@dataclass
class Row:
    """One name."""

    modality: Modality
    name: str
    clients: set[str] = field(default_factory=set)
    served: str = ""
    ended: str = ""


def rows() -> list[Row]:
    """Every name, with who serves it or who has ended it; neither is a hole."""
    found: dict[tuple[Modality, str], Row] = {}
    for client in CLIENTS:
        for modality in FILES:
            for name in names(client, modality):
                row = found.setdefault((modality, name), Row(modality, name))
                row.clients.add(client.name)
    catalogues = {modality: catalogue(modality) for modality in FILES}
    for row in found.values():
        plan = catalogues[row.modality].plan(row.name)
        if not isinstance(plan, Failure):
            row.served = ", ".join(f"{one.provider} ({one.model})" for one in plan)
        elif "ended" in plan.message:
            row.ended = plan.message
        elif row.modality == "stt" and row.name == "auto":
            row.served = "by language"
    return sorted(found.values(), key=lambda row: (row.modality, row.name))


def catalogue(modality: Modality) -> Catalogue:
    """That of a gateway with a key for every vendor."""
    environ = {}
    for name in vendors.type_names():
        vendor = vendors.find(name)
        if vendor.key_variable is not None:
            environ[vendor.key_variable] = "key"
            if vendor.base_url is None:
                environ[vendors.base_url_variable(name)] = NEEDS_ITS_ADDRESS
    config = load(None, environ, dev=True)
    return Catalogue(config.models, config.accounts(), modality)


def names(client: Client, modality: Modality) -> set[str]:
    """What an installed client lists."""
    client.ensure()
    if client.kind == "node":
        text = _file(client, f"**/@livekit/agents/dist/inference/{FILES[modality]}.d.ts")
        return set(_typescript(text)) - IN_THE_AGENT
    text = _file(client, f"**/livekit/agents/inference/{FILES[modality]}.py")
    found = set(_python(text, LISTS.get(modality, "Models"))) - IN_THE_AGENT
    return found | set(_retired(text)) if modality == "realtime" else found


def _file(client: Client, pattern: str) -> str:
    """Its text; nothing where a client is too old, or too new, to have it."""
    found: Path | None = next(iter(client.folder().glob(pattern)), None)
    return "" if found is None else found.read_text()


def _retired(text: str) -> Iterator[str]:
    """The keys of `DEPRECATED_REALTIME_MODELS`: clients still ask for these."""
    for node in ast.parse(text).body:
        named = isinstance(node, ast.AnnAssign) and ast.unparse(node.target)
        if named == "DEPRECATED_REALTIME_MODELS" and isinstance(node, ast.AnnAssign):
            retired: dict[str, str] = ast.literal_eval(node.value) if node.value else {}
            yield from retired


def _python(text: str, ending: str) -> Iterator[str]:
    """The strings of every `...Models = Literal[...]` whose name ends so."""
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if node.targets[0].id.endswith(ending) and "Literal[" in ast.unparse(node.value):
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def _typescript(text: str) -> Iterator[str]:
    """The strings of every `export type ...Models = 'a' | 'b'`."""
    for line in re.findall(r"^export type \w*Models = ([^;]*);", text, re.M):
        yield from re.findall(r"'([^']+)'", line)


def main() -> None:
    for row in rows():
        print(f"{row.modality:8} {row.name:45} {row.served or row.ended or 'NOBODY'}")


if __name__ == "__main__":
    main()
