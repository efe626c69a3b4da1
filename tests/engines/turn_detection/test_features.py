"""The features that the model hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.engines.turn_detection.features import LogMel
from tests.engines.turn_detection.sounds import BAND_STEP, FRAME_STEP, WINDOW_S, sounds

FIXTURE = Path(__file__).parent / "whisper_features.npz"
TOLERANCE = 1e-3


@pytest.mark.parametrize("name", sounds())
def test_the_features_are_those_of_the_reference_implementation(name: str) -> None:
    expected = np.load(FIXTURE)

    found = LogMel(WINDOW_S)(sounds()[name])

    assert found.shape == (80, 100 * WINDOW_S)
    assert found.dtype == np.float32
    assert np.abs(found[::BAND_STEP, ::FRAME_STEP] - expected[name]).max() < TOLERANCE
    assert np.abs(found[::BAND_STEP, -4:] - expected[f"{name}/end"]).max() < TOLERANCE
    assert np.abs(found.mean(axis=1) - expected[f"{name}/mean"]).max() < TOLERANCE


def test_only_the_end_of_more_than_a_window_matters() -> None:
    log_mel = LogMel(1)
    samples = sounds()["more than a window"]

    assert np.array_equal(log_mel(samples), log_mel(samples[-16000:]))


def test_features_of_another_window_have_its_length() -> None:
    assert LogMel(2.5)(sounds()["voice"]).shape == (80, 250)
