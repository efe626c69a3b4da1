import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.interruption.data import splits
from models.interruption.data.clips import Clips
from models.interruption.data.splits import Side

RATE = 16_000
COLUMNS = ("path", "label", "kind", "speaker", "onset_s", "text", "note")


def write(folder: Path, name: str, sound: np.ndarray) -> None:
    path = folder / "train" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE, subtype="PCM_16")


def manifest(folder: Path, rows: Sequence[tuple[str, ...]]) -> None:
    (folder / "train").mkdir(parents=True, exist_ok=True)
    with (folder / "train" / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The audio folder with one sentence, and more: one sentence, one noise, one interview."""
    audio, more = tmp_path / "audio", tmp_path / "more"
    tone = 0.3 * np.sin(np.arange(8 * RATE) * 0.1)
    write(audio, "speech_libri/a.flac", tone)
    manifest(audio, [("train/speech_libri/a.flac", "speech", "", "libri_7", "0.5", "", "")])
    (audio / "train/conversation_ami").mkdir()
    (audio / "train/conversation_ami/segments.csv").write_text("path\n")
    write(more, "speech_more/b.flac", tone)
    write(more, "noise/c.flac", tone)
    manifest(more, [
        ("train/speech_more/b.flac", "speech", "", "snsd_CleanSpeech", "0.5", "", ""),
        ("train/noise/c.flac", "noise", "", "snsd_Noise", "0.0", "", ""),
    ])  # fmt: skip
    call = tone.copy()
    call[5 * RATE : 6 * RATE] *= 0.1  # 20 dB less
    write(more, "interviews/CAR0001.flac", call)
    (more / "train/interviews/segments.csv").write_text(
        "path,start_s,end_s,decisive_s,label,text\n"
        "train/interviews/CAR0001.flac,1.000,3.000,1.400,turn,Okay and then\n"
        "train/interviews/CAR0001.flac,5.000,5.500,5.000,backchannel,Okay.\n"
    )
    return audio, more


def test_more_recordings_stand_beside_those_of_the_audio_folder(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    audio, more = folders
    clips = Clips(audio, tmp_path / "none", Side.TRAIN, more=more)
    assert [clip.name for clip in clips.by_kind["speech_more"]] == ["speech_more/b"]
    assert clips.by_kind["speech_more"][0].decisive_s == 0.5, "a sentence takes the floor"
    assert clips.by_kind["noise"][0].decisive_s is None
    without = Clips(audio, tmp_path / "none", Side.TRAIN)
    assert set(without.by_kind) <= {"speech_libri"}


def test_of_single_words_some_listen_and_the_rest_call(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    audio, more = folders
    rows = []
    for word in ("stop", "seven", "right", "wow"):
        name = f"speech_words/sc_{word}_a_nohash_0-0.flac"
        write(more, name, 0.3 * np.sin(np.arange(RATE) * 0.1))
        rows.append((f"train/{name}", "speech", "", "sc_a", "0.25", word, ""))
    manifest(more, rows)
    side = splits.side({"path": rows[0][0], "speaker": "sc_a", "text": "stop"})
    clips = Clips(audio, tmp_path / "none", side, more=more)
    calls, listening = clips.by_kind["word_call"], clips.by_kind["word_backchannel"]
    assert [(clip.text, clip.decisive_s) for clip in calls] == [("stop", 0.25), ("seven", 0.25)]
    assert [(clip.text, clip.decisive_s) for clip in listening] == [("right", None), ("wow", None)]
    assert "speech_words" not in clips.by_kind


def test_an_interview_gives_turns_and_quieter_backchannels(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    audio, more = folders
    clips = Clips(audio, tmp_path / "none", Side.TRAIN, more=more)
    (turn,), (short,) = clips.by_kind["interview_turn"], clips.by_kind["interview_backchannel"]
    assert turn.onset_s == 0.25
    assert turn.decisive_s == pytest.approx(0.65)
    assert turn.quieter_db == pytest.approx(0, abs=0.1)
    assert short.decisive_s is None
    assert short.quieter_db == pytest.approx(20, abs=0.2)
    assert len(short.samples) == pytest.approx((0.25 + 0.5 + 0.12) * RATE, abs=2)


def test_an_interview_is_on_one_side(folders: tuple[Path, Path], tmp_path: Path) -> None:
    audio, more = folders
    clips = Clips(audio, tmp_path / "none", Side.EVAL, more=more)
    assert not clips.by_kind["interview_turn"]


def test_recorded_laughs_are_read_from_their_own_table(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    audio, more = folders
    write(more, "laugh/ES2002a-1@2.00.flac", 0.3 * np.sin(np.arange(RATE) * 0.1))
    row = ("train/laugh/ES2002a-1@2.00.flac", "laugh", "laugh", "ES2002a-1", "0.05", "", "")
    with (more / "train/laughs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, row])
    (laugh,) = Clips(audio, tmp_path / "none", Side.TRAIN, more=more).by_kind["laugh"]
    assert laugh.decisive_s is None
    assert laugh.group == "interviews/ES2002a-1"
    assert not Clips(audio, tmp_path / "none", Side.EVAL, more=more).by_kind["laugh"]
