from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from models.interruption.data import laughs  # noqa: E402
from models.interruption.data.collect import LAUGHS, RATE  # noqa: E402
from models.interruption.data.laughs import Heard  # noqa: E402
from models.interruption.pretrained.laughter import FRAME_S  # noqa: E402


def bursts(from_s: float, to_s: float, apart_s: float, until_s: float) -> NDArray[np.float32]:
    """Noise in bursts that are half as long as they are apart."""
    times = np.arange(round(until_s * RATE)) / RATE
    on = (times >= from_s) & (times < to_s) & ((times - from_s) % apart_s < apart_s / 2)
    noise = np.random.default_rng(0).normal(0, 0.1, len(times))
    return (noise * np.where(on, 1, 0.003)).astype(np.float32)


@pytest.mark.parametrize(("text", "laugh"), [
    ("Ha ha ha.", True), ("Hahaha!", True), ("heh heh", True), ("He he", True), ("Ah.", False),
    ("Ha, right", False), ("", False), ("has", False),
])  # fmt: skip
def test_what_a_recogniser_writes_of_a_laugh(text: str, laugh: bool) -> None:
    assert laughs.laughed(text) is laugh


def test_a_word_that_lasts_too_long_is_said_at_one_of_its_ends() -> None:
    assert list(laughs.ends_of(" was", 1.0, 1.4)) == [(" was", 1.0, 1.4)]
    found = list(laughs.ends_of(" was", 1.0, 8.0))
    assert [start for _, start, _ in found] == pytest.approx([1.0, 7.5])
    assert [end for *_, end in found] == pytest.approx([1.5, 8.0])


def test_no_piece_is_where_a_word_is_said_or_nothing_sounds() -> None:
    levels = np.full(500, -80, np.float32)
    levels[100:400] = -20
    free = laughs.wordless(levels, [("well", 1.5, 2.0), ("Haha", 2.5, 3.0)])
    assert free[100:140].all()
    assert not free[140:210].any()
    assert free[210:400].all()
    assert not free[:100].any()


def test_a_laugh_is_where_the_detector_is_sure_and_no_longer_than_four_seconds() -> None:
    at = np.arange(0, 20, 4 * FRAME_S)
    free = np.ones(2000, np.bool_)
    sure = np.where((at > 2) & (at < 3), 0.9, 0.1).astype(np.float32)
    (((start, end), mean),) = laughs.pieces(free, Heard(at, sure))
    assert (start, end) == pytest.approx((2, 3), abs=0.1)
    assert mean > 0.6
    free[250:255] = False
    assert len(list(laughs.pieces(free, Heard(at, sure)))) == 1, "two bursts of one laugh"
    (((start, end), _),) = laughs.pieces(free, Heard(at, np.full(len(at), 0.9, np.float32)))
    assert end - start == pytest.approx(4.0)
    assert not list(laughs.pieces(free, Heard(at, np.full(len(at), 0.3, np.float32))))
    assert not list(laughs.pieces(free, Heard(at[:0], sure[:0])))


def test_a_laugh_has_a_rhythm_and_a_breath_has_none() -> None:
    even = laughs.rhythm(laughs.levels_of(bursts(0.05, 0.95, 0.18, 1.0)))
    breath = laughs.rhythm(laughs.levels_of(bursts(0.05, 0.95, 2.0, 1.0)))
    assert even > 0.6
    assert breath < 0.2


class Sure:
    """In the detector's place: everything is a laugh."""

    def at(self, samples: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.ones(len(wanted), np.float32)


def test_a_meeting_becomes_rows_and_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_CACHE", str(tmp_path))
    monkeypatch.setattr(laughs, "Clone", lambda *_: None)
    monkeypatch.setattr(laughs, "Laughter", lambda _: Sure())
    monkeypatch.setattr(laughs, "speech_seconds", lambda _: 0.3)
    more, audio = tmp_path / "interruption/more/train", tmp_path / "audio/train"
    (more / "interviews").mkdir(parents=True)
    (audio / "conversation_ami").mkdir(parents=True)
    (audio / "manifest.csv").write_text("path\n")
    rows = "path,start_s,end_s,auto_text\ntrain/conversation_ami/dev00.flac,0.0,4.0,Right.\n"
    (audio / "conversation_ami/segments.csv").write_text(rows)
    sound = bursts(1.0, 2.0, 0.18, 4.0)
    soundfile.write(audio / "conversation_ami/dev00.flac", sound, RATE)
    for name in ("ES2002a-1", "CAR0001"):
        soundfile.write(more / f"interviews/{name}.flac", sound, RATE)
        words = json.dumps([[" So", 3.0, 3.3, 0.9]])
        (more / f"interviews/{name}.words.json").write_text(words)
    arguments = ["laughs", "--repositories", str(tmp_path), "--audio", str(audio.parent)]
    monkeypatch.setattr("sys.argv", arguments)
    for _ in range(2):  # the second time from what is kept
        laughs.main()
        with (more / LAUGHS).open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert (row["label"], row["kind"], row["speaker"]) == ("laugh", "laugh", "ES2002a-1")
        assert "Silero hears speech in 0.30 s" in row["note"]
        piece, _ = soundfile.read(more.parent / row["path"])
        assert len(piece) / RATE == pytest.approx(1.0, abs=0.2)
        monkeypatch.setattr(laughs, "Laughter", lambda _: None)
