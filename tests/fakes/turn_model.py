"""Tiny ONNX models with the interface of the end-of-turn model, for tests of what serves it.

The probability is the magnitude of the window's last sample, divided by 32768 (`audio`), or the
sigmoid of the mean of all features (`input_features`): exact to predict, and wrong at once if
samples were lost or mixed up between sessions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

METADATA = {
    "interface": "eot/1",
    "name": "last-sample",
    "version": "test",
    "default_threshold": "0.4",
    "thresholds": "en=0.4 de=0.3",
}


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>\n{% endfor %}"
)


def write(path: Path, *, metadata: dict[str, str] | None = None, samples: int = 16000) -> Path:
    """Write a model of `samples` samples to `path`."""
    node = helper.make_node
    nodes = [
        node("Abs", ["audio"], ["magnitude"]),
        node("Slice", ["magnitude", "last", "end", "axis"], ["probability"]),
    ]
    constants = {
        "last": np.array([-1], np.int64),
        "end": np.array([1 << 30], np.int64),
        "axis": np.array([1], np.int64),
    }
    return _save(path, "audio", [samples], nodes, constants, METADATA | (metadata or {}))


def write_features(
    path: Path,
    frames: int = 800,
    metadata: dict[str, str] | None = None,
    *,
    squashed: bool = True,
) -> Path:
    """Write a model of Whisper's features to `path`, as bare as Smart Turn is. Not `squashed`, it
    gives no probability."""
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["input_features", "axes"], ["mean"], keepdims=0),
        node("Sigmoid" if squashed else "Identity", ["mean"], ["squashed"]),
        node("Reshape", ["squashed", "shape"], ["probability"]),
    ]
    constants = {"axes": np.array([1, 2], np.int64), "shape": np.array([-1, 1], np.int64)}
    return _save(path, "input_features", [80, frames], nodes, constants, metadata or {})


def write_text(path: Path) -> Path:
    """Write a text model: the probability after a token is its number, divided by 1000."""
    node = helper.make_node
    nodes = [
        node("Cast", ["input_ids"], ["number"], to=TensorProto.FLOAT),
        node("Div", ["number", "thousand"], ["prob"]),
    ]
    thousand = numpy_helper.from_array(np.array(1000, np.float32), "thousand")
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])]
    outputs = [helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["batch", "tokens"])]
    return _write(path, helper.make_graph(nodes, "tokens", inputs, outputs, [thousand]), {})


def _save(
    path: Path,
    name: str,
    shape: list[int],
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    metadata: dict[str, str],
) -> Path:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])]
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return _write(path, helper.make_graph(nodes, "turn", inputs, outputs, initializers), metadata)


def _write(path: Path, graph: onnx.GraphProto, metadata: dict[str, str]) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def write_text_folder(folder: Path) -> Path:
    """Write a text model with tokenizer, chat template and thresholds to `folder`, as the hub has
    them. Needs the package `tokenizers`. A word it does not know is token 5."""
    import tokenizers

    folder.mkdir(exist_ok=True)
    write_text(folder / "m.onnx")
    words = {"<|im_start|>": 0, "user": 1, ":": 2, "good": 3, "evening": 4, "<unk>": 5}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE})
    )
    (folder / "languages.json").write_text(json.dumps({"en": {"threshold": 0.01}}))
    return folder
