import csv
from pathlib import Path

import pytest

from models.interruption import splits
from models.interruption.splits import Side

AUDIO = Path(__file__).parents[4] / "shared" / "audio"


def ami(stem: str) -> dict[str, str]:
    return {"path": f"train/conversation_ami/{stem}.flac", "speaker": "", "text": ""}


def rows() -> list[dict[str, str]]:
    with (AUDIO / "train" / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_recordings_of_one_person_are_on_one_side():
    sides: dict[str, set[Side]] = {}
    for row in rows():
        if row["speaker"] and "conversation_ami" not in row["path"]:  # many in one file
            sides.setdefault(row["speaker"], set()).add(splits.side(row))
    assert all(len(found) == 1 for found in sides.values())


def test_no_ami_speaker_is_in_two_groups():
    with (AUDIO / "train" / "conversation_ami" / "segments.csv").open(newline="") as file:
        groups: dict[str, set[int]] = {}
        for row in csv.DictReader(file):
            stem = Path(row["path"]).stem
            groups.setdefault(row["speaker"], set()).add(splits.ami_group(stem))
    assert all(len(found) == 1 for found in groups.values())


def test_every_fold_holds_out_one_ami_group_and_all_folds_together_hold_out_each_once():
    stems = [stem for group in splits.AMI_GROUPS for stem in group]
    for stem in stems:
        folds = [f for f in range(splits.AMI_FOLDS) if splits.side(ami(stem), f) is Side.EVAL]
        assert folds == [splits.ami_group(stem)]


def test_the_published_split_does_not_move():
    assert splits.side(ami("tst00")) is Side.EVAL
    assert splits.side(ami("trn00")) is Side.TRAIN
    assert splits.side_of_group("speech_libri/libri_103") is Side.TRAIN
    assert splits.voice_side("af_kore") is Side.EVAL
    assert splits.voice_side("af_heart") is Side.TRAIN


def test_an_unknown_ami_recording_is_refused():
    with pytest.raises(ValueError, match="no AMI recording"):
        splits.side(ami("nowhere"))
