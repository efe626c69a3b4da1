"""The analysis of a recording, with a model that takes loudness for an interruption."""

import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.cli.analyse import (
    AnalyseError,
    analyse,
    judged,
    read,
    resampled,
    sounds,
    spans_from,
)
from gateway.engines.interruption.model import INTERFACE
from gateway.engines.onnx import FrameModel
from tests.fakes import energy_model


@pytest.fixture
def model(tmp_path: Path) -> FrameModel:
    return FrameModel(energy_model.write(tmp_path / "energy.onnx"), interface=INTERFACE)


def tone(seconds: float, rate: int, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def call(path: Path, rate: int = 16_000, channels: int = 1) -> Path:
    """Two sounds on the last channel: loud at 2.0 s, faint at 4.0 s; the first channel hums."""
    quiet = np.random.default_rng(1).standard_normal(6 * rate) * 0.0005
    quiet[2 * rate : 3 * rate] += tone(1, rate)
    quiet[4 * rate : 4 * rate + rate // 2] += tone(0.5, rate, level=0.008)
    sound = np.stack([quiet * 0] * (channels - 1) + [quiet], axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_the_decision_is_told_with_its_delay(tmp_path: Path, model: FrameModel) -> None:
    text = analyse(call(tmp_path / "call.wav"), model)

    assert "interruption at 2.10 s, 100 ms after onset" in text
    assert "none: would not interrupt" in text
    assert "1 of 2 segments would interrupt the agent" in text


def test_a_threshold_can_be_tried_out(tmp_path: Path, model: FrameModel) -> None:
    text = analyse(call(tmp_path / "call.wav"), model, threshold=0.01)

    assert "threshold 0.01 (as asked)" in text
    assert "2 of 2 segments" in text


def test_eagerness_moves_the_decision_and_others_are_told(
    tmp_path: Path, model: FrameModel
) -> None:
    text = analyse(call(tmp_path / "call.wav"), model, eagerness=3.0)
    usual = analyse(call(tmp_path / "call.wav"), model)

    assert "eagerness 3" in text
    assert "2 of 2 segments" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("        0 ")]
    assert rows == [["0", "1", "100"]]
    assert text.splitlines()[-9:] == usual.splitlines()[-9:]


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_any_rate_and_any_channel_are_read(tmp_path: Path, model: FrameModel, rate: int) -> None:
    text = analyse(call(tmp_path / "call.wav", rate, channels=3), model, channel=2)

    assert f"6.00 s at {rate} Hz, channel 2 of 3" in text
    assert "interruption at 2.1" in text


def test_a_channel_without_sound_has_no_segments(tmp_path: Path, model: FrameModel) -> None:
    text = analyse(call(tmp_path / "call.wav", channels=2), model, channel=0)

    assert "nothing stands out" in text


def test_given_onsets_replace_the_found_ones(tmp_path: Path, model: FrameModel) -> None:
    text = analyse(call(tmp_path / "call.wav"), model, onsets_s=[1.8, 5.0])

    assert "interruption at 2.10 s, 300 ms after onset" in text
    assert "1 of 2 segments" in text


def test_an_onset_past_the_end_is_refused() -> None:
    with pytest.raises(AnalyseError, match=r"6\.00 s"):
        spans_from([7.0], 6.0)


def test_every_frame_from_the_window_on_is_known_once(tmp_path: Path, model: FrameModel) -> None:
    heard = read(call(tmp_path / "call.wav"), 0, 16_000)

    segment = judged(heard, model, 2.0, 3.0, threshold=0.5, min_frames=2)

    assert np.allclose(np.diff(segment.times_s), 0.025)
    assert segment.times_s[0] == pytest.approx(1.025)
    assert segment.highest > 0.9


def test_a_pause_shorter_than_the_clients_vad_waits_for_is_one_segment() -> None:
    samples = np.zeros(16_000 * 3)
    for start in (8_000, 20_000):
        samples[start : start + 4_000] = tone(0.25, 16_000)

    (span,) = sounds((samples * 32767).astype(np.int16), 16_000)

    assert span == pytest.approx((0.5, 1.5))


def test_resampling_keeps_a_tone() -> None:
    np.testing.assert_allclose(
        resampled(tone(1, 8_000), 8_000, 16_000)[2_000:14_000],
        tone(1, 16_000)[2_000:14_000],
        atol=0.01,
    )


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path, model: FrameModel) -> None:
    with pytest.raises(AnalyseError, match="counts from 0"):
        analyse(call(tmp_path / "call.wav"), model, channel=1)


def test_a_missing_file_is_told(tmp_path: Path, model: FrameModel) -> None:
    with pytest.raises(AnalyseError, match="no such file"):
        analyse(tmp_path / "none.wav", model)


def test_text_is_no_sound_file(tmp_path: Path, model: FrameModel) -> None:
    path = tmp_path / "text.wav"
    path.write_text("hello")

    with pytest.raises(AnalyseError, match="not a sound file"):
        analyse(path, model)


def test_flac_is_read(tmp_path: Path, model: FrameModel) -> None:
    sound, rate = soundfile.read(call(tmp_path / "call.wav", 22_050))
    soundfile.write(tmp_path / "call.flac", sound, rate)

    assert "interruption at 2.1" in analyse(tmp_path / "call.flac", model)


def test_a_picture_is_drawn(tmp_path: Path, model: FrameModel) -> None:
    picture = tmp_path / "call.png"

    analyse(call(tmp_path / "call.wav"), model, plot=picture)

    assert picture.read_bytes().startswith(b"\x89PNG")
