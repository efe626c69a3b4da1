"""python -m tests.load [--minutes N] [--short] [--seed N]: mixed load on a real server.

Replies, recognition, voices, interruption and end of turn at a server of two workers, whose
providers fail at random and whose clients vanish. Prints what became of the calls, how memory went,
and what is left when everybody has gone; exits with 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys

from tests.load.run import load

SHORT_S, SHORT_WARM_S = 14.0, 6.0
WARM_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--short", action="store_true", help="about 40 s in all")
    parser.add_argument("--seed", type=int, help="default: another each time")
    args = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    seconds, warm_s = (SHORT_S, SHORT_WARM_S) if args.short else (60 * args.minutes, WARM_S)
    print(f"seed {seed}")
    # of the fakes, whose clients hang up on them
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    result = load(seconds, warm_s, seed)
    result.show()
    sys.exit(1 if result.findings() else 0)


if __name__ == "__main__":
    main()
