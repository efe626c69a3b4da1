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
    assert "| single word | all | 1 | 1 | 0.00" in capsys.readouterr().out


def test_what_is_found_is_counted_from_the_onset() -> None:
    model = scoring.Model(PUBLISHED)
    quiet = np.zeros(3 * scoring.SAMPLE_RATE + 77, np.int16)
    assert telephone.found(model, WORD_SAID, quiet) == Found(WORD_SAID, float("inf"))
    assert telephone.found(model, WORD_SAID, quiet[:8000]) is None
    assert telephone.onset_s(replace(WORD_SAID, kind=SENTENCE), quiet) is None
