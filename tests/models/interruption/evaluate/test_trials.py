"""How trials are cut, labelled and sent over lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.interruption.data import splits
from models.interruption.evaluate import channels, trials
from models.interruption.evaluate.trials import (
    BACKCHANNEL,
    TURN,
    Segment,
    Trial,
    ami_kind,
    free_until,
    held_out_notes,
    in_noise,
    only_backchannel_words,
    over_telephone,
    quiet_tone,
    window_around,
    words,
)

RATE = 16_000


def segment(
    start: float, end: float, speaker: str = "A", label: str = "turn", text: str = ""
) -> Segment:
    return Segment(speaker, start, end, label, text, str(start))


def tone(seconds: float, hz: float = 440, level: float = 0.1) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def test_a_window_holds_one_second_before_and_two_after_the_onset() -> None:
    window = window_around(np.ones(RATE), 0.05, np.full(400, 0.001))

    assert len(window) == 3 * RATE
    assert window[round(0.9 * RATE)] == pytest.approx(0.001)
    assert window[round(1.02 * RATE)] == pytest.approx(1)
    assert window[round(2.2 * RATE)] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("label", "text", "kind"),
    [
        ("backchannel", "Uh-huh.", BACKCHANNEL),
        ("backchannel_likely", "So.", None),
        ("turn", "", TURN),
        ("turn", "Uh-huh. Mm-hmm. Okay.", None),
        ("other_short", "The username.", TURN),
        ("other_short", "Yeah. But I think.", TURN),
    ],
)
def test_what_an_annotated_segment_counts_as(label: str, text: str, kind: str | None) -> None:
    assert ami_kind("trn00", segment(1, 2, label=label, text=text)) == kind


def test_words_of_agreement_alone_are_a_backchannel() -> None:
    assert only_backchannel_words("Okay. Yeah, okay.")
    assert not only_backchannel_words("Okay, what now?")
    assert not only_backchannel_words("")


def test_a_turn_is_cut_where_another_voice_begins() -> None:
    mine = segment(10, 14)

    assert free_until(mine, 10, [mine]) == 14
    assert free_until(mine, 10, [mine, segment(12, 13, "B")]) == 12
    assert free_until(mine, 10, [mine, segment(8, 10.1, "B")]) == 14
    assert free_until(mine, 10, [mine, segment(8, 10.5, "B")]) == 10


def test_the_tone_of_a_room_is_taken_where_nobody_is_annotated() -> None:
    samples = np.concatenate([tone(2, level=0.0001), tone(1, level=0.01), tone(1, level=0.001)])

    found = quiet_tone(samples, [segment(0, 2.05)])

    assert np.abs(found).max() == pytest.approx(0.001, rel=0.05)


def test_the_telephone_keeps_speech_and_drops_what_it_cannot_carry() -> None:
    low, high = tone(1, 1000), tone(1, 6000)

    assert channels.speech_level(channels.through_mu_law(low)) == pytest.approx(0.0707, rel=0.05)
    assert channels.speech_level(channels.through_mu_law(high)) < 0.001


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_noise_is_laid_under_at_the_asked_level(snr_db: float) -> None:
    quiet = np.concatenate([np.zeros(RATE), tone(1, level=0.1), np.zeros(RATE)])
    clip = Trial("t", TURN, "s", "g", channels.as_int16(quiet), "n")
    bed = {"hiss": np.random.default_rng(2).standard_normal(RATE)}

    heard = in_noise(clip, bed, snr_db).samples / 32768

    expected = 0.0707 * 10 ** (-snr_db / 20)
    assert np.std(heard[:RATE]) == pytest.approx(expected, rel=0.05)


def test_a_line_changes_the_sound_and_nothing_else() -> None:
    clip = Trial("ami", TURN, "s", "g", channels.as_int16(tone(3)), "n")

    heard = over_telephone(clip)

    assert (heard.table, heard.kind, heard.source) == ("ami, telephone", TURN, "s")
    assert heard.samples.shape == clip.samples.shape


def test_one_channel_makes_all_levels_alike() -> None:
    rng = np.random.default_rng(1)
    channel = channels.Channel(np.ones(1), 4, 40, 100, 7000, -26, opus=False)

    loud = channels.through(tone(1, level=0.9), channel, rng)
    faint = channels.through(tone(1, level=0.01), channel, rng)

    assert channels.speech_level(loud) == pytest.approx(channels.speech_level(faint), rel=0.05)


def test_single_words_of_held_out_people_are_commands_or_listening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "read", lambda path: tone(1))
    asked: list[float] = []

    def onset(_: object, around_s: float, *__: object) -> float:
        asked.append(around_s)
        return 0.1

    monkeypatch.setattr(trials, "found_onset", onset)
    lines, speakers = ["path,label,speaker,onset_s,text"], [f"sc_{n}" for n in range(40)]
    for word in ("stop", "seven", "right", "yes"):
        lines += [
            f"train/speech_words/sc_{word}_{s}-0.flac,speech,{s},0.1,{word}" for s in speakers
        ]
    lines.append("train/speech_more/other.flac,speech,sc_0,0.1,stop")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/manifest.csv").write_text("\n".join(lines) + "\n")
    found = list(words(tmp_path, 100))
    assert len(asked) == len(found), "the onset of either kind is where Silero hears it"
    rows = [{"path": "train/speech_words/a.flac", "speaker": s, "text": ""} for s in speakers]
    held_out = {f"speech_words/{r['speaker']}" for r in rows if splits.side(r) is splits.Side.EVAL}
    assert 0 < len(held_out) < 40
    for kind, word in ((TURN, "stop"), (BACKCHANNEL, "right")):
        of_kind = [trial for trial in found if trial.kind == kind]
        assert {trial.group for trial in of_kind} == {word}
        assert {trial.source for trial in of_kind} == held_out
        assert {trial.table for trial in of_kind} == {"single words"}
    assert len(list(words(tmp_path, 2))) == 4
    assert list(words(tmp_path / "nothing", 2)) == []


def test_short_made_utterances_are_judged_apart_and_those_of_training_not_at_all(
    tmp_path: Path,
) -> None:
    for number, side in ((1, "eval"), (2, "train"), (900_001, "eval"), (900_002, "train")):
        (tmp_path / f"{number:06d}.json").write_text(json.dumps({"side": side}))
    for short, expected in ((False, ["000001"]), (True, ["900001"])):
        assert [p.stem for p in held_out_notes(tmp_path, 9, short)] == expected
    assert held_out_notes(tmp_path, 0) == []
