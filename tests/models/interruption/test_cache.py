"""Where the programs that make the model look for recordings."""

import argparse
from pathlib import Path

import pytest

from models.interruption.cache import add_audio


def chosen(*arguments: str) -> Path:
    parser = argparse.ArgumentParser()
    add_audio(parser)
    audio: Path = parser.parse_args(arguments).audio
    return audio


def recordings(folder: Path) -> Path:
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "manifest.csv").write_text("path\n")
    return folder


def test_recordings_are_looked_for_in_the_cache_unless_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    monkeypatch.delenv("PARLEY_AUDIO", raising=False)
    kept = recordings(tmp_path / "audio")
    named = recordings(tmp_path / "named")
    given = recordings(tmp_path / "given")

    assert chosen() == kept
    monkeypatch.setenv("PARLEY_AUDIO", str(named))
    assert chosen() == named
    assert chosen("--audio", str(given)) == given


def test_without_recordings_the_error_says_what_is_expected_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARLEY_AUDIO", str(tmp_path))

    with pytest.raises(SystemExit):
        chosen()

    (line,) = [one for one in capsys.readouterr().err.splitlines() if "error" in one]
    assert f"{tmp_path} has no train/manifest.csv" in line
    assert "PARLEY_AUDIO" in line
