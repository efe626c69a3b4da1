"""A graph that was written anew computes what it did, and what is no such graph is left alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.engines.onnx import WindowModel
from gateway.engines.rewrite import faster
from gateway.weights import fetch
from tests.fetched_weights import fetched

CONSTANTS = {"root": 2**0.5, "one": 1.0, "half": 0.5, "scale": 1 / 255, "step": 1 / 32}


def model(
    nodes: list[onnx.NodeProto],
    outputs: tuple[str, ...] = ("y",),
    constants: dict[str, float] = CONSTANTS,
) -> bytes:
    """A model file: float32 [2, 8] `x` in, `outputs` out."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "test",
        [value("x", TensorProto.FLOAT, [2, 8])],
        [value(name, TensorProto.FLOAT, [2, 8]) for name in outputs],
        [
            *(numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items()),
            numpy_helper.from_array(np.array(0, np.uint8), "zero"),
            numpy_helper.from_array(np.array(128, np.uint8), "middle"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    written: bytes = made.SerializeToString()
    return written


def gelu() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Div", ["x", "root"], ["a"], name="divide"),
        node("Erf", ["a"], ["b"], name="erf"),
        node("Add", ["b", "one"], ["c"], name="add"),
        node("Mul", ["half", "c"], ["d"], name="halve"),
        node("Mul", ["x", "d"], ["y"], name="times"),
    ]


def softmax() -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("QuantizeLinear", ["x", "step", "middle"], ["q"]),
        node("DequantizeLinear", ["q", "step", "middle"], ["f"]),
        node("Softmax", ["f"], ["s"], axis=-1),
        node("QuantizeLinear", ["s", "scale", "zero"], ["t"]),
        node("DequantizeLinear", ["t", "scale", "zero"], ["y"]),
    ]


def run(data: bytes) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    x = np.linspace(-3, 3, 16, dtype=np.float32).reshape(2, 8)
    found: list[np.ndarray] = session.run(None, {"x": x})
    return found


def operators(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


def test_a_gelu_of_five_nodes_becomes_one() -> None:
    before = model(gelu())

    after = faster(before)

    assert after is not None
    assert operators(after) == {"Gelu": 1}
    np.testing.assert_allclose(run(after)[0], run(before)[0], atol=1e-6)


def test_a_softmax_between_quantized_values_stays_a_softmax() -> None:
    before = model(softmax())

    after = faster(before)

    assert after is not None
    assert operators(after)["Abs"] == 1
    # a value between two steps may be rounded to either
    np.testing.assert_allclose(run(after)[0], run(before)[0], atol=1.01 / 255)


@pytest.mark.parametrize(
    "changed", [{"root": 1.5}, {"one": 2.0}, {"half": 0.25}], ids=lambda one: next(iter(one))
)
def test_other_constants_are_no_gelu(changed: dict[str, float]) -> None:
    assert faster(model(gelu(), constants=CONSTANTS | changed)) is None


@pytest.mark.parametrize("between", ["a", "b", "c", "d"])
def test_a_value_that_somebody_else_wants_is_not_taken_away(between: str) -> None:
    assert faster(model(gelu(), outputs=("y", between))) is None


def test_a_softmax_that_is_not_quantized_is_left_alone() -> None:
    assert faster(model([helper.make_node("Softmax", ["x"], ["y"])])) is None


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x09"])
def test_what_is_no_model_is_left_alone(data: bytes) -> None:
    assert faster(data) is None


def test_a_model_with_inner_graphs_is_left_alone() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["inner"])],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [2, 8])],
    )
    asks = helper.make_node("If", ["truth"], ["z"], then_branch=inner, else_branch=inner)

    assert faster(model([*gelu(), asks])) is None


def test_smart_turn_says_what_its_graph_says() -> None:
    path = (
        fetched("smart-turn") / "models" / "smart-turn" / fetch.WEIGHTS["smart-turn"].files[0].name
    )
    after = faster(path.read_bytes())
    assert after is not None
    assert operators(after)["Gelu"] == 8
    assert operators(after)["Erf"] == 0
    options = onnxruntime.SessionOptions()
    # as ONNX Runtime fuses it by itself, it is further away
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(1).normal(0, 0.4, (3, 1, 80, 800)).astype(np.float32)

    model = WindowModel(path)

    for features in noise:
        (said,) = plain.run(None, {"input_features": features})
        assert model.run(features)[0] == pytest.approx(float(np.ravel(said)[0]), abs=0.02)
