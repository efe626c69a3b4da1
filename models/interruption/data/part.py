"""A set that is every Nth shard of another, by links.

python -m models.interruption.data.part --of scenes --every 2 --name half
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.interruption.cache import cache_folder


def part(whole: Path, every: int, out: Path) -> int:
    """Links the first, and from there on each `every`th, training shard of `whole` into `out`; how
    many these are. Raises FileNotFoundError where there is none."""
    shards = sorted(whole.glob("train-*.npz"))[::every]
    if not shards:
        raise FileNotFoundError(f"{whole} has no shards for training")
    out.mkdir(exist_ok=True)
    for number, shard in enumerate(shards):
        link = out / f"train-{number:03d}.npz"
        link.unlink(missing_ok=True)
        link.symlink_to(shard.resolve())
    return len(shards)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--of", required=True, help="set below the cache")
    parser.add_argument("--every", type=int, required=True, metavar="N")
    parser.add_argument("--name", required=True, help="of the new set")
    arguments = parser.parse_args()
    root = cache_folder()
    count = part(root / arguments.of, arguments.every, root / arguments.name)
    print(f"{root / arguments.name}: {count} shards")


if __name__ == "__main__":
    main()
