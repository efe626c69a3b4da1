import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.interruption.data import collect, splits
from models.interruption.data.collect import Source, chosen, decoded, parts, spread
from tests.models.interruption.clones import committed

RATE = 16_000


def recording(seconds: float, rate: int = RATE) -> bytes:
    """Half a second of quiet, then a tone."""
    t = np.arange(int(seconds * rate)) / rate
    sound = np.where(t < 0.5, 0.001, 0.3 * np.sin(2 * np.pi * 220 * t))
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def loud(sound: np.ndarray) -> np.ndarray:
    """In Silero's place: a 32 ms frame is speech where it is loud."""
    frames = sound[: len(sound) // 512 * 512].reshape(-1, 512)
    spoken: np.ndarray = np.abs(frames).max(axis=1) > 0.1
    return spoken.astype(np.float32)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A public repository with one long, one known, one silent and one foreign file."""
    work = tmp_path / "work"
    (work / "wav" / "7").mkdir(parents=True)
    (work / "wav" / "7" / "long.wav").write_bytes(recording(9.0, rate=8000))
    (work / "wav" / "7" / "known.wav").write_bytes(recording(2.0))
    (work / "wav" / "7" / "silent.wav").write_bytes(recording(0.4))
    (work / "notes.md").write_text("no recording")
    (work / "texts").write_text("long\tall that is said\n")
    commit = committed(work, tmp_path / "clones" / "someone+speech")
    made = Source(
        "someone/speech", commit, "CC0", "speech_more",
        r"wav/(?P<speaker>\d+)/\w+\.wav", "someone_", 10, ("texts",),
    )  # fmt: skip
    audio = tmp_path / "audio" / "train"
    audio.mkdir(parents=True)
    (audio / "manifest.csv").write_text(
        "path,source_repo,source_path\ntrain/a/known.flac,someone/speech,wav/7/known.wav\n"
    )
    monkeypatch.setattr(collect, "SOURCES", (made,))
    monkeypatch.setattr(collect, "speech_probabilities", loud)
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path / "cache"))
    return made


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    monkeypatch.setattr(sys, "argv", [
        "collect", "--repositories", str(tmp_path / "clones"), "--audio", str(tmp_path / "audio"),
    ])  # fmt: skip
    collect.main()
    with (tmp_path / "cache/interruption/more/train/manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_recordings_come_out_as_the_audio_folder_has_them(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path, monkeypatch)
    assert [row["path"] for row in rows] == [
        "train/speech_more/someone_long-0.flac", "train/speech_more/someone_long-1.flac",
    ]  # fmt: skip
    first = rows[0]
    assert first["speaker"] == "someone_7"
    assert first["text"] == "all that is said"
    assert first["native_rate"] == "8000"
    assert first["licence"] == "CC0"
    assert float(first["onset_s"]) == pytest.approx(0.5, abs=0.07)
    sound, rate = soundfile.read(tmp_path / "cache/interruption/more" / first["path"])
    assert rate == RATE
    assert len(sound) / rate == pytest.approx(float(first["duration_s"]), abs=1e-3)
    assert splits.side(rows[0]) is splits.side(rows[1]), "one person, one side"


def test_a_second_run_keeps_what_is_there(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, monkeypatch)
    monkeypatch.setattr(collect, "decoded", None)  # nothing is read again
    assert run(tmp_path, monkeypatch) == first


def test_a_missing_clone_is_named(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clones" / "someone+speech").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="someone/speech"):
        run(tmp_path, monkeypatch)


def test_people_with_many_files_give_some_from_all_over() -> None:
    assert spread([f"{i}" for i in range(100)], 4) == ["0", "25", "50", "75"]
    assert spread(["a", "b"], 4) == ["a", "b"]


def test_only_files_of_the_pattern_are_taken() -> None:
    source = Source("a/b", "", "", "speech_more", r"(?P<speaker>\w)/(?P<text>\w+)\.wav", "x_", 1)
    found = list(chosen(source, ["1/yes.wav", "1/no.wav", "2/no.wav", "2/no.txt"], {"2/no.wav"}))
    assert found == [("1/yes.wav", "x_1", "yes")]


def test_a_recording_is_cut_into_pieces_and_a_short_rest_is_left() -> None:
    sound = np.ones(14 * RATE, np.float32)
    lengths = [len(part) / RATE for part in parts(sound, 0.0)]
    assert lengths == [6.6, 6.6], "the last 0.8 s are no piece of their own"
    assert [len(p) / RATE for p in parts(sound[: 9 * RATE], 6.5)] == [2.5]
    assert len(list(parts(sound[:RATE], 0.0))) == 1


def test_digital_silence_parts_two_recordings() -> None:
    sound = np.ones(7 * RATE, np.float32)
    sound[3 * RATE : 3 * RATE + 4000] = 0
    assert [len(part) / RATE for part in parts(sound, 0.0)] == [3.0, 3.75]
    assert [len(part) / RATE for part in parts(sound, 3.5)] == [3.5]


def test_what_is_decoded_is_mono_at_16_khz() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((4410, 2)), 44_100, format="WAV")
    sound, native = decoded(file.getvalue())
    assert native == 44_100
    assert sound.shape == (1600,)


def test_where_the_folder_is_the_word_it_is_in_the_name_too(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = replace(source, pattern=r"(?P<text>wav)/(?P<speaker>\d+)/\w+\.wav", texts=())
    monkeypatch.setattr(collect, "SOURCES", (words,))
    rows = run(tmp_path, monkeypatch)
    assert {row["text"] for row in rows} == {"wav"}
    assert rows[0]["path"] == "train/speech_more/someone_wav_long-0.flac"
