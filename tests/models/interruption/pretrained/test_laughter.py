from __future__ import annotations

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.interruption.pretrained import laughter  # noqa: E402
from models.interruption.pretrained.laughter import HOP, LOOKS, RATE, Laughter  # noqa: E402


def checkpoint(answer: float) -> bytes:
    """A network whose answer is the same whatever it hears, saved as the published ones are."""
    network = laughter._Network()
    for one in network.parameters():
        torch.nn.init.zeros_(one)
    network.linear2.bias.data[:] = float(np.log(answer / (1 - answer)))
    saved = {"state_dict": network.state_dict(), "best_val_loss": np.float64(0.5)}
    file = io.BytesIO()
    torch.save(saved, file)
    return file.getvalue()


def test_a_tone_is_loudest_in_its_band() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    found = laughter.looks(tone)
    assert found.shape == (1 + RATE // HOP, 128)
    edges = np.flatnonzero(laughter._mel_filters()[:, 1000 * 2048 // RATE])
    assert found[LOOKS // 2].argmax() in edges


def test_the_mel_bands_are_librosas() -> None:
    """Of librosa 0.11.0, `filters.mel(sr=8000, n_fft=2048)`."""
    filters = laughter._mel_filters()
    assert filters.shape == (128, 1025)
    assert filters.sum() == pytest.approx(32.766663, rel=1e-5)
    assert filters[64].argmax() == 309


def test_of_a_network_that_finds_none_no_other_is_asked() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    at = np.array([0, 5, 43])
    sure, unsure = checkpoint(0.9), checkpoint(0.1)
    assert Laughter([sure, unsure]).at(sound, at).tolist() == pytest.approx([0.5] * 3)
    assert Laughter([unsure, sure]).at(sound, at).tolist() == pytest.approx([0.05] * 3)
    assert Laughter([sure]).at(sound, at[:0]).shape == (0,)


def test_silence_is_heard_without_a_warning() -> None:
    found = Laughter([checkpoint(0.5)]).at(np.zeros(RATE, np.float32), np.arange(4))
    assert np.isfinite(found).all()
