"""Which models serve what: as a vendor lists them, as names tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import orjson

from gateway.upstreams.provider import Account, Modality, find, type_names

_SOUNDS: Final[tuple[tuple[Modality, re.Pattern[str]], ...]] = (
    ("stt", re.compile(r"whisper|parakeet|canary|transcri|speech-to-text|\b(asr|stt)\b", re.I)),
    ("tts", re.compile(r"kokoro|piper|orpheus|chatterbox|text-to-speech|\btts\b", re.I)),
    ("duplex", re.compile(r"gpt-live|duplex", re.I)),
    ("realtime", re.compile(r"realtime|grok-voice|speech-to-speech", re.I)),
)
"""Words in names of models that hear, speak, or do both."""

_DATED: Final = re.compile(r"-(\d{4,8}|\d{4}-\d{2}-\d{2}|latest)|:latest")


def modality_by_sound(model: str) -> Modality:
    """What a model is probably for, where only its name is known."""
    return next((modality for modality, words in _SOUNDS if words.search(model)), "chat")


def modalities_of_vendor(type_name: str) -> tuple[Modality, ...]:
    """What a vendor can be asked for."""
    return tuple(find(type_name).offers)


def named_models(account: Account, modality: Modality) -> tuple[str, ...]:
    """The models that a provider's settings name for one modality, as the provider calls them."""
    settings = account.settings
    able = modalities_of_vendor(account.type)
    plain = tuple(name for name in settings.models if modality in _may_be(name, able))
    return tuple(dict.fromkeys((*settings.named_for(modality), *plain)))


def modalities_of_name(name: str) -> frozenset[Modality]:
    """For what a name stands in the catalogue of any vendor, configured or not; none if it is
    in no catalogue."""
    return _every_catalogue().get(name, frozenset())


@cache
def _every_catalogue() -> Mapping[str, frozenset[Modality]]:
    """Every name of every vendor's catalogue, looked up once."""
    names: dict[str, set[Modality]] = {}
    for type_name in type_names():
        for modality in modalities_of_vendor(type_name):
            for name in find(type_name).models(modality):
                names.setdefault(name, set()).add(modality)
    return {name: frozenset(modalities) for name, modalities in names.items()}


def modalities_of_deployment(account: Account, model: str) -> frozenset[Modality]:
    """For what a provider's model probably is: by its vendor's catalogue, by the settings, by what
    the vendor can do at all, by the sound of its name. A `*` is for all that models are known
    for."""
    able = modalities_of_vendor(account.type)
    vendor = find(account.type)
    if "*" in model:
        return frozenset(
            modality
            for modality in able
            if modality == "chat"
            or "chat" not in able
            or vendor.models(modality)
            or named_models(account, modality)
        )
    known = frozenset(
        modality
        for modality in able
        if model in vendor.models(modality).values()
        or model in account.settings.named_for(modality)
    )
    return known or frozenset(_may_be(model, able))


def _may_be(model: str, able: tuple[Modality, ...]) -> tuple[Modality, ...]:
    """Without chat among them, what a vendor's model is for cannot be told from its name."""
    if "chat" not in able:
        return able
    sound = modality_by_sound(model)
    return (sound,) if sound in able else ("chat",)


def read_models(body: bytes) -> frozenset[str] | None:
    """The names in a vendor's list of models, in whichever form; None if it is no list, or only
    its first page."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(answer, dict):
        if answer.get("has_more") or answer.get("nextPageToken"):
            return None
        answer = next((answer[key] for key in ("data", "models") if key in answer), None)
    if not isinstance(answer, list):
        return None
    return frozenset(
        name.removeprefix("models/") for name in map(_name, answer) if name is not None
    )


def _name(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, dict):
        return None
    return next(
        (entry[key] for key in ("id", "model_id", "name") if isinstance(entry.get(key), str)), None
    )


def unlisted(models: Iterable[str], listed: frozenset[str]) -> tuple[str, ...]:
    """Those of `models` that a vendor does not list, not even with a date behind them."""
    return tuple(
        sorted(
            {
                model
                for model in models
                if model not in listed
                and not any(
                    one.startswith(model) and _DATED.fullmatch(one[len(model) :]) for one in listed
                )
            }
        )
    )
