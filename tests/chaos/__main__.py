"""python -m tests.chaos [CASE ...]: break what a real server stands on, and say what was seen.

Redis, PostgreSQL, the disk, DNS, a certificate, the clock, a worker: for each what works meanwhile,
what is refused and in which words, what recovers and when, and what was lost. Exits with 1 where
something did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.cases import CASES, NEEDS_A_RESOLVER, may_have_a_resolver
from tests.chaos.rig import Row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    wrong = 0
    for name in args.cases or CASES:
        if name in NEEDS_A_RESOLVER and not may_have_a_resolver():
            print(f"{name}: needs root, and the right to mount")
            continue
        with tempfile.TemporaryDirectory(prefix="parley-chaos-") as folder:
            row = asyncio.run(CASES[name](Path(folder)))
        show(row)
        wrong += len(row.wrong)
    sys.exit(1 if wrong else 0)


def show(row: Row) -> None:
    print(f"\n{row.case}")
    for name in ("works", "refused", "recovers", "lost"):
        print(f"  {name:9} {getattr(row, name)}")
    for one in row.wrong:
        print(f"  NOT HELD  {one}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
