"""What was said -> the probability that the last speaker has finished.

Runs LiveKit's published text models as their plugin does (the facts are in
`livekit-plugins-turn-detector` 1.8.9, base.py): the last six messages, lower case and without
punctuation, neighbours of one role joined, through the tokenizer's own chat template, cut before
the end of the last message, the newest 128 tokens. None of these models comes with Parley: their
licence is the operator's to accept.
"""

from __future__ import annotations

import importlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.engines.onnx import TokenModel
from gateway.engines.types import ModelError
from gateway.settings.eot import TurnTextConfig
from gateway.settings.extras import how_to_install

TURNS_MAX: Final = 6
TOKENS_MAX: Final = 128
END_OF_MESSAGE: Final = "<|im_end|>"

CONTENT_CHARS_MAX: Final = 8000
"""Of a longer message only the end is looked at: 128 tokens are far less."""

_EXTRA: Final = f"eot.text.model: needs the package transformers ({how_to_install('turn-text')})"


@dataclass(frozen=True, slots=True)
class Turn:
    """Something said; `role` is "user" or "assistant"."""

    role: str
    content: str


def normalized(text: str) -> str:
    """`text` as the models know it: NFKC, lower case, no punctuation but ' and -, single spaces."""
    folded = unicodedata.normalize("NFKC", text.lower())
    kept = "".join(char for char in folded if char in "'-" or unicodedata.category(char)[0] != "P")
    return " ".join(kept.split())


def prepared(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The newest turns as messages for a chat template, neighbours of one role joined."""
    messages: list[dict[str, str]] = []
    for turn in turns[-TURNS_MAX:]:
        content = normalized(turn.content[-CONTENT_CHARS_MAX:])
        if not turn.content:
            continue
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += f" {content}"
        else:
            messages.append({"role": turn.role, "content": content})
    return messages


class Tokenizer(Protocol):
    """What of a `transformers` tokenizer is used."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...

    def __call__(self, text: str, **options: Any) -> Mapping[str, list[int]]: ...


class TextTurnModel:
    """A text model with its tokenizer and thresholds. `run` is what the batcher calls."""

    def __init__(
        self,
        name: str,
        model: TokenModel,
        tokenizer: Tokenizer,
        thresholds: Mapping[str, float],
        threshold: float | None = None,
    ) -> None:
        self.name = name
        self._model = model
        self._tokenizer = tokenizer
        self._thresholds = thresholds
        self._threshold = threshold

    def threshold(self, language: str) -> float | None:
        """The threshold for a language ("en-US", "en"), None if the model does not know it."""
        if self._threshold is not None:
            return self._threshold
        tag = language.strip().lower().replace("_", "-")
        return self._thresholds.get(tag, self._thresholds.get(tag.split("-", 1)[0]))

    def text(self, turns: Sequence[Turn]) -> str:
        """The conversation as the model reads it, open at the end."""
        whole: str = self._tokenizer.apply_chat_template(
            prepared(turns), add_generation_prompt=False, add_special_tokens=False, tokenize=False
        )
        end = whole.rfind(END_OF_MESSAGE)
        return whole[:end] if end >= 0 else whole

    def run(self, conversations: list[Sequence[Turn]]) -> list[float]:
        """The probability for each conversation; -1 for one in which nothing was said."""
        return [self._probability(turns) for turns in conversations]

    def _probability(self, turns: Sequence[Turn]) -> float:
        if not prepared(turns):
            return -1.0
        encoded = self._tokenizer(
            self.text(turns), add_special_tokens=False, max_length=TOKENS_MAX, truncation=True
        )
        tokens = encoded["input_ids"]
        return self._model.run(tokens) if tokens else -1.0


def load(config: TurnTextConfig) -> TextTurnModel | None:
    """The configured text model, None if there is none. Raises ModelError."""
    if not config.model:  # "" is ${VAR:-} of a variable that is not set
        return None
    folder = Path(config.model).expanduser()
    if not folder.is_dir():
        folder = _downloaded(config)
    model = TokenModel(folder / config.file, threads=config.threads)
    transformers = _module("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, truncation_side="left"
        )
    except Exception as error:  # transformers' own errors share no base class
        raise ModelError(f"eot.text.model: {folder} has no tokenizer: {error}") from None
    if not tokenizer.chat_template:
        raise ModelError(f"eot.text.model: the tokenizer in {folder} has no chat template")
    thresholds = read_languages(folder / "languages.json")
    if not thresholds and config.threshold is None:
        raise ModelError(
            f"eot.text.threshold: missing, and {folder} has no languages.json with thresholds"
        )
    return TextTurnModel(config.model, model, tokenizer, thresholds, config.threshold)


def read_languages(path: Path) -> dict[str, float]:
    """Thresholds by language tag in lower case, from {"en": {"threshold": 0.01}, ...}; none where
    there is no such file. Raises ModelError."""
    try:
        languages = json.loads(path.read_text("utf-8"))
        return {
            str(tag).lower(): float(entry["threshold"])
            for tag, entry in languages.items()
            if entry.get("threshold") is not None
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from None


_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def _downloaded(config: TurnTextConfig) -> Path:
    """The folder that the hub's own client keeps the repository in."""
    assert config.model is not None
    if not _REPOSITORY.fullmatch(config.model):
        raise ModelError(
            f"eot.text.model: {config.model!r} is neither a folder nor a hub repository "
            "(owner/name)"
        )
    hub = _module("huggingface_hub")
    try:
        # its client keeps what it has fetched, and makes do with that while the hub is away
        folder = hub.snapshot_download(
            config.model,
            revision=config.revision or None,
            allow_patterns=["*.json", "*.txt", "*.jinja", config.file],
        )
    except Exception as error:  # the client's errors share no base class
        raise ModelError(f"eot.text.model: cannot fetch {config.model}: {error}") from None
    return Path(folder)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ModelError(_EXTRA) from None
