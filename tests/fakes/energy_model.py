"""A stand-in with the interface of the real model: probability follows each frame's loudness."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, default_threshold: float = 0.5) -> Path:
    """Above about -40 dBFS the probability passes one half; the state is passed through."""

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        helper.make_node("Cast", ["audio"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "frames"], ["framed"]),
        helper.make_node("Mul", ["framed", "framed"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["power"], keepdims=0),
        helper.make_node("Add", ["power", "one"], ["positive"]),
        helper.make_node("Log", ["positive"], ["log"]),
        helper.make_node("Sub", ["log", "middle"], ["centred"]),
        helper.make_node("Sigmoid", ["centred"], ["probabilities"]),
        helper.make_node("Identity", ["state"], ["next_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "energy",
        [
            helper.make_tensor_value_info("audio", TensorProto.INT16, ["batch", "samples"]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", "frames"]),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            constant("frames", np.array([0, -1, 400], np.int64)),
            constant("axes", np.array([2], np.int64)),
            constant("one", np.float32(1)),
            constant("middle", np.float32(2 * np.log(327.68))),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(
        model,
        {
            "interface": "bargein/1",
            "sample_rate": "16000",
            "frame_samples": "400",
            "default_threshold": str(default_threshold),
            "threshold_origin": "made for tests",
            "version": "test",
            "name": "energy",
        },
    )
    onnx.save(model, str(path))
    return path
