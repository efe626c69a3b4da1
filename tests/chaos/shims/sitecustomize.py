"""Imported by Python at its start, where this folder stands in PYTHONPATH.

Shifts the wall clock of the process by the seconds in the file PARLEY_TEST_CLOCK: that of the
machine is everybody's.
"""

import os
import time

_FILE = os.environ.get("PARLEY_TEST_CLOCK", "")
_real, _real_ns = time.time, time.time_ns


def _shift() -> float:
    try:
        with open(_FILE) as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0


if _FILE:
    time.time = lambda: _real() + _shift()
    time.time_ns = lambda: _real_ns() + int(_shift() * 1e9)
