import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.interruption import splits
from models.interruption.splits import Side

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
"""Who is heard in each recording, as its RTTM file says."""
NAMES = st.text("abcdefghij0123456789_-", min_size=1, max_size=12)


def ami(stem: str) -> dict[str, str]:
    return {"path": f"train/conversation_ami/{stem}.flac", "speaker": "", "text": ""}


@given(speaker=NAMES, stems=st.lists(NAMES, min_size=1), texts=st.lists(NAMES, min_size=1))
def test_all_recordings_of_one_person_are_on_one_side(speaker, stems, texts):
    sides = {
        splits.side({"path": f"train/speech/{stem}.flac", "speaker": speaker, "text": text})
        for stem in stems
        for text in texts
    }
    assert len(sides) == 1


def test_no_ami_speaker_is_in_two_groups():
    assert sorted(AMI_SPEAKERS) == sorted(stem for group in splits.AMI_GROUPS for stem in group)
    groups: dict[str, set[int]] = {}
    for stem, speakers in AMI_SPEAKERS.items():
        for speaker in speakers.split():
            groups.setdefault(speaker, set()).add(splits.ami_group(stem))
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
