from __future__ import annotations

from collections import deque

import pytest

from gateway.engines.interruption.disputed import (
    SETTLED_S,
    Followed,
    Label,
    Said,
    Words,
    is_disputed,
    kind_of_words,
    label_of,
    version_of,
)

FLOOR, BACK, NOISE = Label.FLOOR, Label.BACKCHANNEL, Label.NOISE


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Mhm.", Words.BACKCHANNEL),
        ("Mm-hmm, yeah, okay.", Words.BACKCHANNEL),
        ("Ja, genau!", Words.BACKCHANNEL),
        ("D'accord.", Words.BACKCHANNEL),
        ("ठीक है", Words.BACKCHANNEL),
        ("Stop!", Words.SENTENCE),
        ("Yeah, but I meant Tuesday.", Words.SENTENCE),
        ("yeah yeah yeah yeah yeah yeah yeah", None),
        ("1234", Words.SENTENCE),
        ("はい", Words.BACKCHANNEL),
        ("Um", None),
        ("Uhm, yeah", None),
        ("...", Words.NOTHING),
    ],
)
def test_words_are_told_apart(text: str, kind: Words | None) -> None:
    assert kind_of_words(text) is kind


def followed(*said: tuple[Words | None, float, float], heard_at: float = 0.0) -> Followed:
    return Followed(deque(Said(*one) for one in said), heard_at=heard_at)


def test_a_sentence_in_an_overlap_took_the_floor() -> None:
    found = label_of(10, 12, followed((Words.SENTENCE, 10.2, 13)), went_on=False)

    assert found is not None
    assert (found.label, found.confidence) == (FLOOR, 0.9)


def test_the_label_is_less_sure_where_the_agent_went_on_and_surer_where_the_turn_ended() -> None:
    after = followed((Words.SENTENCE, 10.2, 13))
    went_on = label_of(10, 12, after, went_on=True)
    after.turns.append(12 + SETTLED_S / 2)
    ended = label_of(10, 12, after, went_on=False)

    assert went_on is not None
    assert ended is not None
    assert went_on.confidence < 0.9 < ended.confidence


def test_a_backchannel_is_one_and_words_of_later_are_no_part_of_it() -> None:
    after = followed((Words.BACKCHANNEL, 10.1, 10.4), (Words.SENTENCE, 14, 16))

    found = label_of(10, 11, after, went_on=True)

    assert found is not None
    assert found.label is BACK


def test_a_sound_without_words_is_a_noise_where_a_recogniser_listened() -> None:
    heard = label_of(10, 11, followed(heard_at=12), went_on=True)

    assert heard is not None
    assert heard.label is NOISE
    assert label_of(10, 11, followed(heard_at=9), went_on=True) is None


def test_nobody_knows_what_um_was() -> None:
    after = followed((None, 10.1, 10.3), (Words.BACKCHANNEL, 10.5, 10.6), heard_at=20)

    assert label_of(10, 11, after, went_on=False) is None


@pytest.mark.parametrize(
    ("claim", "detected", "floor", "kept"),
    [
        (0.5, True, True, True),
        (0.2, False, False, True),
        (0.95, True, True, False),
        (0.95, True, False, True),
        (0.02, False, False, False),
        (0.02, False, True, True),
        (0.02, False, None, False),
    ],
)
def test_what_is_near_the_threshold_or_against_what_followed_is_disputed(
    claim: float, detected: bool, floor: bool | None, kept: bool
) -> None:
    assert is_disputed(claim, 0.5, detected, floor, margin=1.5) is kept


def test_versions_have_their_shares_and_a_call_the_same_one_always() -> None:
    calls = [f"key\njob\n{number}" for number in range(4000)]
    chosen = [version_of(call, (0.1, 0.25)) for call in calls]

    assert chosen == [version_of(call, (0.1, 0.25)) for call in calls]
    assert 0.08 < chosen.count(0) / 4000 < 0.12
    assert 0.22 < chosen.count(1) / 4000 < 0.28
    assert {version_of(call, (1.0,)) for call in calls} == {0}
    # a greater share takes calls from the main version, never from those that it had
    more = [version_of(call, (0.2,)) for call in calls]
    assert all(now == 0 for was, now in zip(chosen, more, strict=True) if was == 0)
