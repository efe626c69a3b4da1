"""The embedded voice, but for its model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.engines.types import ModelError
from gateway.providers.local import kokoro
from gateway.providers.local.kokoro import (
    CLAUSE_CHARS,
    FIRST_CLAUSE_CHARS,
    LEAD_S,
    RATE,
    SENTENCE_TAIL_S,
    Jobs,
    Speaker,
    clauses,
    trimmed,
)
from gateway.providers.local.phonemes import NUMBERS


def test_every_phoneme_has_a_number_of_its_own() -> None:
    assert len(NUMBERS) == 114
    assert len(set(NUMBERS.values())) == 114
    assert (NUMBERS[";"], NUMBERS["a"], NUMBERS["ᵻ"]) == (1, 43, 177)


def test_a_short_sentence_is_one_clause() -> None:
    assert list(clauses("Hello, you there.")) == ["Hello, you there."]


def test_a_long_one_is_cut_where_one_breathes_and_loses_nothing() -> None:
    text = (
        "I would like to book a table for two people, on Friday evening at seven, if there is one "
        "by the window; otherwise anywhere quiet will do, thank you."
    )
    found = list(clauses(text))
    assert len(found) > 1
    assert " ".join(found) == text
    assert FIRST_CLAUSE_CHARS <= len(found[0]) < CLAUSE_CHARS // 2
    assert all(len(clause) >= CLAUSE_CHARS // 2 for clause in found[1:-1])


def test_without_a_place_to_breathe_it_is_not_cut() -> None:
    text = "word " * 60
    assert " ".join(clauses(text)).split() == text.split()


def test_little_silence_is_left_around_speech() -> None:
    speech = np.full(RATE, 0.1, np.float32)
    silence = np.full(RATE // 2, 0.0001, np.float32)
    found = trimmed(np.concatenate([silence, speech, silence]), SENTENCE_TAIL_S)
    assert len(found) == len(speech) + round((LEAD_S + SENTENCE_TAIL_S) * RATE)
    assert np.count_nonzero(found > 0.05) == len(speech)


def test_speech_without_silence_is_left_as_it_is() -> None:
    speech = np.full(RATE + 7, 0.1, np.float32)
    assert len(trimmed(speech, SENTENCE_TAIL_S)) == len(speech)


def test_a_text_of_silence_alone_does_not_become_long() -> None:
    assert len(trimmed(np.zeros(RATE, np.float32), 0.1)) == RATE // 10


def test_a_job_that_is_dropped_while_it_runs_is_ended_and_one_that_waits_is_skipped() -> None:
    jobs = Jobs()
    running = jobs.begin(1)
    assert running is not None
    assert not running.terminate
    jobs.drop(1)
    jobs.drop(2)
    assert running.terminate
    assert jobs.is_dropped(1)
    jobs.end(1)
    assert jobs.begin(2) is None
    third = jobs.begin(3)
    assert third is not None
    assert not third.terminate


class Opened:
    """What ONNX Runtime says of a model."""

    def __init__(self, *inputs: str) -> None:
        self._inputs = inputs

    def get_inputs(self) -> list[Any]:
        return [type("NodeArg", (), {"name": name})() for name in self._inputs]


@pytest.mark.parametrize(
    ("inputs", "style_bytes", "told"),
    [
        (("input_ids", "style", "speed"), 4 * 510 * 256, "kokoro.onnx"),
        (("tokens", "style", "speed"), 130, "af_heart.bin"),
        (("tokens", "style", "speed"), None, "no style"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: tuple[str, ...],
    style_bytes: int | None,
    told: str,
) -> None:
    monkeypatch.setattr(kokoro, "open_session", lambda *asked: Opened(*inputs))
    if style_bytes is not None:
        (tmp_path / "af_heart.bin").write_bytes(bytes(style_bytes))
    with pytest.raises(ModelError, match=told):
        Speaker(tmp_path, 1)


def test_a_voice_that_cannot_start_says_why_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kokoro.onnx").write_bytes(b"no model")
    monkeypatch.setattr(sys, "argv", ["kokoro", "--model", str(tmp_path)])
    monkeypatch.setattr("os.nice", lambda by: by)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # it is put aside
    with pytest.raises(SystemExit, match="the local voice cannot start"):
        kokoro.main()
