"""python -m tests.fuzz [--seconds N] [--seed N] [--only TEXT] [--record]: feed all targets in turn.
python -m tests.fuzz --live [--seconds N] [--seed N]: feed a real server, from both sides.

What does not hold is printed with its target and seed, which together make it again; --record adds
it to the corpus, which `tests/test_fuzz.py` replays.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz import live, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="the first; default: another each time")
    parser.add_argument("--only", default="", help="targets whose name has this in it")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--live", action="store_true")
    args = parser.parse_args()
    if args.live:
        sys.exit(_live(args.seconds, args.seed))
    result = run.fuzz(args.seconds, args.seed, args.only)
    print(f"seed {result.seed}: {result.count} conversations with {result.targets} targets")
    for finding in result.findings:
        print(f"  {finding.target} {finding.seed}: {finding.error}")
    if args.record:
        run.record(result.findings)
    sys.exit(1 if result.findings else 0)


def _live(seconds: float, seed: int | None) -> int:
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    found = live.fuzz(seconds, seed)
    print(f"seed {seed}: {found.inputs} inputs to a server")
    print("memory {:.0f} -> {:.0f} MB".format(*found.rss_mb), end="; ")
    print("descriptors {} -> {}".format(*found.descriptors))
    for finding in found.findings:
        print(f"  {finding}")
    return 1 if found.findings else 0


if __name__ == "__main__":
    main()
