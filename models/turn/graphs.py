"""What the graph that Parley runs costs and says, beside the published one.

    python -m models.turn.graphs --made DIR

Both against the published graph without any optimization, which is what the file says literally.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from gateway.engines.onnx import open_session
from gateway.engines.turn_detection.model import TurnModel
from gateway.weights import fetch
from models.turn.languages import ASKED_S, sample
from models.turn.made import spoken
from models.turn.scoring import table

SOUNDS = 150
TIMED = 25
"""Runs of each in turn, of which the least CPU time counts: other jobs disturb all alike."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--made", type=Path, required=True, help="folder with made sentences")
    made = parser.parse_args().made
    path = fetch.fetch("smart-turn") / fetch.WEIGHTS["smart-turn"].files[0].name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    literal = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    published, model = open_session(path, 1), TurnModel(path)

    def of(session: onnxruntime.InferenceSession) -> Callable[[np.ndarray], float]:
        return lambda inputs: float(session.run(None, {"input_features": inputs})[0].reshape(-1)[0])

    graphs: dict[str, Callable[[np.ndarray], float]] = {
        "without optimization": of(literal),
        "as published": of(published),
        "as Parley runs it": lambda inputs: float(model._model.run(inputs)[0]),
    }
    said: dict[str, list[float]] = {name: [] for name in graphs}
    used_s: dict[str, list[float]] = {name: [] for name in graphs}
    for i, one in enumerate(itertools.islice(sample(spoken(made)), SOUNDS)):
        inputs = model.prepared(one.heard(ASKED_S).tobytes())[None]
        for name, graph in graphs.items():
            began = time.process_time()
            said[name].append(graph(inputs))
            if i < TIMED:
                used_s[name].append(time.process_time() - began)
    truth = np.array(said["without optimization"])
    threshold = model.card.default_threshold
    rows = []
    for name, probabilities in said.items():
        away = np.abs(np.array(probabilities) - truth)
        other = (np.array(probabilities) >= threshold) != (truth >= threshold)
        rows.append(
            (
                name,
                f"{1000 * min(used_s[name]):.0f}",
                f"{away.mean():.3f} / {np.quantile(away, 0.95):.3f} / {away.max():.3f}",
                f"{int(other.sum())} of {len(truth)}",
            )
        )
    print(
        table(("graph", "CPU ms", "away: mean / 95 % / most", "other answer at the default"), rows)
    )


if __name__ == "__main__":
    main()
