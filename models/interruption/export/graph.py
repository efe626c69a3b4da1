"""The network as it is served: one small ONNX graph, samples and a flat state in and out.

Written node by node, since what 100 ms of sound cost is as much the number of nodes as their work:
convolutions are products over taps laid side by side, normalisations are folded into them, the
scaling of the features into what comes before and after. Everything remembered between calls is
one vector, so the whole-window form is the streaming form with zeros for a past.

On request the larger products are done in whole numbers, with one scale for what goes in and one
for each output: fixed ones, so that a frame is the same in whatever company it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from models.interruption.data import features
from models.interruption.export.whole_numbers import Inputs, rounded
from models.interruption.train.network import SPEECH_FRAMES, CausalConv, Network

_END = np.iinfo(np.int64).max
_CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators


def state_sizes(network: Network) -> list[int]:
    """Length of each part of the state: sound, one tail per convolution, speech, GRU."""
    tails = [conv.inputs * conv.context for conv in network.convolutions()]
    return [features.CONTEXT, *tails, SPEECH_FRAMES - 1, network.shape.memory]


@dataclass
class _Graph:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, values: NDArray[Any] | Tensor | Sequence[int]) -> str:
        if isinstance(values, Tensor):
            values = values.detach().numpy()
        array = np.asarray(values)
        whole = array.dtype if array.dtype.itemsize == 1 else np.int64
        kind = np.float32 if array.dtype.kind == "f" else whole
        self.constants[name] = numpy_helper.from_array(
            np.ascontiguousarray(array.astype(kind)), name
        )
        return name

    def indices(self, *values: int) -> str:
        return self.constant("i" + "_".join(map(str, values)), values)

    def nodes_of(
        self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        names = [f"{op.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes_of(op, inputs, 1, **attributes)[0]

    def cut(self, x: str, start: int, end: int = _END) -> str:
        """Frames (axis 1) from `start` to `end`; negative ones count from the last."""
        return self("Slice", x, self.indices(start), self.indices(end), self.indices(1))

    def shaped(self, x: str, *sizes: int) -> str:
        return self("Reshape", x, self.indices(*sizes))


def _folded(conv: CausalConv, norm: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Convolution and normalisation as one product: [taps * inputs, outputs] and [outputs]."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.conv.weight * scale[:, None, None]
    bias = (conv.conv.bias - norm.running_mean) * scale + norm.bias
    return weight.permute(2, 1, 0).flatten(0, 1), bias


def _in_whole_numbers(
    graph: _Graph, name: str, taps: str, heard: Inputs, weight: Tensor, bias: Tensor
) -> str:
    """Rectified `taps` as 8 bits, weights as 7."""
    whole, scales = rounded(weight, heard.moments)
    step = graph.constant(f"{name}.step", np.float32(heard.peak / 255))
    nothing = graph.constant("nothing", np.uint8(0))
    return graph(
        "MatMulIntegerToFloat",
        graph("QuantizeLinear", taps, step, nothing),
        graph.constant(f"{name}.weight", whole),
        step,
        graph.constant(f"{name}.scales", scales),
        nothing,
        graph.constant(f"{name}.nothing", np.zeros(len(scales), np.int8)),
        graph.constant(f"{name}.bias", bias),
        domain=_CONTRIBUTED,
    )


def _gates(torch_order: Tensor) -> Tensor:
    """torch has a GRU's gates as reset, update, new; ONNX as update, reset, new."""
    reset, update, new = torch_order.chunk(3)
    return torch.cat([update, reset, new])


def model_of(network: Network, inputs: Sequence[Inputs] | None = None) -> onnx.ModelProto:
    """`audio` [batch, samples] int16 and `state` [batch, n] in; `probabilities` [batch, frames] and
    `next_state` out. Samples are a multiple of `features.FRAME`. With `inputs` (see
    `whole_numbers`) the blocks are products of whole numbers."""
    graph, shape = _Graph(), network.shape
    sizes = state_sizes(network)
    sound_past, *tails, speech_past, hidden = graph.nodes_of(
        "Split", ["state", graph.indices(*sizes)], len(sizes), axis=1
    )

    # The ear. A look is two hops: one product over hops costs half of a convolution over samples.
    audio = graph("Cast", "audio", to=TensorProto.FLOAT)
    sound = graph("Concat", sound_past, audio, axis=1)
    hops = graph.shaped(sound, 0, -1, features.HOP)
    looks = graph("Concat", graph.cut(hops, 0, -1), graph.cut(hops, 1), axis=2)
    spectrum = graph("MatMul", looks, graph.constant("ear.kernels", features.kernels().T))
    bands = features.bands().T.astype(np.float64) * np.exp(-features.CENTRE)
    energies = graph(
        "MatMul",
        graph("Mul", spectrum, spectrum),
        graph.constant("ear.bands", np.concatenate([bands, bands])),
    )
    floor = graph.constant("ear.floor", np.float64(features.FLOOR) * np.exp(-features.CENTRE))
    heard = graph.shaped(graph("Log", graph("Add", energies, floor)), 0, -1, features.SIZE)

    following = [graph.cut(sound, -features.CONTEXT)]
    for i, (conv, norm) in enumerate(zip(network.convolutions(), network.norms, strict=True)):
        weight, bias = _folded(conv, norm)
        if i == 0:  # what is heard is not yet divided
            weight = weight / features.SPREAD
        past = graph.shaped(tails[i], 0, conv.context, conv.inputs)
        longer = graph("Concat", past, heard, axis=1)
        step = conv.conv.dilation[0]
        earlier = [
            graph.cut(longer, tap * step, tap * step - conv.context)
            for tap in range(conv.context // step)
        ]
        taps = graph("Concat", *earlier, heard, axis=2)
        name = f"convolutions.{i}"
        if i and inputs is not None:
            summed = _in_whole_numbers(graph, name, taps, inputs[i - 1], weight, bias)
        else:
            product = graph("MatMul", taps, graph.constant(f"{name}.weight", weight))
            summed = graph("Add", product, graph.constant(f"{name}.bias", bias))
        new = graph("Relu", summed)
        heard = graph("Add", heard, new) if i else new
        following.append(graph("Flatten", graph.cut(longer, -conv.context)))

    gru = network.gru
    biases = torch.cat([_gates(gru.bias_ih_l0), _gates(gru.bias_hh_l0)])
    remembered, last = graph.nodes_of(
        "GRU",
        [
            graph("Transpose", heard, perm=[1, 0, 2]),
            graph.constant("gru.input", _gates(gru.weight_ih_l0)[None]),
            graph.constant("gru.recurrent", _gates(gru.weight_hh_l0)[None]),
            graph.constant("gru.bias", biases[None]),
            "",
            graph("Unsqueeze", hidden, graph.indices(0)),
        ],
        2,
        hidden_size=shape.memory,
        linear_before_reset=1,
    )  # [frames, 1, batch, memory]

    head, voiced = network.whole_head(), network.voiced
    weight = torch.cat([voiced.weight, head.weight[:, shape.memory :]]).T
    bias = torch.cat([voiced.bias, head.bias])
    now = graph("MatMul", heard, graph.constant("now.weight", weight))
    now = graph("Add", now, graph.constant("now.bias", bias))  # [batch, frames, 2]
    speech, of_now = graph.nodes_of("Split", [now, graph.indices(1, 1)], 2, axis=2)
    weight = head.weight[:, : shape.memory].T
    of_past = graph("MatMul", remembered, graph.constant("past.weight", weight))
    of_past = graph("Transpose", of_past, perm=[2, 0, 1, 3])

    spoken = graph.shaped(graph("Sigmoid", speech), 0, -1)
    spoken = graph("Concat", speech_past, spoken, axis=1)
    each = np.full((1, 1, SPEECH_FRAMES), shape.pair[0] * 0.025)
    of_seconds = graph(
        "Conv",
        graph("Unsqueeze", spoken, graph.indices(1)),
        graph.constant("seconds.weight", each),
    )
    logits = graph("Add", graph.shaped(of_now, 0, -1), graph.shaped(of_past, 0, -1))
    logits = graph("Add", logits, graph.shaped(of_seconds, 0, -1))
    following += [graph.cut(spoken, 1 - SPEECH_FRAMES), graph("Squeeze", last, graph.indices(0))]
    graph.nodes += [
        helper.make_node("Sigmoid", [logits], ["probabilities"]),
        helper.make_node("Concat", following, ["next_state"], axis=1),
    ]

    def described(name: str, kind: int, *sizes: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, sizes)

    whole = helper.make_graph(
        graph.nodes,
        "interruption",
        [
            described("audio", TensorProto.INT16, "batch", "samples"),
            described("state", TensorProto.FLOAT, "batch", sum(sizes)),
        ],
        [
            described("probabilities", TensorProto.FLOAT, "batch", "frames"),
            described("next_state", TensorProto.FLOAT, "batch", sum(sizes)),
        ],
        list(graph.constants.values()),
    )
    domains = [helper.make_opsetid("", 17)]
    if inputs is not None:
        domains.append(helper.make_opsetid(_CONTRIBUTED, 1))
    model = helper.make_model(whole, opset_imports=domains, ir_version=8)
    helper.set_model_props(model, {"shape": json.dumps(shape.as_dict(), sort_keys=True)})
    onnx.checker.check_model(model)
    return model
