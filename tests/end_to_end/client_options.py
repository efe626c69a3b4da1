"""Every option that the installed clients have for /stt, /tts and /chat/completions, and what
reaches its provider of it.

`python -m tests.end_to_end.client_options` prints the table: each option of each option class, what
was tried, and how the provider's request differed from one without it. The adapters say that
themselves, so no server and no provider is asked.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from gateway.providers._shared.voice_options import VOICES
from gateway.upstreams.chat import ChatRequest
from gateway.upstreams.dial import Dial
from gateway.upstreams.errors import FailureError
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Modality, find, type_names
from gateway.upstreams.tts import RequestVoice, SocketVoice, SpeechRequest
from tests.end_to_end.client_names import FILES
from tests.end_to_end.clients import CLIENTS, Client
from tests.providers.recognizers import recognizer

CLASSES: Final = re.compile(r"^(?P<vendor>\w+?)(?:Flux|STT|TTS)?Options$")
"""Option classes are called after their vendor; those of chat have one class for all."""

OTHERS: Final = frozenset({"InferenceSTTOptions", "InferenceTTSOptions", "InferenceLLMOptions"})
"""What is no provider's option."""

CHAT_CLASS: Final = "ChatCompletionOptions"
CHAT: Final = (("openai", "gpt-4.1-mini"), ("openai", "gpt-5.1"))

BESIDE: Final[dict[tuple[Modality, str], dict[str, Any]]] = {
    ("stt", "speechmatics"): {"diarization": "speaker"},
}
"""What is set with and without an option: some mean nothing alone."""

UNREACHED: Final[dict[tuple[Modality, str, str], str]] = {
    ("stt", "deepgram", "callback"): "answers come on the socket; a caller names no address",
    ("stt", "deepgram", "callback_method"): "as callback",
    ("stt", "deepgram", "channels"): "audio is mono here",
    ("stt", "deepgram", "mip_opt_out"): "always sent, unless the operator allows training",
    ("tts", "deepgram", "mip_opt_out"): "always sent, unless the operator allows training",
    ("stt", "speechmatics", "enable_partials"): "always on",
    ("tts", "elevenlabs", "preferred_alignment"): "chosen among what the provider sends anyway",
    ("tts", "elevenlabs", "sync_alignment"): "always on",
    ("tts", "xai", "bit_rate"): "audio is raw here",
}
"""Options that make no difference for the provider, and why."""

LANGUAGES: Final = ("en", "de")

VALUES: Final[Sequence[Any]] = (
    True, False, 1, 2, 0.4, 0.7, 0.9, 1.2, 3, 10, 100, 300, 700, 5000, 32000,
    "low", "fast", "finance", "en-GB", "a:b", ["alpha", "beta"], [["alpha", 1.5]], [120, 160],
    [{"content": "alpha"}], {"alpha": 1}, {"permitted_marks": ["."]}, {"volume_threshold": 1.0},
)  # fmt: skip
"""What is tried, in this order, beside what an option's type lists: the first that the provider is
told counts."""


WITH_OPTIONS: tuple[Modality, ...] = ("chat", "stt", "tts")
"""Kinds of models whose options have a type of their own in the clients."""


@dataclass(frozen=True)
class Option:
    """An option as a client has it. `literals` are the values that its type lists."""

    modality: Modality
    vendor: str
    name: str
    literals: tuple[Any, ...] = ()


@dataclass
class Row:
    """What became of an option."""

    option: Option
    clients: set[str] = field(default_factory=set)
    model: str = ""
    value: Any = None
    reached: str = ""
    """What the provider's request has that it has not without the option; empty: nothing."""


def rows() -> list[Row]:
    """Every option of every client."""
    found: dict[tuple[str, str, str], Row] = {}
    for client in CLIENTS:
        for option in options(client):
            key = option.modality, option.vendor, option.name
            row = found.setdefault(key, Row(option))
            row.clients.add(client.name)
            if option.literals and not row.option.literals:
                row.option = option
    for row in found.values():
        _try(row)
    return [found[key] for key in sorted(found)]


def options(client: Client) -> Iterator[Option]:
    """Those of one client."""
    client.ensure()
    for modality in WITH_OPTIONS:
        name = FILES[modality]
        if client.kind == "node":
            (path, *_) = client.folder().glob(f"**/@livekit/agents/dist/inference/{name}.d.ts")
            found = _typescript(path.read_text())
        else:
            (path, *_) = client.folder().glob(f"**/livekit/agents/inference/{name}.py")
            found = _python(path.read_text())
        for class_name, option, literals in found:
            vendor = "openai" if class_name == CHAT_CLASS else _vendor(class_name)
            if class_name not in OTHERS and vendor:
                yield Option(modality, vendor, option, literals)


def _vendor(class_name: str) -> str:
    found = CLASSES.match(class_name)
    name = found["vendor"].lower() if found else ""
    return name if name in type_names() else ""


def _python(text: str) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Fields of every TypedDict."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and any(
            "TypedDict" in ast.unparse(b) for b in node.bases
        ):
            for one in node.body:
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                    yield node.name, one.target.id, tuple(_literals(one.annotation))


def _literals(annotation: ast.expr) -> Iterator[Any]:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            for part in ast.walk(node.slice):
                if isinstance(part, ast.Constant):
                    yield part.value


def _typescript(text: str) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Fields of every interface."""
    pattern = re.compile(r"export interface (\w+)[^{]*\{(.*?)\n\}", re.S)
    for name, body in pattern.findall(text):
        for option, kind in re.findall(r"^    (\w+)\??: ([^;]*);", body, re.M):
            yield name, option, tuple(re.findall(r"'([^']+)'", kind))


# -- what reaches a provider


def _try(row: Row) -> None:
    option = row.option
    for vendor, model in _models(option):
        for value in (*option.literals, *VALUES):
            try:
                differs = _difference(option.modality, vendor, model, option.name, value)
            except (FailureError, AssertionError, TypeError, ValueError):
                continue  # not a value of its type
            if differs:
                row.model, row.value, row.reached = model, value, differs
                return


def _models(option: Option) -> Sequence[tuple[str, str]]:
    if option.modality == "chat":
        return CHAT
    models = find(option.vendor).models(option.modality)
    return [(option.vendor, model) for model in dict.fromkeys(models.values())]


def _difference(modality: Modality, vendor: str, model: str, name: str, value: Any) -> str:
    """What a request says that it would not without the option."""
    beside = BESIDE.get((modality, vendor), {})
    for language in LANGUAGES:
        without = _request(modality, vendor, model, language, beside)
        with_it = _request(modality, vendor, model, language, {**beside, name: value})
        told = [part for part in with_it if part not in without]
        missing = [part for part in without if part not in with_it]
        if told or missing:
            return " ".join([*told, *(f"-{part}" for part in missing)])
    return ""


def _request(
    modality: Modality, vendor: str, model: str, language: str, given: dict[str, Any]
) -> list[str]:
    """All that a provider is told, in small parts."""
    if modality == "stt":
        return _of_recogniser(vendor, model, language, given)
    if modality == "tts":
        return _of_voice(vendor, model, language, given)
    return _of_chat(vendor, model, given)


def _of_recogniser(vendor: str, model: str, language: str, given: dict[str, Any]) -> list[str]:
    made = recognizer(vendor, model, language, **given)
    dial = made.dial()
    assert isinstance(dial, Dial)
    frames = [one for one in made.opening() if isinstance(one, str)]
    return [*_query(dial.url), *(part for one in frames for part in _leaves(json.loads(one)))]


def _of_voice(vendor: str, model: str, language: str, given: dict[str, Any]) -> list[str]:
    read = VOICES[vendor].read(given, vendor).options
    voice = _voice(vendor)
    request = SpeechRequest(model, None, language, 24_000, read)
    if isinstance(voice, SocketVoice):
        dialogue = voice.dialogue()
        frames = [*dialogue.begin("u", request), *dialogue.say("u", "Hi. "), *dialogue.finish("u")]
        texts = [one for one in frames if isinstance(one, str)]
        packed = [repr(one) for one in frames if isinstance(one, bytes)]
        told = [part for one in texts for part in _leaves(json.loads(one))]
        return [*_query(voice.dial(request).url), *told, *packed]
    assert isinstance(voice, RequestVoice)
    return _leaves(json.loads(voice.dial(request, "Hi.").body))


@cache
def _voice(vendor: str) -> Any:
    found = find(vendor)
    assert found.tts is not None
    return found.tts.adapter(found.account(vendor, found.settings(type=vendor, api_key="k")))


def _of_chat(vendor: str, model: str, given: dict[str, Any]) -> list[str]:
    found = find(vendor)
    assert found.chat is not None
    upstream = found.chat.adapter(found.account(vendor, found.settings(type=vendor, api_key="k")))
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **given}
    dial = upstream.dial(ChatRequest(body, "m", True), Attempt(vendor, model))
    return _leaves(json.loads(dial.body))


def _query(url: str) -> list[str]:
    return [part for part in url.partition("?")[2].split("&") if part]


def _leaves(value: Any, place: str = "") -> list[str]:
    """`a.b=1` for each value in a JSON document."""
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in _leaves(one, f"{place}.{key}")]
    if isinstance(value, list):
        return [leaf for i, one in enumerate(value) for leaf in _leaves(one, f"{place}.{i}")]
    return [f"{place.lstrip('.')}={json.dumps(value)}"]


def main() -> None:
    for row in rows():
        option = row.option
        why = UNREACHED.get((option.modality, option.vendor, option.name), "NOTHING")
        reached = f"{json.dumps(row.value)} -> {row.reached[:100]}" if row.reached else why
        print(f"{option.modality:5} {option.vendor:14} {option.name:40} {row.model:28} {reached}")


if __name__ == "__main__":
    main()
