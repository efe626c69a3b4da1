"""Our features for smart-turn against the reference that ships with the model."""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from models.interruption.pretrained import smart_turn


def test_log_mel_features_equal_the_reference_implementation() -> None:
    spec = importlib.util.find_spec("pipecat")
    assert spec
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "audio/turn/smart_turn/_whisper_features.py"
    module_spec = importlib.util.spec_from_file_location("reference_features", path)
    assert module_spec
    assert module_spec.loader
    reference = importlib.util.module_from_spec(module_spec)
    sys.modules["reference_features"] = reference
    module_spec.loader.exec_module(reference)
    rng = np.random.default_rng(3)
    short = (rng.standard_normal(30_000) * np.linspace(0, 0.3, 30_000)).astype(np.float32)

    wanted = reference.compute_whisper_log_mel_features(np.pad(short, (128_000 - 30_000, 0)))

    np.testing.assert_allclose(smart_turn.whisper_log_mel(short), wanted, atol=2e-5)


def test_features_of_silence_are_finite_and_shaped_for_the_model() -> None:
    features = smart_turn.whisper_log_mel(np.zeros(1600, np.float32))

    assert features.shape == (80, 800)
    assert np.isfinite(features).all()
