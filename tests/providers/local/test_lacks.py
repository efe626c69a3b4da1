"""What the engines on this machine lack."""

import sys
from pathlib import Path

import pytest

from gateway.providers.local.lacks import lacks
from gateway.providers.local.settings import LocalSettings


def test_files_that_the_configuration_names_have_to_be_there(tmp_path: Path) -> None:
    settings = LocalSettings(
        whisper={"big": str(tmp_path / "big"), "hub": "Systran/faster-whisper-large-v3"},
        llm={"tiny": tmp_path / "tiny.gguf"},
        voice_folder=tmp_path,
    )
    options = {option for option, _ in lacks(settings)}
    assert {"whisper.big", "llm.tiny", "voice_folder"} <= options
    assert "whisper.hub" not in options


def test_files_that_are_there_are_not_missed(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF\3\0\0\0")
    settings = LocalSettings(whisper={"big": str(tmp_path)}, llm={"tiny": tmp_path / "tiny.gguf"})
    options = {option for option, _ in lacks(settings)}
    assert not {"whisper.big", "llm.tiny"} & options


def test_what_nobody_asked_for_names_no_option() -> None:
    assert not {option for option, _ in lacks(LocalSettings())} - {""}


def test_files_of_another_kind_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[lacks.__module__], "missing", lambda folder: None)
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for name in ("kokoro.onnx", "tiny.gguf"):
        (tmp_path / name).write_bytes(pointer)
    settings = LocalSettings(llm={"tiny": tmp_path / "tiny.gguf"}, voice_folder=tmp_path)
    assert {"llm.tiny", "voice_folder"} <= {option for option, _ in lacks(settings)}


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[lacks.__module__]
    monkeypatch.setattr(module, "installed", lambda: True)
    monkeypatch.setattr(module, "cannot_compute", lambda device, kind: f"no {device} for {kind}")
    settings = LocalSettings(
        device="cpu",
        whisper={"hub": "owner/name"},
        whisper_device="cuda",
        whisper_compute_type="float16",
    )
    assert ("whisper_device", "no cuda for float16") in lacks(settings)
