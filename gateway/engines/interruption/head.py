"""The last layer of the interruption model: what it goes by, and a file with another one.

The shipped graph (models/interruption/export/graph.py) ends in a sum: the newest frame and the
GRU's memory, each times its weights, and the seconds of speech so far. Everything before that stays
as it is when `gateway bargein learn` adapts a file: it is run once over what was kept, and the new
weights are written into the places of the old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from gateway.engines.onnx import session_of
from gateway.engines.rewrite import ModelFile
from gateway.engines.types import Floats, ModelError, Samples

NOW: Final = "now.weight"
"""Initializer [width, 2]: of the newest frame; column 0 tells whether it is speech, 1 the floor."""

NOW_BIAS: Final = "now.bias"
PAST: Final = "past.weight"
"""Initializer [memory, 1]: of the GRU's memory."""

_OUTPUT: Final = "probabilities"


@dataclass(frozen=True, slots=True)
class Heard:
    """What the head of the model goes by, frame by frame of some audio.

    `features` float32 [frames, width + memory]; `logits` float32 [frames], as the file has them;
    `speech` float32 [frames], the model's opinion whether it is speech, a probability.
    """

    features: Floats
    logits: Floats
    speech: Floats


def file_hash(data: bytes) -> str:
    """By which a model file is known again."""
    return hashlib.sha256(data).hexdigest()


class HeadOfModel:
    """A model file whose head can be seen and changed. Raises ModelError for any other."""

    def __init__(self, path: Path) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
        self.sha256 = file_hash(self.data)
        model, found = _read(self.data, path)
        self.metadata: dict[str, str] = {one.key: one.value for one in model.metadata_props}
        watched = ModelFile()
        watched.CopyFrom(model)
        del watched.graph.output[:]
        names = (found.now, found.past, found.speech, _OUTPUT)
        for name in names:
            watched.graph.output.add(name=name)
        self._names = list(names)
        try:
            self._session = session_of(watched.SerializeToString(), threads=1)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        self._state_size = int(self._session.get_inputs()[1].shape[-1])

    def hear(self, samples: Samples) -> Heard:
        """Of samples at the model's rate, from a state of zeros. An end that is no whole frame of
        400 samples is left out."""
        whole = samples[: samples.size // 400 * 400]
        if not whole.size:
            nothing = np.zeros(0, np.float32)
            return Heard(np.zeros((0, 0), np.float32), nothing, nothing)
        state = np.zeros((1, self._state_size), np.float32)
        now, past, speech, probabilities = self._session.run(
            self._names, {"audio": whole[None], "state": state}
        )
        features = np.concatenate((now[0], past[:, 0, 0]), axis=1)
        return Heard(features, logit(probabilities[0]), speech.reshape(-1))

    def with_change(self, change: Floats, bias: float, metadata: Mapping[str, str]) -> bytes:
        """The file with `change` [width + memory] added to the head's weights and `bias` to its
        constant, and `metadata` in place of, or beside, what it has."""
        model, _ = _read(self.data, Path("the model"))
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        now = np.frombuffer(tensors[NOW].raw_data, "<f4").reshape(-1, 2).copy()
        past = np.frombuffer(tensors[PAST].raw_data, "<f4").copy()
        constant = np.frombuffer(tensors[NOW_BIAS].raw_data, "<f4").copy()
        if change.shape != (len(now) + len(past),):
            raise ValueError(f"expected {len(now) + len(past)} weights, not {change.shape}")
        now[:, 1] += change[: len(now)]
        past += change[len(now) :]
        constant[1] += bias
        for name, values in ((NOW, now), (PAST, past), (NOW_BIAS, constant)):
            tensors[name].raw_data = values.astype("<f4").tobytes()
        for key, value in metadata.items():
            same = [one for one in model.metadata_props if one.key == key]
            if same:
                same[0].value = value
            else:
                model.metadata_props.add(key=key, value=value)
        written: bytes = model.SerializeToString()
        return written


@dataclass(frozen=True, slots=True)
class _Places:
    """Names of values in a graph."""

    now: str
    past: str
    speech: str


def _read(data: bytes, path: Path) -> tuple[Any, _Places]:
    model = ModelFile()
    wrong = ModelError(
        f"{path}: only a model with the head of the shipped one can learn from calls "
        f"(initializers {NOW}, {NOW_BIAS} and {PAST})"
    )
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise wrong from None
    names = {tensor.name for tensor in model.graph.initializer}
    readers = {name: node for node in model.graph.node for name in node.input}
    speech = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Sigmoid" and node.output[0] != _OUTPUT
    ]
    if not {NOW, NOW_BIAS, PAST} <= names or NOW not in readers or len(speech) != 1:
        raise wrong
    return model, _Places(readers[NOW].input[0], readers[PAST].input[0], speech[0])


def logit(probabilities: Floats) -> Floats:
    """Log odds, of probabilities that are told from 0 and 1."""
    inside = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)), np.float32)
