"""POST /decisions behind the real application: which model decides, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config import load
from gateway.conversations.chat.decisions_route import (
    ANSWER_KEPT_S,
    ANSWERS_KEPT,
    DecisionsRoute,
)
from gateway.upstreams.errors import Failure


def route(tmp_path: Path, chat: str = "") -> DecisionsRoute:
    file = tmp_path / "c.yaml"
    file.write_text(
        "providers: {openai: {api_key: x}}\nlocal_stand_in: false\n"
        "usage: {enabled: false}\n"
        f"chat: {{{chat}}}\n"
    )
    return DecisionsRoute(Gateway(load(file, {}, dev=True)).installation.chat)


@pytest.mark.parametrize(
    ("chat", "asked", "decides"),
    [
        ("", "openai/gpt-4.1-mini", "openai/gpt-4.1-mini"),
        ("", "openai/gpt-6-luna-decisions", "openai/gpt-6-luna"),
        ("decision_model: openai/gpt-4.1", "openai/gpt-6-luna-decisions", "openai/gpt-4.1"),
        ("decision_model: openai/gpt-4.1", "typesafe/jev", "openai/gpt-4.1"),
        ("decision_model: openai/gpt-4.1", "openai/gpt-4o", "openai/gpt-4o"),
    ],
)
def test_a_chat_model_decides(tmp_path: Path, chat: str, asked: str, decides: str) -> None:
    assert route(tmp_path, chat)._model(asked) == decides


def test_a_model_that_nobody_serves_says_what_could_be_set(tmp_path: Path) -> None:
    found = route(tmp_path)._model("typesafe/jev")
    assert isinstance(found, Failure)
    assert "chat.decision_model" in found.message


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    made = route(tmp_path)
    for number in range(ANSWERS_KEPT + 3):
        made.keep(str(number).encode(), b"{}")
    assert len(made._kept) == ANSWERS_KEPT
    assert b"0" not in made._kept
    assert ANSWER_KEPT_S < 3600
