import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models.interruption.evaluate import hotato
from models.interruption.evaluate.conversations import Event, read_conversations
from tests.models.interruption.clones import committed


def scenario(name: str, yields: bool, segments: list[list[float]]) -> str:
    return json.dumps({
        "audio": f"{name}.example.wav", "channels": {"caller_channel": 0, "agent_channel": 1},
        "caller_onset_sec": 3.0, "expected": {"yield": yields},
        "reference_render": {"caller_segments_sec": segments},
        "provenance": {"caller": {"global_name": "FEO072"}},
    })  # fmt: skip


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a backchannel, a turn, and scenarios of another meeting and another folder."""
    work = tmp_path / "work"
    for folder in ("corpus/real/scenarios", "corpus/real/audio", "corpus/made/scenarios"):
        (work / folder).mkdir(parents=True)
    for name, yields, segments in (
        ("ami-en2002b-bc-1", False, [[1.0, 1.2], [3.0, 3.36], [7.8, 8.2]]),
        ("ami-en2002b-take-1", True, [[3.0, 9.0]]),
    ):
        text = scenario(name, yields, segments)
        (work / f"corpus/real/scenarios/{name}.json").write_text(text)
        (work / f"corpus/real/audio/{name}.example.wav").write_bytes(name.encode())
    for other in ("corpus/made/scenarios/x", "corpus/real/scenarios/ami-es2002a-bc-1"):
        (work / f"{other}.json").write_text(scenario("x", True, [[3.0, 4.0]]))
    clone = tmp_path / "clones" / "attenlabs+hotato"
    commit = committed(work, clone)
    monkeypatch.setattr(hotato, "SOURCE", replace(hotato.SOURCE, commit=commit))
    return clone.parent


def test_the_first_words_at_the_onset_are_the_event(
    clones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["hotato", "--repositories", str(clones), "--out", str(out)])
    hotato.main()
    short, turn = read_conversations(out / "events.csv")
    assert short.events == (Event("backchannel", 3.0, 3.36, "FEO072"),)
    assert turn.events == (Event("interruption", 3.0, 9.0, "FEO072"),)
    assert (short.channel, turn.channel) == (0, 0)
    assert short.audio.read_bytes() == b"ami-en2002b-bc-1"
    assert sorted(path.name for path in out.glob("*.wav")) == [
        "ami-en2002b-bc-1.example.wav", "ami-en2002b-take-1.example.wav",
    ]  # fmt: skip


def test_a_scenario_without_words_at_its_onset_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody speaks at its onset"):
        hotato.event(json.loads(scenario("x", True, [[4.0, 5.0]])))
