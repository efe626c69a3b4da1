"""Calls in which the agent's voice comes back."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.random import Generator

from models.interruption.data import echoes
from models.interruption.data.echoes import Voices, load, save, scene
from models.interruption.data.nonverbal import RATE, Audio
from models.interruption.data.splits import Side


class Tones(Voices):
    """Somebody who hums instead of the recordings."""

    def __init__(self) -> None:
        self.rirs, self.made = [], []
        self._of = {folder: [] for folder in (*echoes.AGENTS, *echoes.CALLERS)}
        self.drawn = 0

    def draw(self, rng: Generator, folders: Sequence[str]) -> tuple[Audio, str]:
        self.drawn += 1
        n = int(rng.uniform(2, 4) * RATE)
        tone = np.sin(2 * np.pi * (200 + 40 * self.drawn) * np.arange(n) / RATE)
        return (tone * 0.14).astype(np.float32), f"person-{self.drawn}"


@pytest.mark.parametrize("canceller", ["none", "suppressor"])
@pytest.mark.parametrize("kind", echoes.KINDS)
def test_a_scene_says_who_speaks_when(kind: str, canceller: str) -> None:
    made = scene(np.random.default_rng(3), Tones(), kind, canceller)

    assert len(made.heard) == round(echoes.LENGTH_S * RATE)
    sent_s = [at for at, _ in made.sent]
    for at_s, piece, from_s, length_s in made.played:
        assert at_s >= sent_s[int(piece)]
        assert 0 <= from_s <= from_s + length_s <= len(made.sent[int(piece)][1]) / RATE + 0.01
    assert np.isnan(made.floor_s) == (kind == "echo")
    if kind != "echo":
        assert made.played[0, 0] + 1.0 <= made.floor_s < made.quiet_s
        assert made.caller != made.agent


def test_a_headset_leaks_nothing() -> None:
    made = scene(np.random.default_rng(3), Tones(), "clean", "none")
    before = slice(0, int(made.floor_s * RATE))

    assert np.abs(made.heard[before]).max() < np.abs(made.heard).max() * 0.6


def test_a_scene_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    made = scene(np.random.default_rng(3), Tones(), "double", "none")
    save(tmp_path / "00000.npz", made)

    again = load(tmp_path / "00000.npz")

    assert (again.kind, again.canceller, again.agent) == (made.kind, made.canceller, made.agent)
    assert again.floor_s == made.floor_s
    assert (again.played == made.played).all()
    assert np.abs(again.heard / 32767 - np.clip(made.heard, -1, 1)).max() < 1e-4
    assert [at for at, _ in again.sent] == [at for at, _ in made.sent]


def test_a_made_voice_is_one_agent_in_half_of_the_calls(tmp_path: Path) -> None:
    for number, (voice, kinds) in enumerate(
        [("af_heart", ["sentence"]), ("am_adam", ["floor", "sentence"]), ("am_adam", ["floor"])]
    ):
        hum = np.sin(np.arange(RATE) * (0.1 + 0.05 * number)) * 0.3
        soundfile.write(tmp_path / f"{number}.flac", hum, RATE)
        note = {"voices": [voice], "kinds": kinds, "side": "train"}
        (tmp_path / f"{number}.json").write_text(json.dumps(note))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "manifest.csv").write_text("path,speaker,text\n")
    people = Voices(tmp_path, Side.TRAIN, made=tmp_path)
    assert [one.person for one in people.made] == ["made af_heart", "made am_adam"]
    assert Voices(tmp_path, Side.EVAL, made=tmp_path).made == []
    people.draw = lambda rng, folders: (np.zeros(10, np.float32), "somebody")  # type: ignore[method-assign]
    rng = np.random.default_rng(1)
    heard = []
    for _ in range(100):
        speaks = people.agent(rng)
        said, again = speaks()[1], speaks()[1]
        assert said == again
        heard.append(said)
    assert 30 < heard.count("somebody") < 70
    assert set(heard) == {"somebody", "made af_heart", "made am_adam"}
