"""What the engines of ours are set to serve."""

from __future__ import annotations

from pathlib import Path

from gateway.providers.local.settings import LocalSettings


def test_named_models_are_known_for_what_they_do() -> None:
    settings = LocalSettings(llm={"llama": Path("l.gguf")}, whisper={"small": "small"})
    assert list(settings.named_for("chat")) == ["llama"]
    assert list(settings.named_for("stt")) == ["small"]
    assert list(settings.named_for("tts")) == []
