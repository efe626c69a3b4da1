"""A mean of two finished trainings: one began from the other, or both from a third.

    python -m models.interruption.train.blend --of published r6 --share 0.7 --run mean

Heads that the first does not have, since it came out of `resume`, are the second's alone.
"""

from __future__ import annotations

import argparse

import torch

from models.interruption.cache import cache_folder

_NOT_EXPORTED = ("ending.", "words.", "phonemes.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", nargs=2, required=True, help="names of the two trainings")
    parser.add_argument("--share", type=float, default=0.5, help="of the second's weights")
    parser.add_argument("--run", required=True, help="name of the result")
    arguments = parser.parse_args()
    runs = cache_folder() / "runs"
    first, second = (torch.load(runs / n / "best.pt", weights_only=True) for n in arguments.of)
    alone = () if first["epochs"] else _NOT_EXPORTED
    for name, value in second["weights"].items():
        if value.is_floating_point() and not name.startswith(alone):
            value.lerp_(first["weights"][name], 1 - arguments.share)
    (runs / arguments.run).mkdir(exist_ok=True)
    torch.save(second, runs / arguments.run / "best.pt")


if __name__ == "__main__":
    main()
