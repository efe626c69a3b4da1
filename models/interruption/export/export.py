"""Writes the trained network as ONNX with all that its users must know in the metadata.

    python -m models.interruption.export --run one --threshold 0.5 --threshold-origin "chosen ..."

The same checkpoint gives the same bytes. `--int8 SET` does the larger products in whole numbers,
whose range it measures on the first shard of that set: a seventh less time. Evaluate such a file
beside the one without; `compare` tells what differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from models.interruption.cache import PUBLISHED, cache_folder
from models.interruption.export.graph import model_of
from models.interruption.export.whole_numbers import Inputs, inputs_of
from models.interruption.train.checkpoints import loaded
from models.interruption.train.network import Network

VERSION = "0.11.1"


def export(
    network: Network,
    metadata: dict[str, str],
    target: Path,
    inputs: Sequence[Inputs] | None = None,
) -> None:
    """`inputs` as in `graph.model_of`."""
    model = model_of(network, inputs)
    model.producer_name, model.producer_version = "parley", VERSION
    known = {one.key: one.value for one in model.metadata_props}
    onnx.helper.set_model_props(model, dict(sorted((known | metadata).items())))
    partial = target.with_suffix(".part")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="name of a finished training")
    parser.add_argument("--checkpoint", type=Path, help="or its file, wherever it is")
    parser.add_argument("--out", type=Path, default=PUBLISHED)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--threshold-origin", required=True, help="a sentence: how it was chosen")
    parser.add_argument("--pair", nargs=3, type=float, help="instead of the training's")
    parser.add_argument("--int8", metavar="SET", help="a set of training scenes below the cache")
    arguments = parser.parse_args()
    if (arguments.run is None) == (arguments.checkpoint is None):
        parser.error("either --run or --checkpoint is needed")
    checkpoint = arguments.checkpoint or cache_folder() / "runs" / arguments.run / "best.pt"
    network, saved = loaded(checkpoint, arguments.pair)
    metadata = {
        "interface": "bargein/1", "sample_rate": "16000", "frame_samples": "400",
        "default_threshold": str(arguments.threshold),
        "threshold_origin": arguments.threshold_origin,
        "version": VERSION, "training_data_sha256": str(saved["training_data_sha256"]),
        "license": "Apache-2.0", "name": "parley-interruption",
    }  # fmt: skip
    inputs = None
    if arguments.int8:
        shards = sorted((cache_folder() / arguments.int8).glob("train-*.npz"))
        if not shards:
            parser.error(f"--int8: no shards for training in {cache_folder() / arguments.int8}")
        with np.load(shards[0]) as shard:
            inputs = inputs_of(network, torch.from_numpy(shard["x"].astype(np.float32)))
    export(network, metadata, arguments.out, inputs)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, {parameters} parameters")


if __name__ == "__main__":
    main()
