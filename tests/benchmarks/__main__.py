"""python -m tests.benchmarks [NAME ...] [--quick]: run the benchmarks and print their tables."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

from tests import benchmarks


def main() -> None:
    names = [
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in ("__main__", "tools") and not module.name.startswith("_")
    ]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, rougher figures")
    args = parser.parse_args()
    unknown = set(args.names) - set(names)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for name in args.names or names:
        importlib.import_module(f"tests.benchmarks.{name}").main(quick=args.quick)


if __name__ == "__main__":
    main()
