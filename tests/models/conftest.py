"""Where PyTorch is missing, the tests of `models` run in an environment of their own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.models.environment import DRIVER

HERE = Path(__file__).parent
if importlib.util.find_spec("torch"):
    collect_ignore = [DRIVER]
else:
    collect_ignore = [
        one.name
        for one in HERE.iterdir()
        if (one.is_dir() or one.name.startswith("test_")) and one.name != DRIVER
    ]
