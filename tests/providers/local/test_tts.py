"""The voice that runs beside the gateway: how it is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.tts import LocalVoice
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import ProcessVoice
from gateway.weights import fetch


def voice(**settings: object) -> LocalVoice:
    made = LocalSettings.model_validate(settings)
    return LocalVoice(Account("local", "local", "local://", settings=made))


def test_it_is_a_program_of_ours_with_the_operators_folder_and_threads() -> None:
    assert voice(voice_folder="/voices", voice_threads=3).command() == (
        sys.executable,
        "-m",
        "gateway.providers.local.kokoro",
        "--model",
        "/voices",
        "--threads",
        "3",
        "--device",
        "cpu",
    )
    assert voice(device="auto").command()[-2:] == ("--device", "auto")


def test_without_a_folder_it_speaks_with_what_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    assert str(fetch.cache_folder() / "kokoro") in voice().command()


def test_what_it_lacks_is_told_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    missing = voice().check()
    assert missing is not None
    assert "espeak" in missing or "gateway models fetch kokoro" in missing


def test_it_is_a_voice_in_a_process() -> None:
    assert isinstance(voice(), ProcessVoice)
