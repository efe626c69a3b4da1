"""Makes an exported file the start of another training: of the published weights on your own calls.

    python -m models.interruption.resume --run published
    python -m models.interruption.train --from-run published --run mine --rate 0.0006

The file holds what is served: normalisation is folded into the convolutions, the pair's opinion
into the head, and the heads that were only trained with are gone. So normalisations are measured
anew on built scenes, and those heads start from nothing. What the network says does not change.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.interruption.cache import cache_folder
from models.interruption.export import TARGET
from models.interruption.network import SPEECH_FRAMES, Network, Shape
from models.interruption.splits import Side

_SCENES = 512  # on which normalisations are measured


def _dilations(graph: onnx.GraphProto) -> tuple[int, ...]:
    found = {
        node.name: next(a.ints[0] for a in node.attribute if a.name == "dilations")
        for node in graph.node
        if node.name.startswith("/blocks.") and node.op_type == "Conv"
    }
    return tuple(found[name] for name in sorted(found))


def _weights(graph: onnx.GraphProto) -> tuple[dict[str, list[NDArray[np.float32]]], float]:
    """Constant inputs of each node, by the node's name; and what 1.5 s of speech add."""
    known = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    constants = {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }
    nodes = {n.name: [known[i].copy() for i in n.input if i in known] for n in graph.node}
    speech = next(
        float(constants[i])
        for node in graph.node
        if node.op_type == "Mul"
        for i in node.input
        if i in constants and constants[i].ndim == 0
    )
    nodes["biases"] = [known["head.bias"].copy(), known["network.voiced.bias"].copy()]
    return nodes, speech


def _gates(onnx_order: NDArray[np.float32]) -> Tensor:
    """ONNX has a GRU's gates as update, reset, new; torch as reset, update, new."""
    update, reset, new = np.split(onnx_order, 3)
    return torch.from_numpy(np.concatenate([reset, update, new]))


def restored(path: Path) -> Network:
    """A network that says what the file says; its normalisations do nothing yet."""
    graph = onnx.load(path).graph
    nodes, speech = _weights(graph)
    stem = nodes["/stem/conv/Conv"]
    inner, recurrent, biases = nodes["/gru/GRU"]
    blocks = sorted(n for n in nodes if n.startswith("/blocks.") and n.endswith("/conv/Conv"))
    shape = Shape(
        width=stem[0].shape[0],
        dilations=_dilations(graph),
        memory=recurrent.shape[2],
        pair=(speech / (SPEECH_FRAMES * 0.025), 0.0, 0.0),
    )
    network = Network(shape)
    with torch.no_grad():
        for conv, name in zip((network.stem, *network.blocks), ("/stem/conv/Conv", *blocks),
                              strict=True):  # fmt: skip
            conv.conv.weight.copy_(torch.from_numpy(nodes[name][0]))  # type: ignore[union-attr]
            conv.conv.bias.copy_(torch.from_numpy(nodes[name][1]))  # type: ignore[union-attr]
        for norm in network.norms:
            norm.running_var.fill_(1.0 - norm.eps)  # type: ignore[operator, union-attr]
        network.gru.weight_ih_l0.copy_(_gates(inner[0]))
        network.gru.weight_hh_l0.copy_(_gates(recurrent[0]))
        first, second = np.split(biases[0], 2)
        network.gru.bias_ih_l0.copy_(_gates(first))
        network.gru.bias_hh_l0.copy_(_gates(second))
        for head, name, bias in ((network.head, "/head/MatMul", 0),
                                 (network.voiced, "/voiced/MatMul", 1)):  # fmt: skip
            head.weight.copy_(torch.from_numpy(nodes[name][0].T))
            head.bias.copy_(torch.from_numpy(nodes["biases"][bias]))
    return network.eval()


def measure(network: Network, x: Tensor) -> None:
    """Gives the normalisations the statistics of `x` [scenes, frames, SIZE], changing no output."""

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        mean, variance = values.mean(dim=1), values.var(dim=1)
        norm.running_mean.copy_(mean)  # type: ignore[operator, union-attr]
        norm.running_var.copy_(variance)  # type: ignore[operator, union-attr]
        norm.weight.copy_(torch.sqrt(variance + norm.eps))  # type: ignore[operator]
        norm.bias.copy_(mean)  # type: ignore[operator]

    hooks = [norm.register_forward_pre_hook(note) for norm in network.norms]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()


def main() -> None:
    from models.interruption.train import Shards

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", type=Path, default=TARGET)
    parser.add_argument("--run", required=True, help="name under which `train` finds it")
    parser.add_argument("--data", default="scenes", help="set below the cache")
    arguments = parser.parse_args()
    root = cache_folder()
    network = restored(arguments.onnx)
    x = Shards([root / arguments.data], Side.TRAIN, 1).fields["x"][:_SCENES]
    measure(network, torch.from_numpy(x.astype(np.float32)))
    run = root / "runs" / arguments.run
    run.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"weights": network.state_dict(), "shape": network.shape.as_dict(),
         "training_data_sha256": "", "epochs": 0, "sets": []},
        run / "best.pt",
    )  # fmt: skip
    print(f"{run / 'best.pt'}: as {arguments.onnx} says it")


if __name__ == "__main__":
    main()
