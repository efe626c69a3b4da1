"""Makes an exported file the start of another training: of the published weights on your own calls.

    python -m models.interruption.train.resume --run published
    python -m models.interruption.train --from-run published --run mine --rate 0.0006

The file holds what is served: normalisation is folded into the convolutions, the pair's opinion
into the head, and the heads that were only trained with are gone. So normalisations are measured
anew on built scenes, and those heads start from nothing. What the network says does not change,
but for the rounding of a file in whole numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.interruption.cache import PUBLISHED, cache_folder
from models.interruption.data import features
from models.interruption.data.splits import Side
from models.interruption.train.checkpoints import shape_from
from models.interruption.train.network import Network
from models.interruption.train.shards import Shards

_SCENES = 512  # on which normalisations are measured


def _gates(onnx_order: NDArray[np.float32]) -> Tensor:
    """ONNX has a GRU's gates as update, reset, new; torch as reset, update, new."""
    update, reset, new = np.split(onnx_order, 3)
    return torch.from_numpy(np.concatenate([reset, update, new]))


def restored(path: Path) -> Network:
    """A network that says what the file says; its normalisations do nothing yet."""
    model = onnx.load(path)
    known = {one.name: numpy_helper.to_array(one).copy() for one in model.graph.initializer}
    written = next((one.value for one in model.metadata_props if one.key == "shape"), None)
    if written is None:
        raise ValueError(f"{path} was exported before version 0.7.0 and does not tell its shape")
    shape = json.loads(written)
    shape["pair"] = (shape["pair"][0], 0.0, 0.0)  # the rest is in the head
    network = Network(shape_from(shape))
    memory = network.shape.memory
    with torch.no_grad():
        for i, conv in enumerate(network.convolutions()):
            taps = known[f"convolutions.{i}.weight"] * (features.SPREAD if i == 0 else 1.0)
            taps = taps * known.get(f"convolutions.{i}.scales", 1.0)  # where they are whole numbers
            taps = taps.reshape(-1, conv.inputs, taps.shape[1]).transpose(2, 1, 0)
            conv.conv.weight.copy_(torch.from_numpy(taps))
            conv.conv.bias.copy_(torch.from_numpy(known[f"convolutions.{i}.bias"]))
        for norm in network.norms:
            norm.running_var.fill_(1.0 - norm.eps)
        network.gru.weight_ih_l0.copy_(_gates(known["gru.input"][0]))
        network.gru.weight_hh_l0.copy_(_gates(known["gru.recurrent"][0]))
        first, second = np.split(known["gru.bias"][0], 2)
        network.gru.bias_ih_l0.copy_(_gates(first))
        network.gru.bias_hh_l0.copy_(_gates(second))
        now, biases = torch.from_numpy(known["now.weight"].T), known["now.bias"]
        network.voiced.weight.copy_(now[:1])
        network.voiced.bias.fill_(float(biases[0]))
        network.head.weight[:, :memory] = torch.from_numpy(known["past.weight"].T)
        network.head.weight[:, memory:] = now[1:]
        network.head.bias.fill_(float(biases[1]))
    network.eval()
    return network


def measure(network: Network, x: Tensor) -> None:
    """Gives the normalisations the statistics of `x` [scenes, frames, SIZE], changing no output."""

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        mean, variance = values.mean(dim=1), values.var(dim=1)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.copy_(mean)

    hooks = [norm.register_forward_pre_hook(note) for norm in network.norms]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", type=Path, default=PUBLISHED)
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
