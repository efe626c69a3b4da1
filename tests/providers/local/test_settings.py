"""What the engines of ours are set to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.providers.local.settings import LocalSettings


def test_named_models_are_known_for_what_they_do() -> None:
    settings = LocalSettings(llm={"llama": Path("l.gguf")}, whisper={"small": "small"})
    assert list(settings.named_for("chat")) == ["llama"]
    assert list(settings.named_for("stt")) == ["small"]
    assert list(settings.named_for("tts")) == []


def test_a_tilde_is_the_home_folder_and_a_hub_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    settings = LocalSettings(whisper={"mine": "~/big", "hub": "owner/name"})
    assert settings.whisper == {"mine": "/home/op/big", "hub": "owner/name"}
