"""A tiny ONNX model with the interface of the interruption model, for tests of what serves it.

The probability of a frame is the mean magnitude of all audio so far, divided by 32768: exact to
predict, and wrong at once if state were lost, mixed up between sessions, or samples run twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAME = 400

METADATA = {
    "interface": "bargein/1",
    "name": "running-mean",
    "version": "test",
    "sample_rate": "16000",
    "frame_samples": str(FRAME),
    "default_threshold": "0.5",
}


def write(path: Path, *, metadata: dict[str, str] | None = None, stateful: bool = True) -> Path:
    """Write the model to `path`. Its state is [sum of magnitudes, frames]."""
    constants: dict[str, npt.NDArray[Any]] = {
        "scale": np.array(1 / 32768, np.float32),
        "shape": np.array([0, -1, FRAME], np.int64),
        "axis2": np.array([2], np.int64),
        "axis1": np.array(1, np.int64),
        "one": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
        "two": np.array([2], np.int64),
        "last": np.array([-1], np.int64),
        "end": np.array([1 << 30], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["audio"], ["float"], to=TensorProto.FLOAT),
        node("Abs", ["float"], ["magnitude"]),
        node("Mul", ["magnitude", "scale"], ["scaled"]),
        node("Reshape", ["scaled", "shape"], ["framed"]),
        node("ReduceMean", ["framed", "axis2"], ["means"], keepdims=0),
        node("CumSum", ["means", "axis1"], ["sums"]),
        node("Mul", ["means", "nought"], ["zeros"]),
        node("Add", ["zeros", "unit"], ["ones"]),
        node("CumSum", ["ones", "axis1"], ["counts"]),
    ]
    constants |= {"nought": np.array(0, np.float32), "unit": np.array(1, np.float32)}
    inputs = [helper.make_tensor_value_info("audio", TensorProto.INT16, ["batch", "samples"])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", "frames"])
    ]
    if stateful:
        inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 2]))
        outputs.append(helper.make_tensor_value_info("next_state", TensorProto.FLOAT, ["batch", 2]))
        nodes += [
            node("Slice", ["state", "zero", "one", "one"], ["sum_before"]),
            node("Slice", ["state", "one", "two", "one"], ["count_before"]),
            node("Add", ["sums", "sum_before"], ["sum_now"]),
            node("Add", ["counts", "count_before"], ["count_now"]),
            node("Slice", ["sum_now", "last", "end", "one"], ["sum_last"]),
            node("Slice", ["count_now", "last", "end", "one"], ["count_last"]),
            node("Concat", ["sum_last", "count_last"], ["next_state"], axis=1),
        ]
        # Slice without axes cuts the first ones: say that it is the second
        constants["axis"] = np.array([1], np.int64)
        for item in nodes:
            if item.op_type == "Slice":
                item.input[3] = "axis"
        nodes.append(node("Div", ["sum_now", "count_now"], ["probabilities"]))
    else:
        nodes.append(node("Div", ["sums", "counts"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "running_mean",
        inputs,
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, METADATA if metadata is None else metadata)
    onnx.save(model, str(path))
    return path


def expected(samples: np.ndarray) -> np.ndarray:
    """What the model says of int16 `samples` [samples], from a blank state: float32 [frames]."""
    means = np.abs(samples.astype(np.float64) / 32768).reshape(-1, FRAME).mean(axis=1)
    return (np.cumsum(means) / np.arange(1, means.size + 1)).astype(np.float32)
