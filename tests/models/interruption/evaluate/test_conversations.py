"""A small made conversation with labelled events, scored by the published rule."""

from pathlib import Path

import numpy as np
import pytest

from models.interruption.evaluate import conversations
from models.interruption.evaluate.conversations import (
    Event,
    detections,
    read_conversations,
    table,
    verdicts,
)

TEXT = """audio,channel,label,onset_s,end_s,source
call.wav,1,interruption,2.0,3.5,ann
call.wav,1,backchannel,5.0,5.3,ann
other.wav,0,backchannel,1.0,1.4,
"""


def loud_is_an_interruption(samples: np.ndarray, _before_s: float) -> np.ndarray:
    """Stands for the model: one frame's mean magnitude against -40 dBFS."""
    heard: np.ndarray = np.abs(samples.reshape(-1, 400).astype(float)).mean(axis=1) > 300
    return heard.astype(float)


def conversation() -> np.ndarray:
    """8 s: loud from 2.0 to 3.5 s, a faint sound at 5.0 s, a loud one from 6.5 s."""
    samples = np.zeros(8 * 16_000)
    wave = np.sin(2 * np.pi * 300 * np.arange(8 * 16_000) / 16_000)
    for begin, end, level in ((2.0, 3.5, 8000), (5.0, 5.3, 100), (6.5, 7.5, 8000)):
        inside = slice(round(begin * 16_000), round(end * 16_000))
        samples[inside] = wave[inside] * level
    return samples.astype(np.int16)


def test_events_are_read_by_file_and_channel(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(TEXT)

    first, second = read_conversations(path)

    assert (first.audio, first.channel, len(first.events)) == (tmp_path / "call.wav", 1, 2)
    assert first.events[0] == Event("interruption", 2.0, 3.5, "ann")
    assert second.events[0].source == "other.wav"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio,channel,label,onset_s\n", "end_s"),
        ("audio,channel,label,onset_s,end_s\na.wav,0,laugh,1,2\n", "line 2: label 'laugh'"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text)

    with pytest.raises(ValueError, match=message):
        read_conversations(path)


@pytest.mark.parametrize(
    ("at_s", "hit"),
    [(9.7, False), (9.76, True), (10.0, True), (13.0, True), (13.05, False)],
)
def test_a_hit_lies_from_a_quarter_second_before_to_three_seconds_after(
    at_s: float, hit: bool
) -> None:
    (verdict,) = verdicts([Event("interruption", 10.0, 11.0, "a")], [at_s])

    assert verdict.detected is hit


def test_a_false_alarm_lies_inside_a_backchannel() -> None:
    event = Event("backchannel", 10.0, 10.5, "a")

    assert verdicts([event], [10.4])[0].detected
    assert not verdicts([event], [10.6])[0].detected


def test_the_delay_is_taken_when_the_answer_comes() -> None:
    spans = [(2.0, 3.5), (5.0, 5.3), (6.5, 7.5)]

    found = detections(conversation(), spans, loud_is_an_interruption, threshold=0.5)

    assert found == pytest.approx([2.1, 6.6])
    hit, quiet = verdicts(
        [Event("interruption", 2.0, 3.5, "a"), Event("backchannel", 5.0, 5.3, "a")], found
    )
    assert hit.delay_s == pytest.approx(0.1)
    assert not quiet.detected


def test_an_onset_near_the_start_of_the_recording_has_a_shorter_window() -> None:
    samples = conversation()[round(1.6 * 16_000) :]

    assert detections(samples, [(0.4, 1.9)], loud_is_an_interruption, 0.5) == pytest.approx([0.5])


def test_the_table_counts_what_hits_nothing() -> None:
    found = verdicts(
        [
            Event("interruption", 2.0, 3.5, "a"),
            Event("interruption", 20.0, 22.0, "b"),
            Event("backchannel", 5.0, 5.3, "a"),
        ],
        [2.1, 5.2, 9.0],
    )

    text = table(found, elsewhere=1, seconds=60, threshold=0.5)

    assert "| recall of interruptions | 2 | 0.500" in text
    assert "| false alarms: backchannel | 1 | 1.000" in text
    assert "Precision 0.50 at a base rate of 0.67. 1 detections outside" in text


def test_a_whole_csv_is_scored_with_a_vad_and_a_model(tmp_path: Path) -> None:
    import soundfile

    from models.interruption.evaluate import scoring
    from tests.fakes import energy_model

    def hears_every_loud_frame(samples: np.ndarray) -> np.ndarray:
        frames = samples[: len(samples) // 512 * 512].reshape(-1, 512)
        heard: np.ndarray = np.abs(frames).mean(axis=1) > 0.001
        return heard.astype(float)

    both = np.stack([np.zeros(8 * 16_000, np.int16), conversation()], axis=1)
    soundfile.write(tmp_path / "call.wav", both, 16_000)
    (tmp_path / "events.csv").write_text("\n".join(TEXT.splitlines()[:3]))
    model = scoring.Model(energy_model.write(tmp_path / "energy.onnx"))

    text = conversations.scored_table(
        tmp_path / "events.csv", model, 0.5, speech=hears_every_loud_frame
    )

    assert "| recall of interruptions | 1 | 1.000 (0.207-1.000) | 84 |" in text
    assert "| false alarms: backchannel | 1 | 0.000" in text
    assert "1 detections outside every event" in text
