"""Prints, for a finished training, what each threshold costs on held-out people.

    python -m models.interruption.train.held_out --run one

That is how the default threshold is chosen. What the figures are: see `figures`.
"""

from __future__ import annotations

import argparse

from models.interruption.cache import cache_folder
from models.interruption.data.splits import Side
from models.interruption.train.checkpoints import loaded
from models.interruption.train.figures import HELD_OUT, figures, table
from models.interruption.train.shards import Shards, probabilities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT)
    parser.add_argument("--run", default="one")
    parser.add_argument("--pair", nargs=3, type=float, help="as for the export")
    arguments = parser.parse_args()
    root = cache_folder()
    network, _ = loaded(root / "runs" / arguments.run / "best.pt", arguments.pair)
    shards = Shards([root / name for name in arguments.held_out], Side.EVAL)
    kinds, onsets = shards.fields["kinds"], shards.fields["onsets"]
    found = probabilities(network, shards)
    for name, value in figures(found, kinds, onsets).items():
        print(name, value)
    print(table(found, kinds, onsets))


if __name__ == "__main__":
    main()
