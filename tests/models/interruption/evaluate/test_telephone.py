from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.interruption.cache import PUBLISHED
from models.interruption.evaluate import scoring, telephone
from models.interruption.evaluate.telephone import SENTENCE, WORD, Found, Said
from tests.models.interruption.clones import committed

HEAD = "12.21.2001|03.50.15|male|nonNative|landlinephone|"
TRANSCRIPTS = f"""# Date|Time|Gender|Dialect|Phonetype|Call NO|Utt. NO|File Name|Start|End|Ortho
{HEAD}00000|000|WUWII00000_000.ulaw|0.582|1.576|{{smack}} Somebody Else
{HEAD}00000|001|WUWII00000_001.ulaw|0.572|1.164|[click] Operator
{HEAD}00000|002|WUWII00000_002.ulaw|0|0|I'm done
{HEAD}00000|006|WUWII00000_006.ulaw|2.572|3.196|{{breath}} I am asking for the Operator
{HEAD}00000|007|WUWII00000_007.ulaw|0.541|1.376| ThinkEngine somewhere [shuffling around]
"""
WORD_SAID = Said("calls/00000/WUWII00000_001.ulaw", "00000", "landlinephone", WORD, 0.572)


def test_the_rows_are_words_alone_and_words_that_end_a_sentence() -> None:
    word, sentence = telephone.rows(TRANSCRIPTS)
    assert word == WORD_SAID
    assert sentence.kind == SENTENCE
    assert sentence.word_s == 2.572


def test_mu_law_is_what_g711_says() -> None:
    decoded = telephone.linear(bytes([0xFF, 0x7F, 0x80, 0x00, 0xF0])) * 32768
    assert decoded.tolist() == [0, 0, 32124, -32124, 120]


def test_a_table_has_each_kind_whole_and_by_telephone() -> None:
    late = Found(replace(WORD_SAID, speaker="00001", phone="cellphone"), float("inf"))
    lines = telephone.table([Found(WORD_SAID, 0.4), late]).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["all", "landlinephone", "cellphone"]
    assert lines[2].split(" | ")[2:5] == ["2", "2", "0.50 (0.00-1.00)"]
    assert lines[-1].endswith("| - |")


def test_a_clone_becomes_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    (work / "calls/00000").mkdir(parents=True)
    (work / "archive").mkdir()
    (work / telephone.TRANSCRIPTS).write_text(TRANSCRIPTS)
    (work / WORD_SAID.path).write_bytes(bytes([0xFF]) * 3 * telephone.TELEPHONE_HZ)
    commit = committed(work, tmp_path / "clones" / "wake-up-word+wuw-corpus-ii")
    monkeypatch.setattr(telephone, "SOURCE", replace(telephone.SOURCE, commit=commit))
    monkeypatch.setattr("sys.argv", ["telephone", "--repositories", str(tmp_path / "clones")])
    telephone.main()
    shown = capsys.readouterr().out
    assert "| single word | all | 1 | 1 | 0.00" in shown
    assert "| sound | n | callers |" in shown


NOISES = f"""{HEAD}00001|000|0.ulaw|0|0|{{laughing}}
{HEAD}00001|001|1.ulaw|0.572|1.164|{{smack}} {{breath}} Operator
{HEAD}00001|002|2.ulaw|0.572|1.164|ThinkEngine_ [cough] {{exhale}}
{HEAD}00001|003|3.ulaw|0.572|1.164|[phone buzz/] {{breath}} Onword [/phone buzz]
{HEAD}00001|004|4.ulaw|0.572|1.164|[click] {{breath}} Onword
{HEAD}00001|006|6.ulaw|2.572|3.196|{{breath}} I am asking for the Operator {{sigh}}
{HEAD}00001|007|7.ulaw|0.541|1.376| ThinkEngine somewhere {{laugh}}
{HEAD}00001|008|8.ulaw|0|0|Onword {{laugh}}
"""


def test_sounds_are_before_the_first_word_or_after_the_last_where_its_times_are_known() -> None:
    found = [(one.said.path[-6:], one.said.kind, one.from_s, one.to_s)
             for one in telephone.sounds(NOISES)]  # fmt: skip
    assert found == [
        ("0.ulaw", telephone.LAUGH, 0.0, np.inf),
        ("1.ulaw", telephone.BREATH, 0.0, pytest.approx(0.272)),
        ("2.ulaw", telephone.COUGH, pytest.approx(1.464), np.inf),
        ("6.ulaw", telephone.BREATH, pytest.approx(3.496), np.inf),
    ]


def test_a_sound_is_put_on_the_quiet_of_its_line() -> None:
    noise = np.random.default_rng(0).normal(0, 10, 3 * scoring.SAMPLE_RATE)
    noise[16_000:20_000] *= 200  # a word
    noise[32_000:36_800] *= 100
    line = noise.astype(np.int16)
    sound = telephone.Sound(replace(WORD_SAID, kind=telephone.LAUGH), 1.5, float("inf"))
    alone = telephone.cut_out(sound, line)
    assert alone is not None
    loud = np.flatnonzero(np.abs(alone) > 500) / scoring.SAMPLE_RATE
    assert loud[0] == pytest.approx(telephone.BEFORE_S, abs=0.02)
    assert loud[-1] == pytest.approx(telephone.BEFORE_S + 0.3, abs=0.02)
    assert telephone.cut_out(replace(sound, from_s=2.6), line) is None
    assert telephone.cut_out(replace(sound, from_s=9.0), line) is None


def test_a_table_of_sounds_has_a_row_for_each_kind_there_is() -> None:
    laugh = replace(WORD_SAID, kind=telephone.LAUGH)
    lines = telephone.sound_table([Found(laugh, 1.5), Found(laugh, float("inf"))]).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| laugh | 2 | 1 | 0.00 (0.00-0.66) | 0.50 ")


def test_what_is_found_is_counted_from_the_onset() -> None:
    model = scoring.Model(PUBLISHED)
    quiet = np.zeros(3 * scoring.SAMPLE_RATE + 77, np.int16)
    assert telephone.found(model, WORD_SAID, quiet) == Found(WORD_SAID, float("inf"))
    assert telephone.found(model, WORD_SAID, quiet[:8000]) is None
    assert telephone.onset_s(replace(WORD_SAID, kind=SENTENCE), quiet) is None
