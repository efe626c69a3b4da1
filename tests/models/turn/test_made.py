"""Made sentences are cut alike whether they are over or not, and choose a language's threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.interruption.data.splits import EVAL_VOICES, Side
from models.turn import languages, made
from models.turn.languages import EACH_MIN
from models.turn.made import CUTS_MAX, HELD_S_MIN, SAMPLE_RATE, TAIL_S
from models.turn.scoring import Kept, Scored
from models.turn.texts import TEXTS

STYLES = ["af_heart", "am_adam", "ef_dora", "em_santa", "ff_siwis", "pm_alex", "zf_xiaobei"]
STYLES += sorted(EVAL_VOICES)


def note(phonemes: str, *, each_s: float = 0.1, **other: Any) -> dict[str, Any]:
    """What is known of a sentence whose phonemes all last as long."""
    starts = [round(each_s * i, 3) for i in range(len(phonemes) + 1)]
    return {
        "side": "train",
        "kinds": ["sentence"],
        "ending": phonemes[-1],
        "language": "pt-br",
        "voices": ["pm_alex"],
        "phonemes": phonemes,
        "phoneme_starts_s": starts,
        **other,
    }


def tone(seconds: float) -> np.ndarray:
    samples = np.arange(round(seconds * SAMPLE_RATE))
    sound: np.ndarray = 8000 * np.sin(samples * 0.3)
    return sound.astype(np.int16)


def test_a_sentence_is_cut_between_words_with_enough_before_and_after() -> None:
    found = made.places(note("aaaa bbbb cc dd."))

    # after `aaaa` too little was said, after `cc` one word is left
    assert found is not None
    assert found[0] == pytest.approx([0.9])
    assert found[1] == pytest.approx(1.5)
    assert found[0][0] >= HELD_S_MIN


def test_behind_a_comma_nobody_knows_whether_a_turn_is_over() -> None:
    found = made.places(note("aaaa bbbb, cc dd."))
    assert found is not None
    assert found[0] == []
    assert found[1] == pytest.approx(1.6)


@pytest.mark.parametrize(
    "other", [{"kinds": ["backchannel", "sentence"]}, {"ending": ""}, {"ending": "..."}]
)
def test_only_sentences_with_a_final_intonation_count(other: dict[str, Any]) -> None:
    assert made.places(note("aaaa bbbb cc dd.", **other)) is None


def test_an_end_and_its_holds_are_cut_in_the_same_way() -> None:
    sentence = note("aaaaaa bb cc dd ee ff gg.")
    found = list(made.cuts("name", sentence, tone(3.0)))

    assert [one.kind for one in found] == ["end"] + ["hold"] * CUTS_MAX
    assert {(one.language, one.side, one.voice) for one in found} == {("pt", Side.TRAIN, "pm_alex")}
    for one in found:
        # no sample of a sentence is left behind its fade
        assert abs(int(one.samples[-1])) < 10
        assert len(one.heard(0.2)) == len(one.samples) + round((0.2 - TAIL_S) * SAMPLE_RATE)


def test_what_is_silent_before_the_cut_is_silence_of_the_pause() -> None:
    samples = tone(1.0)
    samples[SAMPLE_RATE // 2 :] = 0

    assert len(made.cut(samples, 0.9)) == round((0.5 + TAIL_S) * SAMPLE_RATE)


def test_neither_a_voice_nor_a_sentence_is_on_both_sides() -> None:
    planned = made.plan(STYLES)

    for language in TEXTS:
        train, evaluation = (
            [one for one in planned if one.language == language and one.side is side]
            for side in (Side.TRAIN, Side.EVAL)
        )
        assert not {one.voice for one in train} & {one.voice for one in evaluation}
        assert not {one.text for one in train} & {one.text for one in evaluation}
        assert {one.voice for one in evaluation} <= EVAL_VOICES


def test_a_languages_own_voices_come_first() -> None:
    assert made.voices_of("es", Side.TRAIN, STYLES)[:2] == ["ef_dora", "em_santa"]
    assert made.voices_of("es", Side.EVAL, STYLES)[0] == "em_alex"


def trials(
    language: str, side: Side, ends: Sequence[float], holds: Sequence[float]
) -> list[tuple[Side, Scored]]:
    said = [("end", p) for p in ends] + [("hold", p) for p in holds]
    return [
        (side, Scored("made", language, f"{side}-{i % 3}", kind, float("inf"), (p,)))  # type: ignore[arg-type]
        for i, (kind, p) in enumerate(said)
    ]


def both(
    language: str, ends: float, holds: float, count: int = EACH_MIN
) -> list[tuple[Side, Scored]]:
    return [
        trial
        for side in (Side.TRAIN, Side.EVAL)
        for trial in trials(language, side, [ends] * count, [holds] * count)
    ]


ENGLISH = both("en", 0.9, 0.3)
"""Chooses something between 0.3 and 0.9."""


def only(items: list[tuple[Side, Scored]], language: str = "es") -> languages.Language:
    (found,) = [one for one in languages.languages(items, 0.2) if one.name == language]
    return found


def test_a_language_that_english_thresholds_do_not_tell_apart_differs() -> None:
    spanish = only(ENGLISH + both("es", 0.2, 0.1))

    assert spanish.threshold is not None
    assert 0.1 < spanish.threshold <= 0.2
    assert spanish.better == 1.0
    assert spanish.differs()


def test_what_made_speech_asks_for_in_english_too_is_not_the_languages_own() -> None:
    spanish = only(ENGLISH + both("es", 0.95, 0.25))

    # the default of 0.2 would be wrong for both
    assert spanish.control > 0.2
    assert not spanish.differs()


def test_few_trials_choose_nothing() -> None:
    spanish = only(ENGLISH + both("es", 0.2, 0.1, count=EACH_MIN - 1))

    assert spanish.threshold is None
    assert not spanish.differs()


def test_the_voices_that_are_tested_choose_nothing() -> None:
    tested = trials("es", Side.EVAL, [0.9] * EACH_MIN, [0.7] * EACH_MIN)
    spanish = only(trials("es", Side.TRAIN, [0.4] * EACH_MIN, [0.3] * EACH_MIN) + tested)

    assert spanish.threshold is not None
    assert 0.3 < spanish.threshold <= 0.4


def test_the_table_shows_a_language_with_all_three_thresholds() -> None:
    table = languages.report(languages.languages(ENGLISH + both("es", 0.2, 0.1), 0.2), 0.2)

    *english, default, control, own = table.splitlines()[2:]
    assert len(english) == 2
    assert "| 0.20 (default) | 1.00 | 0.00 |" in default
    assert "(English's) | 0.00 | 0.00 |" in control
    assert "(its own) | 1.00 | 0.00 |" in own
    assert own.endswith("| 100% | yes |")


def test_the_same_sound_is_asked_about_once(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    sound = np.ones(4, np.int16)

    def judge(heard: list[np.ndarray]) -> list[float]:
        return [0.25]

    kept = Kept(judge, model, tmp_path / "turn/scores.json")
    assert kept([sound, sound]) == [0.25, 0.25]
    kept.keep()
    again = Kept(judge, model, tmp_path / "turn/scores.json")
    assert again([sound]) == [0.25]
    assert (kept.asked, again.asked) == (1, 0)
    model.write_bytes(b"other weights")
    assert Kept(judge, model, tmp_path / "turn/scores.json")._known.keys() == again._known.keys()
