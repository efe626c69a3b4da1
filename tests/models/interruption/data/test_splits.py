import pytest

from models.interruption.data import splits
from models.interruption.data.splits import Side

# Who speaks in which recording, by the RTTM files of AMI.
AMI_SPEAKERS = {
    "dev00": "MEE009 MEE012",
    "dev01": "MEE009 MEE012",
    "trn00": "MEE067 MEE068 MEO069",
    "trn01": "FEO065 FEO066 MEE068 MEO069",
    "trn02": "FEO066",
    "trn03": "MEE067 MEO069",
    "trn04": "MEE075 MEE076 MEO074",
    "trn05": "FEE078 FEE080 FEE081 FEO079",
    "trn06": "FEE083 FEE085 MEO082",
    "trn07": "FEE087 FEE088 MEE089 MEO086",
    "trn08": "FEE087 FEE088 MEE089 MEO086",
    "trn09": "FEE083 MEE094 MEE095",
    "tst00": "FEO070 FEO072 MEE071 MEE073",
    "tst01": "FEO070 FEO072 MEE071 MEE073",
}


def ami(stem: str) -> dict[str, str]:
    return {"path": f"train/conversation_ami/{stem}.flac", "speaker": "", "text": ""}


@pytest.mark.parametrize("folder", ["speech_libri", "speech_words"])
def test_all_recordings_of_one_person_are_on_one_side(folder: str) -> None:
    sides: dict[str, set[Side]] = {}
    for person in range(100):
        for number in range(3):
            path = f"train/{folder}/{person}-{number}.flac"
            row = {"path": path, "speaker": f"reader_{person}", "text": f"word {number}"}
            sides.setdefault(row["speaker"], set()).add(splits.side(row))
    assert all(len(found) == 1 for found in sides.values())
    held_out = sum(found == {Side.EVAL} for found in sides.values())
    assert 10 <= held_out <= 40, "about a quarter of the people"


def test_recordings_whose_person_is_unknown_go_together_where_they_may_share_one() -> None:
    for folder, stems, text in (
        ("short_calls", ("amelia-en-1", "amelia-en-2"), "amelia/en"),
        ("noise", ("babycry_phone7_1", "babycry_phone7_2"), ""),
        ("noise", ("bg_noise1", "bg_noise8"), ""),
    ):
        rows = [{"path": f"train/{folder}/{s}.flac", "speaker": "", "text": text} for s in stems]
        assert len({splits.group(row) for row in rows}) == 1, stems


def test_no_ami_speaker_is_in_two_groups() -> None:
    groups: dict[str, set[int]] = {}
    for stem, speakers in AMI_SPEAKERS.items():
        for speaker in speakers.split():
            groups.setdefault(speaker, set()).add(splits.ami_group(stem))
    assert sorted(AMI_SPEAKERS) == sorted(stem for group in splits.AMI_GROUPS for stem in group)
    assert all(len(found) == 1 for found in groups.values())


def test_every_fold_holds_out_one_ami_group_and_all_folds_together_hold_out_each_once() -> None:
    stems = [stem for group in splits.AMI_GROUPS for stem in group]
    for stem in stems:
        folds = [f for f in range(splits.AMI_FOLDS) if splits.side(ami(stem), f) is Side.EVAL]
        assert folds == [splits.ami_group(stem)]


def test_the_published_split_does_not_move() -> None:
    assert splits.side(ami("tst00")) is Side.EVAL
    assert splits.side(ami("trn00")) is Side.TRAIN
    assert splits.side_of_group("speech_libri/libri_103") is Side.TRAIN
    assert splits.voice_side("af_kore") is Side.EVAL
    assert splits.voice_side("af_heart") is Side.TRAIN


def test_an_unknown_ami_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="no AMI recording"):
        splits.side(ami("nowhere"))


def test_a_laugh_is_on_the_side_of_the_recording_that_it_is_from() -> None:
    def laugh(recording: str) -> dict[str, str]:
        return {"path": f"train/laugh/{recording}@1.00.flac", "speaker": recording, "text": ""}

    assert splits.side(laugh("ES2002a-091500_420")) is Side.TRAIN
    assert splits.side(laugh("GAS0001")) is Side.EVAL
    assert splits.group(laugh("GAS0001")) == "interviews/GAS0001"
    for stem in AMI_SPEAKERS:
        assert splits.group(laugh(stem)) == splits.group(ami(stem))
        for fold in (None, 0, 3):
            assert splits.side(laugh(stem), fold) is splits.side(ami(stem), fold)
    with pytest.raises(ValueError, match="CAR0005"):
        splits.side(laugh("CAR0005"))
