"""Decides, from names alone, which recordings and voices may train the model.

Everything here is a pure function of a manifest row, so data, training and evaluation can ask
independently and never disagree. Who is heard in training is not heard in evaluation: a person
with a name is one group, a recording whose person is unknown is a group with everything that may
share its person as far as the source tells.

AMI has seven groups of meetings with no person in common. By default three of them, which hold
18 of the 35 recorded backchannels, are kept for evaluation. `--fold N` of the training command
(0 <= N < AMI_FOLDS) moves the boundary instead: group N alone is evaluated and all others train,
so seven short trainings score every recorded backchannel once by a model that never met the
person. Only AMI moves with the fold; other sources have enough people for one split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath


class Side(StrEnum):
    TRAIN = "train"
    EVAL = "eval"


# Recordings that share a speaker stand in one group; the RTTM files say who speaks where.
AMI_GROUPS: tuple[tuple[str, ...], ...] = (
    ("dev00", "dev01"),
    ("tst00", "tst01"),
    ("trn07", "trn08"),
    ("trn00", "trn01", "trn02", "trn03"),
    ("trn04",),
    ("trn05",),
    ("trn06", "trn09"),
)
AMI_FOLDS = len(AMI_GROUPS)
_AMI_EVAL_GROUPS = frozenset({0, 1, 2})

# Of the packaged Kokoro styles; blends for training are made of the others only.
EVAL_VOICES = frozenset(
    "af_kore af_river am_eric am_puck bf_lily bm_lewis em_alex if_sara pf_dora hm_psi "
    "zf_xiaoni zm_yunxia jf_nezumi".split()
)

SHORT_JOBS = 900_000  # made utterances from this number on are single words and short calls

# Chosen by hand where a source has too few groups for a share to come out near a quarter.
_BY_HAND = {
    "short_calls/amelia/en": Side.EVAL,
    "short_calls/not-wake-words/es": Side.EVAL,
    "short_calls/heycomputer/es": Side.TRAIN,
    "ivr_speech/fr_CA_f_June": Side.EVAL,
    "noise/bg_noise": Side.TRAIN,
    "speech_more/snsd_CleanSpeech": Side.TRAIN,  # some 80 people, not told apart
    "noise/snsd_Noise": Side.TRAIN,
}
# Interviews (`interviews.py`): eight people meet in changing pairs, as a speaker encoder
# (resemblyzer 0.1.4, cosine of means: .95-.99 for the same, at most .88 for others) hears them.
# These three hold three people whom no other interview holds but the one that is left out.
_INTERVIEWS_EVAL = frozenset({"GAS0001", "GAS0004", "GAS0007"})
_INTERVIEWS_OF_BOTH = frozenset({"CAR0005"})

_EVAL_SHARE = 0.25
_SPLIT_SALT = "parley-interruption-1"  # another salt is another split: never change it in a version


def group(row: Mapping[str, str]) -> str:
    """The largest set of recordings that may share a person or a place with this manifest row."""
    path = PurePosixPath(row["path"])
    folder, stem = path.parent.name, path.stem
    if folder == "conversation_ami":
        return f"{folder}/{ami_group(stem)}"
    if folder == "laugh":  # `speaker` is the recording: somebody in it laughs
        of = row["speaker"]
        return f"conversation_ami/{ami_group(of)}" if _is_ami(of) else f"interviews/{of}"
    if row.get("speaker"):
        return f"{folder}/{row['speaker']}"
    if folder == "short_calls":  # contributors are unnamed: a whole word and language at once
        return f"{folder}/{row['text']}"
    if stem.startswith("babycry_"):  # the first part names the telephone
        return f"{folder}/{stem.rsplit('_', 1)[0]}"
    if stem.startswith("bg_noise"):  # recorded by very few people
        return f"{folder}/bg_noise"
    return f"{folder}/{stem}"


def ami_group(stem: str) -> int:
    """Number of the AMI group of a recording such as `trn07`."""
    for number, stems in enumerate(AMI_GROUPS):
        if stem in stems:
            return number
    raise ValueError(f"no AMI recording named {stem}")


def _is_ami(stem: str) -> bool:
    return any(stem in stems for stems in AMI_GROUPS)


def side(row: Mapping[str, str], fold: int | None = None) -> Side:
    """Where a manifest row (`path`, `speaker`, `text` are read) belongs.

    `fold` chooses the one AMI group to evaluate; None is the published split.
    """
    path = PurePosixPath(row["path"])
    laughs = path.parent.name == "laugh"
    recording = row["speaker"] if laughs else path.stem
    if path.parent.name == "conversation_ami" or (laughs and _is_ami(recording)):
        number = ami_group(recording)
        held_out = number in _AMI_EVAL_GROUPS if fold is None else number == fold
        return Side.EVAL if held_out else Side.TRAIN
    if laughs:
        found = interview_side(recording)
        if found is None:
            raise ValueError(f"{recording} has people of both sides: no laugh of it has a side")
        return found
    return side_of_group(group(row))


def side_of_group(name: str) -> Side:
    """Side of any group outside AMI, such as `cough/msg_…` or `speech_libri/libri_103`."""
    if name in _BY_HAND:
        return _BY_HAND[name]
    digest = hashlib.sha256(f"{_SPLIT_SALT}:{name}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return Side.EVAL if share < _EVAL_SHARE else Side.TRAIN


def interview_side(stem: str) -> Side | None:
    """Side of an interview such as `GAS0001`; None: it has people of both, nobody may hear it."""
    if stem in _INTERVIEWS_OF_BOTH:
        return None
    return Side.EVAL if stem in _INTERVIEWS_EVAL else Side.TRAIN


def voice_side(style: str) -> Side:
    """Side of a packaged synthesiser style such as `af_heart`."""
    return Side.EVAL if style in EVAL_VOICES else Side.TRAIN
