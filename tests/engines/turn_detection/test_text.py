"""A conversation as text models read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from gateway.engines.onnx import TokenModel
from gateway.engines.turn_detection.text import (
    TextTurnModel,
    Turn,
    load,
    normalized,
    prepared,
    read_languages,
)
from gateway.engines.types import ModelError
from gateway.settings.eot import TurnTextConfig
from tests.fakes import turn_model


class LetterTokenizer:
    """A token for each letter: its number in Unicode."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> str:
        assert options == {
            "add_generation_prompt": False,
            "add_special_tokens": False,
            "tokenize": False,
        }
        return "".join(f"<{m['role']}>{m['content']}<|im_end|>" for m in conversation)

    def __call__(self, text: str, **options: Any) -> Mapping[str, list[int]]:
        assert options == {"add_special_tokens": False, "max_length": 128, "truncation": True}
        return {"input_ids": [ord(char) for char in text][-128:]}


@pytest.fixture
def model(tmp_path: Path) -> TextTurnModel:
    tokens = TokenModel(turn_model.write_text(tmp_path / "m.onnx"))
    return TextTurnModel("a model", tokens, LetterTokenizer(), {"en": 0.01, "pt-br": 0.02})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  World!\n", "hello world"),
        ("I'm well-known.", "i'm well-known"),
        ("¿Qué tal?", "qué tal"),
        ("Ｆｕｌｌ width", "full width"),
        ("...", ""),
    ],
)
def test_text_is_told_without_case_and_punctuation(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_neighbours_of_one_role_are_joined() -> None:
    turns = [Turn("user", "One."), Turn("user", "Two."), Turn("assistant", "Three?")]

    assert prepared(turns) == [
        {"role": "user", "content": "one two"},
        {"role": "assistant", "content": "three"},
    ]


def test_only_the_newest_six_turns_are_read() -> None:
    turns = [Turn("user" if i % 2 else "assistant", str(i)) for i in range(9)]

    assert [message["content"] for message in prepared(turns)] == list("345678")


def test_the_last_message_is_left_open(model: TextTurnModel) -> None:
    text = model.text([Turn("assistant", "Yes?"), Turn("user", "I want")])

    assert text == "<assistant>yes<|im_end|><user>i want"


def test_the_probability_is_that_after_the_last_token(model: TextTurnModel) -> None:
    assert model.run([[Turn("user", "ab")], [Turn("user", "ad")]]) == pytest.approx([0.098, 0.1])


def test_where_nothing_was_said_nothing_is_predicted(model: TextTurnModel) -> None:
    assert model.run([[], [Turn("user", "")]]) == [-1.0, -1.0]


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", 0.01), ("en-US", 0.01), ("pt-BR", 0.02), ("pt_br", 0.02), ("pt", None), ("xx", None)],
)
def test_a_threshold_is_that_of_the_language_or_its_base(
    model: TextTurnModel, language: str, expected: float | None
) -> None:
    assert model.threshold(language) == expected


def test_a_configured_threshold_is_that_of_every_language(tmp_path: Path) -> None:
    tokens = TokenModel(turn_model.write_text(tmp_path / "m.onnx"))
    model = TextTurnModel("a model", tokens, LetterTokenizer(), {"en": 0.01}, 0.3)

    assert (model.threshold("en"), model.threshold("xx")) == (0.3, 0.3)


def test_no_text_model_is_the_default() -> None:
    assert load(TurnTextConfig()) is None


def test_languages_without_a_threshold_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "languages.json"
    path.write_text(json.dumps({"en": {"threshold": 0.01}, "pt-BR": {"threshold": 0.02}, "x": {}}))

    assert read_languages(path) == {"en": 0.01, "pt-br": 0.02}
    assert read_languages(tmp_path / "missing.json") == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"en": 1}', '{"en": {"threshold": "x"}}'])
def test_languages_that_cannot_be_read_are_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "languages.json"
    path.write_text(content)

    with pytest.raises(ModelError, match="cannot be read"):
        read_languages(path)


def test_a_name_that_is_neither_folder_nor_repository_is_refused() -> None:
    with pytest.raises(ModelError, match="neither a folder nor a hub repository"):
        load(TurnTextConfig(model="/no/such/folder"))


class Hub:
    """Stands for what huggingface_hub does: gives `folder`, or fails."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str | None, list[str]]] = []

    def snapshot_download(
        self, name: str, *, revision: str | None, allow_patterns: list[str]
    ) -> str:
        self.asked.append((name, revision, allow_patterns))
        if self.folder is None:
            raise OSError("there is no way to the hub")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(turn_model.write_text_folder(tmp_path / "kept"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_a_repository_is_fetched_at_the_revision_that_was_named(hub: Hub) -> None:
    config = TurnTextConfig(model="livekit/turn-detector", revision="v0.4.1-intl", file="m.onnx")

    model = load(config)

    assert model is not None
    assert (model.name, model.threshold("en-GB")) == ("livekit/turn-detector", 0.01)
    ((name, revision, patterns),) = hub.asked
    assert (name, revision) == ("livekit/turn-detector", "v0.4.1-intl")
    assert "m.onnx" in patterns


def test_a_hub_that_cannot_be_reached_is_an_error_with_its_words(hub: Hub) -> None:
    hub.folder = None

    with pytest.raises(ModelError, match=r"cannot fetch some/model.*no way to the hub"):
        load(TurnTextConfig(model="some/model"))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(ModelError, match=r"pip install '.\[turn-text\]'"):
        load(TurnTextConfig(model="some/model"))


def test_a_folder_without_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load(TurnTextConfig(model=str(tmp_path)))


def test_a_folder_is_loaded_with_its_own_tokenizer_and_template(tmp_path: Path) -> None:
    folder = turn_model.write_text_folder(tmp_path / "model")
    config = TurnTextConfig(model=str(folder), file="m.onnx", threshold=0.2)

    model = load(config)

    assert model is not None
    assert model.text([Turn("user", "Good evening!")]) == "<|im_start|>user: good evening"
    assert model.run([[Turn("user", "Good evening!")]]) == pytest.approx([0.004])


def test_an_empty_name_is_no_model() -> None:
    assert load(TurnTextConfig(model="", revision="")) is None
