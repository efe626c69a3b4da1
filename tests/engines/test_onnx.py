"""A model says itself what it is."""

from pathlib import Path

import numpy as np
import pytest

from gateway.engines import onnx
from gateway.engines.interruption.engine import shipped_model
from gateway.engines.onnx import FrameModel, open_session
from gateway.engines.types import ModelError
from tests.fakes import frame_model


def test_the_metadata_is_read(tmp_path: Path) -> None:
    model = FrameModel(frame_model.write(tmp_path / "m.onnx"), interface="bargein/1")
    assert model.card.sample_rate == 16000
    assert model.card.frame_samples == 400
    assert model.card.default_threshold == 0.5
    assert model.carries_state
    assert model.state_size == 2


def test_state_carried_is_the_same_as_the_whole(tmp_path: Path) -> None:
    model = FrameModel(frame_model.write(tmp_path / "m.onnx"), interface="bargein/1")
    audio = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)
    whole, _ = model.run(audio[None], model.blank_state()[None])
    first, state = model.run(audio[None, :3200], model.blank_state()[None])
    second, _ = model.run(audio[None, 3200:], state)
    assert np.allclose(np.concatenate([first[0], second[0]]), whole[0], atol=1e-6)


@pytest.mark.parametrize("samples", [0, 399, 401])
def test_what_is_no_frames_is_refused_instead_of_ending_the_process(samples: int) -> None:
    model = FrameModel(shipped_model(), interface="bargein/1")
    with pytest.raises(ValueError, match=f"{samples} samples"):
        model.run(np.zeros((1, samples), np.int16), model.blank_state()[None])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"interface": "other/1"}, "interface"),
        ({"sample_rate": "fast"}, "metadata"),
        ({"default_threshold": "2"}, "out of range"),
        ({"frame_samples": "0"}, "out of range"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, changes: dict[str, str], named: str
) -> None:
    path = frame_model.write(tmp_path / "m.onnx", metadata=frame_model.METADATA | changes)
    with pytest.raises(ModelError, match=named):
        FrameModel(path, interface="bargein/1")


def test_a_model_without_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="interface"):
        FrameModel(frame_model.write(tmp_path / "m.onnx", metadata={}), interface="bargein/1")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        FrameModel(tmp_path / "nowhere.onnx", interface="bargein/1")
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a model"):
        FrameModel(tmp_path / "x.onnx", interface="bargein/1")


def test_a_gpu_that_is_not_there_is_an_error_unless_it_may_be_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "has_cuda", lambda: False)
    path = frame_model.write(tmp_path / "m.onnx")
    assert open_session(path, 1, "auto").get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ModelError, match="onnxruntime-gpu"):
        open_session(path, 1, "cuda")
