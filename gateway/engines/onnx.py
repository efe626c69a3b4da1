"""ONNX models that say themselves what they are. Alone imports onnxruntime."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from gateway.engines.rewrite import faster
from gateway.engines.types import Floats, FrameModelCard, ModelError, Samples

onnxruntime.set_default_logger_severity(3)  # its warnings are for those who build models

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # a spinning thread would take the event loop's core
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def has_cuda() -> bool:
    """Whether this ONNX Runtime is one for NVIDIA's GPUs (the package onnxruntime-gpu)."""
    return _CUDA in onnxruntime.get_available_providers()


def open_session(path: Path, threads: int, device: str = "cpu") -> onnxruntime.InferenceSession:
    """The model in the file `path`, run by at most `threads` threads, or on a GPU: `device` is cpu,
    cuda, or auto for a GPU where there is one. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    if device == "cuda" and not has_cuda():
        raise ModelError("device: cuda needs the package onnxruntime-gpu in place of onnxruntime")
    on_gpu = device != "cpu" and has_cuda()
    try:
        # one that finds no GPU gives way to the next
        return onnxruntime.InferenceSession(
            str(path), _options(threads), providers=[_CUDA, _CPU] if on_gpu else [_CPU]
        )
    except Exception as error:  # onnxruntime's own errors share no base class
        raise ModelError(f"{path}: not a model that ONNX Runtime can load: {error}") from None


def session_of(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    """The model in `data`, on CPUs. Raises ModelError."""
    try:
        return onnxruntime.InferenceSession(data, _options(threads), providers=[_CPU])
    except Exception as error:  # onnxruntime's own errors share no base class
        raise ModelError(f"not a model that ONNX Runtime can load: {error}") from None


def stoppable() -> onnxruntime.RunOptions:
    """Options for runs that another thread can end: once `terminate` is True, they raise."""
    return onnxruntime.RunOptions()


def open_faster_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """As `open_session`, with the graph written as ONNX Runtime runs it faster, where it can be."""
    rewritten = faster(path.read_bytes()) if path.is_file() else None
    if rewritten is not None:
        # a file with weights beside it cannot be loaded from bytes
        with contextlib.suppress(Exception):
            return onnxruntime.InferenceSession(rewritten, _options(threads), providers=[_CPU])
    return open_session(path, threads)


class FrameModel:
    """A model that gives a probability for each frame of audio.

    The ONNX file has the input `audio` int16 [batch, samples] and the output `probabilities`
    float32 [batch, samples / frame_samples]; one that carries state from call to call has `state`
    and `next_state` float32 [batch, size] beside them. Its metadata has `interface` (as asked for
    by `interface`), `sample_rate`, `frame_samples`, `default_threshold`, `version` and `name`.

    Raises ModelError where the file is otherwise.
    """

    def __init__(self, path: Path, *, interface: str, threads: int = 1) -> None:
        self._session = open_session(path, threads)
        self.card = _read_card(path, self._session.get_modelmeta().custom_metadata_map, interface)
        inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = [o.name for o in self._session.get_outputs()]
        if "audio" not in inputs or inputs["audio"].type != "tensor(int16)":
            raise ModelError(f"{path}: expected an input 'audio' of int16 [batch, samples]")
        if "probabilities" not in outputs:
            raise ModelError(f"{path}: expected an output 'probabilities'")
        self._carries_state = "state" in inputs
        if self._carries_state and "next_state" not in outputs:
            raise ModelError(f"{path}: has an input 'state' but no output 'next_state'")
        size = inputs["state"].shape[-1] if self._carries_state else 0
        if not isinstance(size, int):
            raise ModelError(f"{path}: the size of 'state' must be fixed")
        self.state_size = size

    @property
    def carries_state(self) -> bool:
        """Whether the model continues from a state, so that only new samples need be run."""
        return self._carries_state

    def blank_state(self) -> Floats:
        """The state before the first sample: float32 [size]."""
        return np.zeros(self.state_size, np.float32)

    def run(self, audio: Samples, state: Floats) -> tuple[Floats, Floats]:
        """Probabilities [batch, frames] of `audio` [batch, samples] and the state after it,
        from `state` [batch, size]. `samples` is a multiple of `frame_samples`, or it raises
        ValueError: ONNX Runtime ends the process over an empty input."""
        if not audio.shape[1] or audio.shape[1] % self.card.frame_samples:
            raise ValueError(f"{audio.shape[1]} samples are no frames of {self.card.frame_samples}")
        if not self._carries_state:
            (probabilities,) = self._session.run(["probabilities"], {"audio": audio})
            return probabilities, state
        probabilities, next_state = self._session.run(
            ["probabilities", "next_state"], {"audio": audio, "state": state}
        )
        return probabilities, next_state

    def warm(self) -> None:
        """Run once, so that the first caller does not wait for buffers to be made."""
        audio = np.zeros((1, self.card.frame_samples * 4), np.int16)
        self.run(audio, self.blank_state()[None])


class WindowModel:
    """A model that gives one probability for a window of audio, or for its features.

    The ONNX file has one input, float32 [batch, ...], and an output, float32 [batch] or
    [batch, 1], of probabilities. `input_name`, `input_shape` (without the batch; None where a
    dimension is free) and `metadata` tell which model it is. Raises ModelError.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._session = open_faster_session(path, threads)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise ModelError(f"{path}: expected one input, float32 [batch, ...]")
        self.input_name: str = inputs[0].name
        self.input_shape: tuple[int | None, ...] = tuple(
            size if isinstance(size, int) else None for size in inputs[0].shape[1:]
        )
        self._output: str = self._session.get_outputs()[0].name
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, inputs: Floats) -> Floats:
        """Probabilities float32 [batch] of `inputs` float32 [batch, ...]."""
        (found,) = self._session.run([self._output], {self.input_name: inputs})
        probabilities: Floats = np.asarray(found, np.float32).reshape(len(inputs), -1)[:, -1]
        return probabilities


class TokenModel:
    """A model of text: input `input_ids` int64 [batch, tokens], output float32 whose last value
    is a probability. Raises ModelError."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._session = open_session(path, threads)
        inputs = {i.name: i.type for i in self._session.get_inputs()}
        if inputs != {"input_ids": "tensor(int64)"}:
            raise ModelError(f"{path}: expected one input 'input_ids', int64 [batch, tokens]")
        self._output: str = self._session.get_outputs()[0].name

    def run(self, tokens: Sequence[int]) -> float:
        """The probability after the last of `tokens`, of which there is at least one."""
        (found,) = self._session.run([self._output], {"input_ids": np.array([tokens], np.int64)})
        return float(np.asarray(found).reshape(-1)[-1])


def _read_card(path: Path, meta: Mapping[str, str], interface: str) -> FrameModelCard:
    if meta.get("interface") != interface:
        raise ModelError(
            f"{path}: metadata 'interface' is {meta.get('interface')!r}: expected {interface!r}"
        )
    try:
        card = FrameModelCard(
            name=meta.get("name", path.stem),
            version=meta.get("version", "unknown"),
            sample_rate=int(meta["sample_rate"]),
            frame_samples=int(meta["frame_samples"]),
            default_threshold=float(meta["default_threshold"]),
        )
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: metadata is missing or malformed: {error}") from None
    if not (card.sample_rate > 0 and card.frame_samples > 0 and 0 < card.default_threshold < 1):
        raise ModelError(f"{path}: metadata is out of range: {card}")
    return card
